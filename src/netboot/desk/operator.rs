//! What people ask for and decide.

use super::{Desk, step};
use crate::blocking;
use crate::netboot::console;
use crate::netboot::life::Happening;
use crate::store::boot::BootClient;
use crate::store::{StoreError, boot, devices, power};
use crate::vocab::Device;
use crate::vocab::boot::{BootDevice, BootEvent, BootPhase, TokenKind};
use crate::vocab::power::NetworkOrder;

/// What a person has to do for a device without a BMC.
const BY_HAND: &str = "a person has to switch it off and on, so that it boots from the network; `greenroom device bmc set` would do that by its BMC";

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Desk {
    pub async fn boot_devices(&self) -> Result<Vec<BootDevice>, StoreError> {
        self.settled().await?;
        let mut connection = self.services.store.read().await?;
        boot::device_list(&mut connection).await
    }

    /// Addresses that asked for something to boot and are nobody's yet.
    pub async fn strangers(&self) -> Result<Vec<BootClient>, StoreError> {
        self.settled().await?;
        let mut connection = self.services.store.read().await?;
        boot::client_strangers(&mut connection, 1000).await
    }

    pub async fn events(
        &self,
        subject: Option<&str>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<BootEvent>, StoreError> {
        self.settled().await?;
        let mut connection = self.services.store.read().await?;
        boot::event_list(&mut connection, subject, after, limit).await
    }

    /// The last lines of its serial console, where one is kept; none is no error.
    pub async fn console(&self, device: &BootDevice) -> Vec<String> {
        let Some(folder) = &self.settings.consoles else {
            return Vec::new();
        };
        let files = console::files(folder, device);
        blocking::run(move || console::tail(&files)).await
    }

    pub(super) async fn find(&self, name: &str) -> Result<Device, OperatorError> {
        let mut connection = self.services.store.read().await?;
        devices::device_by_name(&mut connection, name)
            .await?
            .ok_or_else(|| {
                OperatorError::NotFound(format!(
                    "there is no device {name:?}; see `greenroom device list`"
                ))
            })
    }

    pub async fn boot_device(&self, name: &str) -> Result<BootDevice, OperatorError> {
        self.settled().await?;
        let device = self.find(name).await?;
        let mut connection = self.services.store.read().await?;
        boot::device_get(&mut connection, device.id)
            .await?
            .ok_or_else(|| {
                OperatorError::Refused(format!("device {name} has not booted from the network"))
            })
    }

    pub async fn approve(&self, name: &str) -> Result<BootDevice, OperatorError> {
        let device = self.boot_device(name).await?;
        let after = self.change(&device, Happening::Approved).await?;
        if after.phase == BootPhase::Discovered {
            self.look_for_run(&after)
                .await
                .map_err(|error| OperatorError::Refused(error.to_string()))?;
        }
        self.boot_device(name).await
    }

    pub async fn quarantine(&self, name: &str, reason: &str) -> Result<BootDevice, OperatorError> {
        let device = self.boot_device(name).await?;
        self.end_rights(&device).await?;
        let reason = reason.to_owned();
        self.change(&device, Happening::Quarantined { reason })
            .await
    }

    pub async fn release(&self, name: &str) -> Result<BootDevice, OperatorError> {
        let device = self.boot_device(name).await?;
        if device.phase.reason().is_none() {
            return Err(OperatorError::Refused(format!(
                "device {name} is {}, neither held nor in quarantine",
                device.phase.word()
            )));
        }
        // Its agent registers again and tells its inventory anew.
        self.end_rights(&device).await?;
        self.change(&device, Happening::Released).await
    }

    pub async fn reprovision(&self, name: &str) -> Result<BootDevice, OperatorError> {
        let device = self.boot_device(name).await?;
        if matches!(
            device.phase,
            BootPhase::Provisioning { .. } | BootPhase::Installing { .. }
        ) {
            return Err(OperatorError::Refused(format!(
                "device {name} is {} already",
                device.phase.word()
            )));
        }
        self.end_rights(&device).await?;
        let (id, now, silence) = (device.device, self.now(), self.settings.silence);
        // The device and what its BMC is to do for it change together: a crash between would leave a
        // device that boots from its own disk again, or one that nobody boots.
        let changed = self.services.store.write(move |connection| {
            Box::pin(async move {
                let Some(mut device) = boot::device_get(connection, id).await? else {
                    return Ok(None);
                };
                step(
                    connection,
                    &mut device,
                    &Happening::Reprovision,
                    now,
                    silence,
                )
                .await?;
                if power::bmc_get(connection, id).await?.is_some() {
                    let order = NetworkOrder::fresh(id, &device.name, &device.boot_id, now);
                    power::order_put(connection, &order).await?;
                } else {
                    BY_HAND.clone_into(&mut device.next);
                    boot::device_put(connection, &device).await?;
                }
                Ok(Some(device))
            })
        });
        changed
            .await?
            .ok_or_else(|| OperatorError::NotFound(format!("device {name} has gone meanwhile")))
    }

    /// What is under way, or has failed, to boot devices from the network by their BMCs.
    pub async fn network_orders(&self) -> Result<Vec<NetworkOrder>, StoreError> {
        let mut connection = self.services.store.read().await?;
        power::order_list(&mut connection).await
    }

    /// The network boot forgets it. The device itself, its facts and its runs stay.
    pub async fn forget(&self, name: &str) -> Result<(), OperatorError> {
        let device = self.boot_device(name).await?;
        if let BootPhase::Provisioning { run } = device.phase {
            return Err(OperatorError::Refused(format!(
                "run {run} makes an image for {name}; end it first with `greenroom run abort {run}`"
            )));
        }
        let id = device.device;
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    power::order_remove(connection, id).await?;
                    boot::device_forget(connection, id).await
                })
            })
            .await?;
        self.tell(name, "forgotten", "a person had it forgotten")
            .await?;
        Ok(())
    }

    async fn change(
        &self,
        device: &BootDevice,
        happening: Happening,
    ) -> Result<BootDevice, OperatorError> {
        self.happen(device.device, happening).await?.ok_or_else(|| {
            OperatorError::NotFound(format!("device {} has gone meanwhile", device.name))
        })
    }

    async fn end_rights(&self, device: &BootDevice) -> Result<(), StoreError> {
        let id = device.device;
        let kinds = [
            TokenKind::Session,
            TokenKind::Delivery,
            TokenKind::Image,
            TokenKind::Report,
        ];
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { boot::token_revoke(connection, id, &kinds).await })
            })
            .await
    }
}
