//! Sizes of real machines from a model that was trained on earlier runs of the same chain, beside the
//! plain rule's.

use std::time::{Duration, Instant};

use greenroom::chain::model::{Bounds, Chain};
use greenroom::config::{StartTarget, TargetOf};
use greenroom::daemon::Running;
use greenroom::learn::resources::observation::{End, Observation};
use greenroom::runs::pinned::StagePlan;
use greenroom::runs::submit::{self, RunOrder};
use greenroom::store::models::ModelState;
use greenroom::store::observations;
use greenroom::vocab::pool::{Target, Tier};
use greenroom::vocab::prediction::Source;
use greenroom::vocab::run::RunState;

use crate::support::verbs::Verbs;
use crate::support::yard::Yard;
use crate::support::{StageExt, chain, stage};

/// Devices, and the memory that they say they have, MiB. The stages of large ones take 120 MiB more, which do not fit into the least that the chain gives.
const DEVICES: [(&str, u64); 4] = [
    ("small-1", 2048),
    ("large-1", 65536),
    ("small-2", 2048),
    ("large-2", 65536),
];
/// Less than what makes the daemon train by itself.
const ROUNDS: usize = 6;

/// `tail` keeps what it is asked for in memory. Two of them at once, because an allocation that is larger
/// than the machine is refused, and does not end as one does for which memory runs out on the way.
fn two_stages() -> Chain {
    let take = "case $GREENROOM_DEVICE in large*) n=60m ;; *) n=1m ;; esac\n\
                hold() { head -c $n /dev/zero | tail -c $n | { sleep 1; wc -c; }; }\n\
                hold > one & hold > two\n\
                wait\n\
                [ \"$(cat one)\" = \"$(cat two)\" ] && [ \"$(cat one)\" -ge 1048576 ]\n";
    let stages = ["first", "second"].map(|name| {
        let mut stage = stage(name, take).without_output().within_s(300);
        stage.resources.memory_mib = Bounds { min: 128, max: 512 };
        stage.resources.predict = true;
        stage
    });
    chain("learning", stages.into())
}

async fn planned(daemon: &Running, device: &str) -> Vec<StagePlan> {
    let order = RunOrder {
        device: device.into(),
        chain: Some("learning".into()),
        ..RunOrder::default()
    };
    let prepared = submit::prepare(&daemon.services, &daemon.images, &order).await;
    prepared.expect("a plan").plan.stages
}

async fn all_observed(daemon: &Running) -> Vec<Observation> {
    let mut connection = daemon.services.store.read().await.expect("a connection");
    let rows = observations::observations_newest(&mut connection, i64::MAX, 10_000).await;
    rows.expect("rows")
        .into_iter()
        .map(|(_, one)| one)
        .collect()
}

fn told(what: &str, plan: &[StagePlan]) -> u64 {
    for stage in plan {
        eprintln!(
            "  {what}: {} MiB ({})",
            stage.size.memory_mib, stage.size_reason
        );
    }
    plan.iter().map(|stage| stage.size.memory_mib).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_come_from_a_model_trained_on_earlier_runs() {
    let target = StartTarget {
        of: TargetOf::Image("tiny".into()),
        target: Target {
            hot: 4,
            floor: Tier::Warm,
        },
    };
    let Some(yard) = Yard::with_pool("a model of real runs", 4096, vec![target]).await else {
        return;
    };
    let daemon = &yard.daemon;
    yard.filled(Duration::from_secs(240)).await;
    for (name, memory_mib) in DEVICES {
        let facts = [("memory_mib".to_owned(), memory_mib.into())];
        let facts = facts.into_iter().collect();
        daemon.add_device_with(name, "default", facts).await;
    }
    daemon.apply(&two_stages()).await;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let mut runs = Vec::new();
        for (name, _) in DEVICES {
            runs.push(daemon.start(name, "learning").await);
        }
        for run in runs {
            let view = daemon.finished_within(run.id, 900).await;
            assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
        }
    }
    eprintln!(
        "{} runs took {:.1} s",
        ROUNDS * DEVICES.len(),
        begun.elapsed().as_secs_f64()
    );
    let seen = all_observed(daemon).await;
    for (name, of) in [("small", "small"), ("large", "large")] {
        let used: Vec<&Observation> = seen
            .iter()
            .filter(|one| (one.case.hardware.memory_mib > 10_000.0) == (of == "large"))
            .collect();
        let done = used.iter().filter(|one| one.end == End::Done);
        let most = done.map(|one| one.used.memory_mib).fold(0.0, f64::max);
        let mean = used
            .iter()
            .map(|one| one.used.cpu_mean_percent)
            .sum::<f64>()
            / used.len() as f64;
        eprintln!(
            "  {name}: {} tries, at most {most:.1} MiB, mean CPU {mean:.0} %",
            used.len()
        );
        assert!(most > 20.0 && mean > 1.0, "{used:#?}");
    }
    let plain = planned(daemon, "small-1").await;
    assert!(
        plain
            .iter()
            .all(|stage| stage.expected.as_ref().unwrap().memory.source == Source::History),
        "{plain:#?}"
    );
    let plain_mib = told("plain rule, small-1", &plain);

    let asked = daemon.services.foresight.train("memory", "a test").await;
    let asked = asked.expect("a training");
    let row = loop {
        let all = daemon.services.foresight.models(Some("memory"), 9).await;
        let row = all.unwrap().into_iter().find(|row| row.id == asked.id);
        match row {
            Some(row) if row.state != ModelState::Training => break row,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    eprintln!(
        "  {}#{}: {} rows, {:.0} ms: {}",
        row.name, row.id, row.rows, row.took_ms, row.verdict
    );
    assert_eq!(row.state, ModelState::Serving, "{row:#?}");
    let small = planned(daemon, "small-1").await;
    let small_mib = told("model, small-1", &small);
    let large = planned(daemon, "large-1").await;
    let large_mib = told("model, large-1", &large);
    assert!(small_mib < plain_mib, "{small:#?} against {plain:#?}");
    for (small, large) in small.iter().zip(&large) {
        assert!(
            small.size.memory_mib < large.size.memory_mib,
            "{small:#?} against {large:#?}"
        );
    }
    assert!(small_mib < large_mib);
    for name in ["small-1", "large-1"] {
        let run = daemon.start(name, "learning").await;
        let view = daemon.finished_within(run.id, 900).await;
        assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
        for attempt in &view.attempts {
            let expected = &attempt.expected.as_ref().expect("an expectation").memory;
            assert_eq!(expected.source, Source::Model, "{expected:#?}");
        }
        assert_eq!(view.attempts.len(), 2, "sized right at once: {view:#?}");
    }
    yard.drained(Duration::from_secs(60)).await;
    yard.check_nothing_left().await;
}
