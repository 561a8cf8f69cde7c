//! Adding a network card to a machine that is there: a fork gets its own, because its template's would
//! be the same one in all forks.

use std::time::Duration;

use virt::connect::Connect;
use virt::sys;

use super::connection::Call;
use super::settings::Folders;
use super::{Libvirt, domain_xml, errors, machines, xml_audit};
use crate::hypervisor::{HvError, Nic};
use crate::vocab::{Deployment, MachineId};

const ATTACH: Call = Call::change("attach card", Duration::from_secs(45));

impl Libvirt {
    pub(super) async fn add_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError> {
        let _turn = self.changes.take(&id).await;
        let (nic, deployment) = (nic.clone(), self.settings.deployment);
        let folders = self.settings.folders.clone();
        self.control
            .call(ATTACH, move |connect| {
                attach_now(connect, id, deployment, &nic, &folders)
            })
            .await
    }
}

fn attach_now(
    connect: &Connect,
    id: MachineId,
    deployment: Deployment,
    nic: &Nic,
    folders: &Folders,
) -> Result<(), HvError> {
    let xml = domain_xml::nic_xml(nic)?;
    xml_audit::audit_nic(&xml, folders)?;
    let (domain, facts) =
        machines::find_ours(connect, id, deployment)?.ok_or(HvError::NoSuchMachine(id))?;
    let same_mac = |mac: &str| mac.eq_ignore_ascii_case(&nic.mac);
    if let Some(there) = facts.nics.iter().find(|there| same_mac(&there.mac)) {
        return if there.network.as_deref() == Some(&nic.network) {
            Ok(())
        } else {
            Err(HvError::Refused(format!(
                "{id} has a card with the address {} already, on another network",
                nic.mac
            )))
        };
    }
    match domain.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE) {
        Ok(_) => Ok(()),
        Err(error) if errors::is_not_running(&error) => Err(HvError::NoSuchMachine(id)),
        Err(error) => Err(errors::about(id)(error)),
    }
}
