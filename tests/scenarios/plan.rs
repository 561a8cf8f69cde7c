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
            if follows
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
        if view.run.state.is_active() || matches!(view.run.state, RunState::Held { .. }) {
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
}
