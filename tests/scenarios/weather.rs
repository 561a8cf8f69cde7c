//! Bad weather by seed: a host that fails, forgets, loses replies and machines by chance, and a
//! daemon that is restarted in the middle. Whatever happens, runs come to an end and nothing is left.
//!
//! A red seed is run again alone by `GREENROOM_SEED=<n>`.

use std::time::Duration;

use greenroom::fault::Faults;
use greenroom::hypervisor::simulated::{Chaos, SimSettings};
use greenroom::runs::plan::{self, Request};
use greenroom::vocab::FailureKind;
use greenroom::vocab::run::{Progress, RunState};

use crate::support::house::House;
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

const SEEDS: u64 = 24;
/// Runs that go on beside each other in one house.
const RUNS: usize = 4;

fn storm(seed: u64) -> Chaos {
    Chaos {
        seed,
        disk_fails: 0.03,
        start_fails: 0.05,
        boot_never_finishes: 0.01,
        agent_silent: 0.02,
        agent_garbage: 0.02,
        crash: 0.08,
        listing_fails: 0.05,
        lost_reply: 0.02,
        unreachable: 0.03,
        ..Chaos::default()
    }
}

#[test]
fn runs_come_to_an_end_in_any_weather() {
    let chosen = std::env::var("GREENROOM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = chosen.map_or_else(|| (0..SEEDS).collect(), |seed| vec![seed]);
    let (mut succeeded, mut ended) = (0, 0);
    // Side by side: a seed spends its time waiting for deadlines.
    let lives: Vec<_> = seeds
        .into_iter()
        .map(|seed| std::thread::spawn(move || weather(seed)))
        .collect();
    for life in lives {
        let good = life
            .join()
            .expect("a seed that ends well; its number is above");
        succeeded += good;
        ended += RUNS;
    }
    println!("{ended} runs came to an end, {succeeded} of them succeeded");
    assert!(
        succeeded > 0,
        "weather in which nothing succeeds tests nothing"
    );
}

/// Two lives of a daemon on one stormy host; then the sun, and a look at what is left.
fn weather(seed: u64) -> usize {
    let mut house = House::on(SimSettings {
        chaos: storm(seed),
        ..SimSettings::default()
    });
    house.settings.runs.boot_deadline = Duration::from_secs(2);
    house.settings.runs.silence = Duration::from_secs(1);
    let mut ids = Vec::new();
    life(async {
        let daemon = house.daemon(Faults::none()).await;
        let trying = |name: &str| {
            stage(name, &format!("echo {name}\n{}", says(name))).retrying(&FailureKind::ALL, 6)
        };
        daemon
            .apply(&chain(
                "c",
                vec![
                    trying("a").on_disk().undone_by("echo undo"),
                    trying("b"),
                    trying("c").on_disk(),
                ],
            ))
            .await;
        for n in 0..RUNS {
            daemon
                .add_device(&format!("d{n}"), &format!("c{}", n % 2))
                .await;
            ids.push(daemon.start(&format!("d{n}"), "c").await.id);
        }
        // Some way into it, by seed.
        tokio::time::sleep(Duration::from_millis(seed * 37 % 400)).await;
    });
    life(async {
        let daemon = house.daemon(Faults::none()).await;
        let mut good = 0;
        for id in ids {
            let at_rest =
                |state: &RunState| state.is_terminal() || matches!(state, RunState::Held { .. });
            let view = daemon.until(id, 120, |view| at_rest(&view.run.state)).await;
            if matches!(view.run.state, RunState::Held { .. }) {
                daemon
                    .dispatch
                    .request(
                        id,
                        Request::Abort {
                            reason: "seen".into(),
                        },
                    )
                    .await
                    .expect("an abort");
            }
            house.world.calm();
            let view = daemon
                .until(id, 60, |view| {
                    view.run.state.is_terminal() && plan::is_over(view)
                })
                .await;
            if view.run.state == RunState::Succeeded {
                good += 1;
                for name in ["a", "b", "c"] {
                    let done = view
                        .attempts
                        .iter()
                        .filter(|a| a.stage == name && a.progress == Progress::Succeeded);
                    assert!(
                        done.count() >= 1,
                        "seed {seed}: {name} has no success: {view:#?}"
                    );
                }
            }
            house.world.chaos(storm(seed + 1000));
        }
        house.world.calm();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while house.world.snapshot().machines.len() > 1 || !house.world.snapshot().disks.is_empty()
        {
            assert!(
                tokio::time::Instant::now() < deadline,
                "seed {seed}: {:#?}",
                house.world.snapshot()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        house.check_nothing_left();
        good
    })
}

/// Everything of a daemon ends with its runtime, wherever it was.
fn life<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let value = runtime.block_on(story);
    runtime.shutdown_timeout(Duration::from_millis(500));
    value
}
