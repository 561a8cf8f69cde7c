//! What the device's agent says and is told.

use std::net::IpAddr;
use std::time::Duration;

use super::{Desk, DeskError, lasting};
use crate::netboot::identity::{self, Verdict};
use crate::netboot::inventory;
use crate::netboot::life::{self, Happening};
use crate::netboot::wire::{
    Credential, Doing, Exchange, Heartbeat, Order, PROTOCOL, Register, Registered,
};
use crate::store::boot::{self, Taken};
use crate::store::devices;
use crate::vocab::boot::{BootDevice, BootPhase, Fingerprint, Mac, Token, TokenKind, Trust};
use crate::vocab::{Device, DeviceId};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// A device that was heard within this span has not just been switched off and on: firmware alone
/// takes longer. Another that says to be the same is another.
const STILL_THERE: Duration = Duration::from_secs(7);
/// Devices of which nothing but their own word is known, at most: anybody can make them up.
const MOST_UNKNOWN: usize = 4096;
/// Devices that come with the same address, one after another.
const MOST_NAMESAKES: u32 = 32;
/// Longest reason that a device may give, characters.
const REASON: usize = 500;

impl Desk {
    pub async fn register(&self, order: &Register, from: IpAddr) -> Result<Registered, DeskError> {
        if order.protocol != PROTOCOL {
            return Err(DeskError::Invalid(format!(
                "the agent speaks protocol {}, this server {PROTOCOL}; build the image `device` anew",
                order.protocol
            )));
        }
        let boot_mac: Mac = order
            .boot_mac
            .parse()
            .map_err(|_| DeskError::Invalid("boot_mac is no address".into()))?;
        let is_id = (8..=64).contains(&order.boot_id.len())
            && order
                .boot_id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_id {
            return Err(DeskError::Invalid("boot_id is not a kernel's".into()));
        }
        let claimed = identity::fingerprint(&order.claims);
        if !claimed.macs.contains(&boot_mac) {
            return Err(DeskError::Invalid(
                "boot_mac is none of its own cards".into(),
            ));
        }
        let (device, quarantine) = self.recognise(&claimed, boot_mac).await?;
        // A liar's borrowed address stays with whom it belongs to.
        let taken = if quarantine.is_some() {
            Taken::Leave
        } else {
            Taken::Take
        };
        self.admit(device.clone(), &claimed, order, taken, from)
            .await?;
        if let Some(reason) = quarantine {
            self.happen(device.id, Happening::Quarantined { reason })
                .await?;
        }
        let session = self
            .mint(device.id, TokenKind::Session, None, &order.boot_id)
            .await?;
        Ok(Registered {
            device: device.name,
            session,
            heartbeat_ms: HEARTBEAT.as_millis() as u64,
        })
    }

    /// Whose claims these are: somebody's, or a new device's, perhaps with a reason for quarantine.
    async fn recognise(
        &self,
        claimed: &Fingerprint,
        boot_mac: Mac,
    ) -> Result<(Device, Option<String>), DeskError> {
        let known = self.everyone().await?;
        let name_of = async |id: DeviceId| {
            let mut connection = self.services.store.read().await?;
            let found = devices::device_by_name(&mut connection, &id.to_string()).await?;
            found.ok_or_else(|| DeskError::Failed(format!("device {id} has gone meanwhile")))
        };
        match identity::judge(claimed, &known) {
            Verdict::Same { device, note } => {
                let device = name_of(device).await?;
                if let Some(note) = note {
                    self.tell(&device.name, "changed", note).await?;
                }
                Ok((device, None))
            }
            Verdict::New => Ok((self.add(boot_mac, "", claimed).await?, None)),
            // A stranger of its own, so that nothing of the one it resembles can be got or changed.
            Verdict::Changed { device, why } => {
                let other = name_of(device).await?;
                let reason = format!("it resembles {}, but {why}", other.name);
                Ok((self.add(boot_mac, "-other", claimed).await?, Some(reason)))
            }
            Verdict::Tie { devices } => {
                let mut names = Vec::new();
                for id in devices {
                    names.push(name_of(id).await?.name);
                }
                let reason = format!("it could be any of {}", names.join(", "));
                Ok((self.add(boot_mac, "-other", claimed).await?, Some(reason)))
            }
        }
    }

    /// A device that nobody has declared, named after its card. The same stranger keeps its row.
    ///
    /// A name is taken only where nothing else is known of it: a card moves from one machine to
    /// another, and its new owner must not become what its old one was.
    async fn add(
        &self,
        boot_mac: Mac,
        suffix: &str,
        claimed: &Fingerprint,
    ) -> Result<Device, DeskError> {
        let unknown = {
            let mut connection = self.services.store.read().await?;
            let all = boot::device_list(&mut connection).await?;
            all.iter().filter(|row| row.is_nobodys()).count()
        };
        if unknown >= MOST_UNKNOWN {
            return Err(DeskError::Conflict(format!(
                "{unknown} devices have come of which nobody knows anything; an operator has to forget some"
            )));
        }
        let name = format!("device-{}{suffix}", boot_mac.to_string().replace(':', ""));
        let (claimed, now) = (claimed.clone(), self.now());
        let added = self.services.store.write(move |connection| {
            Box::pin(async move {
                for number in 1..=MOST_NAMESAKES {
                    let name = match number {
                        1 => name.clone(),
                        _ => format!("{name}-{number}"),
                    };
                    let Some(there) = devices::device_by_name(connection, &name).await? else {
                        let device = Device {
                            id: DeviceId::fresh(),
                            name,
                            client: "default".into(),
                            facts: serde_json::Map::new(),
                            added_at: now,
                        };
                        return devices::device_put(connection, &device).await.map(Some);
                    };
                    let is_it = match boot::device_get(connection, there.id).await? {
                        Some(row) => row.fingerprint == claimed,
                        None => {
                            let declared =
                                identity::fingerprint(&inventory::declared(&there.facts));
                            declared == Fingerprint::default()
                        }
                    };
                    if is_it {
                        return Ok(Some(there));
                    }
                }
                Ok(None)
            })
        });
        added.await?.ok_or_else(|| {
            DeskError::Conflict(format!(
                "{MOST_NAMESAKES} devices have come with the address {boot_mac}; an operator has to forget some"
            ))
        })
    }

    /// Stores that it is there. Refuses a second one while the first still talks.
    async fn admit(
        &self,
        device: Device,
        claimed: &Fingerprint,
        order: &Register,
        taken: Taken,
        from: IpAddr,
    ) -> Result<(), DeskError> {
        let now = self.now();
        let present = {
            let mut connection = self.services.store.read().await?;
            boot::device_get(&mut connection, device.id).await?
        };
        if let Some(present) = &present
            && !present.boot_id.is_empty()
            && present.boot_id != order.boot_id
            && now.since(present.heard_at) < STILL_THERE
            && !present.phase.boots_from_disk()
        {
            let message = format!(
                "a second device at {from} says to be it, while it is there itself; it was refused"
            );
            self.tell(&device.name, "twin", message).await?;
            return Err(DeskError::Conflict(
                "this device is there already; try again when it is off".into(),
            ));
        }
        let fresh = BootDevice {
            fingerprint: claimed.clone(),
            ..BootDevice::registered(device.id, device.name.clone(), self.first_trust(), now)
        };
        // One boot has one session: an earlier boot's rights end here.
        let (claimed, id, same_boot) = (
            claimed.clone(),
            device.id,
            present
                .as_ref()
                .is_some_and(|present| present.boot_id == order.boot_id),
        );
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    if !same_boot {
                        let kinds = [TokenKind::Session, TokenKind::Delivery, TokenKind::Image];
                        boot::token_revoke(connection, id, &kinds).await?;
                    }
                    let mut row = boot::device_get(connection, id).await?.unwrap_or(fresh);
                    let mut taken = taken;
                    if matches!(row.phase, BootPhase::Quarantined { .. }) {
                        taken = Taken::Leave;
                    } else {
                        row.fingerprint = claimed.clone();
                    }
                    boot::device_put(connection, &row).await?;
                    boot::client_assign(connection, &claimed.macs, id, taken, now).await
                })
            })
            .await?;
        let boot_id = order.boot_id.clone();
        self.happen(id, Happening::Registered { boot_id }).await?;
        Ok(())
    }

    /// The session of a request, and its device.
    pub(super) async fn session(&self, text: &str) -> Result<(Token, BootDevice), DeskError> {
        let token = self.token(text, TokenKind::Session).await?;
        let device = self.device(token.device).await?;
        if device.boot_id != token.boot_id {
            return Err(DeskError::Unknown);
        }
        Ok((token, device))
    }

    pub async fn inventory(&self, session: &str, bytes: &[u8]) -> Result<(), DeskError> {
        let (_, row) = self.session(session).await?;
        let inventory = inventory::read(bytes)
            .map_err(|why| DeskError::Invalid(format!("the inventory: {why}")))?;
        let told = identity::fingerprint(&inventory.claims());
        if told.uuid != row.fingerprint.uuid || told.serial != row.fingerprint.serial {
            let reason = "its inventory is another machine's than it registered as".to_owned();
            self.happen(row.device, Happening::Quarantined { reason })
                .await?;
            return Ok(());
        }
        let disk = inventory::disk_for_image(&inventory)
            .map(|disk| disk.name.clone())
            .unwrap_or_default();
        let id = row.device;
        // What is in quarantine may not change what is known of anybody.
        if !matches!(row.phase, BootPhase::Quarantined { .. }) {
            self.services
                .store
                .write(move |connection| {
                    Box::pin(async move {
                        if let Some(mut device) =
                            devices::device_by_name(connection, &id.to_string()).await?
                        {
                            inventory::into_facts(&mut device.facts, &inventory);
                            devices::device_put(connection, &device).await?;
                        }
                        Ok(())
                    })
                })
                .await?;
        }
        let after = self.happen(id, Happening::Inventory { disk }).await?;
        if let Some(device) = after
            && device.phase == BootPhase::Discovered
        {
            self.look_for_run(&device).await?;
        }
        Ok(())
    }

    pub async fn heartbeat(
        &self,
        session: &str,
        heartbeat: &Heartbeat,
    ) -> Result<Order, DeskError> {
        let (token, before) = self.session(session).await?;
        if heartbeat.boot_id != token.boot_id {
            return Err(DeskError::Unknown);
        }
        self.extend(&token, lasting::SESSION).await?;
        let doing = plain(&heartbeat.doing);
        let device = self
            .happen(before.device, Happening::Told(doing.clone()))
            .await?
            .ok_or(DeskError::Unknown)?;
        let mut order = life::order(&device, &doing);
        if let Order::Install { token, .. } = &mut order {
            let (id, run) = (device.device, device.run);
            self.services
                .store
                .write(move |connection| {
                    Box::pin(async move {
                        boot::token_revoke(connection, id, &[TokenKind::Delivery]).await
                    })
                })
                .await?;
            *token = self
                .mint(id, TokenKind::Delivery, run, &device.boot_id)
                .await?;
        }
        Ok(order)
    }

    /// A delivery token for the right to the image, once. A second time stops the device.
    pub async fn exchange(
        &self,
        session: &str,
        order: &Exchange,
        from: IpAddr,
    ) -> Result<Credential, DeskError> {
        let (session, device) = self.session(session).await?;
        let token = self.token(&order.token, TokenKind::Delivery).await?;
        if token.used_at.is_some() {
            let from = from.to_string();
            self.happen(token.device, Happening::TokenReplayed { from })
                .await?;
            return Err(DeskError::Forbidden("this token was used already".into()));
        }
        let lawful = token.device == session.device
            && token.boot_id == session.boot_id
            && token.run == device.run
            && matches!(device.phase, BootPhase::Installing { .. })
            && device.trust != Trust::Discovery;
        if !lawful {
            return Err(DeskError::Forbidden(
                "this token is not for this device now".into(),
            ));
        }
        let manifest = device
            .manifest
            .ok_or_else(|| DeskError::Failed("the image is not packed".into()))?;
        let (hash, id, now) = (token.hash, token.device, self.now());
        let first = self
            .services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    // Read again within the transaction: two exchanges at once have one winner.
                    let there = boot::token_get(connection, hash).await?;
                    if there.is_none_or(|token| token.used_at.is_some()) {
                        return Ok(false);
                    }
                    boot::token_use(connection, hash, now).await?;
                    boot::token_revoke(connection, id, &[TokenKind::Image, TokenKind::Report])
                        .await?;
                    if let Some(mut row) = boot::device_get(connection, id).await? {
                        row.tries += 1;
                        boot::device_put(connection, &row).await?;
                    }
                    Ok(true)
                })
            })
            .await?;
        if !first {
            let from = from.to_string();
            self.happen(id, Happening::TokenReplayed { from }).await?;
            return Err(DeskError::Forbidden("this token was used already".into()));
        }
        Ok(Credential {
            credential: self
                .mint(id, TokenKind::Image, token.run, &token.boot_id)
                .await?,
            report: self
                .mint(id, TokenKind::Report, token.run, &token.boot_id)
                .await?,
            manifest: manifest.to_string(),
        })
    }

    /// The run whose image this credential may fetch.
    pub async fn image_right(
        &self,
        credential: &str,
    ) -> Result<(crate::vocab::RunId, BootDevice), DeskError> {
        let token = self.token(credential, TokenKind::Image).await?;
        let device = self.device(token.device).await?;
        self.extend(&token, lasting::IMAGE).await?;
        match (&device.phase, token.run) {
            (BootPhase::Installing { run }, Some(of))
                if *run == of && device.boot_id == token.boot_id =>
            {
                Ok((of, device))
            }
            _ => Err(DeskError::Forbidden(
                "no image is for this device now".into(),
            )),
        }
    }
}

/// What it does, with nothing in it that does not belong into events and onto terminals.
fn plain(doing: &Doing) -> Doing {
    match doing {
        Doing::Failed { run, why } => Doing::Failed {
            run: *run,
            why: why
                .chars()
                .filter(|c| !c.is_control())
                .take(REASON)
                .collect(),
        },
        other => other.clone(),
    }
}
