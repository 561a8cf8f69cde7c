//! What the simulated host does when it is asked: starting a machine, passing a command to its agent,
//! attaching a disk.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::super::{
    AGENT_REPLY_CAP, AttachedDisk, HvError, MachineEvent, MachineSpec, Power, Start,
};
use super::disks::DiskKind;
use super::faults::GuestFault;
use super::forks::may_begin;
use super::machine::{NEVER_RUN_MIB, SimMachine};
use super::templates::Shape;
use super::{Simulated, world};
use crate::vocab::{Deployment, MachineId};

impl Simulated {
    pub(super) fn start(&self, spec: &MachineSpec) -> Result<(), HvError> {
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
        let shape = Shape::of(spec);
        let forks = matches!(spec.start, Start::Fork { .. });
        let needed = if forks {
            NEVER_RUN_MIB.0
        } else {
            spec.size.memory_mib
        };
        let free = self
            .world
            .settings
            .memory_mib
            .saturating_sub(state.memory_taken_mib());
        if needed > free {
            return Err(HvError::NoMemory(format!(
                "{needed} MiB asked for, {free} MiB free"
            )));
        }
        let life = may_begin(&mut state, spec)?;
        let faults = state.faults.of_new_guest();
        let mac = spec.nic.as_ref().map(|nic| nic.mac.clone());
        let guest = self.world.new_guest(&mut state, shape, mac, &spec.cmdline);
        // A fork's own kernel said nothing yet.
        let console = if forks {
            String::new()
        } else {
            guest.system.kernel.log.clone()
        };
        let tag = Some(spec.tag.clone());
        let mut machine = SimMachine::new(&spec.name, tag, shape, life, guest);
        machine.boots_in = boot;
        machine.faults = faults;
        let speaks = !forks && !machine.has_fault(GuestFault::BootNeverFinishes);
        state.machines.insert(spec.id, machine);
        state.consoles.insert(spec.id, console);
        state.counts.machines_started += 1;
        state.counts.most_machines = state.counts.most_machines.max(state.machines.len());
        drop(state);
        self.world.tell(MachineEvent::Started(spec.id));
        if speaks {
            self.tell_of_agent(spec.id, boot);
        }
        Ok(())
    }

    /// One agent command: its reply, or `None` when there will be none.
    pub(super) fn ask_agent(
        &self,
        id: MachineId,
        command: &str,
    ) -> Result<Option<String>, HvError> {
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
        // libvirt asks running guests only, and says so at once.
        if machine.power == Power::Paused {
            return Err(HvError::AgentAbsent(id));
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
        let resumes = machine.resumes;
        if is(&|fault| match fault {
            GuestFault::AgentSilent { after } => call > *after,
            GuestFault::SilentOnceResumed { after } => resumes > *after,
            _ => false,
        }) {
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
    pub(super) async fn wait_in_vain(&self, id: MachineId, deadline: Duration) -> HvError {
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

pub(super) fn attach(
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
    if machine.is_empty() {
        return Err(HvError::Refused(format!(
            "{} is a fork that nothing was loaded into: load it before attaching a disk",
            machine.name
        )));
    }
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
