//! Which effects are to be under way, which of them have to wait for others, and when to look again.

use super::Action;
use super::tries::set;
use crate::runs::view::View;
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Attempt, Progress, RunState};
use crate::vocab::{MachineId, Timestamp};

/// The effects that are to be under way now.
pub fn due(view: &View, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for machine in &view.machines {
        match machine.state {
            MachineState::Making if view.run.state.is_active() => {
                actions.push(Action::MakeMachine(machine.id))
            }
            MachineState::Releasing => actions.push(Action::Release(machine.id)),
            _ => {}
        }
    }
    if view.run.state.is_active() {
        actions.extend(due_for_attempt(view, now));
    }
    let all_gone = view
        .machines
        .iter()
        .all(|machine| machine.state == MachineState::Gone);
    if view.run.state.is_terminal() && view.run.has_disks && all_gone {
        actions.push(Action::RemoveDisks);
    }
    actions
}

fn due_for_attempt(view: &View, now: Timestamp) -> Option<Action> {
    let attempt = view.current()?;
    if now < attempt.not_before {
        return None;
    }
    let up = attempt
        .machine
        .and_then(|id| view.machine(id))
        .is_some_and(|machine| machine.state == MachineState::Up);
    let disk_is_free = view.run.disk_holder.is_none();
    match attempt.progress {
        Progress::Planned if view.stage(attempt.stage_index).handoff_disk && disk_is_free => {
            Some(Action::PrepareDisk(attempt.id))
        }
        Progress::DiskReady if up && (disk_is_free || view.run.disk_holder == attempt.machine) => {
            Some(Action::Attach(attempt.id))
        }
        Progress::Equipped if up && !earlier_try_lives(view, attempt) => {
            Some(Action::Start(attempt.id))
        }
        Progress::Working => Some(Action::Watch(attempt.id)),
        Progress::Worked => Some(Action::Collect(attempt.id)),
        Progress::Collected => Some(Action::Detach(attempt.id)),
        _ => None,
    }
}

/// A failed try at the same stage may still be at work in a machine that is not gone yet: two tries of
/// one stage are never at work at once.
fn earlier_try_lives(view: &View, attempt: &Attempt) -> bool {
    view.attempts
        .iter()
        .filter(|other| {
            other.id != attempt.id
                && other.stage_index == attempt.stage_index
                && other.begun
                && other.progress != Progress::Succeeded
        })
        .filter_map(|other| view.machine(other.machine?))
        .any(|machine| {
            !matches!(
                machine.state,
                MachineState::Gone | MachineState::Kept { .. }
            )
        })
}

/// Whether an action has to wait until another, of this run and under way, has ended: a machine is
/// released only when nothing else is done with it, and one at a time touches the handoff disk.
pub fn must_wait(view: &View, action: Action, other: Action) -> bool {
    match action {
        Action::Release(machine) => machine_of(view, other) == Some(machine),
        Action::RemoveDisks => true,
        Action::PrepareDisk(_) | Action::Attach(_) | Action::Detach(_) => {
            matches!(
                other,
                Action::PrepareDisk(_)
                    | Action::Attach(_)
                    | Action::Detach(_)
                    | Action::RemoveDisks
            )
        }
        _ => false,
    }
}

fn machine_of(view: &View, action: Action) -> Option<MachineId> {
    match action {
        Action::MakeMachine(id) | Action::Release(id) => Some(id),
        Action::PrepareDisk(id)
        | Action::Attach(id)
        | Action::Start(id)
        | Action::Watch(id)
        | Action::Collect(id)
        | Action::Detach(id) => view.attempt(id).and_then(|attempt| attempt.machine),
        Action::RemoveDisks => None,
    }
}

/// To be noted, in the same transaction as the intention, before an action is carried out.
pub fn begin(view: &mut View, action: Action) {
    match action {
        // From here until the machine is gone or the disk detached, nobody else may have the disk.
        Action::Attach(id) => {
            let machine = view.attempt(id).and_then(|attempt| attempt.machine);
            view.run.disk_holder = machine;
        }
        Action::PrepareDisk(_) => {
            view.run.has_disks = true;
            view.run.disks_going = false;
        }
        Action::RemoveDisks => view.run.disks_going = true,
        Action::Start(id) => set(view, id, |attempt| attempt.begun = true),
        _ => {}
    }
}

/// When to look again although nothing happened: the end of a back-off, of a hold or pause, or of a machine's
/// being kept, whichever comes first after `now`.
pub fn wake_at(view: &View, now: Timestamp) -> Option<Timestamp> {
    let of_state = match &view.run.state {
        RunState::Held { until, .. }
        | RunState::Waiting { until }
        | RunState::Paused { until, .. } => Some(*until),
        state if state.is_active() => view.current().map(|attempt| attempt.not_before),
        _ => None,
    };
    let of_machines = view
        .machines
        .iter()
        .filter_map(|machine| match machine.state {
            MachineState::Kept { until } => Some(until),
            _ => None,
        });
    of_machines.chain(of_state).filter(|at| *at > now).min()
}

/// Nothing is left to do, now or later.
pub fn is_over(view: &View) -> bool {
    view.run.state.is_terminal()
        && !view.run.has_disks
        && view
            .machines
            .iter()
            .all(|machine| machine.state == MachineState::Gone)
}
