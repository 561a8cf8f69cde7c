//! Which accelerator this host really has.
//!
//! `/dev/kvm` may exist, open, and still not run guests (nested virtualisation that is switched off
//! halfway, some clouds). So a small guest is booted with KVM under a deadline, and what it did is
//! believed. The verdict holds until the host boots again or QEMU changes.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::domain_xml::DomainPlan;
use super::qemu_args::Memory;
use super::settings::{AcceleratorChoice, Place, ProbeImage};
use super::{Libvirt, consoles};
use crate::hypervisor::HvError;
use crate::vocab::machine::{Accelerator, Owner, Tag};
use crate::vocab::{MachineId, RunId};

/// The tiny guest boots in 4–6 s even when it is emulated, so that KVM has several times what it needs.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(20);

/// The kernel says one of these when it hands over to the first program of the initial ramdisk,
/// which is all that the accelerator has to prove; the agent may be missing from the image.
const USERSPACE_MARKS: [&str; 2] = ["Run /init as init process", "Freeing unused kernel image"];

/// Why guests are emulated although there may be KVM.
pub const NO_PROBE_IMAGE: &str = "there is no image to prove with that /dev/kvm runs guests; greenroom image build tiny, then restart the daemon";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub accelerator: Accelerator,
    /// For people.
    pub reason: String,
}

/// A verdict and what it depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cached {
    boot_id: String,
    qemu_version: u32,
    #[serde(flatten)]
    verdict: Verdict,
}

enum Proof {
    Proved(String),
    Refuted(String),
}

impl Libvirt {
    /// The accelerator to use, from the settings, the cache, or a probe guest.
    pub(super) async fn decide_accelerator(&self, qemu_version: u32) -> Result<Verdict, HvError> {
        let emulated = |reason: &str| {
            Ok(Verdict {
                accelerator: Accelerator::Tcg,
                reason: reason.to_owned(),
            })
        };
        match self.settings.accelerator {
            AcceleratorChoice::Kvm => {
                return Ok(Verdict {
                    accelerator: Accelerator::Kvm,
                    reason: "chosen in the configuration".to_owned(),
                });
            }
            AcceleratorChoice::Tcg => return emulated("chosen in the configuration"),
            AcceleratorChoice::Auto => {}
        }
        if !Path::new("/dev/kvm").exists() {
            return emulated("this host has no /dev/kvm");
        }
        let Some(image) = &self.settings.probe_image else {
            return emulated(NO_PROBE_IMAGE);
        };
        let cache = self.settings.folders.scratch.join("accelerator.json");
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_default()
            .trim()
            .to_owned();
        if let Some(verdict) = read_cache(&cache, &boot_id, qemu_version) {
            return Ok(verdict);
        }
        let verdict = match self.probe_kvm(image).await {
            Ok(Proof::Proved(reason)) => Verdict {
                accelerator: Accelerator::Kvm,
                reason,
            },
            Ok(Proof::Refuted(reason)) => Verdict {
                accelerator: Accelerator::Tcg,
                reason,
            },
            Err(error @ HvError::Unreachable(_)) => return Err(error),
            // Says nothing about KVM, so that the next start asks again.
            Err(error) => return emulated(&format!("the KVM probe could not be run: {error}")),
        };
        tracing::info!(accelerator = ?verdict.accelerator, reason = verdict.reason, "accelerator probed");
        let cached = Cached {
            boot_id,
            qemu_version,
            verdict: verdict.clone(),
        };
        if let Err(error) = write_cache(&cache, &cached) {
            tracing::warn!(%error, path = %cache.display(), "the accelerator's verdict cannot be kept");
        }
        Ok(verdict)
    }

    async fn probe_kvm(&self, image: &ProbeImage) -> Result<Proof, HvError> {
        let folders = &self.settings.folders;
        folders.check(Place::Image, &image.kernel)?;
        folders.check(Place::Image, &image.initrd)?;
        self.check_reach([image.kernel.clone(), image.initrd.clone()])
            .await?;
        let id = MachineId::fresh();
        let console = consoles::prepare(&folders.scratch, id)?;
        let tag = Tag {
            deployment: self.settings.deployment,
            owner: Owner::Stage {
                run: RunId(0),
                stage: "accelerator-probe".to_owned(),
            },
            serial: 1,
            generation: 0,
        };
        // Late words win: the kernel must be heard, and must end instead of waiting when it panics.
        let cmdline = format!("{} loglevel=7 ignore_loglevel panic=-1", image.cmdline);
        let plan = DomainPlan {
            id,
            name: &format!("gr-probe-{}", &id.to_string()[24..]),
            tag: &tag,
            accelerator: Accelerator::Kvm,
            vcpus: 1,
            memory_mib: 256,
            memory: Memory::Own,
            growth_mib: 0,
            kernel: &image.kernel,
            initrd: Some(&image.initrd),
            cmdline: &cmdline,
            root_disk: None,
            disk_iops: None,
            nic: None,
            network_kbytes_per_s: None,
            console: &console,
            skip_cpu_feature_check: self.settings.skip_cpu_feature_check,
        };
        let began = Instant::now();
        let proof = match self.create(&plan).await {
            Ok(()) => self.watch_probe(id, &console, began).await,
            // QEMU refuses at once where /dev/kvm cannot be used at all.
            Err(HvError::Host(why) | HvError::Refused(why)) => Ok(Proof::Refuted(format!(
                "QEMU cannot start a KVM guest: {why}"
            ))),
            Err(error) => Err(error),
        };
        let ended = self.destroy(id).await;
        let _ = std::fs::remove_file(&console);
        let proof = proof?;
        ended?;
        Ok(proof)
    }

    async fn watch_probe(
        &self,
        id: MachineId,
        console: &Path,
        began: Instant,
    ) -> Result<Proof, HvError> {
        while began.elapsed() < PROBE_DEADLINE {
            let log = consoles::tail(console, 1 << 20).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let took = format!("{:.1} s", began.elapsed().as_secs_f32());
            if USERSPACE_MARKS.iter().any(|mark| log.contains(mark)) {
                return Ok(Proof::Proved(format!(
                    "a probe guest reached its userspace with KVM in {took}"
                )));
            }
            match self
                .guests
                .agent(
                    id,
                    r#"{"execute":"guest-ping"}"#,
                    Duration::from_millis(200),
                )
                .await
            {
                Ok(_) => {
                    return Ok(Proof::Proved(format!(
                        "a probe guest's agent answered with KVM in {took}"
                    )));
                }
                Err(HvError::NoSuchMachine(_)) => {
                    return Ok(Proof::Refuted(format!(
                        "a probe guest with KVM died after {took}"
                    )));
                }
                Err(HvError::Unreachable(why)) => return Err(HvError::Unreachable(why)),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Ok(Proof::Refuted(format!(
            "a probe guest with KVM did not boot within {} s",
            PROBE_DEADLINE.as_secs()
        )))
    }
}

fn read_cache(path: &Path, boot_id: &str, qemu_version: u32) -> Option<Verdict> {
    let cached: Cached = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (!boot_id.is_empty() && cached.boot_id == boot_id && cached.qemu_version == qemu_version)
        .then_some(cached.verdict)
}

fn write_cache(path: &Path, cached: &Cached) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec_pretty(cached)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_one_boot_and_one_qemu() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accelerator.json");
        let verdict = Verdict {
            accelerator: Accelerator::Tcg,
            reason: "it hung".to_owned(),
        };
        let cached = Cached {
            boot_id: "b1".to_owned(),
            qemu_version: 10_000_002,
            verdict: verdict.clone(),
        };
        assert_eq!(read_cache(&path, "b1", 10_000_002), None);
        write_cache(&path, &cached).unwrap();
        assert_eq!(read_cache(&path, "b1", 10_000_002), Some(verdict));
        assert_eq!(read_cache(&path, "b2", 10_000_002), None);
        assert_eq!(read_cache(&path, "b1", 10_000_003), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read_cache(&path, "b1", 10_000_002), None);
    }
}
