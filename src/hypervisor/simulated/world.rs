//! What a simulated host consists of. It outlives the connections to it, as a real host outlives a
//! daemon's crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::super::{AttachedDisk, HvError, MachineEvent, Power};
use super::SimSettings;
use super::agent::SimGuest;
use super::disks::{Disk, DiskKind, Disks};
use super::faults::{Chaos, Fault, Faults, GuestFault};
use super::kernel::{Board, Kernel};
use super::machine::{Life, SimMachine};
use super::random::SplitMix;
use super::system::System;
use super::templates::{Damage, Shape, Templates};
use crate::vocab::machine::Tag;
use crate::vocab::{Deployment, Digest, MachineId};

/// A host's machines, disks and guests.
pub struct World {
    pub settings: SimSettings,
    state: Mutex<State>,
    pub(super) events: broadcast::Sender<MachineEvent>,
    /// Woken when a machine goes, so that a call that waits for a silent guest ends.
    pub(super) gone: Notify,
    began: Instant,
    tools: Arc<BTreeSet<String>>,
}

pub(super) struct State {
    pub machines: BTreeMap<MachineId, SimMachine>,
    pub disks: Disks,
    pub templates: Templates,
    /// The consoles' logs, which stay when their machines go.
    pub consoles: BTreeMap<MachineId, String>,
    pub faults: Faults,
    pub reachable: bool,
    pub counts: Counts,
    /// What the host says it is.
    pub version: String,
    /// Counts the guests made, each of which has random numbers and a generation id of its own.
    guests: u64,
    /// Forks get their template's generation id instead of one of their own.
    share_generations: bool,
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
    /// Folders of templates.
    pub templates: Vec<PathBuf>,
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
            templates: Templates::default(),
            version: "simulated".into(),
            guests: 0,
            share_generations: false,
        };
        let tools = Arc::new(settings.tools.clone());
        Arc::new(Self {
            settings,
            state: Mutex::new(state),
            events: broadcast::channel(4096).0,
            gone: Notify::new(),
            began: Instant::now(),
            tools,
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
        let shape = Shape {
            vcpus: 1,
            memory_mib,
            growth_mib: 0,
            card: false,
        };
        let mut state = self.state();
        let guest = self.new_guest(&mut state, shape, None, "");
        let machine = SimMachine::new(name, None, shape, Life::Booted, guest);
        state.machines.insert(id, machine);
        id
    }

    /// A guest that boots: files as in every image, random numbers and a generation id of its own.
    pub(super) fn new_guest(
        &self,
        state: &mut State,
        shape: Shape,
        mac: Option<String>,
        cmdline: &str,
    ) -> SimGuest {
        state.guests += 1;
        let now = Instant::now();
        let board = Board {
            host_name: "guest".into(),
            vcpus: shape.vcpus,
            memory_mib: shape.memory_mib,
            mac,
            cmdline: cmdline.to_owned(),
            seed: SplitMix::new(self.settings.chaos.seed ^ state.guests.rotate_left(32)).next(),
            generation: state.guests,
            world_age: now.saturating_duration_since(self.began),
        };
        let files = self.settings.files.iter();
        SimGuest::new(System {
            kernel: Kernel::boot(board, now),
            files: files
                .map(|(path, text)| (path.clone(), text.clone().into_bytes()))
                .collect(),
            devices: BTreeMap::new(),
            tools: Arc::clone(&self.tools),
        })
    }

    /// What the host says it is from now on: a new QEMU build, for instance.
    pub fn set_version(&self, version: &str) {
        self.state().version = version.to_owned();
    }

    /// From now on forks get their template's generation id instead of one of their own, so that their
    /// random numbers stay the same.
    pub fn share_generation_ids(&self, share: bool) {
        self.state().share_generations = share;
    }

    /// Does something to the memory of the template in the folder.
    pub fn damage_template(&self, folder: &Path, damage: Damage) {
        self.state().templates.damage(folder, damage);
    }

    /// The limit of the machine's processor time, percent of one CPU.
    pub fn cpu_percent(&self, id: MachineId) -> Option<u32> {
        self.state().machines.get(&id)?.cpu_percent
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
        let mut state = self.state();
        if paused {
            state.pause(id);
        } else {
            state.resume(id);
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
            templates: state.templates.all().keys().cloned().collect(),
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
        self.machines.values().map(SimMachine::taken_mib).sum()
    }

    /// Stops a running machine's instructions, everything in it brought to the present first.
    pub fn pause(&mut self, id: MachineId) {
        self.advance(id);
        if let Some(machine) = self.machines.get_mut(&id)
            && machine.power == Power::Running
        {
            machine.power = Power::Paused;
            machine.paused_at = Some(Instant::now());
        }
    }

    /// Lets a paused machine go on, its time with it; nothing happens to an empty fork.
    pub fn resume(&mut self, id: MachineId) {
        let Some(machine) = self.machines.get_mut(&id) else {
            return;
        };
        if machine.power != Power::Paused || machine.is_empty() {
            return;
        }
        let now = Instant::now();
        if let Some(since) = machine.paused_at.take() {
            let pause = now.saturating_duration_since(since);
            machine.guest.skip(pause);
            machine.started += pause;
        }
        machine.power = Power::Running;
        machine.resumes += 1;
        let kernel = &mut machine.guest.system.kernel;
        if matches!(machine.life, Life::Fork { .. })
            && !self.share_generations
            && let Some(line) = kernel.see_generation(machine.generation, now)
        {
            self.consoles.entry(id).or_default().push_str(&line);
        }
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
            machine.guest.stop();
        }
        if !listed {
            self.machines.remove(&id);
        }
    }
}
