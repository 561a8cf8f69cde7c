//! A built base image: kernel, initial ramdisk and disk, content-addressed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Digest, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    /// Digest over the parts' digests and the boot settings: what a run pins.
    pub digest: Digest,
    /// Digest of everything that went into building it; equal key means nothing to rebuild.
    pub key: Digest,
    pub description: String,
    pub os: String,
    #[serde(default)]
    pub agent: GuestAgent,
    /// Kernel command line, without the console settings of the machine.
    pub cmdline: String,
    /// Below this the guest does not boot.
    pub min_memory_mib: u64,
    /// Commands (argument vectors) that a shell of this image runs before it waits for use, so that
    /// the tools its stages use answer at once.
    #[serde(default)]
    pub warm_up: Vec<Vec<String>>,
    /// Virtual size of the base disk.
    pub disk_mib: u64,
    pub kernel: ImagePart,
    pub initrd: ImagePart,
    /// qcow2, the backing file of linked clones.
    pub disk: ImagePart,
    pub built_at: Timestamp,
    pub build_seconds: f64,
}

/// What answers in a guest of the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestAgent {
    /// Takes commands over its channel: stages and shells need it.
    #[default]
    QemuGuestAgent,
    /// Speaks to the device listener only: an image for devices.
    GreenroomDevice,
}

impl Image {
    /// Why stages cannot run in it, and shells cannot be made of it; none where they can.
    pub fn unfit_for_stages(&self) -> Option<String> {
        (self.agent != GuestAgent::QemuGuestAgent).then(|| {
            format!(
                "image {} is for devices that boot from the network: it has no QEMU guest agent, which stages and shells need",
                self.name
            )
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePart {
    pub path: PathBuf,
    pub digest: Digest,
    pub size_bytes: u64,
}
