//! A chain of five stages on real machines: what it costs beyond the stages' own work.

use greenroom::runs::view::View;
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
        let mut figures = vec![
            figure(
                "chain5_overhead_s",
                median(plain.iter().map(overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
            figure(
                "chain5_disk_overhead_s",
                median(on_disk.iter().map(overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
        ];
        figures.extend(phases(&on_disk));
        figures
    })
}

async fn one_run(yard: &Yard, device: &str, chain: &str) -> View {
    yard.daemon.add_device(device, "bench").await;
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
fn phases(views: &[View]) -> Vec<Figure> {
    let machines = || views.iter().flat_map(|view| &view.machines);
    let attempts = || views.iter().flat_map(|view| &view.attempts);
    let n = views.len() * STAGES;
    let row = |name: &str, values: Vec<f64>| figure(name, median(values), "ms", "", n);
    vec![
        row(
            "chain5_overlay_ms",
            machines().map(|m| m.phases.disk_ms).collect(),
        ),
        row(
            "chain5_define_ms",
            machines().map(|m| m.phases.define_ms).collect(),
        ),
        row(
            "chain5_boot_ms",
            machines().map(|m| m.phases.boot_ms).collect(),
        ),
        row(
            "chain5_agent_ms",
            attempts()
                .map(|a| {
                    a.phases.start_ms + a.phases.collect_ms + (a.phases.work_ms - WORK_S * 1000.0)
                })
                .collect(),
        ),
        row(
            "chain5_handoff_ms",
            attempts()
                .map(|a| a.phases.disk_ms + a.phases.attach_ms + a.phases.detach_ms)
                .collect(),
        ),
        row(
            "chain5_teardown_ms",
            machines().map(|m| m.phases.teardown_ms).collect(),
        ),
    ]
}
