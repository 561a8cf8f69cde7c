//! Room on the host for machines that were claimed through the API.
//!
//! A stage's machine holds its room as long as its run holds it; a claim's machine as long as the
//! claim lasts, and the pool may end that (its time is up, its machine was lost). So [`Rooms`]
//! compares what it holds with the claims that are left, every few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::capacity::{Capacity, Urgency};
use crate::pool::Pool;
use crate::vocab::machine::Size;
use crate::vocab::pool::Claim;
use crate::vocab::{Digest, MachineId};

/// Between two looks at the claims: how long the room of a claim that ended by itself stays taken.
const EVERY: Duration = Duration::from_secs(5);
/// How long a claim waits for room.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rooms {
    capacity: Arc<Capacity>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Claims by key, each with a number that no other holding has.
    by_key: BTreeMap<String, u64>,
    last: u64,
}

/// Whether room was taken now, or by an earlier request with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Taken,
    HeldBefore,
}

impl Rooms {
    pub fn new(capacity: Arc<Capacity>) -> Self {
        Self {
            capacity,
            held: Mutex::default(),
        }
    }

    /// Waits for room; the message says why there is none.
    pub async fn take(&self, key: &str, size: Size) -> Result<Room, String> {
        if self.lock().by_key.contains_key(key) {
            return Ok(Room::HeldBefore);
        }
        let taking = self.capacity.take(place(key), size, Urgency::Wanted);
        match tokio::time::timeout(PATIENCE, taking).await {
            Ok(Ok(())) => Ok(Room::Taken),
            Ok(Err(too_large)) => Err(format!(
                "{too_large}; ask for less, or give Greenroom more of the host"
            )),
            Err(_) => Err(format!(
                "the host had no room for a machine of {} MiB within {} s; see `greenroom status`, and release claims that nobody needs",
                size.memory_mib,
                PATIENCE.as_secs()
            )),
        }
    }

    /// From now on the room is given back once the claim is gone.
    pub fn hold(&self, key: &str) {
        let mut held = self.lock();
        held.last += 1;
        let number = held.last;
        held.by_key.insert(key.to_owned(), number);
    }

    /// Twice is harmless.
    pub fn give_back(&self, key: &str) {
        self.lock().by_key.remove(key);
        self.capacity.give_back(place(key));
    }

    /// Counts the claims that an earlier daemon left.
    pub fn adopt(&self, claims: &[Claim]) {
        for claim in claims.iter().filter(|claim| is_ours(claim)) {
            let memory_mib = claim.achieved.map_or(0, |achieved| achieved.memory_mib);
            let size = Size {
                vcpus: claim.class.vcpus,
                memory_mib: memory_mib.max(claim.class.memory_mib),
                disk_mib: 0,
                network_kbytes_per_s: None,
            };
            self.capacity.adopt(place(&claim.key), size);
            self.hold(&claim.key);
        }
    }

    /// Gives back what claims that are gone have held, until `stop`.
    pub async fn watch(self: Arc<Self>, pool: Arc<Pool>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let before = self.lock().by_key.clone();
            if before.is_empty() {
                continue;
            }
            match pool.claims().await {
                Ok(claims) => self.sweep(&before, &claims),
                Err(error) => {
                    tracing::warn!(%error, "claims cannot be listed; their room stays taken")
                }
            }
        }
    }

    /// `before` is what was held before the claims were listed: what was taken since is not among it.
    fn sweep(&self, before: &BTreeMap<String, u64>, claims: &[Claim]) {
        for (key, number) in before {
            let is_gone = !claims.iter().any(|claim| claim.key == *key);
            if is_gone && self.lock().by_key.get(key) == Some(number) {
                self.give_back(key);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims of the API have an end; those of runs end with their runs, which hold the room themselves.
pub fn is_ours(claim: &Claim) -> bool {
    claim.until.is_some()
}

/// Under which a claim's room is booked. Made from the key: which machine it will be is known only
/// after there is room.
fn place(key: &str) -> MachineId {
    let digest = Digest::of(format!("claim {key}").as_bytes()).to_string();
    digest[..32]
        .parse()
        .expect("32 hexadecimal digits are a UUID")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity;
    use crate::vocab::Timestamp;
    use crate::vocab::machine::EngineKind;
    use crate::vocab::pool::Tier;

    fn claim(key: &str, until: Option<i64>) -> Claim {
        Claim {
            key: key.into(),
            owner: "somebody".into(),
            client: "default".into(),
            shell: MachineId::fresh(),
            name: String::new(),
            class: "tiny:1x128".parse().unwrap(),
            engine: EngineKind::Resume,
            tier: Tier::Hot,
            reason: String::new(),
            made_at: Timestamp(0),
            until: until.map(Timestamp),
            released_at: None,
            achieved: None,
            shortfall: None,
            phases: vec![],
        }
    }

    fn rooms() -> Rooms {
        Rooms::new(Arc::new(Capacity::new(capacity::Room {
            memory_mib: 1000,
            vcpus: 4,
        })))
    }

    fn used(rooms: &Rooms) -> usize {
        rooms.capacity.status().machines
    }

    const SIZE: Size = Size {
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 0,
        network_kbytes_per_s: None,
    };

    #[tokio::test]
    async fn a_key_has_room_once_and_until_its_claim_is_gone() {
        let rooms = rooms();
        assert_eq!(rooms.take("a", SIZE).await, Ok(Room::Taken));
        rooms.hold("a");
        assert_eq!(rooms.take("a", SIZE).await, Ok(Room::HeldBefore));
        let before = rooms.lock().by_key.clone();
        rooms.sweep(&before, &[claim("a", Some(1))]);
        assert_eq!(used(&rooms), 1);
        rooms.sweep(&before, &[]);
        assert_eq!(used(&rooms), 0);
    }

    #[tokio::test]
    async fn a_claim_made_while_claims_were_listed_keeps_its_room() {
        let rooms = rooms();
        rooms.take("a", SIZE).await.unwrap();
        rooms.hold("a");
        let before = rooms.lock().by_key.clone();
        rooms.give_back("a");
        rooms.take("a", SIZE).await.unwrap();
        rooms.sweep(&before, &[]);
        rooms.hold("a");
        rooms.sweep(&before, &[]);
        assert_eq!(used(&rooms), 1);
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_and_runs_claims_are_not_counted() {
        let rooms = rooms();
        let large = Size {
            memory_mib: 2000,
            ..SIZE
        };
        assert!(rooms.take("a", large).await.is_err());
        rooms.adopt(&[claim("run", None), claim("mine", Some(1))]);
        assert_eq!(used(&rooms), 1);
    }
}
