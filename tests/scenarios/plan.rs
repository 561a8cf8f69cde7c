//! The plan alone: whatever happens in whatever order, a run comes to an end, and on the way its
//! rules hold.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom::runs::plan::{self, Action, Outcome, Request, Served};
use greenroom::runs::view::View;
use greenroom::vocab::machine::{EngineKind, MachinePhases, MachineState};
use greenroom::vocab::run::{Progress, Purpose, RunState};
use greenroom::vocab::*;
use proptest::prelude::*;

use crate::support::{StageExt, chain, says, stage, view};

/// A world in which actions end as a script of choices says.
struct World {
    view: View,
    now: Timestamp,
    under_way: Vec<Action>,
    trace: Vec<String>,
}

impl World {
    fn new(mut view: View) -> Self {
        plan::admit(&mut view, Timestamp(0));
        Self {
            view,
            now: Timestamp(0),
            under_way: vec![],
            trace: vec![],
        }
    }

    /// Advances, begins what is due, checks the rules.
    fn turn(&mut self) {
        plan::advance(&mut self.view, self.now);
        let due = plan::due(&self.view, self.now);
        for action in &due {
            if self.under_way.contains(action) || self.is_blocked(*action) {
                continue;
            }
            plan::begin(&mut self.view, *action);
            self.trace.push(action.word().to_owned());
            self.under_way.push(*action);
        }
        self.check();
    }

    fn is_blocked(&self, action: Action) -> bool {
        self.under_way
            .iter()
            .any(|other| plan::must_wait(&self.view, action, *other))
    }

    /// Ends the n-th action under way, well or badly. What is not due any more ends cancelled.
    fn end(&mut self, n: usize, well: bool, kind: FailureKind) {
        let action = self.under_way.remove(n % self.under_way.len());
        let due = plan::due(&self.view, self.now).contains(&action);
        let outcome = match (due, well) {
            (false, _) => Outcome::Cancelled,
            (true, false) if !matches!(action, Action::Release(_) | Action::RemoveDisks) => {
                Outcome::Failed(Failure::new(kind, "chosen by the test"))
            }
            _ => self.good(action),
        };
        plan::absorb(&mut self.view, action, outcome, self.now);
    }

    fn good(&self, action: Action) -> Outcome {
        match action {
            Action::MakeMachine(_) => Outcome::MachineUp {
                phases: MachinePhases::default(),
                served: Served {
                    shell: None,
                    engine: EngineKind::Clone,
                    reason: "test".into(),
                },
            },
            Action::Release(_) => Outcome::MachineGone { teardown_ms: 1.0 },
            Action::PrepareDisk(_) => Outcome::DiskPrepared { took_ms: 1.0 },
            Action::Attach(_) => Outcome::Attached { took_ms: 1.0 },
            Action::Start(_) => Outcome::Started {
                took_ms: 1.0,
                deadline: self.now.after(Duration::from_secs(60)),
            },
            Action::Watch(_) => Outcome::Worked {
                work_ms: 1.0,
                output: None,
            },
            Action::Collect(id) => Outcome::Collected {
                envelope: Digest::of(id.to_string().as_bytes()),
                took_ms: 1.0,
            },
            Action::Detach(_) => Outcome::Detached { took_ms: 1.0 },
            Action::RemoveDisks => Outcome::DisksRemoved,
        }
    }

    /// Lets everything end well until nothing is left, moving the clock over holds and back-offs.
    fn settle(&mut self) {
        for _ in 0..500 {
            self.turn();
            if plan::is_over(&self.view) && self.under_way.is_empty() {
                return;
            }
            if self.under_way.is_empty() {
                let wake = plan::wake_at(&self.view, self.now).unwrap_or_else(|| {
                    panic!(
                        "nothing under way and nothing to wait for: {:#?}",
                        self.view.run
                    )
                });
                assert!(
                    wake > self.now,
                    "waits for a time that has passed: {:#?}",
                    self.view
                );
                self.now = wake;
            } else {
                self.end(0, true, FailureKind::Exit);
            }
        }
        panic!("does not come to an end: {:#?}", self.view);
    }

    /// What must hold at any time.
    fn check(&self) {
        let view = &self.view;
        let open: Vec<_> = view
            .attempts
            .iter()
            .filter(|a| !a.progress.is_over() && a.generation == view.run.generation)
            .collect();
        assert!(open.len() <= 1, "two attempts at once: {open:#?}");
        let mut users: BTreeMap<MachineId, usize> = BTreeMap::new();
        for attempt in &view.attempts {
            if let Some(machine) = attempt.machine {
                *users.entry(machine).or_default() += 1;
            }
        }
        assert!(users.values().all(|n| *n == 1), "a machine was used twice");
        let usable = view
            .machines
            .iter()
            .filter(|machine| machine.state.is_usable())
            .count();
        assert!(
            usable <= 2,
            "more than the current and the next machine: {usable}"
        );
        let disk_users = self
            .under_way
            .iter()
            .filter(|a| {
                matches!(
                    a,
                    Action::Attach(_) | Action::Detach(_) | Action::PrepareDisk(_)
                )
            })
            .count();
        assert!(disk_users <= 1, "two actions on the handoff disk at once");
        for pair in view.attempts.windows(2) {
            let follows = pair[0].purpose == Purpose::Work
                && pair[1].purpose == Purpose::Work
                && pair[1].stage_index == pair[0].stage_index + 1;
            let reported = view.stage(pair[1].stage_index).after.is_some();
            if follows
                && !reported
                && pair[0].progress == Progress::Succeeded
                && pair[0].generation == pair[1].generation
            {
                assert_eq!(
                    pair[0].output,
                    Some(pair[1].input),
                    "input of k+1 is not output of k"
                );
            }
        }
        if let RunState::Waiting { .. } = view.run.state {
            assert_eq!(usable, 0, "a run that waits for its device holds a machine");
            assert!(open.is_empty(), "and is at no stage: {open:#?}");
        }
        if let RunState::Paused { .. } = view.run.state {
            assert_eq!(usable, 0, "a paused run holds a machine");
            assert!(open.is_empty(), "and is at no stage: {open:#?}");
        }
        if view.run.state.is_active()
            || matches!(
                view.run.state,
                RunState::Held { .. } | RunState::Waiting { .. } | RunState::Paused { .. }
            )
        {
            let waits = !self.under_way.is_empty()
                || plan::wake_at(view, self.now).is_some()
                || !plan::due(view, self.now).is_empty();
            assert!(waits, "a run that waits for nothing: {view:#?}");
        }
    }
}

fn three() -> View {
    view(chain(
        "three",
        vec![
            stage("one", &says("1"))
                .on_disk()
                .undone_by("true")
                .retrying(&[FailureKind::Exit], 2),
            stage("two", &says("2")),
            stage("three", &says("3"))
                .on_disk()
                .undone_by("true")
                .without_output(),
        ],
    ))
}

#[test]
fn a_chain_in_which_all_goes_well_ends_with_nothing_left() {
    let mut world = World::new(three());
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
    assert_eq!(world.view.machines.len(), 3, "one machine per stage");
    assert!(
        world
            .view
            .machines
            .iter()
            .all(|machine| machine.state == MachineState::Gone)
    );
    let steps = world.trace.join(" ");
    insta::assert_snapshot!(steps);
}

#[test]
fn the_next_machine_is_made_while_the_stage_is_under_way_and_none_further() {
    let mut world = World::new(three());
    world.turn();
    let making = |world: &World| -> Vec<usize> {
        let stage_of = |action: &Action| match action {
            Action::MakeMachine(id) => world.view.machine(*id).map(|machine| machine.stage_index),
            _ => None,
        };
        world.under_way.iter().filter_map(stage_of).collect()
    };
    assert_eq!(making(&world), [0, 1]);
    while world.view.run.stage_index == 0 {
        world.end(0, true, FailureKind::Exit);
        world.turn();
    }
    assert!(
        world
            .view
            .machines
            .iter()
            .any(|machine| machine.stage_index == 2),
        "the third follows the second"
    );
}

#[test]
fn a_failure_for_good_undoes_in_reverse_and_holds() {
    let mut world = World::new(three());
    let mut order = Vec::new();
    for _ in 0..500 {
        world.turn();
        if matches!(world.view.run.state, RunState::Held { .. }) {
            break;
        }
        let at_three = world.view.current().is_some_and(|a| {
            a.stage == "three" && a.purpose == Purpose::Work && a.progress == Progress::Working
        });
        let position = world
            .under_way
            .iter()
            .position(|action| matches!(action, Action::Watch(_)));
        match position {
            Some(n) => world.end(n, !at_three, FailureKind::Exit),
            None => world.end(0, true, FailureKind::Exit),
        }
        if let Some(undo) = world
            .view
            .attempts
            .iter()
            .rev()
            .find(|a| a.purpose == Purpose::Undo && a.progress == Progress::Succeeded)
            && order.last() != Some(&undo.stage)
        {
            order.push(undo.stage.clone());
        }
    }
    assert_eq!(order, ["three", "one"]);
    let RunState::Held { failure, .. } = &world.view.run.state else {
        panic!("{:?}", world.view.run.state)
    };
    assert_eq!(failure.kind, FailureKind::Exit);

    // Stage one was undone, so going on from three is refused unless one insists.
    let refused = plan::request(
        &mut world.view,
        Request::Retry {
            from: Some("three".into()),
            force: false,
        },
        world.now,
    )
    .unwrap_err();
    assert!(refused.contains("one was undone"), "{refused}");
    plan::request(
        &mut world.view,
        Request::Retry {
            from: None,
            force: false,
        },
        world.now,
    )
    .unwrap();
    assert_eq!(world.view.run.stage_index, 0);
    plan::admit(&mut world.view, world.now);
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
}

#[test]
fn a_machine_that_is_lost_while_it_works_is_replaced() {
    let mut world = World::new(three());
    while world
        .view
        .current()
        .is_none_or(|attempt| attempt.progress != Progress::Working)
    {
        world.turn();
        world.end(0, true, FailureKind::Exit);
    }
    let machine = world.view.current().unwrap().machine.unwrap();
    plan::request(
        &mut world.view,
        Request::MachineLost {
            machine,
            why: "killed".into(),
        },
        world.now,
    )
    .unwrap();
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
    assert_eq!(
        world
            .view
            .attempts
            .iter()
            .filter(|a| a.stage == "one")
            .count(),
        2
    );
}

/// Makes a disk, waits for the device that gets it, and looks at what it reports.
fn watched() -> View {
    view(chain(
        "watched",
        vec![
            stage("make", &says("1")).on_disk().undone_by("true"),
            stage("look", &says("2")).after_delivery(600),
            stage("tell", &says("3")),
        ],
    ))
}

fn until_waiting(world: &mut World) -> Timestamp {
    for _ in 0..200 {
        world.turn();
        if let RunState::Waiting { until } = world.view.run.state
            && world.under_way.is_empty()
        {
            return until;
        }
        world.end(0, true, FailureKind::Exit);
    }
    panic!("never waits: {:#?}", world.view);
}

fn arrive(world: &mut World) -> Result<(), String> {
    let head = Digest::of(b"with telemetry");
    plan::request(&mut world.view, Request::Arrived { head }, world.now)
}

#[test]
fn a_run_waits_for_its_device_and_goes_on_with_what_it_reports() {
    let mut world = World::new(watched());
    let until = until_waiting(&mut world);
    assert_eq!(until, Timestamp(0).after(Duration::from_secs(600)));
    assert_eq!(plan::wake_at(&world.view, world.now), Some(until));
    assert!(!world.view.run.state.is_active(), "it takes no place");
    assert_eq!(
        world.view.machines.len(),
        1,
        "none is made ahead of the device"
    );
    let made = world.view.image_of().unwrap();
    assert_eq!(world.view.attempt(made).unwrap().stage, "make");
    arrive(&mut world).unwrap();
    assert_eq!(
        world.view.run.state,
        RunState::Queued,
        "it takes its turn again"
    );
    assert!(arrive(&mut world).is_err(), "once is enough");
    plan::admit(&mut world.view, world.now);
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
    let look = world
        .view
        .attempts
        .iter()
        .find(|a| a.stage == "look")
        .unwrap();
    assert_eq!(look.input, Digest::of(b"with telemetry"));
    assert_eq!(world.view.machines.len(), 3);
}

#[test]
fn a_device_that_does_not_report_in_time_holds_the_run_and_a_retry_waits_once_more() {
    let mut world = World::new(watched());
    world.now = until_waiting(&mut world);
    world.turn();
    assert_eq!(world.view.run.state.word(), "undoing");
    while !matches!(world.view.run.state, RunState::Held { .. }) {
        world.end(0, true, FailureKind::Exit);
        world.turn();
    }
    let failure = world.view.run.state.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Deadline);
    assert!(arrive(&mut world).is_err(), "a held run waits for a person");
    // `make` was undone, so it is made again, and then waited for again.
    let again = Request::Retry {
        from: None,
        force: false,
    };
    let old = world.view.image_of();
    plan::request(&mut world.view, again, world.now).unwrap();
    plan::admit(&mut world.view, world.now);
    until_waiting(&mut world);
    assert_ne!(
        world.view.image_of(),
        old,
        "another image than the one before"
    );
    arrive(&mut world).unwrap();
    plan::admit(&mut world.view, world.now);
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
}

fn takes_back_when_aborted(world: &mut World) -> bool {
    let reason = "test".to_owned();
    plan::request(&mut world.view, Request::Abort { reason }, world.now).unwrap();
    world.settle();
    assert_eq!(world.view.run.state.word(), "aborted");
    world
        .view
        .attempts
        .iter()
        .any(|a| a.purpose == Purpose::Undo && a.progress == Progress::Succeeded)
}

#[test]
fn an_abort_takes_back_what_was_done_while_it_waits_and_when_it_waits_for_its_turn_after() {
    for arrived in [false, true] {
        let mut world = World::new(watched());
        until_waiting(&mut world);
        if arrived {
            arrive(&mut world).unwrap();
        }
        assert!(takes_back_when_aborted(&mut world), "arrived: {arrived}");
    }
}

#[test]
fn a_retry_of_what_was_reported_waits_for_a_newer_report() {
    let mut world = World::new(watched());
    until_waiting(&mut world);
    arrive(&mut world).unwrap();
    plan::admit(&mut world.view, world.now);
    // `look` fails for good.
    while world.view.run.state.word() != "held" {
        world.turn();
        let looks = world
            .view
            .current()
            .is_some_and(|a| a.stage == "look" && a.progress == Progress::Working);
        match world
            .under_way
            .iter()
            .position(|a| matches!(a, Action::Watch(_)))
        {
            Some(n) => world.end(n, !looks, FailureKind::Exit),
            None if world.under_way.is_empty() => {}
            None => world.end(0, true, FailureKind::Exit),
        }
    }
    let from = Some("look".to_owned());
    plan::request(
        &mut world.view,
        Request::Retry { from, force: true },
        world.now,
    )
    .unwrap();
    plan::admit(&mut world.view, world.now);
    until_waiting(&mut world);
}

fn hold(world: &mut World) -> Result<(), String> {
    let request = Request::Hold {
        reason: "look first".into(),
        within: Duration::from_secs(600),
    };
    plan::request(&mut world.view, request, world.now)
}

fn resume(world: &mut World) -> Result<(), String> {
    plan::request(&mut world.view, Request::Resume, world.now)
}

fn until_paused(world: &mut World) -> Timestamp {
    for _ in 0..200 {
        world.turn();
        if let RunState::Paused { until, .. } = world.view.run.state
            && world.under_way.is_empty()
        {
            return until;
        }
        world.end(0, true, FailureKind::Exit);
    }
    panic!("never pauses: {:#?}", world.view);
}

#[test]
fn a_hold_pauses_before_the_next_stage_and_a_resume_goes_on_from_there() {
    let mut world = World::new(three());
    world.turn();
    hold(&mut world).unwrap();
    let until = until_paused(&mut world);
    assert_eq!(
        world.view.run.stage_index, 1,
        "the first stage came to its end"
    );
    assert_eq!(until, Timestamp(0).after(Duration::from_secs(600)));
    assert_eq!(plan::wake_at(&world.view, world.now), Some(until));
    assert!(!world.view.run.state.is_active(), "it takes no place");
    assert!(
        world
            .view
            .machines
            .iter()
            .all(|machine| machine.state == MachineState::Gone),
        "the one that was made ahead is gone too"
    );
    resume(&mut world).unwrap();
    assert_eq!(world.view.run.state, RunState::Queued);
    assert!(resume(&mut world).is_err(), "once is enough");
    plan::admit(&mut world.view, world.now);
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
    assert_eq!(world.view.attempts.len(), 3, "no stage was done twice");
}

#[test]
fn a_run_that_nobody_resumes_is_undone_and_held_for_a_retry() {
    let mut world = World::new(three());
    world.turn();
    hold(&mut world).unwrap();
    world.now = until_paused(&mut world);
    world.turn();
    assert_eq!(world.view.run.state.word(), "undoing");
    while world.view.run.state.word() != "held" {
        world.end(0, true, FailureKind::Exit);
        world.turn();
    }
    let failure = world.view.run.state.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Deadline);
    assert!(failure.message.contains("before stage two"), "{failure}");
    let undone = world
        .view
        .attempts
        .iter()
        .filter(|a| a.purpose == Purpose::Undo);
    assert_eq!(undone.count(), 1, "the stage that had effects");
}

#[test]
fn an_abort_takes_back_what_was_done_before_a_pause_and_after_it() {
    for resumed in [false, true] {
        let mut world = World::new(three());
        world.turn();
        hold(&mut world).unwrap();
        until_paused(&mut world);
        if resumed {
            resume(&mut world).unwrap();
        }
        assert!(takes_back_when_aborted(&mut world), "resumed: {resumed}");
    }
}

#[test]
fn a_hold_is_taken_back_before_it_begins_and_refused_where_it_could_not() {
    let mut world = World::new(three());
    world.turn();
    assert!(resume(&mut world).unwrap_err().contains("nobody holds it"));
    hold(&mut world).unwrap();
    resume(&mut world).unwrap();
    while world.view.run.stage_index < 2 {
        world.turn();
        world.end(0, true, FailureKind::Exit);
    }
    world.turn();
    let refused = hold(&mut world).unwrap_err();
    assert!(refused.contains("last stage"), "{refused}");
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
    assert!(hold(&mut world).unwrap_err().contains("succeeded"));
}

#[test]
fn a_queued_run_pauses_before_its_first_stage_and_a_delivery_waits_for_the_resume() {
    let mut world = World::new(watched());
    world.view.run.state = RunState::Queued;
    hold(&mut world).unwrap();
    until_paused(&mut world);
    assert!(world.view.attempts.is_empty());
    resume(&mut world).unwrap();
    plan::admit(&mut world.view, world.now);
    world.turn();
    // While the image is made: it is not to be sent.
    hold(&mut world).unwrap();
    until_paused(&mut world);
    assert!(arrive(&mut world).is_err(), "nothing was sent");
    resume(&mut world).unwrap();
    plan::admit(&mut world.view, world.now);
    until_waiting(&mut world);
    // While the device boots: what comes after has time.
    hold(&mut world).unwrap();
    arrive(&mut world).unwrap();
    until_paused(&mut world);
    resume(&mut world).unwrap();
    plan::admit(&mut world.view, world.now);
    world.settle();
    assert_eq!(world.view.run.state, RunState::Succeeded);
}

#[test]
fn a_try_that_fails_has_spent_its_time() {
    let mut world = World::new(three());
    while world
        .view
        .current()
        .is_none_or(|attempt| attempt.progress != Progress::Working)
    {
        world.turn();
        world.end(0, true, FailureKind::Exit);
    }
    let id = world.view.current().unwrap().id;
    world.turn();
    world.now = world.now.after(Duration::from_secs(7));
    let watch = world
        .under_way
        .iter()
        .position(|a| matches!(a, Action::Watch(_)));
    world.end(watch.unwrap(), false, FailureKind::Exit);
    let phases = world.view.attempt(id).unwrap().phases;
    assert_eq!(phases.work_ms, 7000.0);
    // And one whose machine never comes.
    let mut world = World::new(three());
    world.turn();
    world.now = world.now.after(Duration::from_secs(3));
    let make = world
        .under_way
        .iter()
        .position(|a| matches!(a, Action::MakeMachine(_)));
    world.end(make.unwrap(), false, FailureKind::Host);
    assert_eq!(world.view.attempts[0].phases.machine_wait_ms, 3000.0);
}

fn kinds() -> impl Strategy<Value = FailureKind> {
    prop::sample::select(FailureKind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Random orders and failures, aborts, lost machines and retries at random moments.
    #[test]
    fn every_run_comes_to_an_end(
        choices in prop::collection::vec((0usize..8, prop::bool::weighted(0.8), kinds()), 0..120),
        abort_at in prop::option::of(0usize..80),
        lose_at in prop::option::of(0usize..80),
        holds in prop::collection::vec(0usize..80, 0..4),
        resumes in prop::collection::vec(0usize..80, 0..4),
        keep in any::<bool>(),
    ) {
        let mut start = three();
        std::sync::Arc::make_mut(&mut start.plan).chain.on_failure.keep_machine = keep;
        let mut world = World::new(start);
        for (step, (n, well, kind)) in choices.into_iter().enumerate() {
            world.turn();
            if abort_at == Some(step) {
                let _ = plan::request(&mut world.view, Request::Abort { reason: "test".into() }, world.now);
            }
            if holds.contains(&step) {
                let _ = hold(&mut world);
            }
            if resumes.contains(&step) && resume(&mut world).is_ok() {
                plan::admit(&mut world.view, world.now);
            }
            if lose_at == Some(step)
                && let Some(machine) = world.view.current().and_then(|attempt| attempt.machine)
            {
                let _ = plan::request(&mut world.view, Request::MachineLost { machine, why: "test".into() }, world.now);
            }
            if world.under_way.is_empty() {
                match plan::wake_at(&world.view, world.now) {
                    Some(at) => world.now = world.now.max(at),
                    None => break,
                }
            } else {
                world.end(n, well, kind);
            }
        }
        world.settle();
        prop_assert!(world.view.run.state.is_terminal());
        // And a retry of whatever came out ends as well.
        if world.view.run.state.can_be_retried() {
            plan::request(&mut world.view, Request::Retry { from: Some("one".into()), force: true }, world.now).unwrap();
            plan::admit(&mut world.view, world.now);
            world.settle();
            prop_assert_eq!(&world.view.run.state, &RunState::Succeeded);
        }
    }

    /// The same with a device that reports at any time, or never.
    #[test]
    fn every_run_that_waits_for_its_device_comes_to_an_end(
        choices in prop::collection::vec((0usize..8, prop::bool::weighted(0.9), kinds(), prop::bool::weighted(0.2)), 0..120),
        abort_at in prop::option::of(0usize..60),
    ) {
        let mut world = World::new(watched());
        for (step, (n, well, kind, reports)) in choices.into_iter().enumerate() {
            world.turn();
            if abort_at == Some(step) {
                let _ = plan::request(&mut world.view, Request::Abort { reason: "test".into() }, world.now);
            }
            if reports && arrive(&mut world).is_ok() {
                prop_assert!(world.view.run.arrived);
                plan::admit(&mut world.view, world.now);
            }
            if world.under_way.is_empty() {
                match plan::wake_at(&world.view, world.now) {
                    Some(at) => world.now = world.now.max(at),
                    None => break,
                }
            } else {
                world.end(n, well, kind);
            }
        }
        if world.view.run.state == RunState::Queued {
            plan::admit(&mut world.view, world.now);
        }
        world.settle();
        prop_assert!(world.view.run.state.is_terminal());
        let looked = world.view.attempts.iter().any(|a| a.stage == "look" && a.purpose == Purpose::Work);
        prop_assert!(!looked || world.view.run.arrived, "it looked at what was not there");
    }
}
