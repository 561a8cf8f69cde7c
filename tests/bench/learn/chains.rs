//! How long whole chains take on real machines, against what was said when each run began: nineteen in
//! twenty should take less than the 95 % quantile.

use std::time::Duration;

use greenroom::config::{StartTarget, TargetOf};
use greenroom::learn::random::Seeded;
use greenroom::learn::resources::whole::{Whole, whole};
use greenroom::runs::submit::{self, RunOrder};
use greenroom::vocab::pool::{Target, Tier};
use greenroom::vocab::run::RunState;

use crate::support::verbs::Verbs;
use crate::support::yard::Yard;
use crate::support::{StageExt, chain, stage};
use crate::{Figure, figure};

/// Rounds of one to three runs at once, from which nothing is judged at first.
const ROUNDS: usize = 45;
const DEVICES: [&str; 3] = ["one", "two", "three"];

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(on_real_machines())
}

async fn on_real_machines() -> Vec<Figure> {
    let target = StartTarget {
        of: TargetOf::Image("tiny".into()),
        target: Target {
            hot: 4,
            floor: Tier::Warm,
        },
    };
    let Some(yard) = Yard::with_pool("durations of chains", 4096, vec![target]).await else {
        return Vec::new();
    };
    yard.filled(Duration::from_secs(240)).await;
    let daemon = &yard.daemon;
    for name in DEVICES {
        daemon
            .add_device_with(name, "default", Default::default())
            .await;
    }
    // Work of the processor, of the disk, and a wait; as long as the host lets it.
    let scripts = [
        (
            "count",
            "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done\n",
        ),
        ("write", "head -c 24m /dev/zero | md5sum > /dev/null\n"),
        ("wait", "sleep 0.5\n"),
    ];
    let stages = scripts.map(|(name, script)| stage(name, script).without_output());
    daemon.apply(&chain("durations", stages.into())).await;
    let mut random = Seeded::new(31);
    let mut judged: Vec<(Whole, f64)> = Vec::new();
    for _ in 0..ROUNDS {
        let mut under_way = Vec::new();
        for device in &DEVICES[..1 + random.below(3)] {
            let said = said(&yard, device).await;
            under_way.push((daemon.start(device, "durations").await.id, said));
        }
        for (run, said) in under_way {
            let view = daemon.finished_within(run, 300).await;
            assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
            let tries = view.attempts.iter();
            let work_ms: f64 = tries.map(|attempt| attempt.phases.work_ms).sum();
            judged.extend(said.map(|said| (said, work_ms / 1000.0)));
        }
    }
    yard.drained(Duration::from_secs(60)).await;
    yard.check_nothing_left().await;
    let n = judged.len();
    let share = |of: &dyn Fn(&Whole) -> f64| {
        let below = judged.iter().filter(|(said, took)| *took <= of(said));
        below.count() as f64 / n.max(1) as f64
    };
    vec![
        figure(
            "chain_cover95",
            share(&|said| said.late),
            "share",
            ".93–.97",
            n,
        ),
        figure(
            "chain_cover90",
            share(&|said| said.spread.high),
            "share",
            "",
            n,
        ),
        figure(
            "chain_cover50",
            share(&|said| said.spread.middle),
            "share",
            "",
            n,
        ),
    ]
}

/// What is said of a run that begins now; none while a stage has no history.
async fn said(yard: &Yard, device: &str) -> Option<Whole> {
    let order = RunOrder {
        device: device.into(),
        chain: Some("durations".into()),
        ..RunOrder::default()
    };
    let daemon = &yard.daemon;
    let prepared = submit::prepare(&daemon.services, &daemon.images, &order).await;
    let plan = prepared.expect("a plan").plan;
    let spreads: Option<Vec<_>> = plan
        .stages
        .iter()
        .map(|stage| stage.expected.as_ref()?.duration.spread)
        .collect();
    whole(&spreads?)
}
