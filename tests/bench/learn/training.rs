//! What training and asking cost: 100,000 made-up observations of stages on many devices, all four models,
//! on two threads.

use std::time::Instant;

use greenroom::learn::features::{self, Case, Hardware};
use greenroom::learn::random::Seeded;
use greenroom::learn::resources::history::History;
use greenroom::learn::resources::observation::{End, Observation};
use greenroom::learn::resources::trial;
use greenroom::vocab::machine::Size;
use greenroom::vocab::prediction::{Resource, Used};
use greenroom::vocab::run::AttemptPhases;
use greenroom::vocab::{AttemptId, RunId, Timestamp};

use crate::{Figure, figure, percentile};

const OBSERVATIONS: usize = 100_000;
const ASKED: usize = 500;

pub fn measure() -> Vec<Figure> {
    let known = made_up();
    let begun = Instant::now();
    let train = |resources: [Resource; 2]| {
        resources.map(|resource| {
            let rows = trial::rows(&known, resource);
            let model = trial::fit(&rows).expect("a model");
            (resource, model, trial::retry_cost(&rows))
        })
    };
    let models = std::thread::scope(|scope| {
        let other = scope.spawn(|| train([Resource::Memory, Resource::Network]));
        let mut models: Vec<_> = train([Resource::Cpu, Resource::Duration]).into();
        models.extend(other.join().expect("trained"));
        models
    });
    let train_s = begun.elapsed().as_secs_f64();
    let mut history = History::default();
    for one in &known {
        let keys = features::keys(&one.case);
        history.ended(
            &keys,
            trial::log(one.used.memory_mib),
            one.at.0 as f64 / 1e6,
        );
    }
    let now_s = known[known.len() - 1].at.0 as f64 / 1e6 + 60.0;
    let took_ms: Vec<f64> = known
        .iter()
        .rev()
        .take(ASKED)
        .map(|one| {
            let begun = Instant::now();
            for (resource, model, cost) in &models {
                let row = features::row(&one.case, &mut history, now_s);
                let asked = model.ask(&row);
                let (said, amount) = trial::answer(&asked, *resource, *cost);
                assert!(amount.is_finite() && said.quantiles[1].is_finite());
                assert!(asked.low().is_finite());
            }
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    vec![
        figure("train_100k", train_s, "s", "≤ 60", OBSERVATIONS),
        figure(
            "predict_stage_p50",
            percentile(took_ms.clone(), 0.5),
            "ms",
            "≤ 1",
            ASKED,
        ),
        figure(
            "predict_stage_p99",
            percentile(took_ms, 0.99),
            "ms",
            "",
            ASKED,
        ),
    ]
}

/// 40 stages on 500 devices of 6 classes; a stage has a size of its own, and grows with the device.
fn made_up() -> Vec<Observation> {
    let mut random = Seeded::new(23);
    (0..OBSERVATIONS)
        .map(|i| {
            let (stage, device) = (random.below(40), random.below(500));
            let class = f64::from(1u32 << (device % 6));
            let noise = (0.15 * random.normal()).exp();
            let size = (20.0 + 10.0 * stage as f64 + 15.0 * class) * noise;
            Observation {
                attempt: AttemptId::fresh(),
                run: RunId(i as i64),
                at: Timestamp(60_000_000 * i as i64),
                case: Case {
                    chain: format!("chain-{}", stage / 5),
                    stage: format!("stage-{stage}"),
                    kind: "custom".into(),
                    image: format!("image-{}", stage % 3),
                    engine: "resume".into(),
                    persona: Some(format!("persona-{}", device % 7)),
                    client: "c".into(),
                    device: format!("device-{device}"),
                    network: true,
                    handoff_disk: stage % 2 == 0,
                    hardware: Hardware {
                        cores: class,
                        memory_mib: 1024.0 * class,
                        ..Hardware::default()
                    },
                },
                features: features::VERSION,
                given: Size {
                    vcpus: 4,
                    memory_mib: 4096,
                    disk_mib: 64,
                    network_kbytes_per_s: None,
                },
                end: End::Done,
                used: Used {
                    memory_mib: size,
                    cpu_peak_percent: 50.0 + size / 10.0,
                    net_peak_kbytes_per_s: 3.0 * size,
                    looks: 9,
                    watched_s: 8.0,
                    ..Used::default()
                },
                work_s: 2.0 * noise * (1.0 + stage as f64),
                phases: AttemptPhases::default(),
                expected: None,
                replay: false,
            }
        })
        .collect()
}
