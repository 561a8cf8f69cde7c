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
//! A fork is a copy of what its template's guest was when it was captured, its random numbers' state
//! included; a generation id of its own makes them go different ways. All chance comes from
//! [`Chaos::seed`], so that two worlds of one seed draw the same.
//!
//! Left out on purpose: base images and kernels are taken to exist, whatever their path; networks
//! are not there, network cards show their addresses only; folders in a guest are not checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::time::sleep;

use super::{
    AttachedDisk, DiskOrder, HostFacts, HvError, Hypervisor, MachineEvent, MachineSpec,
    MachineUsage, MemoryUse, Nic, SeenMachine, Share, Start, TemplateFiles,
};
use crate::vocab::pool::Seal;
use crate::vocab::{Deployment, MachineId};

mod agent;
mod disks;
mod faults;
mod forks;
mod handles;
mod host;
mod identity;
mod kernel;
mod machine;
mod random;
mod settings;
mod shell;
mod system;
mod templates;
mod world;

pub use disks::DiskKind;
pub use faults::{Chaos, Fault, GuestFault, Operation};
pub use settings::{Latencies, SimSettings};
pub use templates::Damage;
pub use world::{Counts, Snapshot, SnapshotMachine, World};

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
}

#[async_trait]
impl Hypervisor for Simulated {
    async fn host(&self) -> Result<HostFacts, HvError> {
        self.reach(Duration::ZERO).await?;
        let settings = &self.world.settings;
        let (taken, version) = {
            let state = self.world.state();
            (state.memory_taken_mib(), state.version.clone())
        };
        let facts = HostFacts {
            devices: "simulated".into(),
            version,
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
            let paths = state.disks.all().keys();
            // A template's disk is in its own folder, not where disks live.
            paths
                .filter(|path| templates::folder_of_disk(path).is_none())
                .cloned()
                .collect()
        };
        self.reply(Operation::Look, Ok(paths))
    }

    async fn start_machine(&self, spec: &MachineSpec) -> Result<(), HvError> {
        let latencies = &self.world.settings.latencies;
        let latency = match spec.start {
            Start::Fork { .. } => latencies.create_fork,
            Start::Boot | Start::Template { .. } => latencies.start,
        };
        self.reach(latency).await?;
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
            host::attach(&mut state, id, disk, self.deployment)
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

    async fn attach_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.attach).await?;
        let attached = self.add_nic(id, nic);
        self.reply(Operation::AttachNic, attached)
    }

    async fn pause(&self, id: MachineId) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.pause).await?;
        let paused = self.stop_instructions(id);
        self.reply(Operation::Pause, paused)
    }

    async fn resume(&self, id: MachineId) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.resume).await?;
        let resumed = self.go_on(id);
        self.reply(Operation::Resume, resumed)
    }

    async fn resize(&self, id: MachineId, share: Share) -> Result<(), HvError> {
        self.reach(Duration::ZERO).await?;
        let given = self.give(id, share);
        self.reply(Operation::Resize, given)
    }

    async fn capture(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.capture).await?;
        let kept = self.keep(id, files);
        self.reply(Operation::Capture, kept)
    }

    async fn load_fork(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.reach(self.world.settings.latencies.load).await?;
        let loaded = self.load(id, files);
        self.reply(Operation::Load, loaded)
    }

    async fn seal_template(&self, files: &TemplateFiles) -> Result<Seal, HvError> {
        self.reach(Duration::ZERO).await?;
        let sealed = self.seal(files);
        self.reply(Operation::Seal, sealed)
    }

    async fn inspect_template(
        &self,
        files: &TemplateFiles,
        thorough: bool,
    ) -> Result<Seal, HvError> {
        self.reach(Duration::ZERO).await?;
        let seen = {
            let state = self.world.state();
            state.templates.inspect(files, &state.disks, thorough)
        };
        self.reply(Operation::Look, seen)
    }

    async fn remove_template(&self, files: &TemplateFiles) -> Result<(), HvError> {
        self.reach(Duration::ZERO).await?;
        {
            let mut state = self.world.state();
            state.templates.remove(files);
            if state.disks.remove(&files.disk()).is_some() {
                state.counts.disks_removed += 1;
            }
        }
        self.reply(Operation::RemoveTemplate, Ok(()))
    }

    async fn templates(&self) -> Result<Vec<PathBuf>, HvError> {
        self.reach(Duration::ZERO).await?;
        let folders = {
            let mut state = self.world.state();
            state.counts.listings += 1;
            if state.faults.listing_fails() {
                return Err(HvError::Host(
                    "simulated: the folder of templates could not be read".into(),
                ));
            }
            state.template_folders()
        };
        self.reply(Operation::Look, Ok(folders))
    }

    async fn memory_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MemoryUse>, HvError> {
        self.reach(Duration::ZERO).await?;
        let uses = self.uses(ids);
        self.reply(Operation::Look, Ok(uses))
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
            machine.usage()
        };
        self.reply(Operation::Look, Ok(usage))
    }

    async fn usage_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MachineUsage>, HvError> {
        self.reach(Duration::ZERO).await?;
        let mut state = self.world.state();
        let mut found = BTreeMap::new();
        for id in ids {
            state.advance(*id);
            if let Ok((machine, _)) = state.ours(*id, self.deployment) {
                found.insert(*id, machine.usage());
            }
        }
        Ok(found)
    }

    async fn console_tail(&self, id: MachineId, max_bytes: usize) -> Result<Vec<u8>, HvError> {
        self.reach(Duration::ZERO).await?;
        let tail = {
            let state = self.world.state();
            let mut console = state
                .consoles
                .get(&id)
                .ok_or(HvError::NoSuchMachine(id))?
                .clone();
            if let Some(machine) = state.machines.get(&id) {
                let log = &machine.guest.system.kernel.log;
                for line in log.lines().filter(|line| line.contains("Out of memory")) {
                    console.push_str(line);
                    console.push('\n');
                }
            }
            console.as_bytes()[console.len().saturating_sub(max_bytes)..].to_vec()
        };
        self.reply(Operation::Look, Ok(tail))
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.world.events.subscribe()
    }
}
