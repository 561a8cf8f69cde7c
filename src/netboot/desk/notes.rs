//! What need not be on disk before a script is answered: that an address was heard, and that a device
//! was sent to its own disk. Written in groups, a moment later.
//!
//! A boot storm is a thousand scripts a second, and each write that is waited for costs a flush of
//! the disk. Nothing is decided from what waits here: whoever reads such a row asks for
//! [`Desk::settled`] first, and a device that was just sent away is settled before it is asked about
//! again. A daemon that is killed forgets a moment: an address is heard again, and a device that
//! left unseen is taken for booted by its first report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Desk, change};
use crate::blocking;
use crate::netboot::delivery::Packed;
use crate::netboot::life::Happening;
use crate::store::{StoreError, boot};
use crate::vocab::boot::{BootEvent, Mac};
use crate::vocab::{DeviceId, Timestamp};

/// How long notes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// Addresses that wait to be written; one more waits for the disk itself.
const MOST_WAITING: usize = 4096;

#[derive(Default)]
pub(super) struct Notes {
    waiting: Mutex<Waiting>,
    /// Held while a group is written, so that who asks for settled rows waits for it too.
    turn: tokio::sync::Mutex<()>,
    something: Notify,
}

#[derive(Default, Clone)]
struct Waiting {
    heard: BTreeMap<Mac, Heard>,
    /// With the time at which it was sent away.
    left: BTreeMap<DeviceId, (Happening, Timestamp)>,
}

#[derive(Clone, PartialEq)]
struct Heard {
    said: String,
    at: Timestamp,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change of it is one insertion or removal: a panic leaves nothing half done.
        self.waiting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn copy(&self) -> Waiting {
        self.lock().clone()
    }

    fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.heard.is_empty() && waiting.left.is_empty()
    }

    /// Notes stay until they are written; what came meanwhile stays longer.
    fn written(&self, group: &Waiting) {
        let mut waiting = self.lock();
        waiting
            .heard
            .retain(|mac, heard| group.heard.get(mac) != Some(heard));
        waiting.left.retain(|id, _| !group.left.contains_key(id));
    }
}

impl Desk {
    /// An address asked for something.
    pub async fn heard(&self, mac: Mac, said: String) -> Result<(), StoreError> {
        if !mac.is_single() {
            return Ok(());
        }
        let at = self.now();
        let is_full = {
            let mut waiting = self.notes.lock();
            waiting.heard.insert(mac, Heard { said, at });
            waiting.heard.len() >= MOST_WAITING
        };
        if is_full {
            return self.settled().await;
        }
        self.notes.something.notify_one();
        Ok(())
    }

    /// A device was given a script that has consequences for it.
    pub(super) fn note_leaving(&self, id: DeviceId, happening: Happening) {
        let at = self.now();
        self.notes.lock().left.insert(id, (happening, at));
        self.notes.something.notify_one();
    }

    /// Whether something of this device waits to be written.
    pub(super) fn is_unsettled(&self, id: DeviceId) -> bool {
        self.notes.lock().left.contains_key(&id)
    }

    /// Returns when everything noted until now is in the database.
    pub async fn settled(&self) -> Result<(), StoreError> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let _turn = self.notes.turn.lock().await;
        let group = self.notes.copy();
        if group.heard.is_empty() && group.left.is_empty() {
            return Ok(());
        }
        let silence = self.settings.silence;
        let write = group.clone();
        let gone = self
            .services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    let mut has_new = false;
                    for (mac, Heard { said, at }) in write.heard {
                        if boot::client_heard(connection, mac, &said, at).await? {
                            has_new = true;
                            let event = BootEvent {
                                id: 0,
                                subject: mac.to_string(),
                                at,
                                kind: "seen".to_owned(),
                                message: said,
                            };
                            boot::event_insert(connection, &event).await?;
                            tracing::info!(%mac, kind = "seen", "{}", event.message);
                        }
                    }
                    if has_new {
                        boot::client_prune(connection).await?;
                    }
                    let mut gone = Vec::new();
                    for (id, (happening, at)) in write.left {
                        let after = change(connection, id, &happening, at, silence).await?;
                        gone.extend(after.and_then(|device| device.phase.run()));
                    }
                    Ok(gone)
                })
            })
            .await?;
        self.notes.written(&group);
        // Who boots from its own disk fetches no image any more.
        let state = self.settings.state.clone();
        blocking::run(move || {
            for run in gone {
                Packed::of(&state, run).remove();
            }
        })
        .await;
        Ok(())
    }

    /// Writes what was noted, until `stop`, and then what is left.
    pub(super) async fn write_notes(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.notes.something.notified() => {}
            }
            // A full disk keeps the notes; they are bounded, and the next look tries again.
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
            if let Err(error) = self.settled().await {
                tracing::warn!(%error, "who asked for a script cannot be noted");
                self.notes.something.notify_one();
            }
        }
    }
}
