//! How good what was said of stages turned out to be: errors by day beside the plain rule's, whether the
//! intervals held what they promised, and what sizes from models saved. Pure; from observations alone.

use std::collections::{BTreeMap, HashMap};

use super::choice::{round_memory, round_vcpus};
use super::observation::Observation;
use super::trial::device_of;
use super::window::Window;
use crate::learn::features::{self, STAGE_KEY};
use crate::learn::robust;
use crate::vocab::prediction::{Resource, Source};

const DAY_S: i64 = 86_400;

/// What came of predictions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// By chain, stage, resource and day.
    pub days: Vec<StageDay>,
    pub calibration: Vec<Calibration>,
    pub saved: Saved,
}

/// One stage's predictions of one resource, of one day.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDay {
    pub chain: String,
    pub stage: String,
    pub resource: Resource,
    /// The day's begin, Unix seconds.
    pub day_s: i64,
    pub tries: usize,
    /// Of these, those of which a model said what they need.
    pub by_model: usize,
    /// Median factor between what was expected and what was needed, at least 1: 1.1 is a tenth off.
    pub off: f64,
    /// The same of the plain rule's middle on the same tries; none where it knew too little.
    pub plain_off: Option<f64>,
}

/// Whether intervals hold what they promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    pub resource: Resource,
    pub tries: usize,
    /// Share of tries that needed less than the value below which [`SAID`] lie.
    pub below: [f64; SAID.len()],
}

/// What the low, the middle and the high value promise.
pub const SAID: [f64; 3] = [0.1, 0.5, 0.9];

/// What sizes from models saved against the plain rule's, before a chain's bounds; negative: cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Saved {
    /// Tries that a model had sized and that the plain rule could have.
    pub tries: usize,
    pub vcpu_hours: f64,
    pub gib_hours: f64,
    /// Seconds of tries that the plain rule's memory would have been too little for, less those of tries
    /// for which the model's was and the plain rule's would not have been.
    pub seconds: f64,
}

/// Reads observations, oldest first.
pub fn record(observations: &[Observation]) -> Record {
    let mut windows: HashMap<(Resource, u64), Window> = HashMap::new();
    let mut days: BTreeMap<Key, Gathered> = BTreeMap::new();
    let mut below: BTreeMap<Resource, (usize, [usize; SAID.len()])> = BTreeMap::new();
    let mut saved = Saved::default();
    for one in observations {
        let keys = features::keys(&one.case);
        for resource in Resource::ALL {
            let Some(need) = one.need(resource) else {
                continue;
            };
            let window = windows.entry((resource, keys[STAGE_KEY])).or_default();
            let said = one.expected.as_ref().map(|expected| expected.of(resource));
            let said = said.filter(|said| said.source != Source::Chain);
            if let Some((said, spread)) = said.and_then(|said| Some((said, said.spread?))) {
                let tally = below.entry(resource).or_default();
                tally.0 += 1;
                let values = [spread.low, spread.middle, spread.high];
                for (count, value) in tally.1.iter_mut().zip(values) {
                    // What ran short needed more than anybody said.
                    *count += usize::from(!need.short && need.value <= value);
                }
                if !need.short {
                    let day_s = one.at.0.div_euclid(1_000_000 * DAY_S) * DAY_S;
                    let key = (
                        one.case.chain.clone(),
                        one.case.stage.clone(),
                        resource,
                        day_s,
                    );
                    let gathered = days.entry(key).or_default();
                    gathered.off.push(apart(need.value, spread.middle));
                    gathered.by_model += usize::from(said.source == Source::Model);
                    if let Some(plain) = window.spread() {
                        gathered.plain.push(apart(need.value, plain.middle));
                    }
                }
                if let Some(plain) = window.rule().filter(|_| said.source == Source::Model) {
                    saved.add(one, resource, need.value, plain);
                }
            }
            let device = device_of(&one.case.device);
            window.add(need.value, one.given_of(resource), need.short, device);
        }
    }
    Record {
        days: days.into_iter().map(told).collect(),
        calibration: below
            .into_iter()
            .map(|(resource, (tries, counts))| Calibration {
                resource,
                tries,
                below: counts.map(|count| count as f64 / tries.max(1) as f64),
            })
            .collect(),
        saved,
    }
}

type Key = (String, String, Resource, i64);

#[derive(Default)]
struct Gathered {
    off: Vec<f64>,
    plain: Vec<f64>,
    by_model: usize,
}

fn told(((chain, stage, resource, day_s), gathered): (Key, Gathered)) -> StageDay {
    let factor = |logs: &[f64]| Some(robust::median(logs).exp()).filter(|it| it.is_finite());
    StageDay {
        chain,
        stage,
        resource,
        day_s,
        tries: gathered.off.len(),
        by_model: gathered.by_model,
        off: factor(&gathered.off).unwrap_or(1.0),
        plain_off: factor(&gathered.plain),
    }
}

/// How far two values are apart, as the logarithm of a factor; absurd distances count as e⁵.
fn apart(a: f64, b: f64) -> f64 {
    (a.max(1e-3) / b.max(1e-3)).ln().abs().min(5.0)
}

impl Saved {
    fn add(&mut self, one: &Observation, resource: Resource, need: f64, plain: f64) {
        let hours = one.work_s.max(0.0) / 3600.0;
        match resource {
            Resource::Memory => {
                let (given, plain) = (one.given.memory_mib as f64, round_memory(plain) as f64);
                self.tries += 1;
                self.gib_hours += (plain - given) / 1024.0 * hours;
                let lost_s = one.work_s.max(0.0) + one.phases.machine_wait_ms / 1000.0;
                match (plain < need, given < need) {
                    (true, false) => self.seconds += lost_s,
                    (false, true) => self.seconds -= lost_s,
                    _ => {}
                }
            }
            Resource::Cpu => {
                let plain = round_vcpus(plain) as f64;
                self.vcpu_hours += (plain - f64::from(one.given.vcpus)) * hours;
            }
            Resource::Network | Resource::Duration => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::tests::sample;
    use super::*;
    use crate::vocab::prediction::{Expected, Spread, StageExpectation};

    fn said(middle: f64, source: Source) -> Expected {
        Expected {
            amount: middle,
            spread: Some(Spread {
                low: 0.9 * middle,
                middle,
                high: 1.1 * middle,
            }),
            source,
            model: None,
            observations: 9,
            reason: String::new(),
        }
    }

    fn observed(memory_mib: f64, at_s: i64, said_mib: f64, source: Source) -> Observation {
        let mut one = sample(memory_mib, at_s);
        one.expected = Some(StageExpectation {
            memory: said(said_mib, source),
            cpu: said(80.0, source),
            network: said(1.0, Source::Chain),
            duration: said(20.0, source),
            features: 1,
        });
        one
    }

    #[test]
    fn errors_are_factors_by_day_beside_the_plain_rules() {
        let mut known: Vec<Observation> = (0..6).map(|i| sample(200.0, i)).collect();
        known.extend((0..4).map(|i| observed(100.0, 100 + i, 110.0, Source::Model)));
        known.push(observed(100.0, 90_000, 100.0, Source::History));
        let found = record(&known);
        let memory: Vec<&StageDay> = found
            .days
            .iter()
            .filter(|day| day.resource == Resource::Memory)
            .collect();
        assert_eq!(memory.len(), 2, "{memory:?}");
        assert_eq!(
            (memory[0].tries, memory[0].by_model, memory[1].by_model),
            (4, 4, 0)
        );
        assert!((memory[0].off - 1.1).abs() < 1e-9, "{memory:?}");
        assert!(
            (memory[0].plain_off.unwrap() - 2.0).abs() < 1e-9,
            "{memory:?}"
        );
        assert!((memory[1].off - 1.0).abs() < 1e-9 && memory[1].day_s == 86_400);
        let of = |resource| {
            found
                .calibration
                .iter()
                .find(|it| it.resource == resource)
                .unwrap()
        };
        // 100 is more than 99 and less than 110; the five ran 10 s and were said to run 20.
        assert_eq!(of(Resource::Memory).tries, 5);
        assert_eq!(of(Resource::Memory).below, [0.0, 1.0, 1.0]);
        assert_eq!(of(Resource::Duration).below, [1.0; 3]);
        assert!(
            found
                .calibration
                .iter()
                .all(|it| it.resource != Resource::Network)
        );
    }

    #[test]
    fn what_a_model_saved_is_the_plain_rules_size_less_its_own() {
        let mut known: Vec<Observation> = (0..6).map(|i| sample(400.0, i)).collect();
        let mut one = observed(100.0, 100, 110.0, Source::Model);
        one.given.memory_mib = 128;
        one.work_s = 3600.0;
        known.push(one.clone());
        // The plain rule gives 400 × 1.15, in steps of 32.
        let saved = record(&known).saved;
        assert_eq!(saved.tries, 1);
        assert!(
            (saved.gib_hours - (480.0 - 128.0) / 1024.0).abs() < 1e-9,
            "{saved:?}"
        );
        assert_eq!((saved.vcpu_hours, saved.seconds), (0.0, 0.0));
        // Too little, where the plain rule's would have been enough, costs the try.
        one.end = super::super::observation::End::Failed(crate::vocab::FailureKind::Memory);
        one.work_s = 7.0;
        known[6] = one;
        assert_eq!(record(&known).saved.seconds, -7.0);
        assert_eq!(record(&[]), Record::default());
    }
}
