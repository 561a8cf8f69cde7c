//! Codes that a person makes and a device gives, once: for networks on which being there proves
//! nothing.

use std::sync::Mutex;
use std::time::Duration;

use super::{Desk, DeskError, OperatorError, change};
use crate::access::pace::{Paces, Rate};
use crate::access::secret::Secret;
use crate::netboot::life::Happening;
use crate::netboot::trust;
use crate::netboot::wire::GivenCode;
use crate::store::{boot_codes, devices};
use crate::vocab::boot::{BootCode, BootPhase};
use crate::vocab::{Device, Timestamp};

/// Codes of one device, and of all together: a person mistypes, a program guesses. 124 bits are not
/// guessed at either rate; this is for the log and the events.
const OF_ONE: Rate = Rate {
    per_s: 1.0 / 60.0,
    burst: 5,
};
const OF_ALL: Rate = Rate {
    per_s: 0.5,
    burst: 30,
};
const EVERYONE: &str = "";
/// Longest life of a code: long enough to be sent along with a machine.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Who gave codes how often.
#[derive(Default)]
pub(super) struct Tries(Mutex<Paces>);

impl Tries {
    /// One more, or how long to wait.
    fn take(&self, device: &str, now: Timestamp) -> Result<(), Duration> {
        let mut paces = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = now.since(Timestamp(0));
        paces.take(device, OF_ONE, now)?;
        paces.take(EVERYONE, OF_ALL, now)
    }
}

impl Desk {
    /// A fresh code, to be shown once, and when it ends. `device`: only that one may give it.
    pub async fn make_code(
        &self,
        device: Option<&str>,
        lasts: Duration,
        by: &str,
    ) -> Result<(Secret, Timestamp), OperatorError> {
        if lasts < Duration::from_secs(60) || lasts > LONGEST {
            return Err(OperatorError::Refused(format!(
                "a code is good for 1 to {} minutes",
                LONGEST.as_secs() / 60
            )));
        }
        let device: Option<Device> = match device {
            Some(name) => Some(self.find(name).await?),
            None => None,
        };
        let now = self.now();
        let secret = Secret::fresh_code();
        let code = BootCode {
            hash: secret.digest(),
            device: device.as_ref().map(|device| device.id),
            made_by: by.to_owned(),
            made_at: now,
            expires_at: now.after(lasts),
            used_at: None,
        };
        let expires_at = code.expires_at;
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { boot_codes::code_insert(connection, &code).await })
            })
            .await?;
        let of = device.map_or("whoever gives it".to_owned(), |device| device.name);
        tracing::info!(by, of, %expires_at, "a code was made");
        Ok((secret, expires_at))
    }

    /// A code that somebody typed at a device, or that came with it.
    pub async fn give_code(&self, session: &str, given: &GivenCode) -> Result<(), DeskError> {
        let (_, device) = self.session(session).await?;
        if matches!(device.phase, BootPhase::Quarantined { .. }) {
            return Err(DeskError::Forbidden(
                "a code does not end a quarantine; an operator has to look".into(),
            ));
        }
        let (id, now, silence) = (device.device, self.now(), self.settings.silence);
        self.tries
            .take(&id.to_string(), now)
            .map_err(|wait| DeskError::TooMany(wait.as_secs() + 1))?;
        let changed = match trust::code_hash(&given.code) {
            None => None,
            Some(hash) => {
                self.services
                    .store
                    .write(move |connection| {
                        Box::pin(async move {
                            // Within the transaction: of two who give it at once, one is heard.
                            let found = boot_codes::code_get(connection, hash).await?;
                            if !found.is_some_and(|code| code.is_good(id, now)) {
                                return Ok(None);
                            }
                            boot_codes::code_use(connection, hash, id, now).await?;
                            change(connection, id, &Happening::CodeGiven, now, silence).await
                        })
                    })
                    .await?
            }
        };
        let Some(after) = changed else {
            let why = "it gave a code that is not good: unknown, used, over, or another device's";
            self.tell(&device.name, "wrong_code", why).await?;
            return Err(DeskError::Forbidden(
                "this code is not good (any more)".into(),
            ));
        };
        if after.phase == BootPhase::Discovered {
            self.look_for_run(&after).await?;
        }
        Ok(())
    }

    /// The tier of an address's device and why, in words.
    pub async fn explain_trust(
        &self,
        mac: crate::vocab::boot::Mac,
    ) -> Result<(String, String), crate::store::StoreError> {
        let known = self.device_at(mac).await?;
        let facts = match &known {
            None => None,
            Some(known) => {
                let mut connection = self.services.store.read().await?;
                devices::device_by_name(&mut connection, &known.device.to_string()).await?
            }
        };
        let has_tpm = facts.is_some_and(|device| device.facts["hardware"]["tpm"] == true);
        let approve = self.settings.approve;
        Ok(trust::explain(
            known.map(|known| known.trust),
            has_tpm,
            approve,
        ))
    }
}
