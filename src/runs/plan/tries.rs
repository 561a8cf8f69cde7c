//! Attempts and their machines: adding them, and moving the attempt that is under way.

use std::time::Duration;

use super::absorb::{fail, may_retry, succeed};
use crate::chain::model::{Bounds, Output};
use crate::learn::resources::choice::{self, Room};
use crate::runs::view::View;
use crate::vocab::machine::{Machine, MachinePhases, MachineState, Owner, Size, Tag};
use crate::vocab::run::{Attempt, AttemptPhases, Progress, Purpose};
use crate::vocab::{AttemptId, Digest, Failure, FailureKind, Lack, MachineId, Timestamp};

/// Adds another try where the policy leaves one. Says whether it did.
pub(super) fn next_try(
    view: &mut View,
    stage_index: usize,
    purpose: Purpose,
    failure: &Failure,
    now: Timestamp,
) -> bool {
    if !may_retry(view, stage_index, purpose, failure) {
        return false;
    }
    let tries = view.attempts.iter().filter(|a| {
        a.stage_index == stage_index && a.purpose == purpose && a.generation == view.run.generation
    });
    let (tries, input) = tries.fold((0, view.run.head), |(count, _), attempt| {
        (count + 1, attempt.input)
    });
    let pause_s = view
        .stage(stage_index)
        .retry_for(failure.kind)
        .backoff
        .pause_s(tries + 1);
    let not_before = now.after(Duration::from_secs_f64(pause_s.max(0.0)));
    add_attempt(view, stage_index, purpose, input, not_before, now);
    let stage = view.stage(stage_index).name.clone();
    view.tell(
        now,
        "retry_planned",
        format!("{stage}: next try in {pause_s:.1} s"),
    );
    true
}

pub(super) fn add_attempt(
    view: &mut View,
    stage_index: usize,
    purpose: Purpose,
    input: Digest,
    not_before: Timestamp,
    now: Timestamp,
) {
    let earlier = view
        .attempts
        .iter()
        .filter(|a| a.stage_index == stage_index && a.purpose == purpose)
        .count();
    view.attempts.push(Attempt {
        id: AttemptId::fresh(),
        run: view.run.id,
        stage_index,
        stage: view.stage(stage_index).name.clone(),
        purpose,
        number: u32::try_from(earlier + 1).unwrap_or(u32::MAX),
        generation: view.run.generation,
        progress: Progress::Planned,
        machine: None,
        begun: false,
        input,
        output: None,
        not_before,
        deadline: None,
        working_since: None,
        phases: AttemptPhases::default(),
        expected: view.plan.stages[stage_index].expected.clone(),
        created_at: now,
        finished_at: None,
    });
}

/// Moves the attempt that is under way as far as it goes without an effect.
pub(super) fn advance_attempt(view: &mut View, now: Timestamp) -> bool {
    let Some(attempt) = view.current().cloned() else {
        return false;
    };
    if now < attempt.not_before {
        return false;
    }
    let wants_disk = view.stage(attempt.stage_index).handoff_disk;
    let machine = attempt.machine.and_then(|id| view.machine(id)).cloned();
    if attempt.machine.is_none() {
        let id = match view.spare(attempt.stage_index) {
            Some(spare) => spare.id,
            None => add_machine(view, attempt.stage_index, now),
        };
        set(view, attempt.id, |attempt| attempt.machine = Some(id));
        return true;
    }
    let Some(machine) = machine else { return false };
    if !machine.state.is_usable() && !attempt.progress.is_over() {
        // Its machine was taken away while nobody worked on it: by a release after a crash, say.
        let failure = Failure::new(
            FailureKind::Lost,
            format!("machine {} is {}", machine.name, machine.state.word()),
        );
        fail(view, attempt.id, failure, now);
        return true;
    }
    match attempt.progress {
        Progress::Planned if !wants_disk => set(view, attempt.id, |attempt| {
            attempt.progress = Progress::DiskReady
        }),
        Progress::DiskReady if !wants_disk && machine.state == MachineState::Up => {
            set(view, attempt.id, |attempt| {
                attempt.progress = Progress::Equipped
            });
        }
        // An undo has no output, and a stage without one passes on what it got.
        Progress::Worked
            if attempt.purpose == Purpose::Undo
                || view.stage(attempt.stage_index).output == Output::None =>
        {
            set(view, attempt.id, |attempt| {
                attempt.output = Some(attempt.input);
                attempt.progress = Progress::Collected;
            });
        }
        Progress::Collected if !wants_disk => succeed(view, attempt.id, now),
        _ => return false,
    }
    true
}

pub(super) fn set(view: &mut View, id: AttemptId, change: impl FnOnce(&mut Attempt)) {
    if let Some(attempt) = view.attempt_mut(id) {
        change(attempt);
    }
}

/// While a stage is under way, the next one's machine is made ready: from when this stage has its
/// own, because a boot takes longer than most stages. Once: when it fails, the next stage makes its
/// own and its retry policy counts. Not for a stage that waits for the device, nor before a pause.
pub(super) fn prefetch(view: &mut View, index: usize, now: Timestamp) -> bool {
    let next = index + 1;
    let has_machine = view
        .current()
        .is_some_and(|attempt| attempt.machine.is_some() && attempt.purpose == Purpose::Work);
    let tried = view.machines.iter().any(|machine| {
        machine.stage_index == next && machine.tag.generation == view.run.generation
    });
    if !has_machine || tried || next >= view.plan.stages.len() || view.run.pause.is_some() {
        return false;
    }
    // Nobody knows when its device will be there.
    if view.stage(next).after.is_some() && !view.run.arrived {
        return false;
    }
    add_machine(view, next, now);
    true
}

fn add_machine(view: &mut View, stage_index: usize, now: Timestamp) -> MachineId {
    let earlier = view
        .machines
        .iter()
        .filter(|machine| machine.stage_index == stage_index)
        .count();
    let serial = u32::try_from(earlier + 1).unwrap_or(u32::MAX);
    let stage = view.stage(stage_index).name.clone();
    let planned = &view.plan.stages[stage_index];
    let size = next_size(view, stage_index);
    if size != planned.size {
        let (name, more) = (stage.clone(), told(planned.size, size));
        view.tell(
            now,
            "size_raised",
            format!("{name}: {more}, because an earlier try had too little"),
        );
    }
    let planned = &view.plan.stages[stage_index];
    let id = MachineId::fresh();
    view.machines.push(Machine {
        id,
        shell: None,
        name: format!(
            "gr-{}-{stage}-{serial}-{}",
            view.run.id,
            view.plan.deployment.short()
        ),
        tag: Tag {
            deployment: view.plan.deployment,
            owner: Owner::Stage {
                run: view.run.id,
                stage,
            },
            serial,
            generation: view.run.generation,
        },
        stage_index,
        engine: planned.engine,
        engine_reason: planned.engine_reason.clone(),
        size,
        state: MachineState::Making,
        phases: MachinePhases::default(),
        made_at: now,
        up_at: None,
        gone_at: None,
    });
    id
}

/// The size that the next try at a stage gets: what was planned, and more of what earlier tries lacked,
/// also those before a retry by hand.
pub(super) fn next_size(view: &View, stage_index: usize) -> Size {
    let tries: Vec<(Size, Lack)> = view
        .attempts
        .iter()
        .filter(|attempt| attempt.stage_index == stage_index)
        .filter_map(|attempt| match &attempt.progress {
            Progress::Failed { failure } => {
                Some((view.machine(attempt.machine?)?.size, failure.lacked?))
            }
            _ => None,
        })
        .collect();
    let resources = &view.stage(stage_index).resources;
    let room = |bounds: Bounds| Room {
        min: bounds.min,
        max: bounds.max,
    };
    choice::after(
        view.plan.stages[stage_index].size,
        &tries,
        room(resources.memory_mib),
        room(resources.vcpus),
    )
}

fn told(before: Size, after: Size) -> String {
    let mut parts = Vec::new();
    if before.memory_mib != after.memory_mib {
        parts.push(format!(
            "{} MiB instead of {}",
            after.memory_mib, before.memory_mib
        ));
    }
    if before.vcpus != after.vcpus {
        parts.push(format!("{} vCPUs instead of {}", after.vcpus, before.vcpus));
    }
    parts.join(", ")
}
