//! What Greenroom itself costs: on a host that costs nothing.

use std::time::{Duration, Instant};

use greenroom::fault::Faults;
use greenroom::vocab::run::RunState;

use crate::support::house::House;
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, stage};
use crate::{Figure, figure, median};

/// Repetitions of each figure.
const REPEATS: usize = 5;
const STAGES: usize = 5;

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let alone: Vec<f64> = one_after_another(20).await;
        let n = alone.len();
        let per_stage = median(alone) / STAGES as f64 * 1000.0;
        let mut rates = Vec::new();
        let mut growth = Vec::new();
        for _ in 0..REPEATS {
            rates.push(200.0 / at_once(200).await);
            // Both in the same minute, so that the ratio holds whatever else the machine does.
            let few = at_once(20).await / 20.0;
            let many = at_once(2000).await / 2000.0;
            growth.push(many / few);
        }
        vec![
            figure("own_cost_per_stage_ms", per_stage, "ms", "≤ 15", n),
            figure("sim_runs_per_s", median(rates), "runs/s", "", REPEATS),
            figure(
                "sim_growth_20_2000",
                median(growth),
                "ratio",
                "≤ 1.2",
                REPEATS,
            ),
        ]
    })
}

fn five() -> greenroom::chain::model::Chain {
    let stages = (1..=STAGES)
        .map(|n| stage(&format!("s{n}"), "true").without_output())
        .collect();
    chain("five", stages)
}

/// Seconds of each of so many runs that follow one another.
async fn one_after_another(count: usize) -> Vec<f64> {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.apply(&five()).await;
    let mut seconds = Vec::new();
    for n in 0..count {
        daemon.add_device(&format!("d{n}"), "c").await;
        let run = daemon.start(&format!("d{n}"), "five").await;
        let view = daemon
            .until(run.id, 60, |view| view.run.state.is_terminal())
            .await;
        assert_eq!(view.run.state, RunState::Succeeded);
        let (begun, ended) = (
            view.run.started_at.expect("begun"),
            view.run.finished_at.expect("ended"),
        );
        seconds.push(ended.since(begun).as_secs_f64());
    }
    seconds
}

/// Seconds until so many runs, queued at once, are done.
async fn at_once(count: usize) -> f64 {
    let house = House::new();
    let daemon = house.daemon(Faults::none()).await;
    daemon.apply(&five()).await;
    let mut last = None;
    for n in 0..count {
        daemon.add_device(&format!("d{n}"), "c").await;
    }
    let begun = Instant::now();
    for n in 0..count {
        last = Some(daemon.start(&format!("d{n}"), "five").await.id);
    }
    let last = last.expect("at least one run");
    loop {
        let done = {
            let mut connection = daemon.services.store.read().await.expect("a connection");
            let counts = greenroom::store::runs::run_counts(&mut connection)
                .await
                .expect("counts");
            counts
                .iter()
                .find(|(state, _)| state == "succeeded")
                .map_or(0, |(_, n)| *n)
        };
        if done == count as i64 {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(600),
            "{count} runs do not end; {done} are done"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    daemon.finished(last).await;
    daemon.stop();
    seconds
}
