//! Room on the host for machines: who may make one now.
//!
//! A stage that waits for its machine goes before any prefetch; within a class it is first come,
//! first served. A machine holds its share until it is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::vocab::MachineId;
use crate::vocab::machine::Size;

/// How urgent a machine is; smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A stage waits for it.
    Wanted,
    /// It is made ahead of need.
    Ahead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub memory_mib: u64,
    pub vcpus: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityStatus {
    pub total: Room,
    pub used: Room,
    pub machines: usize,
    pub waiting: usize,
}

/// Each QEMU process needs memory beside its guest's: measured 60–110 MiB with emulation.
pub const OVERHEAD_MIB: u64 = 96;

pub struct Capacity {
    state: Mutex<State>,
}

struct State {
    total: Room,
    used: Room,
    holders: HashMap<MachineId, Room>,
    /// By urgency and order of arrival.
    waiting: BTreeMap<(Urgency, u64), (MachineId, Room, oneshot::Sender<()>)>,
    /// The other ends of places that were taken and are not waited for yet.
    granted: HashMap<MachineId, oneshot::Receiver<()>>,
    arrivals: u64,
}

fn fits(need: Room, total: Room) -> bool {
    need.memory_mib <= total.memory_mib && need.vcpus <= total.vcpus
}

/// What a request can never get on this host.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "a machine of {memory_mib} MiB and {vcpus} vCPUs does not fit this host, which gives Greenroom {total_memory_mib} MiB and {total_vcpus} vCPUs"
)]
pub struct TooLarge {
    memory_mib: u64,
    vcpus: u64,
    total_memory_mib: u64,
    total_vcpus: u64,
}

impl Capacity {
    pub fn new(total: Room) -> Self {
        let used = Room {
            memory_mib: 0,
            vcpus: 0,
        };
        Self {
            state: Mutex::new(State {
                total,
                used,
                holders: HashMap::new(),
                waiting: BTreeMap::new(),
                granted: HashMap::new(),
                arrivals: 0,
            }),
        }
    }

    /// Takes a place in the queue, at once. Whoever makes the machine then waits in [`Self::take`].
    /// What never fits gets no place.
    pub fn line_up(&self, machine: MachineId, size: Size, urgency: Urgency) {
        let need = room_of(size);
        let mut state = self.lock();
        let known = state.holders.contains_key(&machine) || state.granted.contains_key(&machine);
        if known || !fits(need, state.total) {
            return;
        }
        state.arrivals += 1;
        let place = (urgency, state.arrivals);
        let (grant, granted) = oneshot::channel();
        state.waiting.insert(place, (machine, need, grant));
        state.granted.insert(machine, granted);
        state.grant();
    }

    /// Waits until there is room and takes it. A machine that has its room already gets it again;
    /// dropping the future gives up the place in the queue.
    pub async fn take(
        &self,
        machine: MachineId,
        size: Size,
        urgency: Urgency,
    ) -> Result<(), TooLarge> {
        let need = room_of(size);
        self.line_up(machine, size, urgency);
        let granted = {
            let mut state = self.lock();
            let granted = state.granted.remove(&machine);
            if state.holders.contains_key(&machine) {
                return Ok(());
            }
            let total = state.total;
            granted.ok_or(TooLarge {
                memory_mib: size.memory_mib,
                vcpus: need.vcpus,
                total_memory_mib: total.memory_mib,
                total_vcpus: total.vcpus,
            })?
        };
        // The sender lives in the queue until it grants; it is never dropped ungranted.
        let mut guard = GiveBack {
            capacity: self,
            machine,
            armed: true,
        };
        let _ = granted.await;
        guard.armed = false;
        Ok(())
    }

    /// A stage waits for this machine now: if it is in the queue, it moves among the wanted ones.
    pub fn promote(&self, machine: MachineId) {
        let mut state = self.lock();
        let place = state
            .waiting
            .iter()
            .find(|((urgency, _), (waiting, ..))| *waiting == machine && *urgency == Urgency::Ahead)
            .map(|(place, _)| *place);
        if let Some(place) = place
            && let Some(request) = state.waiting.remove(&place)
        {
            state.waiting.insert((Urgency::Wanted, place.1), request);
            state.grant();
        }
    }

    /// Counts a machine that exists already, after a restart: with or without room.
    pub fn adopt(&self, machine: MachineId, size: Size) {
        let need = room_of(size);
        let mut state = self.lock();
        if state.holders.insert(machine, need).is_none() {
            state.used.memory_mib += need.memory_mib;
            state.used.vcpus += need.vcpus;
        }
    }

    /// Gives a machine's room back. Twice is harmless.
    pub fn give_back(&self, machine: MachineId) {
        let mut state = self.lock();
        state.granted.remove(&machine);
        state
            .waiting
            .retain(|_, (waiting, _, _)| *waiting != machine);
        if let Some(room) = state.holders.remove(&machine) {
            state.used.memory_mib -= room.memory_mib;
            state.used.vcpus -= room.vcpus;
        }
        state.grant();
    }

    pub fn status(&self) -> CapacityStatus {
        let state = self.lock();
        CapacityStatus {
            total: state.total,
            used: state.used,
            machines: state.holders.len(),
            waiting: state.waiting.len(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Returns what was granted to a future that was dropped before it could use it.
struct GiveBack<'a> {
    capacity: &'a Capacity,
    machine: MachineId,
    armed: bool,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.capacity.give_back(self.machine);
        }
    }
}

impl State {
    /// Serves the queue's head as long as it fits. Nothing overtakes: a large machine is not starved
    /// by small ones.
    fn grant(&mut self) {
        while let Some(first) = self.waiting.first_entry() {
            let (_, need, _) = first.get();
            let need = *need;
            let memory_mib = self.used.memory_mib + need.memory_mib;
            let vcpus = self.used.vcpus + need.vcpus;
            if memory_mib > self.total.memory_mib || vcpus > self.total.vcpus {
                return;
            }
            let (machine, need, grant) = first.remove();
            if grant.send(()).is_ok() {
                self.used = Room { memory_mib, vcpus };
                self.holders.insert(machine, need);
            }
        }
    }
}

fn room_of(size: Size) -> Room {
    Room {
        memory_mib: size.memory_mib + OVERHEAD_MIB,
        vcpus: u64::from(size.vcpus),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(memory_mib: u64) -> Size {
        Size {
            vcpus: 1,
            memory_mib: memory_mib - OVERHEAD_MIB,
            disk_mib: 1,
            network_kbytes_per_s: None,
        }
    }

    fn polled(future: &mut (impl Future<Output = Result<(), TooLarge>> + Unpin)) -> bool {
        use futures::FutureExt;
        future.now_or_never().is_some()
    }

    #[tokio::test]
    async fn wanted_machines_go_first_and_nobody_is_overtaken_within_a_class() {
        let capacity = Capacity::new(Room {
            memory_mib: 1000,
            vcpus: 10,
        });
        let [first, ahead, wanted, small] = [(); 4].map(|()| MachineId::fresh());
        capacity
            .take(first, size(600), Urgency::Wanted)
            .await
            .unwrap();
        let mut for_ahead = Box::pin(capacity.take(ahead, size(600), Urgency::Ahead));
        let mut for_wanted = Box::pin(capacity.take(wanted, size(700), Urgency::Wanted));
        let mut for_small = Box::pin(capacity.take(small, size(200), Urgency::Wanted));
        assert!(!polled(&mut for_ahead) && !polled(&mut for_wanted) && !polled(&mut for_small));
        capacity.give_back(first);
        assert!(polled(&mut for_wanted) && polled(&mut for_small) && !polled(&mut for_ahead));
        capacity.give_back(wanted);
        assert!(polled(&mut for_ahead));
        assert_eq!(
            capacity.status().used,
            Room {
                memory_mib: 800,
                vcpus: 2
            }
        );
    }

    #[tokio::test]
    async fn what_never_fits_is_refused_and_what_is_dropped_gives_its_place_up() {
        let capacity = Capacity::new(Room {
            memory_mib: 1000,
            vcpus: 10,
        });
        let [first, second, third] = [(); 3].map(|()| MachineId::fresh());
        assert!(
            capacity
                .take(first, size(1001), Urgency::Wanted)
                .await
                .is_err()
        );
        capacity
            .take(first, size(1000), Urgency::Wanted)
            .await
            .unwrap();
        let mut waiting = Box::pin(capacity.take(second, size(1000), Urgency::Wanted));
        assert!(!polled(&mut waiting));
        drop(waiting);
        let mut next = Box::pin(capacity.take(third, size(500), Urgency::Ahead));
        assert!(!polled(&mut next));
        capacity.give_back(first);
        assert!(polled(&mut next));
        capacity.give_back(third);
        assert_eq!(
            capacity.status().used,
            Room {
                memory_mib: 0,
                vcpus: 0
            }
        );
    }

    #[tokio::test]
    async fn a_machine_that_becomes_wanted_is_promoted() {
        let capacity = Capacity::new(Room {
            memory_mib: 1000,
            vcpus: 10,
        });
        let [first, early, late] = [(); 3].map(|()| MachineId::fresh());
        capacity
            .take(first, size(1000), Urgency::Wanted)
            .await
            .unwrap();
        let mut ahead = Box::pin(capacity.take(early, size(1000), Urgency::Ahead));
        let mut wanted = Box::pin(capacity.take(late, size(1000), Urgency::Wanted));
        assert!(!polled(&mut ahead) && !polled(&mut wanted));
        capacity.promote(early);
        capacity.give_back(first);
        assert!(polled(&mut ahead) && !polled(&mut wanted));
    }
}
