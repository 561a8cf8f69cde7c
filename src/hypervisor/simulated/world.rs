//! What a simulated host consists of. It outlives the connections to it, as a real host outlives a
//! daemon's crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::super::{AttachedDisk, HvError, MachineEvent, Power, SeenMachine};
use super::SimSettings;
use super::agent::SimGuest;
use super::disks::{Disk, DiskKind, Disks};
use super::faults::{Chaos, Fault, Faults, GuestFault};
use crate::vocab::machine::Tag;
use crate::vocab::{Deployment, Digest, MachineId};

/// A host's machines, disks and guests.
pub struct World {
    pub settings: SimSettings,
    state: Mutex<State>,
    pub(super) events: broadcast::Sender<MachineEvent>,
    /// Woken when a machine goes, so that a call that waits for a silent guest ends.
    pub(super) gone: Notify,
}

pub(super) struct State {
    pub machines: BTreeMap<MachineId, SimMachine>,
    pub disks: Disks,
    /// The consoles' logs, which stay when their machines go.
    pub consoles: BTreeMap<MachineId, String>,
    pub faults: Faults,
    pub reachable: bool,
    pub counts: Counts,
}

pub(super) struct SimMachine {
    pub name: String,
    pub tag: Option<Tag>,
    pub memory_mib: u64,
    pub power: Power,
    pub attached: Vec<AttachedDisk>,
    pub guest: SimGuest,
    pub faults: Vec<GuestFault>,
    pub calls: u32,
    pub started: Instant,
    pub boots_in: Duration,
}

/// What has been done on a host since the world was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub disks_made: u64,
    pub disks_removed: u64,
    pub machines_started: u64,
    pub machines_destroyed: u64,
    pub most_machines: usize,
    pub agent_calls: u64,
    pub listings: u64,
}

/// Everything on a host that should not change unasked; two are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub machines: BTreeMap<MachineId, SnapshotMachine>,
    pub disks: BTreeMap<PathBuf, (DiskKind, u64, Digest)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMachine {
    pub name: String,
    pub tag: Option<Tag>,
    pub power: Power,
    pub attached: Vec<AttachedDisk>,
    pub memory_mib: u64,
}

impl World {
    pub fn new(settings: SimSettings) -> Arc<Self> {
        let state = State {
            machines: BTreeMap::new(),
            disks: Disks::new(settings.disk_mib),
            consoles: BTreeMap::new(),
            faults: Faults::new(settings.chaos),
            reachable: true,
            counts: Counts::default(),
        };
        Arc::new(Self {
            settings,
            state: Mutex::new(state),
            events: broadcast::channel(4096).0,
            gone: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: MachineEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// Puts a fault in wait; see [`Fault`] for what uses it up.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.order(fault);
    }

    /// Gives a fault to a machine that is there. Calls count from now.
    pub fn inject_into(&self, id: MachineId, fault: GuestFault) {
        if let Some(machine) = self.state().machines.get_mut(&id) {
            machine.calls = 0;
            machine.faults.push(fault);
        }
    }

    /// No waiting faults and no chance of others from now on; machines keep theirs.
    pub fn calm(&self) {
        self.state().faults.clear();
    }

    pub fn chaos(&self, chaos: Chaos) {
        self.state().faults = Faults::new(chaos);
    }

    /// Cuts the connection to the host, or restores it.
    pub fn set_reachable(&self, reachable: bool) {
        let changed = std::mem::replace(&mut self.state().reachable, reachable) != reachable;
        if changed {
            self.tell(if reachable {
                MachineEvent::Reconnected
            } else {
                MachineEvent::Disconnected
            });
        }
    }

    /// A machine that belongs to somebody else.
    pub fn add_foreign_machine(&self, name: &str, memory_mib: u64) -> MachineId {
        let id = MachineId::fresh();
        let machine = SimMachine {
            name: name.to_owned(),
            tag: None,
            memory_mib,
            power: Power::Running,
            attached: Vec::new(),
            guest: SimGuest::default(),
            faults: Vec::new(),
            calls: 0,
            started: Instant::now(),
            boots_in: Duration::ZERO,
        };
        self.state().machines.insert(id, machine);
        id
    }

    /// A file that somebody else put where our disks live.
    pub fn add_foreign_disk(&self, path: &Path) {
        let disk = Disk {
            kind: DiskKind::Foreign,
            size_mib: 1,
            start: Vec::new(),
        };
        self.state().disks.insert(path.to_owned(), disk);
    }

    /// The machine's process dies: it is off and, unless `listed`, gone with that.
    pub fn crash(&self, id: MachineId, listed: bool) {
        self.state().end_machine(id, listed);
        self.tell(MachineEvent::Stopped(id, "crashed".into()));
        self.gone.notify_waiters();
    }

    /// Stops the guest's instructions, or lets them go on.
    pub fn set_paused(&self, id: MachineId, paused: bool) {
        if let Some(machine) = self.state().machines.get_mut(&id)
            && machine.power != Power::Off
        {
            machine.power = if paused {
                Power::Paused
            } else {
                Power::Running
            };
        }
    }

    /// The guest's agent is replaced by a fresh one that knows no handles.
    pub fn restart_agent(&self, id: MachineId) {
        if let Some(machine) = self.state().machines.get_mut(&id) {
            machine.guest.restart_agent();
        }
    }

    /// The first bytes of a raw disk, as somebody on the host would read them.
    pub fn disk_start(&self, path: &Path, count: usize) -> Option<Vec<u8>> {
        let mut state = self.state();
        state.advance_all();
        state.disks.read_start(path, count)
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.state();
        state.advance_all();
        Snapshot {
            machines: state
                .machines
                .iter()
                .map(|(id, machine)| (*id, machine.snapshot()))
                .collect(),
            disks: state
                .disks
                .all()
                .iter()
                .map(|(path, disk)| {
                    (
                        path.clone(),
                        (disk.kind.clone(), disk.size_mib, disk.digest()),
                    )
                })
                .collect(),
        }
    }
}

impl State {
    pub fn advance(&mut self, id: MachineId) {
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.power == Power::Running
        {
            machine
                .guest
                .advance(Instant::now(), &machine.attached, &mut self.disks);
        }
    }

    pub fn advance_all(&mut self) {
        let ids: Vec<MachineId> = self.machines.keys().copied().collect();
        for id in ids {
            self.advance(id);
        }
    }

    pub fn memory_taken_mib(&self) -> u64 {
        let alive = self
            .machines
            .values()
            .filter(|machine| machine.power != Power::Off);
        alive.map(|machine| machine.memory_mib).sum()
    }

    /// The machine that has the disk.
    pub fn holder(&self, path: &Path) -> Option<MachineId> {
        let has = |machine: &SimMachine| machine.attached.iter().any(|disk| disk.path == path);
        self.machines
            .iter()
            .find(|(_, machine)| has(machine))
            .map(|(id, _)| *id)
    }

    /// A running machine of the deployment, and the disks beside it.
    pub fn ours(
        &mut self,
        id: MachineId,
        deployment: Option<Deployment>,
    ) -> Result<(&mut SimMachine, &mut Disks), HvError> {
        match self.machines.get_mut(&id) {
            None => Err(HvError::NoSuchMachine(id)),
            Some(machine) if !machine.is_of(deployment) => Err(machine.not_ours()),
            Some(machine) if machine.power == Power::Off => Err(HvError::NoSuchMachine(id)),
            Some(machine) => Ok((machine, &mut self.disks)),
        }
    }

    pub fn end_machine(&mut self, id: MachineId, listed: bool) {
        self.advance(id);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.power = Power::Off;
            machine.attached.clear();
            machine.guest = SimGuest::default();
        }
        if !listed {
            self.machines.remove(&id);
        }
    }
}

impl SimMachine {
    /// Whether it carries a tag, of the deployment where one is named.
    pub fn is_of(&self, deployment: Option<Deployment>) -> bool {
        let tag = self.tag.as_ref();
        tag.is_some_and(|tag| deployment.is_none_or(|deployment| tag.deployment == deployment))
    }

    pub fn not_ours(&self) -> HvError {
        HvError::Refused(format!("{} does not carry our tag", self.name))
    }

    pub fn seen(&self, id: MachineId) -> SeenMachine {
        SeenMachine {
            id,
            name: self.name.clone(),
            tag: self.tag.clone(),
            power: self.power,
            attached: self.attached.iter().map(|disk| disk.path.clone()).collect(),
        }
    }

    fn snapshot(&self) -> SnapshotMachine {
        SnapshotMachine {
            name: self.name.clone(),
            tag: self.tag.clone(),
            power: self.power,
            attached: self.attached.clone(),
            memory_mib: self.memory_mib,
        }
    }
}
