//! A chain of five stages on real machines: what it costs beyond the stages' own work.

use std::time::Duration;

use greenroom::config::{StartTarget, TargetOf};
use greenroom::runs::view::View;
use greenroom::vocab::machine::EngineKind;
use greenroom::vocab::pool::{Target, Tier};
use greenroom::vocab::run::RunState;

use crate::support::verbs::Verbs;
use crate::support::yard::Yard;
use crate::support::{StageExt, chain, stage};
use crate::{Figure, figure, median};

/// Chains per figure.
const REPEATS: usize = 5;
const STAGES: usize = 5;
/// Each stage's own work: it sleeps so long and writes a small document.
const WORK_S: f64 = 1.0;

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let Some(yard) = Yard::open("chain").await else {
            return Vec::new();
        };
        let script = format!("sleep {WORK_S}\necho '{{}}' > $GREENROOM_OUTPUT\n");
        let stages = |on_disk: bool| {
            let one = |n: usize| stage(&format!("s{n}"), &script);
            let one = |n| if on_disk { one(n).on_disk() } else { one(n) };
            (1..=STAGES).map(one).collect()
        };
        yard.daemon.apply(&chain("five", stages(false))).await;
        yard.daemon
            .apply(&chain("five-on-disk", stages(true)))
            .await;
        let mut plain = Vec::new();
        let mut on_disk = Vec::new();
        for n in 0..REPEATS {
            plain.push(one_run(&yard, &format!("p{n}"), "five").await);
            on_disk.push(one_run(&yard, &format!("d{n}"), "five-on-disk").await);
        }
        yard.check_nothing_left().await;
        let (pooled, pooled_on_disk) = on_shells(&stages).await;
        let mut figures = vec![
            figure(
                "chain5_overhead_s",
                median(pooled.iter().map(overhead_s).collect()),
                "s",
                "≤ 0.25",
                REPEATS,
            ),
            figure(
                "chain5_shells_disk_overhead_s",
                median(pooled_on_disk.iter().map(overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
            figure(
                "chain5_clones_overhead_s",
                median(plain.iter().map(overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
            figure(
                "chain5_clones_disk_overhead_s",
                median(on_disk.iter().map(overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
        ];
        figures.extend(phases("clones", &on_disk));
        figures.extend(phases("shells", &pooled_on_disk));
        figures.extend(phases("shells_plain", &pooled));
        figures
    })
}

/// The same chains, with a pool that is full when each begins.
async fn on_shells(
    stages: &impl Fn(bool) -> Vec<greenroom::chain::model::Stage>,
) -> (Vec<View>, Vec<View>) {
    let target = StartTarget {
        of: TargetOf::Image("tiny".into()),
        target: Target {
            hot: STAGES as u32 + 1,
            floor: Tier::Warm,
        },
    };
    let yard = Yard::with_pool("chain on shells", 8192, vec![target])
        .await
        .expect("the lab was there a moment ago");
    yard.daemon.apply(&chain("five", stages(false))).await;
    yard.daemon
        .apply(&chain("five-on-disk", stages(true)))
        .await;
    let (mut plain, mut on_disk) = (Vec::new(), Vec::new());
    for n in 0..REPEATS {
        yard.filled(Duration::from_secs(300)).await;
        plain.push(one_run(&yard, &format!("p{n}"), "five").await);
        yard.filled(Duration::from_secs(300)).await;
        on_disk.push(one_run(&yard, &format!("d{n}"), "five-on-disk").await);
    }
    for view in plain.iter().chain(&on_disk) {
        for machine in &view.machines {
            assert_eq!(
                machine.engine,
                EngineKind::Resume,
                "{}",
                machine.engine_reason
            );
        }
    }
    yard.drained(Duration::from_secs(120)).await;
    yard.check_nothing_left().await;
    (plain, on_disk)
}

async fn one_run(yard: &Yard, device: &str, chain: &str) -> View {
    yard.daemon.add_device(device, "default").await;
    let run = yard.daemon.start(device, chain).await;
    let view = yard.daemon.finished_within(run.id, 300).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    view
}

fn overhead_s(view: &View) -> f64 {
    let (begun, ended) = (
        view.run.started_at.expect("begun"),
        view.run.finished_at.expect("ended"),
    );
    ended.since(begun).as_secs_f64() - WORK_S * STAGES as f64
}

/// Medians per stage, milliseconds. Boots and teardowns overlap with other stages' work.
fn phases(with: &str, views: &[View]) -> Vec<Figure> {
    let machines = || views.iter().flat_map(|view| &view.machines);
    let attempts = || views.iter().flat_map(|view| &view.attempts);
    let n = views.len() * STAGES;
    let row = |name: &str, values: Vec<f64>| {
        figure(
            &format!("chain5_{with}_{name}"),
            median(values),
            "ms",
            "",
            n,
        )
    };
    vec![
        row("claim_ms", machines().map(|m| m.phases.claim_ms).collect()),
        row("overlay_ms", machines().map(|m| m.phases.disk_ms).collect()),
        row(
            "define_ms",
            machines().map(|m| m.phases.define_ms).collect(),
        ),
        row("boot_ms", machines().map(|m| m.phases.boot_ms).collect()),
        row(
            "agent_ms",
            attempts()
                .map(|a| {
                    a.phases.start_ms + a.phases.collect_ms + (a.phases.work_ms - WORK_S * 1000.0)
                })
                .collect(),
        ),
        row(
            "handoff_ms",
            attempts()
                .map(|a| a.phases.disk_ms + a.phases.attach_ms + a.phases.detach_ms)
                .collect(),
        ),
        row(
            "teardown_ms",
            machines().map(|m| m.phases.teardown_ms).collect(),
        ),
    ]
}
