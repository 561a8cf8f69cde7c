//! What happens next in a run. Pure: a view and the time in, changes and actions out.
//!
//! [`absorb`] takes the outcome of an action into the view, [`advance`] makes every move that needs
//! no effect (next attempt, next stage, undo, hold), [`due`] names the effects that are to be under
//! way now and [`wake_at`] when to look again. Called in this order after anything happened.

use std::fmt;
use std::time::Duration;

use crate::chain::model::Output;
use crate::vocab::machine::{Machine, MachinePhases, MachineState, Tag};
use crate::vocab::run::{Attempt, AttemptPhases, Progress, Purpose, RunState, UndoCause};
use crate::vocab::{AttemptId, Digest, Failure, FailureKind, MachineId, Timestamp};

use super::undo;
use super::view::View;

/// An effect on the outside world. Each may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Make disk and domain of a machine and wait until its guest answers.
    MakeMachine(MachineId),
    /// Destroy a machine and remove its files.
    Release(MachineId),
    /// Make, checkpoint or restore the handoff disk for an attempt.
    PrepareDisk(AttemptId),
    /// Attach the handoff disk.
    Attach(AttemptId),
    /// Make the input and start the work in the guest.
    Start(AttemptId),
    /// Wait for the work's end, taking its logs.
    Watch(AttemptId),
    /// Take, check and store the output.
    Collect(AttemptId),
    /// Take the handoff disk back.
    Detach(AttemptId),
    /// Remove handoff disk and checkpoints.
    RemoveDisks,
}

impl Action {
    /// The word under which it stands in the journal and in fault points.
    pub fn word(self) -> &'static str {
        match self {
            Self::MakeMachine(_) => "make_machine",
            Self::Release(_) => "release",
            Self::PrepareDisk(_) => "prepare_disk",
            Self::Attach(_) => "attach",
            Self::Start(_) => "start",
            Self::Watch(_) => "watch",
            Self::Collect(_) => "collect",
            Self::Detach(_) => "detach",
            Self::RemoveDisks => "remove_disks",
        }
    }

    /// All words, for tests that visit every point.
    pub const WORDS: [&'static str; 9] = [
        "make_machine",
        "release",
        "prepare_disk",
        "attach",
        "start",
        "watch",
        "collect",
        "detach",
        "remove_disks",
    ];

    pub fn subject(self) -> String {
        match self {
            Self::MakeMachine(id) | Self::Release(id) => id.to_string(),
            Self::PrepareDisk(id)
            | Self::Attach(id)
            | Self::Start(id)
            | Self::Watch(id)
            | Self::Collect(id)
            | Self::Detach(id) => id.to_string(),
            Self::RemoveDisks => "disks".to_owned(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.word(), self.subject())
    }
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    MachineUp(MachinePhases),
    MachineGone {
        teardown_ms: f64,
    },
    DiskPrepared {
        took_ms: f64,
    },
    Attached {
        took_ms: f64,
    },
    Started {
        took_ms: f64,
        deadline: Timestamp,
    },
    Worked {
        work_ms: f64,
    },
    Collected {
        envelope: Digest,
        took_ms: f64,
    },
    Detached {
        took_ms: f64,
    },
    DisksRemoved,
    /// It could not be done.
    Failed(Failure),
    /// It was given up because it is not wanted any more.
    Cancelled,
}

impl Outcome {
    /// How the journal says it.
    pub fn in_journal(&self) -> String {
        match self {
            Self::Failed(failure) => failure.to_string(),
            Self::Cancelled => "cancelled".to_owned(),
            _ => "ok".to_owned(),
        }
    }
}

/// Something that people or the reconciler ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Abort {
        reason: String,
    },
    /// From this stage, or from where it makes sense; `force` although earlier stages were undone.
    Retry {
        from: Option<String>,
        force: bool,
    },
    /// The host says that a machine of this run is not there any more.
    MachineLost {
        machine: MachineId,
        why: String,
    },
}

/// Takes the outcome of an action into the view.
pub fn absorb(view: &mut View, action: Action, outcome: Outcome, now: Timestamp) {
    match action {
        Action::MakeMachine(id) => machine_made(view, id, outcome, now),
        Action::Release(id) => machine_released(view, id, outcome, now),
        Action::RemoveDisks => {
            if outcome == Outcome::DisksRemoved {
                view.run.has_disks = false;
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
        Outcome::MachineUp(phases) if machine.state == MachineState::Making => {
            machine.state = MachineState::Up;
            machine.phases = phases;
            machine.up_at = Some(now);
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
            attempt.progress = Progress::Working;
        }
        Outcome::Worked { work_ms } => {
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
        Outcome::Failed(failure) => fail(view, id, failure, now),
        _ => {}
    }
}

fn succeed(view: &mut View, id: AttemptId, now: Timestamp) {
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

fn fail(view: &mut View, id: AttemptId, failure: Failure, now: Timestamp) {
    let Some(attempt) = view.attempt_mut(id) else {
        return;
    };
    if attempt.progress.is_over() {
        return;
    }
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
    let keep = purpose == Purpose::Work
        && !undo_needs_disk
        && view.plan.chain.on_failure.keep_machine
        && !may_retry(view, index, purpose, failure.kind);
    let until = now.after(Duration::from_secs(view.plan.chain.on_failure.hold_s));
    match view.machine_mut(machine) {
        Some(machine) if keep && machine.state == MachineState::Up => {
            machine.state = MachineState::Kept { until }
        }
        _ => view.release(machine),
    }
}

fn fail_user_of(view: &mut View, machine: MachineId, failure: Failure, now: Timestamp) {
    let user = view
        .attempts
        .iter()
        .find(|attempt| attempt.machine == Some(machine) && !attempt.progress.is_over())
        .map(|attempt| attempt.id);
    if let Some(id) = user {
        fail(view, id, failure, now);
    }
}

/// Whether the retry policy leaves another try at this stage after a failure of this kind.
fn may_retry(view: &View, stage_index: usize, purpose: Purpose, kind: FailureKind) -> bool {
    let policy = view.stage(stage_index).retry_for(kind);
    let failed = view
        .attempts
        .iter()
        .filter(|attempt| {
            attempt.stage_index == stage_index
                && attempt.purpose == purpose
                && attempt.generation == view.run.generation
                && matches!(&attempt.progress, Progress::Failed { failure } if policy.on.contains(&failure.kind))
        })
        .count();
    u32::try_from(failed).unwrap_or(u32::MAX) < policy.attempts
}

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
    let wants_disk = view.plan.chain.handoff_disk.is_some();
    if wants_disk && target > 0 && !view.run.has_disks {
        return Err(format!(
            "the handoff disk of run {} was removed when it ended; retry from its first stage, {}",
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
        .ok_or_else(|| {
            format!(
                "the input of stage {} was not kept",
                view.stage(target).name
            )
        })?;
    drop_current(view, now);
    view.run.generation += 1;
    view.run.stage_index = target;
    view.run.head = input;
    view.run.abort_reason = None;
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

/// Gives the attempt that is under way up.
fn drop_current(view: &mut View, now: Timestamp) {
    let Some(id) = view.current().map(|attempt| attempt.id) else {
        return;
    };
    if let Some(attempt) = view.attempt_mut(id) {
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
    match view.run.state.clone() {
        RunState::Queued => match view.run.abort_reason.clone() {
            Some(reason) => enter(view, RunState::Aborted { reason }, now),
            None => false,
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

fn begin_undoing(view: &mut View, cause: UndoCause, now: Timestamp) -> bool {
    drop_current(view, now);
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
        return enter(view, RunState::Succeeded, now);
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

/// Adds another try where the policy leaves one. Says whether it did.
pub(super) fn next_try(
    view: &mut View,
    stage_index: usize,
    purpose: Purpose,
    failure: &Failure,
    now: Timestamp,
) -> bool {
    if !may_retry(view, stage_index, purpose, failure.kind) {
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
        phases: AttemptPhases::default(),
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

fn set(view: &mut View, id: AttemptId, change: impl FnOnce(&mut Attempt)) {
    if let Some(attempt) = view.attempt_mut(id) {
        change(attempt);
    }
}

/// While a stage is under way, the next one's machine is made ready: from when this stage has its
/// own, because a boot takes longer than most stages. Once: when it fails, the next stage makes its
/// own and its retry policy counts.
fn prefetch(view: &mut View, index: usize, now: Timestamp) -> bool {
    let next = index + 1;
    let has_machine = view
        .current()
        .is_some_and(|attempt| attempt.machine.is_some() && attempt.purpose == Purpose::Work);
    let tried = view.machines.iter().any(|machine| {
        machine.stage_index == next && machine.tag.generation == view.run.generation
    });
    if !has_machine || tried || next >= view.plan.stages.len() {
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
    let id = MachineId::fresh();
    view.machines.push(Machine {
        id,
        name: format!(
            "gr-{}-{stage}-{serial}-{}",
            view.run.id,
            view.plan.deployment.short()
        ),
        tag: Tag {
            deployment: view.plan.deployment,
            run: view.run.id,
            stage,
            serial,
            generation: view.run.generation,
        },
        stage_index,
        engine: planned.engine,
        engine_reason: planned.engine_reason.clone(),
        size: planned.size,
        state: MachineState::Making,
        phases: MachinePhases::default(),
        made_at: now,
        up_at: None,
        gone_at: None,
    });
    id
}

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
        Progress::Equipped if up => Some(Action::Start(attempt.id)),
        Progress::Working => Some(Action::Watch(attempt.id)),
        Progress::Worked => Some(Action::Collect(attempt.id)),
        Progress::Collected => Some(Action::Detach(attempt.id)),
        _ => None,
    }
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
        Action::PrepareDisk(_) => view.run.has_disks = true,
        Action::Start(id) => set(view, id, |attempt| attempt.begun = true),
        _ => {}
    }
}

/// When to look again although nothing happened: the end of a back-off or of a hold.
pub fn wake_at(view: &View) -> Option<Timestamp> {
    match &view.run.state {
        RunState::Held { until, .. } => Some(*until),
        state if state.is_active() => view.current().map(|attempt| attempt.not_before),
        _ => None,
    }
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
