//! A model of the few runs of a first day, as they come from real machines: four devices of two sizes, two
//! stages, the first tries of the large ones short of memory.

use super::observation::tests::sample;
use super::observation::{End, Observation};
use super::trial::{amount, fit, judge, retry_cost, rows};
use crate::learn::features::{self, Case, Hardware};
use crate::learn::judge::Reason;
use crate::learn::random::Seeded;
use crate::learn::resources::history::History;
use crate::vocab::FailureKind;
use crate::vocab::prediction::Resource;

const ROUNDS: usize = 7;
const DEVICES: [(&str, f64); 4] = [
    ("small-1", 2048.0),
    ("large-1", 65_536.0),
    ("small-2", 2048.0),
    ("large-2", 65_536.0),
];

fn case(stage: &str, device: &str, device_mib: f64, engine: &str) -> Case {
    Case {
        chain: "learning".into(),
        stage: stage.into(),
        kind: "custom".into(),
        image: "tiny".into(),
        engine: engine.into(),
        client: "default".into(),
        device: device.into(),
        hardware: Hardware {
            memory_mib: device_mib,
            ..Hardware::default()
        },
        ..Case::default()
    }
}

/// Sixty tries: small devices touch about 113 MiB, large ones 193; on the first round the large ones get
/// 128 MiB, run short, and have 192 then.
fn first_day(seed: u64) -> Vec<Observation> {
    let mut random = Seeded::new(seed);
    let mut known: Vec<Observation> = Vec::new();
    for round in 0..ROUNDS {
        for (n, (device, device_mib)) in DEVICES.into_iter().enumerate() {
            let is_large = device_mib > 10_000.0;
            let mut at_s = 60.0 * round as f64 + 0.3 * n as f64;
            for stage in ["first", "second"] {
                // Others than the first four have to boot.
                let engine = if random.unit() < 0.7 {
                    "resume"
                } else {
                    "clone"
                };
                let tries: &[u64] = match (is_large, round) {
                    (true, 0) => &[128, 192],
                    (true, _) => &[224],
                    (false, 0) => &[128],
                    (false, _) => &[224],
                };
                for given in tries {
                    let is_short = is_large && *given == 128;
                    let middle = if is_large {
                        193.0
                    } else {
                        107.0 + 6.0 * random.unit()
                    };
                    let touched = (middle + 1.5 * random.normal()).min(*given as f64);
                    let work_s = if is_short { 4.0 } else { 1.0 } + random.unit();
                    at_s += work_s + 2.0;
                    let mut one = sample(touched, at_s as i64);
                    one.case = case(stage, device, device_mib, engine);
                    one.given.memory_mib = *given;
                    one.work_s = work_s;
                    one.phases.machine_wait_ms = if engine == "clone" { 7000.0 } else { 300.0 };
                    if is_short {
                        one.end = End::Failed(FailureKind::Memory);
                    }
                    known.push(one);
                }
            }
        }
    }
    known.sort_by_key(|one| one.at);
    known
}

#[test]
fn a_first_day_is_enough_to_tell_small_devices_from_large_ones() {
    let mut worst = (0.0f64, f64::INFINITY);
    for seed in 0..40 {
        let known = first_day(seed);
        let rows = rows(&known, Resource::Memory);
        assert_eq!(rows.len(), 60);
        let model = fit(&rows).expect("a model");
        let cost = retry_cost(&rows);
        let mut history = History::default();
        for one in &known {
            let need = one.need(Resource::Memory).expect("a need");
            let end_s = one.at.0 as f64 / 1e6;
            history.ended(
                &features::keys(&one.case),
                super::trial::log(need.value),
                end_s,
            );
        }
        for (device, device_mib) in DEVICES {
            for stage in ["first", "second"] {
                for engine in ["resume", "clone"] {
                    let case = case(stage, device, device_mib, engine);
                    let row = features::row(&case, &mut history, 1e4);
                    let given = amount(&model, Resource::Memory, &row, cost);
                    match device_mib > 10_000.0 {
                        true => worst.1 = worst.1.min(given),
                        false => worst.0 = worst.0.max(given),
                    }
                }
            }
        }
    }
    assert!(
        worst.0 < 128.0 && worst.1 > 188.0,
        "small, large: {worst:?}"
    );
}

#[test]
fn it_beats_the_plain_rule_which_gives_all_devices_the_same() {
    for seed in 0..5 {
        let judged = judge(&rows(&first_day(seed), Resource::Memory), Resource::Memory);
        assert_eq!(judged.verdict.reason, Reason::Promoted, "{judged:?}");
    }
}
