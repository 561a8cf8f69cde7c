//! Stories of what is learned: sizes from history and from a model, more memory after too little, and
//! what a restart in mid-stage leaves of it.

use std::time::Duration;

use greenroom::chain::model::{Bounds, Stage};
use greenroom::daemon::Running;
use greenroom::fault::Faults;
use greenroom::learn::resources::observation::{End, Observation};
use greenroom::runs::submit::{self, Prepared, RunOrder};
use greenroom::store::models::ModelState;
use greenroom::store::observations;
use greenroom::vocab::FailureKind;
use greenroom::vocab::RunId;
use greenroom::vocab::prediction::{Resource, Source};
use greenroom::vocab::run::RunState;

use crate::support::house::House;
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

/// A stage between 128 and 1024 MiB whose size is to be predicted.
fn sized(name: &str, script: &str) -> Stage {
    let mut stage = stage(name, script);
    stage.resources.memory_mib = Bounds {
        min: 128,
        max: 1024,
    };
    stage.resources.predict = true;
    stage
}

async fn observed(daemon: &Running, run: RunId) -> Vec<Observation> {
    let mut connection = daemon.services.store.read().await.unwrap();
    observations::observations_of_run(&mut connection, run)
        .await
        .unwrap()
}

/// Waits until so many tries of a run were noted down.
async fn noted(daemon: &Running, run: RunId, count: usize) -> Vec<Observation> {
    for _ in 0..1000 {
        let found = observed(daemon, run).await;
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{count} tries of run {run} are not noted down");
}

async fn planned(daemon: &Running, device: &str, chain: &str) -> Prepared {
    let order = RunOrder {
        device: device.into(),
        chain: Some(chain.into()),
        ..RunOrder::default()
    };
    submit::prepare(&daemon.services, &daemon.images, &order)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_come_from_the_chain_then_from_history_and_survive_a_restart() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let take = format!("take-memory 200\nsleep 0.05\n{}", says("x"));
    daemon.apply(&chain("one", vec![sized("s", &take)])).await;
    // 48 MiB of the guest's own and 200: enough for the third try, which is the last by default.
    let first = daemon.start("d1", "one").await;
    let view = daemon.finished(first.id).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    let sizes: Vec<u64> = view.machines.iter().map(|m| m.size.memory_mib).collect();
    assert_eq!(sizes, [128, 192, 288], "each try gets more");
    let tries = noted(&daemon, first.id, 3).await;
    assert_eq!(tries[0].end, End::Failed(FailureKind::Memory));
    let done = tries.last().unwrap();
    assert_eq!((done.end, done.used.memory_mib), (End::Done, 248.0));
    assert_eq!(done.given.memory_mib, 288);
    let expected = view.attempts[0].expected.as_ref().unwrap();
    assert_eq!(expected.memory.source, Source::Chain);
    // One more run with its three tries, and there is a history.
    let second = daemon.start("d1", "one").await;
    let view = daemon.finished(second.id).await;
    noted(&daemon, second.id, 3).await;
    let before = planned(&daemon, "d1", "one").await;
    drop(daemon);
    let daemon = house.daemon(Faults::none()).await;
    let after = planned(&daemon, "d1", "one").await;
    let told = |prepared: &Prepared| {
        let stage = &prepared.plan.stages[0];
        (stage.size, stage.expected.clone())
    };
    assert_eq!(told(&before), told(&after));
    let plan = &after.plan.stages[0];
    let expected = plan.expected.as_ref().unwrap();
    assert_eq!(expected.memory.source, Source::History, "{plan:#?}");
    assert!((248..=1024).contains(&plan.size.memory_mib), "{plan:#?}");
    assert!(plan.size_reason.contains("plain rule"), "{plan:#?}");
    assert_eq!(view.run.state, RunState::Succeeded);
    let third = daemon.start("d1", "one").await;
    let view = daemon.finished(third.id).await;
    assert_eq!(view.attempts.len(), 1, "it fits at once: {view:#?}");
    house.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_the_chain_does_not_allow_is_not_given() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let mut greedy = sized("s", &format!("take-memory 5000\n{}", says("x")));
    greedy.resources.memory_mib.max = 200;
    daemon.apply(&chain("greedy", vec![greedy])).await;
    let run = daemon.start("d1", "greedy").await;
    let view = daemon
        .until(run.id, 20, |view| {
            matches!(view.run.state, RunState::Held { .. })
        })
        .await;
    let sizes: Vec<u64> = view.machines.iter().map(|m| m.size.memory_mib).collect();
    assert_eq!(sizes, [128, 192, 200], "and no try more of the same");
    let failure = view.run.state.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Memory);
    assert!(failure.message.contains("200 MiB"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_mid_stage_keeps_what_was_seen() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.add_device("d1", "c1").await;
    let script = format!("sleep 0.6\n{}", says("x"));
    daemon
        .apply(&chain("slow", vec![sized("s", &script)]))
        .await;
    let run = daemon.start("d1", "slow").await;
    daemon
        .until(run.id, 20, |view| {
            view.attempts.iter().any(|a| a.progress.word() == "working")
        })
        .await;
    drop(daemon);
    let daemon = house.daemon(Faults::none()).await;
    let view = daemon.finished(run.id).await;
    assert_eq!(view.run.state, RunState::Succeeded);
    let tries = noted(&daemon, run.id, 1).await;
    assert_eq!(tries.len(), 1, "{tries:#?}");
    assert_eq!(tries[0].used.memory_mib, 48.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_knows_the_device_serves_and_survives_a_restart() {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    let sizes = [("small", 1024u64), ("large", 8192)];
    for (name, memory_mib) in sizes {
        let facts = [("memory_mib".to_owned(), memory_mib.into())];
        daemon
            .add_device_with(name, "c1", facts.into_iter().collect())
            .await;
    }
    let script = format!(
        "if [ $GREENROOM_DEVICE = large ]; then take-memory 500; else take-memory 40; fi\n{}",
        says("x")
    );
    let mut wide = sized("s", &script);
    wide.resources.memory_mib.min = 64;
    wide = wide.retrying(&[FailureKind::Memory], 9);
    daemon.apply(&chain("wide", vec![wide])).await;
    for round in 0..28 {
        for (name, _) in sizes {
            let run = daemon.start(name, "wide").await;
            let view = daemon.finished(run.id).await;
            assert_eq!(view.run.state, RunState::Succeeded, "{round}: {view:#?}");
            noted(&daemon, run.id, 1).await;
        }
    }
    let asked = daemon
        .services
        .foresight
        .train("memory", "a test")
        .await
        .unwrap();
    let trained = async || {
        let all = daemon
            .services
            .foresight
            .models(Some("memory"), 9)
            .await
            .unwrap();
        all.into_iter()
            .find(|row| row.id == asked.id && row.state != ModelState::Training)
    };
    let row = loop {
        match trained().await {
            Some(row) => break row,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(row.state, ModelState::Serving, "{row:#?}");
    assert!(row.digest.is_some() && row.rows >= 56, "{row:#?}");
    let small = planned(&daemon, "small", "wide")
        .await
        .plan
        .stages
        .remove(0);
    let large = planned(&daemon, "large", "wide")
        .await
        .plan
        .stages
        .remove(0);
    for (plan, fits) in [(&small, 88..=160), (&large, 548..=1024)] {
        let memory = &plan.expected.as_ref().unwrap().memory;
        assert_eq!(memory.source, Source::Model, "{plan:#?}");
        assert!(fits.contains(&plan.size.memory_mib), "{plan:#?}");
        assert!(plan.size_reason.contains("memory#"), "{plan:#?}");
    }
    let case = small.case.clone().unwrap();
    let why = daemon
        .services
        .foresight
        .explain(Resource::Memory, &case)
        .unwrap();
    assert!(!why.is_empty());
    drop(daemon);
    let daemon = house.daemon(Faults::none()).await;
    let again = planned(&daemon, "small", "wide")
        .await
        .plan
        .stages
        .remove(0);
    assert_eq!(again.size, small.size, "{again:#?}");
    let run = daemon.start("small", "wide").await;
    let view = daemon.finished(run.id).await;
    assert_eq!(view.attempts.len(), 1, "it fits at once: {view:#?}");
}
