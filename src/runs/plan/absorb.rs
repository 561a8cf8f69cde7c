//! What came of an action changes the view.

use std::time::Duration;

use super::tries::next_size;
use super::{Action, Outcome};
use crate::runs::view::View;
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Attempt, Progress, Purpose};
use crate::vocab::{AttemptId, Failure, FailureKind, MachineId, Timestamp};

/// Takes the outcome of an action into the view.
pub fn absorb(view: &mut View, action: Action, outcome: Outcome, now: Timestamp) {
    match action {
        Action::MakeMachine(id) => machine_made(view, id, outcome, now),
        Action::Release(id) => machine_released(view, id, outcome, now),
        Action::RemoveDisks => {
            if outcome == Outcome::DisksRemoved {
                view.run.kept_disk = view.plan.keeps_disk(&view.run);
                view.run.has_disks = false;
                view.run.disks_going = false;
                view.run.disk_holder = None;
            }
        }
        Action::PrepareDisk(id)
        | Action::Attach(id)
        | Action::Start(id)
        | Action::Watch(id)
        | Action::Collect(id)
        | Action::Detach(id) => {
            attempt_moved(view, id, outcome, now);
        }
    }
}

fn machine_made(view: &mut View, id: MachineId, outcome: Outcome, now: Timestamp) {
    let Some(machine) = view.machine_mut(id) else {
        return;
    };
    match outcome {
        Outcome::MachineUp { phases, served } if machine.state == MachineState::Making => {
            machine.state = MachineState::Up;
            machine.phases = phases;
            machine.engine = served.engine;
            machine.engine_reason = served.reason;
            if let Some((shell, name)) = served.shell {
                machine.shell = Some(shell);
                machine.name = name;
            }
            machine.up_at = Some(now);
            if let Some(user) = view
                .attempts
                .iter_mut()
                .find(|attempt| attempt.machine == Some(id))
            {
                let since = user.created_at.max(user.not_before);
                user.phases.machine_wait_ms = now.since(since).as_secs_f64() * 1000.0;
            }
        }
        Outcome::Failed(failure) => {
            view.release(id);
            fail_user_of(view, id, failure, now);
        }
        _ => {}
    }
}

fn machine_released(view: &mut View, id: MachineId, outcome: Outcome, now: Timestamp) {
    match outcome {
        Outcome::MachineGone { teardown_ms } => {
            if let Some(machine) = view.machine_mut(id) {
                machine.state = MachineState::Gone;
                machine.gone_at = Some(now);
                machine.phases.teardown_ms = teardown_ms;
            }
            if view.run.disk_holder == Some(id) {
                view.run.disk_holder = None;
            }
        }
        // A machine that cannot be destroyed stays "releasing": the driver tries again with a pause.
        Outcome::Failed(failure) => {
            let name = view
                .machine(id)
                .map_or_else(String::new, |machine| machine.name.clone());
            view.tell(
                now,
                "release_failed",
                format!("{name} could not be removed yet: {failure}"),
            );
        }
        _ => {}
    }
}

fn attempt_moved(view: &mut View, id: AttemptId, outcome: Outcome, now: Timestamp) {
    let Some(attempt) = view.attempt_mut(id) else {
        return;
    };
    if attempt.progress.is_over() {
        return;
    }
    let machine = attempt.machine;
    match outcome {
        Outcome::DiskPrepared { took_ms } => {
            attempt.phases.disk_ms += took_ms;
            attempt.progress = Progress::DiskReady;
        }
        Outcome::Attached { took_ms } => {
            attempt.phases.attach_ms += took_ms;
            attempt.progress = Progress::Equipped;
        }
        Outcome::Started { took_ms, deadline } => {
            attempt.phases.start_ms += took_ms;
            // A start that is repeated after a crash does not prolong the work's time.
            attempt.deadline.get_or_insert(deadline);
            attempt.working_since.get_or_insert(now);
            attempt.progress = Progress::Working;
        }
        Outcome::Worked { work_ms, .. } => {
            attempt.phases.work_ms += work_ms;
            attempt.progress = Progress::Worked;
        }
        Outcome::Collected { envelope, took_ms } => {
            attempt.phases.collect_ms += took_ms;
            attempt.output = Some(envelope);
            attempt.progress = Progress::Collected;
        }
        Outcome::Detached { took_ms } => {
            attempt.phases.detach_ms += took_ms;
            if view.run.disk_holder == machine {
                view.run.disk_holder = None;
            }
            succeed(view, id, now);
        }
        // The output is stored and the disk was flushed in the guest: what happens to the machine
        // now costs nothing. It keeps the disk until it is gone.
        Outcome::Failed(_) if attempt.progress == Progress::Collected => succeed(view, id, now),
        Outcome::Failed(failure) => fail(view, id, failure, now),
        _ => {}
    }
}

pub(super) fn succeed(view: &mut View, id: AttemptId, now: Timestamp) {
    let Some(attempt) = view.attempt_mut(id) else {
        return;
    };
    attempt.progress = Progress::Succeeded;
    attempt.finished_at = Some(now);
    let (stage, purpose, machine) = (attempt.stage.clone(), attempt.purpose, attempt.machine);
    let work_s = attempt.phases.work_ms / 1000.0;
    if let Some(machine) = machine {
        view.release(machine);
    }
    let kind = if purpose == Purpose::Work {
        "stage_succeeded"
    } else {
        "stage_undone"
    };
    view.tell(
        now,
        kind,
        format!("{stage}: {} took {work_s:.1} s", purpose.word()),
    );
}

pub(super) fn fail(view: &mut View, id: AttemptId, failure: Failure, now: Timestamp) {
    let Some(attempt) = view.attempt_mut(id) else {
        return;
    };
    if attempt.progress.is_over() {
        return;
    }
    if attempt.progress == Progress::Collected {
        return succeed(view, id, now);
    }
    attempt.close_phase(now);
    attempt.progress = Progress::Failed {
        failure: failure.clone(),
    };
    attempt.finished_at = Some(now);
    let (stage, number, machine, index, purpose) = (
        attempt.stage.clone(),
        attempt.number,
        attempt.machine,
        attempt.stage_index,
        attempt.purpose,
    );
    view.tell(
        now,
        "attempt_failed",
        format!("{stage}, try {number}: {failure}"),
    );
    // Machines made ahead give their room back: two runs that both need another machine for a retry
    // must not wait for each other's spares.
    for later in index + 1..view.plan.stages.len() {
        while let Some(spare) = view.spare(later).map(|spare| spare.id) {
            view.release(spare);
        }
    }
    let Some(machine) = machine else { return };
    // A kept machine keeps the handoff disk, so an undo that needs the disk goes before.
    let undo_needs_disk = view
        .plan
        .chain
        .stages
        .iter()
        .any(|stage| stage.undo.is_some() && stage.handoff_disk);
    // And work that did not end before its deadline is still at it, which an undo must not meet.
    let keep = purpose == Purpose::Work
        && !undo_needs_disk
        && failure.kind != FailureKind::Deadline
        && view.plan.chain.on_failure.keep_machine
        && !may_retry(view, index, purpose, &failure);
    let until = now.after(Duration::from_secs(view.plan.chain.on_failure.hold_s));
    match view.machine_mut(machine) {
        Some(machine) if keep && machine.state == MachineState::Up => {
            machine.state = MachineState::Kept { until }
        }
        _ => view.release(machine),
    }
}

pub(super) fn fail_user_of(view: &mut View, machine: MachineId, failure: Failure, now: Timestamp) {
    let user = view
        .attempts
        .iter()
        .find(|attempt| attempt.machine == Some(machine) && !attempt.progress.is_over())
        .map(|attempt| attempt.id);
    if let Some(id) = user {
        fail(view, id, failure, now);
    }
}

/// Whether the retry policy leaves another try at this stage after this failure. What lacked something is
/// tried once more where there is more of it to give, and not where there is none: it would lack it again.
pub(super) fn may_retry(
    view: &View,
    stage_index: usize,
    purpose: Purpose,
    failure: &Failure,
) -> bool {
    let kind = failure.kind;
    let stage = view.stage(stage_index);
    let policy = stage.retry_for(kind);
    let failed: Vec<&Attempt> = view
        .attempts
        .iter()
        .filter(|attempt| {
            attempt.stage_index == stage_index
                && attempt.purpose == purpose
                && attempt.generation == view.run.generation
                && matches!(&attempt.progress, Progress::Failed { failure } if policy.on.contains(&failure.kind))
        })
        .collect();
    let mut allowed = policy.attempts;
    if failure.lacked.is_some() {
        let given = failed
            .last()
            .and_then(|attempt| view.machine(attempt.machine?))
            .map(|machine| machine.size);
        let grows = given.is_none_or(|given| next_size(view, stage_index) != given);
        let is_written = stage.retry.iter().any(|row| row.on.contains(&kind));
        allowed = match (grows, is_written) {
            (false, _) if kind == FailureKind::Memory => 0,
            (true, false) => allowed.max(2),
            _ => allowed,
        };
    }
    u32::try_from(failed.len()).unwrap_or(u32::MAX) < allowed
}
