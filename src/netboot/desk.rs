//! The desk at which devices report: the sole writer of what is stored of the network boot.
//!
//! Every change of a device is one transaction that reads it, asks [`life`] and stores the answer, so
//! requests, the sweep and operators cannot overtake each other.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::Semaphore;

use super::identity;
use super::inventory;
use super::life::{self, Happening};
use super::settings::{Approve, Settings};
use crate::images::Images;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::Services;
use crate::store::{StoreError, boot, devices};
use crate::vocab::boot::{BootDevice, BootEvent, Fingerprint, Token, TokenKind, Trust};
use crate::vocab::{DeviceId, Digest, RunId, Timestamp};

mod agent;
mod codes;
mod notes;
mod operator;
mod scripts;
mod sweep;
mod telemetry;

pub use codes::LONGEST as LONGEST_CODE;
pub use operator::OperatorError;

pub struct Desk {
    services: Services,
    dispatch: Arc<Dispatch>,
    images: Images,
    pub settings: Settings,
    /// Images that are being sent.
    pub streams: Arc<Semaphore>,
    /// When telemetry was last condensed, as a [`Timestamp`].
    condensed_at: AtomicI64,
    notes: notes::Notes,
    scene: scripts::Prepared,
    tries: codes::Tries,
}

/// Why a device is not given what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// No such token, or it has ended: register again.
    #[error("this session is not known (any more)")]
    Unknown,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Conflict(String),
    #[error("too many codes were given; come again in {0} s")]
    TooMany(u64),
    #[error("as many images are being sent as may be; come again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

/// How long tokens are good for, from when they are made or extended.
mod lasting {
    use std::time::Duration;

    pub const SESSION: Duration = Duration::from_secs(600);
    pub const DELIVERY: Duration = Duration::from_secs(120);
    pub const IMAGE: Duration = Duration::from_secs(600);
    /// Kept alive by reports: a delivered system may be switched off for a month.
    pub const REPORT: Duration = Duration::from_secs(30 * 86_400);
}

/// Lets something happen to a device within the caller's transaction.
async fn step(
    connection: &mut SqliteConnection,
    device: &mut BootDevice,
    happening: &Happening,
    now: Timestamp,
    silence: Duration,
) -> Result<(), StoreError> {
    let before = device.phase.word();
    let told = life::step(device, happening, now, silence);
    boot::device_put(connection, device).await?;
    if let Some(told) = &told {
        let event = BootEvent {
            id: 0,
            subject: device.name.clone(),
            at: now,
            kind: told.kind.to_owned(),
            message: told.message.clone(),
        };
        boot::event_insert(connection, &event).await?;
        tracing::info!(device = %device.name, from = before, to = device.phase.word(), kind = told.kind, "{}", told.message);
    }
    Ok(())
}

impl Desk {
    pub fn new(
        services: Services,
        dispatch: Arc<Dispatch>,
        images: Images,
        settings: Settings,
    ) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(settings.streams));
        Arc::new(Self {
            services,
            dispatch,
            images,
            settings,
            streams,
            condensed_at: AtomicI64::new(0),
            notes: notes::Notes::default(),
            scene: scripts::Prepared::default(),
            tries: codes::Tries::default(),
        })
    }

    fn now(&self) -> Timestamp {
        self.services.now()
    }

    /// Lets something happen to a device. None: the network boot does not know it.
    async fn happen(
        &self,
        id: DeviceId,
        happening: Happening,
    ) -> Result<Option<BootDevice>, StoreError> {
        let (now, silence) = (self.now(), self.settings.silence);
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { change(connection, id, &happening, now, silence).await })
            })
            .await
    }

    /// Tells people something about a device or an address.
    async fn tell(
        &self,
        subject: &str,
        kind: &str,
        message: impl Into<String>,
    ) -> Result<(), StoreError> {
        let event = BootEvent {
            id: 0,
            subject: subject.to_owned(),
            at: self.now(),
            kind: kind.to_owned(),
            message: message.into(),
        };
        tracing::info!(subject, kind, "{}", event.message);
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { boot::event_insert(connection, &event).await })
            })
            .await?;
        Ok(())
    }

    /// A fresh token: 256 random bits as 64 hexadecimal digits. Only its hash is kept.
    async fn mint(
        &self,
        device: DeviceId,
        kind: TokenKind,
        run: Option<RunId>,
        boot_id: &str,
    ) -> Result<String, StoreError> {
        let text = hex::encode(rand::random::<[u8; 32]>());
        let now = self.now();
        let lasts = match kind {
            TokenKind::Session => lasting::SESSION,
            TokenKind::Delivery => lasting::DELIVERY,
            TokenKind::Image => lasting::IMAGE,
            TokenKind::Report => lasting::REPORT,
        };
        let token = Token {
            hash: Digest::of(text.as_bytes()),
            device,
            kind,
            run,
            boot_id: boot_id.to_owned(),
            made_at: now,
            expires_at: now.after(lasts),
            used_at: None,
        };
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { boot::token_insert(connection, &token).await })
            })
            .await?;
        Ok(text)
    }

    /// The token of this text, when it is of this kind and has not ended. A token is looked up by its
    /// hash, so how long a comparison takes tells nothing about it.
    async fn token(&self, text: &str, kind: TokenKind) -> Result<Token, DeskError> {
        let mut connection = self.services.store.read().await?;
        let found = boot::token_get(&mut connection, Digest::of(text.as_bytes())).await?;
        match found {
            Some(token) if token.kind == kind && token.expires_at > self.now() => Ok(token),
            _ => Err(DeskError::Unknown),
        }
    }

    /// Progress keeps a right alive: extended when half of its time is over, so not with each request.
    async fn extend(&self, token: &Token, lasts: Duration) -> Result<(), StoreError> {
        let now = self.now();
        if token.expires_at.remaining(now) > lasts / 2 {
            return Ok(());
        }
        let (hash, expires_at) = (token.hash, now.after(lasts));
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { boot::token_extend(connection, hash, expires_at).await })
            })
            .await
    }

    async fn device(&self, id: DeviceId) -> Result<BootDevice, DeskError> {
        let mut connection = self.services.store.read().await?;
        boot::device_get(&mut connection, id)
            .await?
            .ok_or(DeskError::Unknown)
    }

    fn first_trust(&self) -> Trust {
        match self.settings.approve {
            Approve::Network => Trust::Network,
            Approve::Operator => Trust::Discovery,
        }
    }

    /// Everyone that a claim may be compared with: those who came, and those whom people declared.
    async fn everyone(&self) -> Result<Vec<(DeviceId, Fingerprint)>, StoreError> {
        let mut connection = self.services.store.read().await?;
        let mut all: Vec<(DeviceId, Fingerprint)> = boot::device_list(&mut connection)
            .await?
            .into_iter()
            .map(|device| (device.device, device.fingerprint))
            .collect();
        for device in devices::device_list(&mut connection, i64::MAX).await? {
            if all.iter().all(|(id, _)| *id != device.id) {
                let declared = identity::fingerprint(&inventory::declared(&device.facts));
                all.push((device.id, declared));
            }
        }
        Ok(all)
    }
}

/// Within a transaction: reads a device, lets something happen to it, stores it and what people are
/// told. None: the network boot does not know it.
async fn change(
    connection: &mut SqliteConnection,
    id: DeviceId,
    happening: &Happening,
    now: Timestamp,
    silence: Duration,
) -> Result<Option<BootDevice>, StoreError> {
    let Some(mut device) = boot::device_get(connection, id).await? else {
        return Ok(None);
    };
    step(connection, &mut device, happening, now, silence).await?;
    Ok(Some(device))
}
