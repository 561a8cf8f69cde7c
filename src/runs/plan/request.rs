//! What people and the reconciler ask for: abort, hold, retry, news of a lost machine.

use std::time::Duration;

use super::absorb::fail_user_of;
use super::advance::{drop_current, enter};
use super::{Request, undo};
use crate::runs::view::View;
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Pause, Purpose, RunState};
use crate::vocab::{Failure, FailureKind, Timestamp};

/// A request, or why it is refused.
pub fn request(view: &mut View, request: Request, now: Timestamp) -> Result<(), String> {
    match request {
        Request::Abort { reason } => {
            if view.run.state.is_terminal() {
                return Err(format!(
                    "run {} is {} already",
                    view.run.id,
                    view.run.state.word()
                ));
            }
            view.run.abort_reason.get_or_insert(reason);
            Ok(())
        }
        Request::Retry { from, force } => retry(view, from.as_deref(), force, now),
        Request::Hold { reason, within } => hold(view, reason, within, now),
        Request::Resume => resume(view, now),
        Request::Discard => {
            if !view.run.kept_disk {
                return Err(format!("run {} has no kept disk", view.run.id));
            }
            view.run.discarded = true;
            view.run.kept_disk = false;
            // From here on it is like any other disk of an ended run.
            view.run.has_disks = true;
            Ok(())
        }
        Request::Arrived { head } => {
            let RunState::Waiting { .. } = view.run.state else {
                return Err(format!(
                    "run {} is {} and waits for no device",
                    view.run.id,
                    view.run.state.word()
                ));
            };
            view.run.head = head;
            view.run.arrived = true;
            let stage = view.stage(view.run.stage_index).name.clone();
            view.tell(
                now,
                "device_arrived",
                format!("the device reports from its own system; stage {stage} follows"),
            );
            // It gave its place back, so it takes its turn again.
            enter(view, RunState::Queued, now);
            Ok(())
        }
        Request::MachineLost { machine, why } => {
            if view.machine(machine).is_some_and(|machine| {
                !matches!(machine.state, MachineState::Releasing | MachineState::Gone)
            }) {
                view.release(machine);
                fail_user_of(view, machine, Failure::new(FailureKind::Lost, why), now);
            }
            Ok(())
        }
    }
}

/// Takes effect before the next stage: what a stage has begun it ends.
fn hold(view: &mut View, reason: String, within: Duration, now: Timestamp) -> Result<(), String> {
    let id = view.run.id;
    if view.run.abort_reason.is_some() {
        return Err(format!("run {id} is being aborted"));
    }
    let pause = Pause {
        reason: reason.clone(),
        within_s: within.as_secs(),
    };
    match view.run.state {
        RunState::Queued => view.run.pause = Some(pause),
        RunState::Running | RunState::Waiting { .. } => {
            let Some(stage) = next_stage(view) else {
                return Err(format!(
                    "run {id} is at its last stage, so there is none to hold it before; end it with `greenroom run abort {id}`"
                ));
            };
            view.run.pause = Some(pause);
            view.tell(
                now,
                "hold_wanted",
                format!("pauses before stage {stage}: {reason}"),
            );
        }
        // Again: another reason, another time.
        RunState::Paused { .. } => {
            let until = now.after(within);
            enter(view, RunState::Paused { reason, until }, now);
        }
        _ => {
            return Err(format!(
                "run {id} is {}; a run can be held while it is queued, running or waiting",
                view.run.state.word()
            ));
        }
    }
    Ok(())
}

/// The stage that has not been begun yet.
fn next_stage(view: &View) -> Option<String> {
    let index = view.run.stage_index;
    let is_begun = view.latest(index, Purpose::Work).is_some();
    let stages = &view.plan.chain.stages;
    stages
        .get(index + usize::from(is_begun))
        .map(|stage| stage.name.clone())
}

fn resume(view: &mut View, now: Timestamp) -> Result<(), String> {
    if let RunState::Paused { .. } = view.run.state {
        // It gave its place back, so it takes its turn again.
        view.tell(now, "resumed", "somebody resumed it");
        enter(view, RunState::Queued, now);
        return Ok(());
    }
    match view.run.pause.take() {
        Some(_) => {
            view.tell(now, "hold_lifted", "the hold is not wanted any more");
            Ok(())
        }
        None => Err(format!(
            "run {} is {} and nobody holds it; a run that is held after a failure goes on with `greenroom run retry {}`",
            view.run.id,
            view.run.state.word(),
            view.run.id
        )),
    }
}

fn retry(view: &mut View, from: Option<&str>, force: bool, now: Timestamp) -> Result<(), String> {
    let run = &view.run;
    if !run.state.can_be_retried() {
        return Err(format!(
            "run {} is {}; only a held, failed or aborted run can be retried",
            run.id,
            run.state.word()
        ));
    }
    let undone = undo::earliest_undone(view);
    let reached = view.run.stage_index.min(view.plan.stages.len() - 1);
    let target = match from {
        None => undone.unwrap_or(reached),
        Some(name) => {
            let names = || {
                view.plan
                    .chain
                    .stages
                    .iter()
                    .map(|stage| stage.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let index =
                view.plan.chain.stage_index(name).ok_or_else(|| {
                    format!("there is no stage {name:?}; the stages are {}", names())
                })?;
            if index > reached {
                return Err(format!(
                    "stage {name} was not reached; the run came to {}",
                    view.stage(reached).name
                ));
            }
            if let Some(undone) = undone.filter(|undone| index > *undone && !force) {
                return Err(format!(
                    "stage {} was undone, so {name} would not find what it left; retry from {} or earlier, or insist with --force",
                    view.stage(undone).name,
                    view.stage(undone).name
                ));
            }
            index
        }
    };
    let stages = &view.plan.chain.stages;
    let carries_disk = stages[..target].iter().any(|stage| stage.handoff_disk)
        && stages[target..].iter().any(|stage| stage.handoff_disk);
    if carries_disk && (!view.run.has_disks || view.run.disks_going) {
        return Err(format!(
            "the handoff disk of run {} went when it ended; retry from its first stage, {}",
            run.id,
            view.stage(0).name
        ));
    }
    let input = view
        .attempts
        .iter()
        .rev()
        .find(|attempt| attempt.stage_index == target && attempt.purpose == Purpose::Work)
        .map(|attempt| attempt.input)
        .or((target == view.run.stage_index).then_some(view.run.head))
        .ok_or_else(|| {
            format!(
                "the input of stage {} was not kept",
                view.stage(target).name
            )
        })?;
    drop_current(view, now);
    // What the device said then is not what it says now.
    if view.awaiting_stage().is_some_and(|stage| target <= stage) {
        view.run.arrived = false;
    }
    view.run.generation += 1;
    view.run.stage_index = target;
    view.run.head = input;
    view.run.abort_reason = None;
    view.run.pause = None;
    view.run.finished_at = None;
    view.run.state = RunState::Queued;
    view.run.state_since = now;
    for machine in &mut view.machines {
        if machine.state != MachineState::Gone {
            machine.state = MachineState::Releasing;
        }
    }
    let name = view.stage(target).name.clone();
    view.tell(now, "retried", format!("goes on from stage {name}"));
    Ok(())
}
