//! What the simulated host does for templates and their forks: pausing, capturing, loading, going on,
//! growing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tokio::time::{Instant, sleep};

use super::super::{
    HvError, MachineEvent, MachineSpec, MemoryUse, Nic, Power, Share, Start, TemplateFiles,
};
use super::Simulated;
use super::disks::DiskKind;
use super::faults::GuestFault;
use super::machine::{Life, SimMachine};
use super::templates::{Captured, Shape, folder_of_disk};
use super::world::State;
use crate::vocab::MachineId;
use crate::vocab::pool::Seal;

/// What virtio-mem adds is a multiple of this.
const MEMORY_BLOCK_MIB: u64 = 2;

impl Shape {
    pub fn of(spec: &MachineSpec) -> Self {
        Self {
            vcpus: spec.size.vcpus,
            memory_mib: spec.size.memory_mib,
            growth_mib: spec.growth_mib,
            card: spec.nic.is_some(),
        }
    }
}

/// Whether a machine can begin its life as it is asked to.
pub(super) fn may_begin(state: &mut State, spec: &MachineSpec) -> Result<Life, HvError> {
    match &spec.start {
        Start::Boot => Ok(Life::Booted),
        Start::Template { files } => {
            if spec.root_disk != files.disk() {
                return Err(HvError::Refused(format!(
                    "a template's root disk is {}, not {}",
                    files.disk().display(),
                    spec.root_disk.display()
                )));
            }
            state.templates.begin(files, spec.size.memory_mib)?;
            Ok(Life::Template {
                files: files.clone(),
                captured: false,
            })
        }
        Start::Fork { files } => {
            state.templates.to_fork(files, &state.disks)?;
            let base = match state.disks.get(&spec.root_disk).map(|disk| &disk.kind) {
                Some(DiskKind::Overlay { base }) => Some(base),
                _ => None,
            };
            if base != Some(&files.disk()) {
                return Err(HvError::Refused(format!(
                    "a fork's root disk is an overlay on {}; {} is not",
                    files.disk().display(),
                    spec.root_disk.display()
                )));
            }
            Ok(Life::Fork {
                files: files.clone(),
                loaded: false,
            })
        }
    }
}

impl Simulated {
    /// A machine of ours whose guest is there: refused for a fork that nothing was loaded into.
    fn with_guest<'a>(
        &self,
        state: &'a mut State,
        id: MachineId,
        what: &str,
    ) -> Result<&'a mut SimMachine, HvError> {
        let (machine, _) = state.ours(id, self.deployment)?;
        if machine.is_empty() {
            return Err(HvError::Refused(format!(
                "{} is a fork that nothing was loaded into: load it before {what}",
                machine.name
            )));
        }
        Ok(machine)
    }

    pub(super) fn add_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError> {
        let mut state = self.world.state();
        let machine = self.with_guest(&mut state, id, "giving it a network card")?;
        let nics = &mut machine.guest.system.kernel.nics;
        if !nics.contains(&nic.mac) {
            nics.push(nic.mac.clone());
        }
        Ok(())
    }

    pub(super) fn stop_instructions(&self, id: MachineId) -> Result<(), HvError> {
        let mut state = self.world.state();
        let (machine, _) = state.ours(id, self.deployment)?;
        if machine.power == Power::Paused {
            return Ok(());
        }
        if let Some(error) = state.faults.pause_fails() {
            return Err(error);
        }
        state.pause(id);
        Ok(())
    }

    pub(super) fn go_on(&self, id: MachineId) -> Result<(), HvError> {
        let mut state = self.world.state();
        let machine = self.with_guest(&mut state, id, "letting it go on")?;
        if machine.power == Power::Running {
            return Ok(());
        }
        if matches!(machine.life, Life::Template { captured: true, .. }) {
            return Err(HvError::Refused(format!(
                "{} was captured: its template would change; destroy it",
                machine.name
            )));
        }
        if let Some(error) = state.faults.resume_fails() {
            return Err(error);
        }
        state.resume(id);
        let Some(machine) = state.machines.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(machine.life, Life::Fork { .. }) {
            return Ok(());
        }
        machine.started = Instant::now();
        machine.boots_in = self.world.settings.latencies.wake;
        let silent = machine.has_fault(GuestFault::BootNeverFinishes);
        drop(state);
        if !silent {
            self.tell_of_agent(id, self.world.settings.latencies.wake);
        }
        Ok(())
    }

    /// The agent's channel opens a while from now.
    pub(super) fn tell_of_agent(&self, id: MachineId, later: std::time::Duration) {
        let world = std::sync::Arc::downgrade(&self.world);
        let up = move || {
            if let Some(world) = world.upgrade() {
                world.tell(MachineEvent::AgentConnected(id, true));
            }
        };
        if later.is_zero() {
            up();
        } else {
            tokio::spawn(async move {
                sleep(later).await;
                up();
            });
        }
    }

    pub(super) fn give(&self, id: MachineId, share: Share) -> Result<(), HvError> {
        let mut state = self.world.state();
        let machine = self.with_guest(&mut state, id, "giving it its share")?;
        let wanted = share.added_memory_mib.next_multiple_of(MEMORY_BLOCK_MIB);
        if wanted > machine.shape.growth_mib {
            return Err(HvError::Refused(format!(
                "{} can be given {} MiB more, not {wanted}",
                machine.name, machine.shape.growth_mib
            )));
        }
        machine.cpu_percent = share.cpu_percent;
        machine.added_mib = machine.added_mib.max(wanted);
        machine.guest.system.kernel.added_mib = machine.added_mib;
        Ok(())
    }

    pub(super) fn keep(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        let mut state = self.world.state();
        let (machine, _) = state.ours(id, self.deployment)?;
        match &machine.life {
            Life::Template { files: own, .. } if own != files => {
                return Err(HvError::Refused(format!(
                    "the template of {} is in {}, not in {}",
                    machine.name,
                    own.folder.display(),
                    files.folder.display()
                )));
            }
            Life::Template { captured: true, .. } => return Ok(()),
            Life::Template { .. } => {}
            Life::Booted | Life::Fork { .. } => {
                return Err(HvError::Refused(format!(
                    "{} was not started as a template",
                    machine.name
                )));
            }
        }
        if let Some(disk) = machine.attached.first() {
            return Err(HvError::Refused(format!(
                "{} has {} attached, which its forks would not have",
                machine.name,
                disk.path.display()
            )));
        }
        state.pause(id);
        if let Some(error) = state.faults.capture_fails() {
            return Err(error);
        }
        let State {
            machines,
            templates,
            ..
        } = &mut *state;
        let machine = machines.get_mut(&id).ok_or(HvError::NoSuchMachine(id))?;
        templates.capture(
            files,
            Captured {
                guest: machine.guest.clone(),
                at: machine.paused_at.unwrap_or_else(Instant::now),
                shape: machine.shape,
                added_mib: machine.added_mib,
            },
        )?;
        machine.life = Life::Template {
            files: files.clone(),
            captured: true,
        };
        Ok(())
    }

    pub(super) fn load(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let (machine, _) = state.ours(id, self.deployment)?;
        match &machine.life {
            Life::Fork { files: own, loaded } if own == files => {
                if *loaded {
                    return Ok(());
                }
            }
            Life::Fork { files: own, .. } => {
                return Err(HvError::Refused(format!(
                    "{} was started as a fork of {}, not of {}",
                    machine.name,
                    own.folder.display(),
                    files.folder.display()
                )));
            }
            Life::Booted | Life::Template { .. } => {
                return Err(HvError::Refused(format!(
                    "{} was not started as a fork",
                    machine.name
                )));
            }
        }
        if state.faults.damages_template() {
            let damage = super::Damage::Truncated;
            state.templates.damage(&files.folder, damage);
        }
        if let Some(error) = state.faults.load_fails() {
            return Err(error);
        }
        let template = state.templates.to_fork(files, &state.disks)?;
        let changed = template.is_changed();
        let Some(captured) = &template.captured else {
            return Ok(());
        };
        let machine = state
            .machines
            .get_mut(&id)
            .ok_or(HvError::NoSuchMachine(id))?;
        if machine.shape != captured.shape {
            return Err(HvError::Host(format!(
                "the state does not fit: captured with {:?}, loaded into {:?}",
                captured.shape, machine.shape
            )));
        }
        machine.guest = captured.guest.clone();
        machine.added_mib = captured.added_mib;
        machine.paused_at = Some(captured.at);
        machine.life = Life::Fork {
            files: files.clone(),
            loaded: true,
        };
        if changed {
            machine.faults.push(GuestFault::BootNeverFinishes);
        }
        Ok(())
    }

    pub(super) fn seal(&self, files: &TemplateFiles) -> Result<Seal, HvError> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let user = state.machines.values().find(|machine| {
            let uses = matches!(&machine.life, Life::Template { files: own, .. } if own == files);
            uses && machine.power != Power::Off
        });
        if let Some(machine) = user {
            return Err(HvError::Refused(format!(
                "{} still has the template's memory: destroy it before sealing",
                machine.name
            )));
        }
        state.templates.seal(files, &state.disks)
    }

    pub(super) fn uses(&self, ids: &[MachineId]) -> BTreeMap<MachineId, MemoryUse> {
        let state = self.world.state();
        let ours = ids.iter().filter_map(|id| {
            let machine = state.machines.get(id)?;
            let counts = machine.is_of(self.deployment) && machine.power != Power::Off;
            counts.then(|| (*id, machine.memory_use()))
        });
        ours.collect()
    }
}

impl State {
    /// Folders in which there is any file of a template.
    pub fn template_folders(&self) -> Vec<PathBuf> {
        let disks = self.disks.all().keys();
        let with_disk = disks.filter_map(|path| folder_of_disk(path));
        let all: BTreeSet<PathBuf> = with_disk
            .chain(self.templates.all().keys().cloned())
            .collect();
        all.into_iter().collect()
    }
}
