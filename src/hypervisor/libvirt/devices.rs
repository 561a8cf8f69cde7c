//! Attaching and detaching raw disks of running machines.
//!
//! A raw disk belongs to one machine at a time. The live XML of all machines decides, and where two
//! programs ask at the same moment, QEMU's own lock on the file (both are refused alike).

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use virt::connect::Connect;
use virt::sys;

use super::connection::{Call, CallKind};
use super::settings::{Folders, Place};
use super::{Libvirt, domain_xml, errors, machines, xml_audit};
use crate::hypervisor::{AttachedDisk, HvError};
use crate::vocab::{Deployment, MachineId};

const ATTACH: Call = Call::change("attach", Duration::from_secs(45));
/// libvirt itself waits up to 5 s for the guest.
const DETACH: Call = Call {
    what: "detach",
    patience: Duration::from_secs(30),
    kind: CallKind::Change,
};

/// A guest that has booted lets go after 0.12 s (n=8, emulated); one that is still booting, only later.
const DETACH_DEADLINE: Duration = Duration::from_secs(20);
/// A request may come before the guest listens, so that it is repeated. Not sooner: a second press
/// of the attention button within 5 s takes the first back (PCIe hot-plug).
const ASK_AGAIN: Duration = Duration::from_secs(6);

impl Libvirt {
    pub(super) async fn attach(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.settings.folders.check(Place::Disk, &disk.path)?;
        let _machine = self.changes.take(&id).await;
        let _disk = self.disk_turns.take(&disk.path).await;
        self.check_reach([disk.path.clone()]).await?;
        let (disk, deployment) = (disk.clone(), self.settings.deployment);
        let folders = self.settings.folders.clone();
        self.control
            .call(ATTACH, move |connect| {
                attach_now(connect, id, deployment, &disk, &folders)
            })
            .await
    }

    pub(super) async fn detach(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        let _machine = self.changes.take(&id).await;
        let began = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            let (path, deployment) = (disk.path.clone(), self.settings.deployment);
            if !self
                .control
                .call(Call::read("look"), move |connect| {
                    has(connect, id, deployment, &path)
                })
                .await?
            {
                return Ok(());
            }
            if began.elapsed() > DETACH_DEADLINE {
                return Err(HvError::Host(format!(
                    "the guest of {id} did not let go of {} within {DETACH_DEADLINE:?}",
                    disk.path.display()
                )));
            }
            if asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN) {
                let again = asked.replace(Instant::now()).is_some();
                let path = disk.path.clone();
                let request = self
                    .guests
                    .call(DETACH, move |connect| {
                        request_detach(connect, id, deployment, &path)
                    })
                    .await;
                // The second request is usually answered with "already in the process of unplug".
                if !again {
                    request?;
                }
            } else {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn attach_now(
    connect: &Connect,
    id: MachineId,
    deployment: Deployment,
    disk: &AttachedDisk,
    folders: &Folders,
) -> Result<(), HvError> {
    let (domain, facts) =
        machines::find_ours(connect, id, deployment)?.ok_or(HvError::NoSuchMachine(id))?;
    if let Some(there) = facts.disk_at(&disk.path) {
        return if there.serial.as_deref() == Some(&disk.serial) {
            Ok(())
        } else {
            Err(HvError::Refused(format!(
                "{} is attached to {id} already, in another role",
                disk.path.display()
            )))
        };
    }
    if facts
        .disks
        .iter()
        .any(|there| there.serial.as_deref() == Some(&disk.serial))
    {
        return Err(HvError::Refused(format!(
            "{id} has another disk with the serial {:?} already",
            disk.serial
        )));
    }
    for other in machines::list(connect)? {
        if other.id != id && other.attached.contains(&disk.path) {
            return Err(HvError::Refused(format!(
                "{} is attached to the machine {}",
                disk.path.display(),
                other.name
            )));
        }
    }
    let target = facts
        .free_target()
        .ok_or_else(|| HvError::Refused(format!("{id} has as many disks as it can")))?;
    let xml = domain_xml::disk_xml(disk, &target)?;
    xml_audit::audit_disk(&xml, folders)?;
    match domain.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(()),
        Err(error) if errors::is_not_running(&error) => Err(HvError::NoSuchMachine(id)),
        Err(error) => Err(errors::about(id)(error)),
    }
}

fn has(
    connect: &Connect,
    id: MachineId,
    deployment: Deployment,
    path: &Path,
) -> Result<bool, HvError> {
    let found = machines::find_ours(connect, id, deployment)?;
    Ok(found.is_some_and(|(_, facts)| facts.disk_at(path).is_some()))
}

fn request_detach(
    connect: &Connect,
    id: MachineId,
    deployment: Deployment,
    path: &Path,
) -> Result<(), HvError> {
    let Some((domain, facts)) = machines::find_ours(connect, id, deployment)? else {
        return Ok(());
    };
    let Some(there) = facts.disk_at(path) else {
        return Ok(());
    };
    let Some(serial) = there.serial.clone().filter(|_| there.format == "raw") else {
        return Err(HvError::Refused(format!(
            "{} is not a disk that was attached to {id}",
            path.display()
        )));
    };
    let disk = AttachedDisk {
        path: path.to_owned(),
        serial,
    };
    let xml = domain_xml::disk_xml(&disk, &there.target)?;
    match domain.detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(()),
        Err(error) if errors::is_no_domain(&error) || errors::is_not_running(&error) => Ok(()),
        Err(error) => Err(errors::of(&error)),
    }
}
