//! A host in memory that obeys the same rules as libvirt's.
//!
//! [`World`] is the host: machines, disks, guests. [`Simulated`] is a connection to it. A test that
//! plays a daemon's crash drops everything else and connects to the same world again.
//!
//! Nothing takes time unless [`Latencies`] say so; a guest's `sleep` is tokio's time, so that a
//! paused clock makes hours pass at once. Guests run a documented subset of the shell
//! ([`shell`]). What goes wrong is ordered by a test ([`World::inject`]) or drawn from a seed
//! ([`Chaos`]).
//!
//! Left out on purpose: base images and kernels are taken to exist, whatever their path; networks
//! are not there; folders in a guest are not checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    AGENT_REPLY_CAP, AttachedDisk, DiskOrder, HostFacts, HvError, Hypervisor, MachineEvent,
    MachineSpec, MachineUsage, Power, SeenMachine,
};
use crate::vocab::machine::Accelerator;
use crate::vocab::{Deployment, MachineId};

mod agent;
mod disks;
mod faults;
mod shell;
mod world;

pub use disks::DiskKind;
pub use faults::{Chaos, Fault, GuestFault, Operation};
pub use world::{Counts, Snapshot, SnapshotMachine, World};

/// How large and how fast the host is.
#[derive(Debug, Clone, PartialEq)]
pub struct SimSettings {
    pub host_name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub accelerator: Accelerator,
    pub latencies: Latencies,
    pub chaos: Chaos,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            host_name: "simulated".into(),
            cpus: 64,
            memory_mib: 1 << 20,
            disk_mib: 1 << 24,
            accelerator: Accelerator::Tcg,
            latencies: Latencies::default(),
            chaos: Chaos::default(),
        }
    }
}

/// How long things take; zero by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    pub make_disk: Duration,
    pub start: Duration,
    /// From the start until the agent answers.
    pub boot: Duration,
    pub agent_call: Duration,
    pub attach: Duration,
    pub destroy: Duration,
}

/// A connection to a simulated host.
pub struct Simulated {
    world: Arc<World>,
    /// Whose machines may be changed; none means everybody's that carry a tag.
    deployment: Option<Deployment>,
}

impl Simulated {
    /// A connection to a new host.
    pub fn new(settings: SimSettings) -> Arc<Self> {
        Self::on(World::new(settings))
    }

    /// A connection to a host that is there.
    pub fn on(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world,
            deployment: None,
        })
    }

    /// The same for one deployment, to which the machines of others are strangers.
    pub fn of(world: Arc<World>, deployment: Deployment) -> Arc<Self> {
        Arc::new(Self {
            world,
            deployment: Some(deployment),
        })
    }

    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What every operation passes first: the host must be reachable, and time goes by.
    async fn reach(&self, latency: Duration) -> Result<(), HvError> {
        {
            let mut state = self.world.state();
            if !state.reachable || state.faults.unreachable() {
                return Err(HvError::Unreachable(
                    "simulated: the connection is lost".into(),
                ));
            }
        }
        if !latency.is_zero() {
            sleep(latency).await;
        }
        Ok(())
    }

    /// What every operation passes last: its reply may be lost, its effect stays.
    fn reply<T>(&self, operation: Operation, result: Result<T, HvError>) -> Result<T, HvError> {
        if self.world.state().faults.loses_reply(operation) {
            return Err(HvError::Unreachable(
                "simulated: the connection was lost before the reply".into(),
            ));
        }
        result
    }

    fn start(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let boot = self.world.settings.latencies.boot;
        let mut state = self.world.state();
        match state.machines.get(&spec.id) {
            Some(machine)
                if machine.tag.as_ref() == Some(&spec.tag) && machine.power != Power::Off =>
            {
                return Ok(());
            }
            Some(machine) if machine.tag.as_ref() == Some(&spec.tag) => {}
            Some(machine) => {
                return Err(HvError::Refused(format!(
                    "{} has this id and another tag",
                    machine.name
                )));
            }
            None => {}
        }
        if let Some(other) = state
            .machines
            .iter()
            .find(|(id, seen)| **id != spec.id && seen.name == spec.name)
        {
            return Err(HvError::Refused(format!(
                "machine {} has the name {} already",
                other.0, spec.name
            )));
        }
        if let Some(error) = state.faults.start_fails() {
            return Err(error);
        }
        if state.disks.get(&spec.root_disk).is_none() {
            let path = spec.root_disk.display();
            return Err(HvError::Host(format!(
                "Cannot access storage file '{path}': No such file or directory"
            )));
        }
        let free = self
            .world
            .settings
            .memory_mib
            .saturating_sub(state.memory_taken_mib());
        if spec.size.memory_mib > free {
            return Err(HvError::NoMemory(format!(
                "{} MiB asked for, {free} MiB free",
                spec.size.memory_mib
            )));
        }
        let faults = state.faults.of_new_guest();
        let boots = !faults.contains(&GuestFault::BootNeverFinishes);
        let machine = world::SimMachine {
            name: spec.name.clone(),
            tag: Some(spec.tag.clone()),
            memory_mib: spec.size.memory_mib,
            power: Power::Running,
            attached: Vec::new(),
            guest: agent::SimGuest::default(),
            faults,
            calls: 0,
            started: Instant::now(),
            boots_in: boot,
        };
        state.machines.insert(spec.id, machine);
        let cmdline = &spec.cmdline;
        let console = format!(
            "[    0.000000] Linux version 0 (simulated)\n[    0.000000] Command line: {cmdline}\n"
        );
        state.consoles.insert(spec.id, console);
        state.counts.machines_started += 1;
        state.counts.most_machines = state.counts.most_machines.max(state.machines.len());
        drop(state);
        self.world.tell(MachineEvent::Started(spec.id));
        if boots {
            let (world, id) = (Arc::downgrade(&self.world), spec.id);
            let up = move || {
                if let Some(world) = world.upgrade() {
                    world.tell(MachineEvent::AgentConnected(id, true));
                }
            };
            if boot.is_zero() {
                up();
            } else {
                tokio::spawn(async move {
                    sleep(boot).await;
                    up();
                });
            }
        }
        Ok(())
    }

    /// One agent command: its reply, or `None` when there will be none.
    fn ask_agent(&self, id: MachineId, command: &str) -> Result<Option<String>, HvError> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        state.counts.agent_calls += 1;
        let (machine, disks) = state.ours(id, self.deployment)?;
        machine.calls += 1;
        let call = machine.calls;
        if let Some(crash) = machine.faults.iter().find_map(|fault| match fault {
            GuestFault::Crash { after } if call > *after => Some(false),
            GuestFault::CrashListed { after } if call > *after => Some(true),
            _ => None,
        }) {
            drop(guard);
            self.world.crash(id, crash);
            return Err(HvError::NoSuchMachine(id));
        }
        if machine.power == Power::Paused {
            return Ok(None);
        }
        let (boots_in, faults) = (machine.boots_in, machine.faults.clone());
        let is = |pick: &dyn Fn(&GuestFault) -> bool| faults.iter().any(pick);
        if machine.started.elapsed() < boots_in
            || is(&|fault| match fault {
                GuestFault::BootNeverFinishes => true,
                GuestFault::AgentAbsent { after, calls } => {
                    call > *after && call <= after.saturating_add(*calls)
                }
                _ => false,
            })
        {
            return Err(HvError::AgentAbsent(id));
        }
        if is(&|fault| matches!(fault, GuestFault::AgentSilent { after } if call > *after)) {
            return Ok(None);
        }
        if is(&|fault| matches!(fault, GuestFault::AgentOversize { after } if call > *after)) {
            return Err(HvError::Agent(format!(
                "a reply of more than {AGENT_REPLY_CAP} bytes"
            )));
        }
        if is(&|fault| matches!(fault, GuestFault::AgentGarbage { after } if call > *after)) {
            let garbage = [
                r#"{"return": {"count": -7, "buf-b64": "%%%", "eof": 3}}"#,
                r#"{"return": {"count": 70000, "buf-b64": "QUJD", "eof": false}}"#,
                r#"{"return": {"exited": true, "exitcode": 99999999999}}"#,
                r#"{"return": []}"#,
                r#"{}"#,
            ];
            let pick = state.faults.any_number() as usize % garbage.len();
            return Ok(Some(garbage[pick].to_owned()));
        }
        let answer = machine
            .guest
            .answer(command, Instant::now(), &machine.attached, disks);
        match answer {
            Ok(reply) if reply.len() > AGENT_REPLY_CAP => Err(HvError::Agent(format!(
                "a reply of more than {AGENT_REPLY_CAP} bytes"
            ))),
            Ok(reply) => Ok(Some(reply)),
            Err(words) => Err(HvError::Agent(words)),
        }
    }

    /// Waits for a guest that will not answer: to the deadline, or to the machine's end.
    async fn wait_in_vain(&self, id: MachineId, deadline: Duration) -> HvError {
        let end = Instant::now() + deadline;
        loop {
            let gone = self.world.gone.notified();
            if self.world.state().ours(id, self.deployment).is_err() {
                return HvError::NoSuchMachine(id);
            }
            if timeout_at(end, gone).await.is_err() {
                return HvError::AgentTimeout(id, deadline);
            }
        }
    }
}

#[async_trait]
impl Hypervisor for Simulated {
    async fn host(&self) -> Result<HostFacts, HvError> {
        self.reach(Duration::ZERO).await?;
        let settings = &self.world.settings;
        let taken = self.world.state().memory_taken_mib();
        let facts = HostFacts {
            version: "simulated".into(),
            host_name: settings.host_name.clone(),
            cpus: settings.cpus,
            memory_mib: settings.memory_mib,
            free_memory_mib: settings.memory_mib.saturating_sub(taken),
            accelerator: settings.accelerator,
            accelerator_reason: "nothing is executed: this host is simulated".into(),
        };
        self.reply(Operation::Look, Ok(facts))
    }

    async fn make_disk(&self, order: &DiskOrder) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.make_disk).await?;
        let made = {
            let mut state = self.world.state();
            if let DiskOrder::Duplicate { from, .. } = order
                && let Some(holder) = state.holder(from)
            {
                state.advance(holder);
            }
            match state.faults.disk_fails() {
                Some(error) => return Err(error),
                None => {
                    state.counts.disks_made += 1;
                    state.disks.make(order)
                }
            }
        };
        self.reply(Operation::MakeDisk, made)
    }

    async fn remove_disk(&self, path: &Path) -> Result<(), HvError> {
        self.reach(Duration::ZERO).await?;
        {
            let mut state = self.world.state();
            if state.disks.remove(path).is_some() {
                state.counts.disks_removed += 1;
            }
        }
        self.reply(Operation::RemoveDisk, Ok(()))
    }

    async fn disks(&self) -> Result<Vec<PathBuf>, HvError> {
        self.reach(Duration::ZERO).await?;
        let paths = {
            let mut state = self.world.state();
            state.counts.listings += 1;
            if state.faults.listing_fails() {
                return Err(HvError::Host(
                    "simulated: the folder could not be read".into(),
                ));
            }
            state.disks.all().keys().cloned().collect()
        };
        self.reply(Operation::Look, Ok(paths))
    }

    async fn start_machine(&self, spec: &MachineSpec) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.start).await?;
        let started = self.start(spec);
        self.reply(Operation::Start, started)
    }

    async fn destroy_machine(&self, id: MachineId) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.destroy).await?;
        let existed = {
            let mut state = self.world.state();
            match state.machines.get(&id) {
                None => false,
                Some(machine) if !machine.is_of(self.deployment) => return Err(machine.not_ours()),
                Some(_) => {
                    state.end_machine(id, false);
                    state.counts.machines_destroyed += 1;
                    true
                }
            }
        };
        if existed {
            self.world
                .tell(MachineEvent::Stopped(id, "destroyed".into()));
            self.world.gone.notify_waiters();
        }
        self.reply(Operation::Destroy, Ok(()))
    }

    async fn machines(&self) -> Result<Vec<SeenMachine>, HvError> {
        self.reach(Duration::ZERO).await?;
        let seen = {
            let mut state = self.world.state();
            state.counts.listings += 1;
            if state.faults.listing_fails() {
                return Err(HvError::Host(
                    "simulated: the machines could not be listed".into(),
                ));
            }
            state
                .machines
                .iter()
                .map(|(id, machine)| machine.seen(*id))
                .collect()
        };
        self.reply(Operation::Look, Ok(seen))
    }

    async fn machine(&self, id: MachineId) -> Result<Option<SeenMachine>, HvError> {
        self.reach(Duration::ZERO).await?;
        let seen = self
            .world
            .state()
            .machines
            .get(&id)
            .map(|machine| machine.seen(id));
        self.reply(Operation::Look, Ok(seen))
    }

    async fn attach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.attach).await?;
        let attached = {
            let mut state = self.world.state();
            attach(&mut state, id, disk, self.deployment)
        };
        self.reply(Operation::Attach, attached)
    }

    async fn detach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.attach).await?;
        let detached = {
            let mut state = self.world.state();
            state.advance(id);
            match state.ours(id, self.deployment) {
                Ok((machine, _)) => {
                    machine.attached.retain(|seen| seen.path != disk.path);
                    machine.guest.detach(disk);
                    Ok(())
                }
                Err(HvError::NoSuchMachine(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.reply(Operation::Detach, detached)
    }

    async fn agent(
        &self,
        id: MachineId,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HvError> {
        self.reach(self.world.settings.latencies.agent_call.min(deadline))
            .await?;
        match self.ask_agent(id, command) {
            Ok(Some(reply)) => self.reply(Operation::Agent, Ok(reply)),
            Ok(None) => Err(self.wait_in_vain(id, deadline).await),
            Err(error) => Err(error),
        }
    }

    async fn usage(&self, id: MachineId) -> Result<MachineUsage, HvError> {
        self.reach(Duration::ZERO).await?;
        let usage = {
            let mut state = self.world.state();
            state.advance(id);
            let (machine, _) = state.ours(id, self.deployment)?;
            // Plausible rather than true: booting, agent calls and shell steps take processor time.
            let steps = machine.guest.steps_taken as f64;
            MachineUsage {
                cpu_ms: 150.0 + 0.5 * f64::from(machine.calls) + 0.2 * steps,
                rss_mib: (machine.memory_mib as f64 * 0.25)
                    .min(60.0 + machine.memory_mib as f64 * 0.02),
                disk_read_bytes: 4 << 20,
                disk_written_bytes: (1 << 20) + machine.guest.written,
                net_received_bytes: 0,
                net_sent_bytes: 0,
            }
        };
        self.reply(Operation::Look, Ok(usage))
    }

    async fn console_tail(&self, id: MachineId, max_bytes: usize) -> Result<Vec<u8>, HvError> {
        self.reach(Duration::ZERO).await?;
        let tail = {
            let state = self.world.state();
            let console = state.consoles.get(&id).ok_or(HvError::NoSuchMachine(id))?;
            console.as_bytes()[console.len().saturating_sub(max_bytes)..].to_vec()
        };
        self.reply(Operation::Look, Ok(tail))
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.world.events.subscribe()
    }
}

fn attach(
    state: &mut world::State,
    id: MachineId,
    disk: &AttachedDisk,
    deployment: Option<Deployment>,
) -> Result<(), HvError> {
    let holder = state.holder(&disk.path);
    let path = disk.path.display();
    match state.disks.get(&disk.path).map(|disk| &disk.kind) {
        Some(DiskKind::Raw) => {}
        Some(_) => {
            return Err(HvError::Refused(format!(
                "{path} is not a raw disk of ours"
            )));
        }
        None => return Err(HvError::Host(format!("{path}: No such file or directory"))),
    }
    let (machine, _) = state.ours(id, deployment)?;
    match holder {
        Some(holder) if holder == id => return Ok(()),
        Some(holder) => return Err(HvError::Refused(format!("machine {holder} has {path}"))),
        None => {}
    }
    if machine
        .attached
        .iter()
        .any(|seen| seen.serial == disk.serial)
    {
        return Err(HvError::Refused(format!(
            "a disk with serial {} is attached already",
            disk.serial
        )));
    }
    machine.attached.push(disk.clone());
    machine.guest.attach(disk);
    Ok(())
}
