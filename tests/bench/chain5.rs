//! A chain of five stages on real machines: what it costs beyond the stages' own work.

use std::time::{Duration, Instant};

use greenroom::config::{StartTarget, TargetOf};
use greenroom::hypervisor::guest::Guest;
use greenroom::pool::{Answer, Want};
use greenroom::runs::view::View;
use greenroom::vocab::machine::{EngineKind, Size};
use greenroom::vocab::pool::{Target, Tier, TrustDomain};
use greenroom::vocab::run::RunState;

use crate::support::verbs::Verbs;
use crate::support::yard::Yard;
use crate::support::{StageExt, chain, stage};
use crate::{Figure, figure, median};

/// Chains per figure.
const REPEATS: usize = 5;
const STAGES: usize = 5;
/// Each stage's work: it sleeps so long and writes a small document. What that takes in the guest itself
/// is measured ([`own_work_s`]).
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
        let (pooled, pooled_on_disk, own_s) = on_shells(&stages, &script).await;
        let overhead_s = |view: &View| overhead_s(view, own_s);
        let mut figures = vec![
            figure(
                "chain5_own_work_s",
                own_s * STAGES as f64,
                "s",
                "",
                OWN_REPEATS,
            ),
            figure(
                "chain5_overhead_s",
                median(pooled.iter().map(&overhead_s).collect()),
                "s",
                "≤ 0.25",
                REPEATS,
            ),
            figure(
                "chain5_shells_disk_overhead_s",
                median(pooled_on_disk.iter().map(&overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
            figure(
                "chain5_clones_overhead_s",
                median(plain.iter().map(&overhead_s).collect()),
                "s",
                "",
                REPEATS,
            ),
            figure(
                "chain5_clones_disk_overhead_s",
                median(on_disk.iter().map(&overhead_s).collect()),
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
    script: &str,
) -> (Vec<View>, Vec<View>, f64) {
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
    yard.filled(Duration::from_secs(300)).await;
    let own_s = own_work_s(&yard, script).await;
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
    (plain, on_disk, own_s)
}

/// Repetitions behind a stage's own work.
const OWN_REPEATS: usize = 7;

/// What the script takes in a shell that runs already and has run it before, seconds: beyond a program
/// that does nothing, so that the way there and back is not in it.
async fn own_work_s(yard: &Yard, script: &str) -> f64 {
    let want = Want {
        key: "own-work".into(),
        image: yard.daemon.images.get("tiny").expect("the image"),
        size: Size {
            vcpus: 1,
            memory_mib: 128,
            disk_mib: 256,
            network_kbytes_per_s: None,
        },
        network: false,
        trust: TrustDomain::default(),
        owner: "bench".into(),
        client: "default".into(),
        ttl: None,
    };
    let claim = match yard.daemon.pool.claim(&want).await.expect("an answer") {
        Answer::Claimed(claim) => *claim,
        Answer::Nothing { reason, .. } => panic!("the pool has nothing: {reason}"),
    };
    let guest = Guest {
        hypervisor: &*yard.hypervisor,
        machine: claim.shell,
    };
    let script = format!("GREENROOM_OUTPUT=/tmp/own\n{script}");
    let timed = async |argv: &[&str]| {
        let began = Instant::now();
        let done = guest.run(argv, b"", Duration::from_secs(60)).await;
        assert_eq!(done.expect("an answer").exit_code, 0, "{argv:?}");
        began.elapsed().as_secs_f64()
    };
    let (mut whole, mut nothing) = (Vec::new(), Vec::new());
    for _ in 0..=OWN_REPEATS {
        whole.push(timed(&["/bin/sh", "-c", &script]).await);
        nothing.push(timed(&["/bin/true"]).await);
    }
    // The first of each has everything before it.
    let own = median(whole.split_off(1)) - median(nothing.split_off(1));
    yard.daemon.pool.release(&want.key).await.expect("released");
    own
}

async fn one_run(yard: &Yard, device: &str, chain: &str) -> View {
    yard.daemon.add_device(device, "default").await;
    let run = yard.daemon.start(device, chain).await;
    let view = yard.daemon.finished_within(run.id, 300).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    view
}

fn overhead_s(view: &View, own_s: f64) -> f64 {
    let (begun, ended) = (
        view.run.started_at.expect("begun"),
        view.run.finished_at.expect("ended"),
    );
    ended.since(begun).as_secs_f64() - own_s * STAGES as f64
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
        row("start_ms", attempts().map(|a| a.phases.start_ms).collect()),
        row(
            "work_over_1_s_ms",
            attempts()
                .map(|a| a.phases.work_ms - WORK_S * 1000.0)
                .collect(),
        ),
        row(
            "collect_ms",
            attempts().map(|a| a.phases.collect_ms).collect(),
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
