//! Stories told in the user's verbs, on the simulated host.

use std::time::Duration;

use greenroom::capacity::{OVERHEAD_MIB, Room};
use greenroom::fault::Faults;
use greenroom::hypervisor::HvError;
use greenroom::hypervisor::simulated::{Fault, GuestFault};
use greenroom::runs::plan::Request;
use greenroom::runs::submit;
use greenroom::runs::view::View;
use greenroom::vocab::FailureKind;
use greenroom::vocab::machine::{Machine, MachineState};
use greenroom::vocab::run::{Progress, Purpose, RunState};

use crate::support::house::House;
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_runs_and_leaves_nothing() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain(
            "three",
            vec![
                stage(
                    "one",
                    &format!(
                        "echo working\n{}printf %s ONE > $GREENROOM_HANDOFF_DISK",
                        says("1")
                    ),
                )
                .on_disk(),
                stage("two", &says("2")),
                stage("three", "head -c 3 $GREENROOM_HANDOFF_DISK")
                    .on_disk()
                    .without_output(),
            ],
        ))
        .await;
    let run = daemon.start("d1", "three").await;
    let view = daemon.finished(run.id).await;
    assert_eq!(view.run.state, RunState::Succeeded);
    assert_eq!(daemon.log_of(run.id).await, "working\nONE");
    let document: serde_json::Value =
        serde_json::from_slice(&daemon.services.artefacts.get(view.run.head).await.unwrap())
            .unwrap();
    assert_eq!(document["document"]["one"]["said"], "1");
    assert_eq!(document["document"]["two"]["said"], "2");
    assert_eq!(document["document"]["device"]["memory_mib"], 2048);
    house.check_nothing_left();
    assert_eq!(daemon.services.capacity.status().used.memory_mib, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_stage_is_retried_then_undone_then_held_then_retried_by_hand() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let flaky = "if [ $GREENROOM_ATTEMPT -lt 4 ]; then echo broken >&2; exit 3; fi\n";
    daemon
        .apply(&chain(
            "flaky",
            vec![
                stage("setup", &says("ready")).undone_by("echo undoing setup"),
                stage("work", &format!("{flaky}{}", says("done")))
                    .retrying(&[FailureKind::Exit], 2),
            ],
        ))
        .await;
    let run = daemon.start("d1", "flaky").await;
    let view = daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Held { .. })
        })
        .await;
    let failure = view.run.state.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Exit);
    assert!(
        failure.message.contains("exit code 3") && failure.message.contains("broken"),
        "{failure}"
    );
    assert_eq!(
        view.attempts.iter().filter(|a| a.stage == "work").count(),
        2
    );
    assert!(daemon.log_of(run.id).await.contains("undoing setup"));

    // By hand: the first stage was undone, so it begins there; the third try at work fails, the fourth does not.
    let retry = || Request::Retry {
        from: None,
        force: false,
    };
    daemon.dispatch.request(run.id, retry()).await.unwrap();
    let view = daemon.finished(run.id).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(
        view.attempts
            .iter()
            .filter(|a| a.stage == "setup" && a.purpose == Purpose::Work)
            .count(),
        2
    );
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_is_not_what_was_promised_fails_with_the_reason() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    let large = format!("echo '{}' > $GREENROOM_OUTPUT", "x".repeat(70_000));
    let cases = [
        ("garbage", "echo 'not json {' > $GREENROOM_OUTPUT", "JSON"),
        ("nothing", "true", "no output"),
        ("large", &large, "larger than 65536 bytes"),
    ];
    for (name, script, says) in &cases {
        daemon.add_device(name, "c1").await;
        daemon.apply(&chain(name, vec![stage("s", script)])).await;
        let run = daemon.start(name, name).await;
        let view = daemon
            .until(run.id, 20, |view| {
                matches!(view.run.state, RunState::Held { .. })
            })
            .await;
        let failure = view.run.state.failure().unwrap();
        assert_eq!(failure.kind, FailureKind::Output, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
        daemon
            .dispatch
            .request(
                run.id,
                Request::Abort {
                    reason: "test".into(),
                },
            )
            .await
            .unwrap();
        daemon.finished(run.id).await;
    }
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_never_ends_meets_its_deadline() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain("slow", vec![stage("s", "sleep 600").within_s(1)]))
        .await;
    let run = daemon.start("d1", "slow").await;
    let view = daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Held { .. })
        })
        .await;
    assert_eq!(
        view.run.state.failure().unwrap().kind,
        FailureKind::Deadline
    );
    daemon
        .dispatch
        .request(
            run.id,
            Request::Abort {
                reason: "test".into(),
            },
        )
        .await
        .unwrap();
    let view = daemon.finished(run.id).await;
    assert_eq!(
        view.run.state,
        RunState::Aborted {
            reason: "test".into()
        }
    );
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_befalls_a_machine_is_mended_with_another() {
    let faults = [
        Fault::StartFails(HvError::NoMemory("simulated".into())),
        Fault::DiskFails(HvError::DiskFull("simulated".into())),
        Fault::Guest(GuestFault::Crash { after: 6 }),
        Fault::Guest(GuestFault::AgentGarbage { after: 4 }),
        Fault::Guest(GuestFault::AgentSilent { after: 5 }),
        Fault::UnreachableFor(5),
    ];
    for fault in faults {
        let house = House::new();
        let daemon = house.daemon(Faults::none()).await;
        daemon.add_device("d1", "c1").await;
        daemon
            .apply(&chain(
                "two",
                vec![
                    stage("a", &format!("sleep 0.2\n{}", says("a"))),
                    stage("b", &says("b")),
                ],
            ))
            .await;
        house.world.inject(fault.clone());
        let run = daemon.start("d1", "two").await;
        let view = daemon
            .until(run.id, 40, |view| {
                view.run.state.is_terminal() || matches!(view.run.state, RunState::Held { .. })
            })
            .await;
        assert_eq!(view.run.state, RunState::Succeeded, "{fault:?}: {view:#?}");
        daemon.finished(run.id).await;
        house.check_nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_gets_the_same_input_on_a_fresh_machine() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain(
            "held",
            vec![
                stage("first", "printf %s ABC > $GREENROOM_HANDOFF_DISK").on_disk().without_output(),
                stage("second", &format!("head -c 3 $GREENROOM_HANDOFF_DISK\nprintf %s XYZ > $GREENROOM_HANDOFF_DISK\n{}", says("x"))).on_disk(),
                stage("last", "exit 1").without_output(),
            ],
        ))
        .await;
    let run = daemon.start("d1", "held").await;
    daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Held { .. })
        })
        .await;
    let replay = submit::replay(&daemon.services, run.id, "second")
        .await
        .unwrap();
    daemon.dispatch.nudge();
    let view = daemon.finished(replay.id).await;
    assert_eq!(view.run.state, RunState::Succeeded);
    assert_eq!(
        daemon.log_of(replay.id).await,
        "ABC",
        "the disk is as it was before the stage, not after it"
    );
    let original = daemon.view(run.id).await;
    let second = original
        .attempts
        .iter()
        .find(|attempt| attempt.stage == "second")
        .unwrap();
    assert_eq!(view.attempts[0].input, second.input);
    assert_ne!(view.attempts[0].machine, second.machine);
    assert!(
        matches!(original.run.state, RunState::Held { .. }),
        "the replayed run is as it was"
    );
    daemon
        .dispatch
        .request(
            run.id,
            Request::Abort {
                reason: "done".into(),
            },
        )
        .await
        .unwrap();
    daemon.finished(run.id).await;
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_machine_is_kept_for_inspection_until_the_run_goes_on() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let mut kept = chain("kept", vec![stage("s", "exit 7").without_output()]);
    kept.on_failure.keep_machine = true;
    kept.on_failure.hold_s = 2;
    daemon.apply(&kept).await;
    let run = daemon.start("d1", "kept").await;
    let view = daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Held { .. })
        })
        .await;
    assert_eq!(view.machines[0].state.word(), "kept");
    let view = daemon.finished(run.id).await;
    assert!(
        matches!(view.run.state, RunState::Failed { .. }),
        "the hold ended by itself"
    );
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_take_turns_and_places_are_bounded() {
    let mut house = House::new();
    house.settings.max_active = 2;
    let daemon = house.daemon(Faults::none()).await;
    daemon
        .apply(&chain(
            "one",
            vec![stage("s", "sleep 0.2").without_output()],
        ))
        .await;
    daemon.add_device("b", "few").await;
    let mut ids = Vec::new();
    for n in 0..8 {
        daemon.add_device(&format!("a{n}"), "many").await;
        ids.push(daemon.start(&format!("a{n}"), "one").await.id);
    }
    let few = daemon.start("b", "one").await.id;
    let view = daemon.finished(few).await;
    // What began before it was there does not count.
    let waited = view.run.created_at..view.run.started_at.unwrap();
    let mut before = 0;
    for id in &ids {
        let other = daemon.finished(*id).await;
        before += usize::from(waited.contains(&other.run.started_at.unwrap()));
    }
    assert!(
        before <= 2,
        "the client with one run waited for {before} of the other's eight"
    );
    assert!(
        house.world.counts().most_machines <= 2 + 2 + 1,
        "at most two runs with their next machine, and the foreign one"
    );
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_nobody_owns_goes_after_two_looks_and_a_foreign_one_stays() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain("one", vec![stage("s", "sleep 1").without_output()]))
        .await;
    let orphan = house.state.path().join("vm/run-99.handoff.raw");
    house.world.add_foreign_disk(&orphan);
    house.world.inject(Fault::ListingsFail(3));
    let run = daemon.start("d1", "one").await;
    daemon.finished(run.id).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while house.world.snapshot().disks.contains_key(&orphan) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the orphan is still there: {:?}",
            daemon.reconciler.status()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_ends_what_is_under_way() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain(
            "long",
            vec![
                stage("s", "sleep 600")
                    .on_disk()
                    .without_output()
                    .undone_by("echo taken back"),
            ],
        ))
        .await;
    let run = daemon.start("d1", "long").await;
    daemon
        .until(run.id, 20, |view| {
            view.attempts
                .first()
                .is_some_and(|a| a.progress == Progress::Working)
        })
        .await;
    daemon
        .dispatch
        .request(
            run.id,
            Request::Abort {
                reason: "changed my mind".into(),
            },
        )
        .await
        .unwrap();
    let view = daemon.finished(run.id).await;
    assert_eq!(
        view.run.state,
        RunState::Aborted {
            reason: "changed my mind".into()
        }
    );
    assert_eq!(daemon.log_of(run.id).await, "taken back\n");
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_held_pauses_over_a_restart_and_goes_on_when_somebody_resumes_it() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    daemon
        .apply(&chain(
            "two",
            vec![
                stage("a", &format!("sleep 0.2\n{}", says("a"))).undone_by("echo taken back"),
                stage("b", &says("b")),
            ],
        ))
        .await;
    let run = daemon.start("d1", "two").await;
    daemon
        .until(run.id, 20, |view| {
            view.attempts
                .first()
                .is_some_and(|a| a.progress == Progress::Working)
        })
        .await;
    let hold = Request::Hold {
        reason: "look at the disk".into(),
        within: Duration::from_secs(3600),
    };
    daemon.dispatch.request(run.id, hold).await.unwrap();
    let paused = |view: &View| {
        let gone = |machine: &Machine| machine.state == MachineState::Gone;
        matches!(view.run.state, RunState::Paused { .. }) && view.machines.iter().all(gone)
    };
    daemon.until(run.id, 20, paused).await;
    assert_eq!(daemon.services.capacity.status().used.memory_mib, 0);
    daemon.stop();
    drop(daemon);
    let daemon = house.daemon(Faults::none()).await;
    let view = daemon.until(run.id, 20, paused).await;
    assert_eq!(view.attempts.len(), 1, "it stood still");
    daemon
        .dispatch
        .request(run.id, Request::Resume)
        .await
        .unwrap();
    let view = daemon.finished(run.id).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(view.attempts.len(), 2);
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_host_with_room_for_one_machine_runs_go_one_machine_at_a_time() {
    let mut house = House::new();
    house.settings.room = Room {
        memory_mib: 128 + OVERHEAD_MIB,
        vcpus: 1,
    };
    let daemon = house.daemon(Faults::none()).await;
    let stages = ["a", "b", "c"]
        .map(|name| stage(name, &says(name)))
        .to_vec();
    daemon.apply(&chain("tight", stages)).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        daemon.add_device(&format!("d{n}"), "c1").await;
        ids.push(daemon.start(&format!("d{n}"), "tight").await.id);
    }
    for id in ids {
        assert_eq!(daemon.finished(id).await.run.state, RunState::Succeeded);
    }
    assert_eq!(
        house.world.counts().most_machines,
        2,
        "one of ours beside the foreign one"
    );
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_is_kept_until_it_is_discarded() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let write = "printf %s RESULT > $GREENROOM_HANDOFF_DISK";
    let mut keeping = chain(
        "keeping",
        vec![stage("s", write).on_disk().without_output()],
    );
    keeping.handoff_disk.as_mut().unwrap().keep = true;
    daemon.apply(&keeping).await;
    let run = daemon.start("d1", "keeping").await;
    let view = daemon.finished(run.id).await;
    assert!(view.run.kept_disk);
    // The reconciler has looked more than twice by then.
    tokio::time::sleep(house.settings.reconcile_every * 4).await;
    let disk = daemon.services.settings.handoff_disk(run.id);
    assert_eq!(house.world.disk_start(&disk, 6).unwrap(), b"RESULT");
    daemon
        .dispatch
        .request(run.id, Request::Discard)
        .await
        .unwrap();
    daemon.until(run.id, 10, |view| !view.run.has_disks).await;
    house.check_nothing_left();
    daemon
        .dispatch
        .request(run.id, Request::Discard)
        .await
        .unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_while_it_undoes_ends_as_an_abort_with_everything_undone() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let stages = vec![
        stage("a", &says("a")).undone_by("sleep 0.3\necho undone a"),
        stage("b", "exit 1").without_output(),
    ];
    daemon.apply(&chain("failing", stages)).await;
    let run = daemon.start("d1", "failing").await;
    daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Undoing { .. })
        })
        .await;
    let abort = Request::Abort {
        reason: "enough".into(),
    };
    daemon.dispatch.request(run.id, abort).await.unwrap();
    let view = daemon.finished(run.id).await;
    assert_eq!(
        view.run.state,
        RunState::Aborted {
            reason: "enough".into()
        }
    );
    assert_eq!(daemon.log_of(run.id).await, "undone a\n");
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_run_can_be_retried_unless_its_device_has_another() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let flaky = "if [ $GREENROOM_ATTEMPT -lt 2 ]; then exit 1; fi";
    let mut chain = chain("flaky", vec![stage("s", flaky).on_disk().without_output()]);
    chain.on_failure.hold_s = 0;
    daemon.apply(&chain).await;
    let first = daemon.start("d1", "flaky").await.id;
    assert!(matches!(
        daemon.finished(first).await.run.state,
        RunState::Failed { .. }
    ));
    let retry = || Request::Retry {
        from: None,
        force: false,
    };
    let second = daemon.start("d1", "flaky").await.id;
    assert!(matches!(
        daemon.finished(second).await.run.state,
        RunState::Failed { .. }
    ));
    daemon.dispatch.request(first, retry()).await.unwrap();
    assert_eq!(daemon.finished(first).await.run.state, RunState::Succeeded);
    // A run that is open keeps the others of its device from being retried.
    let long = stage("s", "sleep 600").without_output();
    daemon
        .apply(&crate::support::chain("long", vec![long]))
        .await;
    let third = daemon.start("d1", "long").await.id;
    let refused = daemon.dispatch.request(second, retry()).await.unwrap_err();
    assert!(refused.to_string().contains("meanwhile"), "{refused}");
    daemon
        .dispatch
        .request(
            third,
            Request::Abort {
                reason: "test".into(),
            },
        )
        .await
        .unwrap();
    daemon.finished(third).await;
    house.check_nothing_left();
}
