//! The moves of a run that need no effect: from state to state and from stage to stage.

use std::time::Duration;

use super::tries::{add_attempt, advance_attempt, next_try, prefetch};
use super::undo;
use crate::runs::view::View;
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Progress, Purpose, RunState, UndoCause};
use crate::vocab::{Failure, FailureKind, MachineId, Timestamp};

/// Gives the attempt that is under way up.
pub(super) fn drop_current(view: &mut View, now: Timestamp) {
    let Some(id) = view.current().map(|attempt| attempt.id) else {
        return;
    };
    if let Some(attempt) = view.attempt_mut(id) {
        attempt.close_phase(now);
        attempt.progress = Progress::Dropped;
        attempt.finished_at = Some(now);
    }
}

/// Makes all moves that need no effect, until none is left.
pub fn advance(view: &mut View, now: Timestamp) {
    // Each move brings the run nearer to its end, so the bound is never met; it guards against a
    // mistake here becoming a busy loop in the daemon.
    for _ in 0..1000 {
        if !advance_once(view, now) {
            return;
        }
    }
    let failure = Failure::new(
        FailureKind::Internal,
        "the plan does not settle; please report this run",
    );
    enter(view, RunState::Failed { failure }, now);
}

fn advance_once(view: &mut View, now: Timestamp) -> bool {
    if let Some(machine) = kept_too_long(view, now) {
        view.release(machine);
        return true;
    }
    match view.run.state.clone() {
        RunState::Queued => match view.run.abort_reason.clone() {
            // One that has waited for its device, or was paused, has done things already.
            Some(reason) if view.run.arrived || undo::something_stands(view) => {
                begin_undoing(view, UndoCause::Aborted { reason }, now)
            }
            Some(reason) => enter(view, RunState::Aborted { reason }, now),
            None => pause(view, now),
        },
        RunState::Paused { until, .. } => match view.run.abort_reason.clone() {
            Some(reason) => begin_undoing(view, UndoCause::Aborted { reason }, now),
            None if now >= until => {
                let failure = not_resumed(view);
                begin_undoing(view, UndoCause::Failed { failure }, now)
            }
            None => release_all(view),
        },
        RunState::Waiting { until } => match view.run.abort_reason.clone() {
            Some(reason) => begin_undoing(view, UndoCause::Aborted { reason }, now),
            None if now >= until => {
                let failure = not_arrived(view);
                begin_undoing(view, UndoCause::Failed { failure }, now)
            }
            None => release_all(view),
        },
        RunState::Running => match view.run.abort_reason.clone() {
            Some(reason) => begin_undoing(view, UndoCause::Aborted { reason }, now),
            None => advance_stage(view, now),
        },
        RunState::Undoing { cause } => undo::advance(view, &cause, now),
        RunState::Held { failure, until } => match view.run.abort_reason.clone() {
            Some(reason) => enter(view, RunState::Aborted { reason }, now),
            None if now >= until => enter(view, RunState::Failed { failure }, now),
            None => false,
        },
        RunState::Succeeded | RunState::Failed { .. } | RunState::Aborted { .. } => {
            release_all(view)
        }
    }
}

fn kept_too_long(view: &View, now: Timestamp) -> Option<MachineId> {
    let past =
        |state: &MachineState| matches!(state, MachineState::Kept { until } if now >= *until);
    view.machines
        .iter()
        .find(|machine| past(&machine.state))
        .map(|machine| machine.id)
}

/// Admission: a queued run becomes a running one.
pub fn admit(view: &mut View, now: Timestamp) {
    if view.run.state == RunState::Queued && view.run.abort_reason.is_none() {
        view.run.started_at.get_or_insert(now);
        enter(view, RunState::Running, now);
    }
}

pub(super) fn enter(view: &mut View, state: RunState, now: Timestamp) -> bool {
    let message = match &state {
        RunState::Held { failure, until } => format!("{failure}; held for a retry until {until}"),
        RunState::Failed { failure }
        | RunState::Undoing {
            cause: UndoCause::Failed { failure },
        } => failure.to_string(),
        RunState::Aborted { reason }
        | RunState::Undoing {
            cause: UndoCause::Aborted { reason },
        } => reason.clone(),
        RunState::Paused { reason, until } => format!("{reason}; until {until} at most"),
        _ => String::new(),
    };
    if state.is_terminal() {
        view.run.finished_at = Some(now);
    }
    view.tell(now, &format!("run_{}", state.word()), message);
    view.run.state = state;
    view.run.state_since = now;
    true
}

fn not_arrived(view: &View) -> Failure {
    let stage = view.stage(view.run.stage_index);
    let (device, name) = (&view.run.device_name, &stage.name);
    Failure::new(
        FailureKind::Deadline,
        format!("device {device} has not reported from its own system in time; stage {name} waits for that"),
    )
    .with_way_out(format!(
        "see `greenroom device show {device}`; `greenroom run retry {}` waits once more",
        view.run.id
    ))
}

/// Where nobody came back to a paused run, it fails as a stage would have.
fn not_resumed(view: &View) -> Failure {
    let stage = view.stage(view.run.stage_index);
    Failure::new(
        FailureKind::Deadline,
        format!(
            "nobody resumed the run in time; it was paused before stage {}",
            stage.name
        ),
    )
    .with_way_out(format!("`greenroom run retry {}` goes on", view.run.id))
}

/// Stands still where somebody wants it. Only between stages: no attempt is under way.
fn pause(view: &mut View, now: Timestamp) -> bool {
    let Some(pause) = view.run.pause.take() else {
        return false;
    };
    let until = now.after(Duration::from_secs(pause.within_s));
    let reason = pause.reason;
    enter(view, RunState::Paused { reason, until }, now)
}

fn begin_undoing(view: &mut View, cause: UndoCause, now: Timestamp) -> bool {
    drop_current(view, now);
    view.run.pause = None;
    for machine in &mut view.machines {
        if machine.state.is_usable() {
            machine.state = MachineState::Releasing;
        }
    }
    enter(view, RunState::Undoing { cause }, now)
}

fn release_all(view: &mut View) -> bool {
    let mut changed = false;
    for machine in &mut view.machines {
        if !matches!(machine.state, MachineState::Gone | MachineState::Releasing) {
            machine.state = MachineState::Releasing;
            changed = true;
        }
    }
    changed
}

fn advance_stage(view: &mut View, now: Timestamp) -> bool {
    let index = view.run.stage_index;
    if index >= view.plan.stages.len() {
        view.run.pause = None;
        return enter(view, RunState::Succeeded, now);
    }
    // Also before it waits for its device: what is not to go on is not to be delivered.
    if view.latest(index, Purpose::Work).is_none() && pause(view, now) {
        return true;
    }
    if let Some(within) = view.waits_for_device() {
        let until = now.after(within);
        return enter(view, RunState::Waiting { until }, now);
    }
    let Some(attempt) = view.latest(index, Purpose::Work) else {
        let input = view.run.head;
        add_attempt(view, index, Purpose::Work, input, now, now);
        return true;
    };
    match attempt.progress.clone() {
        Progress::Succeeded => {
            view.run.head = attempt.output.unwrap_or(view.run.head);
            view.run.stage_index += 1;
            true
        }
        Progress::Failed { failure } => {
            next_try(view, index, Purpose::Work, &failure, now)
                || begin_undoing(view, UndoCause::Failed { failure }, now)
        }
        Progress::Dropped => {
            let input = view.run.head;
            add_attempt(view, index, Purpose::Work, input, now, now);
            true
        }
        _ => advance_attempt(view, now) || prefetch(view, index, now),
    }
}
