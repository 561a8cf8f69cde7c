//! Remote hands: the owner of every conversation with a BMC, and the executor of orders.
//!
//! What a person asks for is done at once and read back. An order to boot a device from the network
//! ([`NetworkOrder`]) is a row: every second each open one is looked at, [`plan`] says what is next, it is
//! done here, and how far it is goes into the row together with what people are told.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ipmi::{self, Ipmi};
use super::manual::Manual;
use super::plan::{self, LOOK_AGAIN, OBEYS_WITHIN, Seen, Told, Work};
use super::redfish::{Redfish, tls, wire};
use super::vault::{Password, Vault};
use super::{Limits, PowerControl, PowerError};
use crate::blocking;
use crate::clock::Clock;
use crate::store::{Store, StoreError, boot, power};
use crate::vocab::boot::BootEvent;
use crate::vocab::power::{
    Bmc, BmcAddress, BmcTrust, BootOverride, BootTarget, Capabilities, NetworkOrder, Off,
    PowerState,
};
use crate::vocab::{Device, DeviceId, Timestamp};

/// Between two looks at the open orders.
const EVERY: Duration = Duration::from_secs(1);
/// Conversations with BMCs at once: each is a connection, and a machine's power supply that switches.
const MOST_AT_ONCE: usize = 16;
/// One conversation, all its questions together.
const CONVERSATION: Duration = Duration::from_secs(150);
/// How long a shutdown that was asked for is looked at.
const SHUTS_DOWN_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at a machine that is to obey at once.
const GLANCE: Duration = Duration::from_millis(500);

pub struct RemoteHands {
    store: Store,
    clock: Arc<dyn Clock>,
    vault: Vault,
    limits: Limits,
    /// One conversation at a time with each BMC.
    turns: Mutex<HashMap<DeviceId, Arc<Semaphore>>>,
    places: Semaphore,
    /// Devices whose order is being worked on.
    working: Mutex<HashSet<DeviceId>>,
}

/// Why something about power was not done.
#[derive(Debug, thiserror::Error)]
pub enum HandsError {
    #[error(
        "device {0} has no BMC; say how it is reached with `greenroom device bmc set {0}`, or switch it by hand"
    )]
    NoBmc(String),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Power(#[from] PowerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    On,
    Off(Off),
    Cycle,
}

/// What a machine is seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub state: PowerState,
    pub boot: BootOverride,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl RemoteHands {
    /// `folder`: of the passwords.
    pub fn new(store: Store, clock: Arc<dyn Clock>, folder: PathBuf, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            vault: Vault::at(folder),
            limits,
            turns: Mutex::default(),
            places: Semaphore::new(MOST_AT_ONCE),
            working: Mutex::default(),
        })
    }

    pub async fn bmc(&self, device: &Device) -> Result<Bmc, HandsError> {
        let mut connection = self.store.read().await?;
        power::bmc_get(&mut connection, device.id)
            .await?
            .ok_or_else(|| HandsError::NoBmc(device.name.clone()))
    }

    /// Says how a device's BMC is reached. Nothing is sent to it.
    pub async fn set(
        &self,
        device: &Device,
        address: BmcAddress,
        password: Option<Password>,
    ) -> Result<Bmc, HandsError> {
        check(&address, password.as_ref()).map_err(HandsError::Invalid)?;
        let secret = match password {
            None => None,
            Some(password) => {
                let vault = self.vault.clone();
                let kept = blocking::run(move || vault.keep(&password)).await;
                Some(kept.map_err(|error| self.of_vault(&error))?)
            }
        };
        let bmc = Bmc {
            device: device.id,
            address,
            secret,
            refused: 0,
            set_at: self.clock.now(),
        };
        let (row, id) = (bmc.clone(), device.id);
        let before = self.store.write(move |connection| {
            Box::pin(async move {
                let before = power::bmc_get(connection, id).await?;
                power::bmc_put(connection, &row).await?;
                Ok(before)
            })
        });
        self.forget(before.await?).await;
        Ok(bmc)
    }

    pub async fn remove(&self, device: &Device) -> Result<(), HandsError> {
        let bmc = self.bmc(device).await?;
        let id = device.id;
        let write = self
            .store
            .write(move |connection| Box::pin(power::bmc_remove(connection, id)));
        write.await?;
        self.forget(Some(bmc)).await;
        Ok(())
    }

    /// Lets it log in again after refused logins.
    pub async fn unlock(&self, device: &Device) -> Result<Bmc, HandsError> {
        self.bmc(device).await?;
        let id = device.id;
        let write = self
            .store
            .write(move |connection| Box::pin(power::bmc_forgive(connection, id)));
        write.await?;
        self.bmc(device).await
    }

    /// The password of a row that is gone. One that stays is found by `tidy`.
    async fn forget(&self, bmc: Option<Bmc>) {
        let Some(name) = bmc.and_then(|bmc| bmc.secret) else {
            return;
        };
        let vault = self.vault.clone();
        if let Err(error) = blocking::run(move || vault.forget(&name)).await {
            tracing::warn!(%error, "a BMC's old password cannot be removed; the next start tries again");
        }
    }

    fn of_vault(&self, error: &std::io::Error) -> HandsError {
        HandsError::Failed(format!(
            "the password cannot be kept in {}: {error}",
            self.vault.folder().display()
        ))
    }

    /// Logs in and asks what the BMC can do.
    pub async fn test(
        self: &Arc<Self>,
        device: &Device,
    ) -> Result<(Capabilities, Standing), HandsError> {
        self.converse(device, |control| {
            Box::pin(async move {
                let can = control.capabilities().await?;
                Ok((can, stand(control).await?))
            })
        })
        .await
    }

    pub async fn status(self: &Arc<Self>, device: &Device) -> Result<Standing, HandsError> {
        self.converse(device, |control| Box::pin(stand(control)))
            .await
    }

    /// Switches, and looks until the machine has obeyed or a patience is over: what it is then.
    pub async fn switch(
        self: &Arc<Self>,
        device: &Device,
        switch: Switch,
    ) -> Result<PowerState, HandsError> {
        let done = self.converse(device, move |control| {
            Box::pin(async move {
                let (wanted, patience) = match switch {
                    Switch::On => {
                        control.on().await?;
                        (PowerState::On, OBEYS_WITHIN)
                    }
                    Switch::Off(how) => {
                        if control.state().await? != PowerState::Off {
                            control.off(how).await?;
                        }
                        let patience = match how {
                            Off::Graceful => SHUTS_DOWN_WITHIN,
                            Off::Forced => OBEYS_WITHIN,
                        };
                        (PowerState::Off, patience)
                    }
                    Switch::Cycle => {
                        control.cycle().await?;
                        (PowerState::On, OBEYS_WITHIN)
                    }
                };
                watch(control, wanted, patience, GLANCE).await
            })
        });
        let state = done.await?;
        let what = match switch {
            Switch::On => "switch it on",
            Switch::Off(Off::Graceful) => "shut it down",
            Switch::Off(Off::Forced) => "switch it off",
            Switch::Cycle => "switch it off and on",
        };
        let message = format!("its BMC was asked to {what}; it is {}", state.word());
        self.tell(device, message).await?;
        Ok(state)
    }

    pub async fn boot_once(
        self: &Arc<Self>,
        device: &Device,
        from: BootTarget,
    ) -> Result<BootOverride, HandsError> {
        let set = self
            .converse(device, move |control| control.boot_once(from))
            .await?;
        self.tell(
            device,
            format!("its BMC says that it boots next from {set}"),
        )
        .await?;
        Ok(set)
    }

    /// Puts an image into the BMC's virtual optical drive; None: takes out what is in it.
    pub async fn change_media(
        self: &Arc<Self>,
        device: &Device,
        url: Option<String>,
    ) -> Result<(), HandsError> {
        let message = match &url {
            Some(url) => format!("its BMC says that {url} is in its virtual drive"),
            None => "its BMC says that its virtual drive is empty".to_owned(),
        };
        let change = self.converse(device, move |control| {
            Box::pin(async move {
                match url {
                    Some(url) => control.insert_media(&url).await,
                    None => control.eject_media().await,
                }
            })
        });
        change.await?;
        Ok(self.tell(device, message).await?)
    }

    async fn tell(&self, device: &Device, message: String) -> Result<(), StoreError> {
        let event = event(&device.name, "power", message, self.clock.now());
        let write = self.store.write(move |connection| {
            Box::pin(async move { boot::event_insert(connection, &event).await })
        });
        write.await.map(|_| ())
    }

    /// One conversation with a device's BMC, to its end even when the one who asked has gone: a refused
    /// login has to be counted.
    async fn converse<T, F>(self: &Arc<Self>, device: &Device, ask: F) -> Result<T, HandsError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut dyn PowerControl) -> BoxFuture<'c, Result<T, PowerError>>
            + Send
            + 'static,
    {
        let (hands, device) = (self.clone(), device.clone());
        let talk = tokio::spawn(async move { hands.talk(&device, ask).await });
        talk.await
            .unwrap_or_else(|error| Err(HandsError::Failed(error.to_string())))
    }

    async fn talk<T, F>(&self, device: &Device, ask: F) -> Result<T, HandsError>
    where
        F: for<'c> FnOnce(&'c mut dyn PowerControl) -> BoxFuture<'c, Result<T, PowerError>>,
    {
        let turn = locked(&self.turns)
            .entry(device.id)
            .or_insert_with(|| Arc::new(Semaphore::new(1)))
            .clone();
        let waited = tokio::time::timeout(CONVERSATION, async {
            (turn.acquire().await, self.places.acquire().await)
        });
        let _held = waited.await.map_err(|_| {
            PowerError::Unreachable("others talk to this BMC; try again in a minute".into())
        })?;
        // Read when it is our turn: the one before may have been refused.
        let bmc = self.bmc(device).await?;
        if bmc.is_locked() {
            return Err(PowerError::Locked {
                refused: bmc.refused,
            }
            .into());
        }
        let mut control = self.open(device, &bmc).await?;
        let said = tokio::time::timeout(CONVERSATION, ask(&mut *control)).await;
        let said = said.unwrap_or_else(|_| {
            Err(PowerError::Unreachable(format!(
                "the BMC took longer than {} s",
                CONVERSATION.as_secs()
            )))
        });
        control.leave().await;
        self.count(&bmc, said.as_ref().err()).await?;
        Ok(said?)
    }

    /// Keeps count of refused logins.
    async fn count(&self, bmc: &Bmc, error: Option<&PowerError>) -> Result<(), StoreError> {
        let (device, set_at) = (bmc.device, bmc.set_at);
        match error {
            Some(PowerError::LoginRefused { .. }) => {
                tracing::warn!(%device, "a BMC refused a login");
                let write = self.store.write(move |connection| {
                    Box::pin(power::bmc_count_refused(connection, device, set_at))
                });
                write.await
            }
            None if bmc.refused > 0 => {
                let write = self
                    .store
                    .write(move |connection| Box::pin(power::bmc_forgive(connection, device)));
                write.await
            }
            _ => Ok(()),
        }
    }

    async fn open(&self, device: &Device, bmc: &Bmc) -> Result<Box<dyn PowerControl>, HandsError> {
        let name = bmc.secret.clone().unwrap_or_default();
        Ok(match &bmc.address {
            BmcAddress::Redfish {
                url,
                user,
                trust,
                system,
            } => {
                let vault = self.vault.clone();
                let password = blocking::run(move || vault.read(&name)).await;
                let password = password.map_err(HandsError::Failed)?;
                let system = system.as_deref();
                Box::new(Redfish::new(
                    url,
                    user,
                    password,
                    trust,
                    system,
                    self.limits,
                )?)
            }
            BmcAddress::Ipmi {
                host,
                port,
                user,
                cipher,
            } => Box::new(Ipmi::new(
                host,
                *port,
                user,
                *cipher,
                self.vault.path(&name),
            )),
            BmcAddress::Manual { note } => Box::new(Manual::new(&device.name, note)),
        })
    }

    /// Carries out orders until `stop`. An error is said once per look and everything is tried again.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if let Err(error) = self.tidy().await {
            tracing::warn!(%error, "old passwords of BMCs cannot be tidied away");
        }
        loop {
            if let Err(error) = self.sweep().await {
                tracing::error!(%error, "orders to boot devices from the network cannot be looked after");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn tidy(&self) -> Result<(), HandsError> {
        let named = {
            let mut connection = self.store.read().await?;
            power::bmc_secrets(&mut connection).await?
        };
        let vault = self.vault.clone();
        let removed = blocking::run(move || vault.tidy(&named)).await;
        let removed = removed.map_err(|error| self.of_vault(&error))?;
        if removed > 0 {
            tracing::info!(removed, "passwords of BMCs that nothing names were removed");
        }
        Ok(())
    }

    /// One look at every open order.
    pub async fn sweep(self: &Arc<Self>) -> Result<(), HandsError> {
        let orders = {
            let mut connection = self.store.read().await?;
            power::order_open(&mut connection).await?
        };
        for order in orders {
            let order = match self.change(&order, Glance::Look).await? {
                Some(order) => order,
                None => continue,
            };
            if let Some(work) = plan::work(&order, self.clock.now())
                && locked(&self.working).insert(order.device)
            {
                let hands = self.clone();
                tokio::spawn(async move {
                    let device = order.device;
                    if let Err(error) = hands.perform(order, work).await {
                        tracing::error!(%device, %error, "an order to boot a device cannot be carried on");
                    }
                    locked(&hands.working).remove(&device);
                });
            }
        }
        Ok(())
    }

    async fn perform(self: &Arc<Self>, order: NetworkOrder, work: Work) -> Result<(), HandsError> {
        let device = {
            let mut connection = self.store.read().await?;
            crate::store::devices::device_by_name(&mut connection, &order.device.to_string())
                .await?
        };
        let Some(device) = device else { return Ok(()) };
        let seen = match self.carry_out(&device, work).await {
            Ok(seen) => seen,
            Err(HandsError::Power(error)) => Seen::Failed(error),
            Err(HandsError::Store(error)) => return Err(error.into()),
            Err(error) => Seen::Failed(PowerError::Refused(error.to_string())),
        };
        self.change(&order, Glance::After(seen)).await?;
        Ok(())
    }

    async fn carry_out(self: &Arc<Self>, device: &Device, work: Work) -> Result<Seen, HandsError> {
        if let BmcAddress::Manual { note } = &self.bmc(device).await?.address {
            let what = "switch it off and on, and choose the network when it starts";
            let says = Manual::new(&device.name, note).says(what);
            return Err(PowerError::Person(says).into());
        }
        self.converse(device, move |control| Box::pin(work_on(control, work)))
            .await
    }

    /// Changes the order's row, if it is still the one that was read, and tells what there is to tell.
    /// Returns it while it is open.
    async fn change(
        &self,
        read: &NetworkOrder,
        glance: Glance,
    ) -> Result<Option<NetworkOrder>, StoreError> {
        let (read, now) = (read.clone(), self.clock.now());
        let changed = self.store.write(move |connection| {
            Box::pin(async move {
                let Some(mut order) = power::order_get(connection, read.device).await? else {
                    return Ok(None);
                };
                let before = order.clone();
                let told = match &glance {
                    Glance::Look => {
                        let row = boot::device_get(connection, order.device).await?;
                        let boot_id = row.map(|row| row.boot_id).unwrap_or_default();
                        plan::look(&mut order, &boot_id, now)
                    }
                    Glance::After(_) if (before.asked_at, before.step) != (read.asked_at, read.step) => {
                        None
                    }
                    Glance::After(seen) => plan::after(&mut order, seen, now),
                };
                if order != before {
                    power::order_put(connection, &order).await?;
                }
                if let Some(Told { kind, message }) = told {
                    tracing::info!(device = %order.name, from = before.step.word(), to = order.step.word(), "{message}");
                    let event = event(&order.name, kind, message, now);
                    boot::event_insert(connection, &event).await?;
                }
                Ok(order.step.is_open().then_some(order))
            })
        });
        changed.await
    }
}

/// Why an order's row is changed.
enum Glance {
    /// It is looked at.
    Look,
    /// Something was done for it.
    After(Seen),
}

fn event(subject: &str, kind: &str, message: String, at: Timestamp) -> BootEvent {
    BootEvent {
        id: 0,
        subject: subject.to_owned(),
        at,
        kind: kind.to_owned(),
        message,
    }
}

async fn stand(control: &mut dyn PowerControl) -> Result<Standing, PowerError> {
    Ok(Standing {
        state: control.state().await?,
        boot: control.boot_override().await?,
    })
}

/// Looks until the machine is in this state, or the patience is over: the state then.
async fn watch(
    control: &mut dyn PowerControl,
    wanted: PowerState,
    patience: Duration,
    every: Duration,
) -> Result<PowerState, PowerError> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        let state = control.state().await?;
        if state == wanted || tokio::time::Instant::now() >= end {
            return Ok(state);
        }
        tokio::time::sleep(every).await;
    }
}

/// One step of an order. Looks first: what is so already is not asked for.
async fn work_on(control: &mut dyn PowerControl, work: Work) -> Result<Seen, PowerError> {
    let wanted = match work {
        Work::SetBoot => return Ok(Seen::Boot(control.boot_once(BootTarget::Pxe).await?)),
        Work::SwitchOff => PowerState::Off,
        Work::SwitchOn => PowerState::On,
    };
    let state = control.state().await?;
    if state == wanted {
        return Ok(Seen::Power(state));
    }
    match work {
        // Its disk is written anew: there is nothing to shut down gently.
        Work::SwitchOff => control.off(Off::Forced).await?,
        _ => control.on().await?,
    }
    watch(control, wanted, OBEYS_WITHIN, LOOK_AGAIN.min(GLANCE))
        .await
        .map(Seen::Power)
}

/// All that can be said about an address without asking the BMC.
fn check(address: &BmcAddress, password: Option<&Password>) -> Result<(), String> {
    let user_fits = |user: &str, most: usize| match (1..=most).contains(&user.len())
        && !user.chars().any(char::is_control)
    {
        true => Ok(()),
        false => Err(format!(
            "the user has 1 to {most} bytes, and no control characters"
        )),
    };
    match address {
        BmcAddress::Redfish {
            url,
            user,
            trust,
            system,
        } => {
            wire::Place::parse(url, trust)?;
            user_fits(user, 128)?;
            // A colon ends the user's name in basic authentication (RFC 7617).
            if user.contains(':') {
                return Err("the user must not have a colon in it".into());
            }
            if let BmcTrust::Fingerprint(text) = trust {
                tls::fingerprint(text)?;
            }
            let long = |text: &String| text.len() > 256 || text.chars().any(char::is_control);
            if system.as_ref().is_some_and(long) {
                return Err("the system's name is too long, or has control characters".into());
            }
            password.map(|_| ()).ok_or("a password is needed".into())
        }
        BmcAddress::Ipmi {
            host,
            user,
            cipher,
            port,
        } => {
            ipmi::check_host(host)?;
            // Table 22-28 of the specification: 16 bytes.
            user_fits(user, 16)?;
            if *port == 0 {
                return Err("0 is no port".into());
            }
            if !matches!(cipher, 3 | 17) {
                return Err(format!(
                    "cipher suite {cipher} is not 17, nor 3, which is for BMCs that know no better"
                ));
            }
            match password {
                None => Err("a password is needed".into()),
                Some(password) if password.reveal().len() > ipmi::MAX_PASSWORD_BYTES => {
                    Err(format!(
                        "a password of IPMI has {} bytes at most",
                        ipmi::MAX_PASSWORD_BYTES
                    ))
                }
                Some(_) => Ok(()),
            }
        }
        BmcAddress::Manual { note } => {
            match note.chars().count() > 500 || note.chars().any(char::is_control) {
                true => {
                    Err("the note has 500 characters at most, and no control characters".into())
                }
                false => Ok(()),
            }
        }
    }
}
