//! What the libvirt host must be told: where it is, where our files live, what runs the guests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hypervisor::HvError;
use crate::vocab::Deployment;

#[derive(Debug, Clone)]
pub struct LibvirtSettings {
    /// Such as `qemu:///system`. Local only: disks and consoles are read as files of this machine.
    pub uri: String,
    /// Written into each domain's tag; domains of other deployments are read-only to us.
    pub deployment: Deployment,
    pub accelerator: AcceleratorChoice,
    pub folders: Folders,
    /// What the accelerator probe boots. Without it `Auto` means emulation.
    pub probe_image: Option<ProbeImage>,
    /// `qemu-img`, or its path.
    pub qemu_img: PathBuf,
    /// Leave out libvirt's check which CPU features QEMU could not provide: 466 of the 483 monitor
    /// round trips of a create, 411 ms against 173 ms (n=12, libvirt 11.3, QEMU 10.0, emulated). It
    /// taints the domain as `custom-hypervisor-feature`; no other effect was seen.
    pub skip_cpu_feature_check: bool,
    /// Cap on the disk operations per second of each disk of a machine; none means no limit.
    pub disk_iops: Option<u64>,
    pub network_limit: NetworkLimit,
    /// How long [`super::Libvirt::connect`] keeps trying when libvirt does not answer.
    pub connect_patience: Duration,
}

impl LibvirtSettings {
    /// Defaults for everything that has one.
    pub fn new(uri: impl Into<String>, deployment: Deployment, folders: Folders) -> Self {
        Self {
            uri: uri.into(),
            deployment,
            accelerator: AcceleratorChoice::Auto,
            folders,
            probe_image: None,
            qemu_img: PathBuf::from("qemu-img"),
            skip_cpu_feature_check: true,
            disk_iops: None,
            network_limit: NetworkLimit::WherePossible,
            connect_patience: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// Whatever a probe guest proved, see [`super::probe`].
    Auto,
    Kvm,
    Tcg,
}

/// What happens to a limited machine on a host whose kernel cannot shape traffic (libvirt needs the
/// schedulers `htb`, `sfq` and `ingress`, which some cloud and container kernels lack).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkLimit {
    /// It starts without the limit, and the log says so.
    WherePossible,
    /// It is refused.
    Required,
}

/// A small guest that shows within seconds whether KVM really runs guests on this host.
#[derive(Debug, Clone)]
pub struct ProbeImage {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
}

/// Folders of ours, all absolute. QEMU's user must be able to pass through them.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Root and handoff disks, also in subfolders.
    pub disks: PathBuf,
    /// A folder per template: memory, device state and disk of a captured machine.
    pub templates: PathBuf,
    /// One serial console log per machine.
    pub consoles: PathBuf,
    /// The probe guest's console and the cached verdict.
    pub scratch: PathBuf,
    /// Image stores: kernels, initial ramdisks and base disks come from here only.
    pub images: Vec<PathBuf>,
}

/// What a path is used for decides where it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Disk,
    Console,
    Image,
    /// A file in a folder of its own below the folder for templates.
    Template,
}

impl Folders {
    /// The folder of `place` that holds `path`. Refuses relative paths, `..` and symbolic links that
    /// lead out, so that no order can reach a file that is not ours.
    pub fn check(&self, place: Place, path: &Path) -> Result<(), HvError> {
        let refused = |why: &str| Err(HvError::Refused(format!("{}: {why}", path.display())));
        let plain = path
            .components()
            .skip(1)
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !path.is_absolute() || !plain || path.file_name().is_none() {
            return refused("not an absolute path to a file");
        }
        let roots: Vec<&Path> = match place {
            Place::Disk => vec![&self.disks],
            Place::Console => vec![&self.consoles, &self.scratch],
            Place::Image => self.images.iter().map(PathBuf::as_path).collect(),
            Place::Template => vec![&self.templates],
        };
        let Some(root) = roots
            .into_iter()
            .find(|root| path.starts_with(root) && path != *root)
        else {
            return refused(match place {
                Place::Disk => "not in the folder for disks",
                Place::Console => "not in the folder for consoles",
                Place::Image => "not in an image store",
                Place::Template => "not in the folder for templates",
            });
        };
        let depth = path.components().count() - root.components().count();
        if place == Place::Template && depth != 2 {
            return refused("a template's files are in a folder of their own below the templates'");
        }
        // The file itself may not exist yet; the nearest folder that exists decides.
        let existing = path
            .ancestors()
            .find(|ancestor| ancestor.symlink_metadata().is_ok());
        let real = existing.and_then(|existing| existing.canonicalize().ok());
        match (real, root.canonicalize()) {
            (Some(real), Ok(root)) if !real.starts_with(&root) => {
                refused("a symbolic link leads out of its folder")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(root: &Path) -> Folders {
        let made = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        Folders {
            disks: made("disks"),
            templates: made("templates"),
            consoles: made("consoles"),
            scratch: made("scratch"),
            images: vec![made("images"), made("more-images")],
        }
    }

    #[test]
    fn paths_are_accepted_in_their_own_folder_only() {
        let root = tempfile::tempdir().unwrap();
        let folders = folders(root.path());
        folders
            .check(Place::Disk, &folders.disks.join("7/root.qcow2"))
            .unwrap();
        folders
            .check(Place::Image, &root.path().join("more-images/kernel"))
            .unwrap();
        folders
            .check(Place::Disk, &root.path().join("images/kernel"))
            .unwrap_err();
        folders
            .check(Place::Disk, &folders.disks.join("../images/kernel"))
            .unwrap_err();
        folders.check(Place::Disk, &folders.disks).unwrap_err();
        folders
            .check(Place::Image, Path::new("images/kernel"))
            .unwrap_err();
        folders
            .check(Place::Image, Path::new("/etc/shadow"))
            .unwrap_err();
        folders
            .check(Place::Template, &folders.templates.join("7/memory"))
            .unwrap();
        for bad in ["memory", "7/8/memory", "../disks/7/memory"] {
            folders
                .check(Place::Template, &folders.templates.join(bad))
                .unwrap_err();
        }
    }

    #[test]
    fn a_link_that_leads_out_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folders = folders(root.path());
        std::os::unix::fs::symlink("/etc", folders.disks.join("etc")).unwrap();
        let error = folders
            .check(Place::Disk, &folders.disks.join("etc/hostname"))
            .unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
    }
}
