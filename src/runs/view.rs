//! All that is known of one run, in memory: what [`super::plan`] reads and changes.

use std::sync::Arc;
use std::time::Duration;

use crate::chain::model::Stage;
use crate::store::events::Event;
use crate::vocab::machine::{Machine, MachineState};
use crate::vocab::run::{Attempt, Progress, Purpose, Run};
use crate::vocab::{AttemptId, MachineId, Timestamp};

use super::pinned::Plan;

#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub run: Run,
    pub plan: Arc<Plan>,
    /// In the order in which they were made.
    pub attempts: Vec<Attempt>,
    pub machines: Vec<Machine>,
    /// News for people that have not been stored yet.
    pub news: Vec<Event>,
}

impl View {
    pub fn stage(&self, index: usize) -> &Stage {
        &self.plan.chain.stages[index]
    }

    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.id == id)
    }

    pub fn attempt_mut(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.id == id)
    }

    pub fn machine(&self, id: MachineId) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.id == id)
    }

    pub fn machine_mut(&mut self, id: MachineId) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.id == id)
    }

    /// The newest attempt of the present generation at a stage.
    pub fn latest(&self, stage_index: usize, purpose: Purpose) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| {
            attempt.stage_index == stage_index
                && attempt.purpose == purpose
                && attempt.generation == self.run.generation
        })
    }

    /// The attempt that is under way, if any: at most one is.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| {
            attempt.generation == self.run.generation && !attempt.progress.is_over()
        })
    }

    /// The stage before which the run waits for its device, where the chain has one. A replay waits for
    /// nothing: its input is saved.
    pub fn awaiting_stage(&self) -> Option<usize> {
        let stages = &self.plan.chain.stages;
        stages
            .iter()
            .position(|stage| stage.after.is_some())
            .filter(|_| self.run.replay_of.is_none())
    }

    /// How long the run, at the stage where it is, may wait for its device; none: it need not.
    pub fn waits_for_device(&self) -> Option<Duration> {
        let index = self.run.stage_index;
        let waits = self.awaiting_stage() == Some(index) && !self.run.arrived;
        let after = self.plan.chain.stages.get(index)?.after?;
        waits.then(|| Duration::from_secs(after.within_s))
    }

    /// How long the device is to have reported before the stage that waits for it begins.
    pub fn watch(&self) -> Duration {
        let after = self
            .awaiting_stage()
            .and_then(|index| self.stage(index).after);
        Duration::from_secs(after.map_or(0, |after| after.watch_s))
    }

    /// The attempt that made of the handoff disk what the device gets.
    pub fn image_of(&self) -> Option<AttemptId> {
        let end = self.awaiting_stage()?;
        self.attempts
            .iter()
            .rev()
            .find(|attempt| {
                attempt.stage_index < end
                    && attempt.purpose == Purpose::Work
                    && attempt.progress == Progress::Succeeded
                    && self.stage(attempt.stage_index).handoff_disk
            })
            .map(|attempt| attempt.id)
    }

    /// A machine for this stage that nobody uses yet.
    pub fn spare(&self, stage_index: usize) -> Option<&Machine> {
        self.machines.iter().find(|machine| {
            machine.stage_index == stage_index
                && machine.state.is_usable()
                && machine.tag.generation == self.run.generation
                && !self
                    .attempts
                    .iter()
                    .any(|attempt| attempt.machine == Some(machine.id))
        })
    }

    pub fn tell(&mut self, now: Timestamp, kind: &str, message: impl Into<String>) {
        self.news.push(Event {
            id: 0,
            run: self.run.id,
            at: now,
            kind: kind.to_owned(),
            message: message.into(),
        });
    }

    /// Marks a machine for release; what it was doing is lost.
    pub fn release(&mut self, id: MachineId) {
        if let Some(machine) = self.machine_mut(id)
            && machine.state != MachineState::Gone
        {
            machine.state = MachineState::Releasing;
        }
    }
}
