//! Training and judging a model of one resource on observations in order of time: a rival against the
//! plain rule, on what came after its training only.

use serde::{Deserialize, Serialize};

use super::ask::{Asked, Prediction, RetryCost};
use super::choice::round_memory;
use super::history::History;
use super::model::{BUMP, HEADS, MANY_ROWS, Model, PLAN, SHOWN};
use super::observation::Observation;
use super::window::Window;
use crate::learn::features::{self, STAGE_KEY};
use crate::learn::judge::{self, Rules, Trial, Verdict};
use crate::learn::robust;
use crate::learn::trees::{Plan, Table};
use crate::vocab::prediction::Resource;
use std::collections::HashMap;

/// One observation as a model and the plain rule see it.
#[derive(Debug, Clone)]
pub struct Row {
    pub features: Vec<f64>,
    pub need: f64,
    pub short: bool,
    pub given: Option<f64>,
    pub device: u64,
    /// Work, and waiting for the machine before it, seconds.
    pub took_s: f64,
    /// What the plain rule would have given before it; none while it had too few.
    pub plain: Option<f64>,
}

/// A device has at most this share of the rows that are learned from.
const MOST_OF_ONE_DEVICE: f64 = 0.25;
/// Fewer rows of one device are never too many.
const ALWAYS: usize = 20;
/// Most rows that are learned from; the newest.
pub const MOST_ROWS: usize = 100_000;

/// Observations, oldest first, as rows: features from what had ended before each began. A device with
/// too many rows keeps its newest.
pub fn rows(observations: &[Observation], resource: Resource) -> Vec<Row> {
    let mut history = History::default();
    let mut windows: HashMap<u64, Window> = HashMap::new();
    let mut rows = Vec::new();
    for one in observations {
        let Some(need) = one.need(resource) else {
            continue;
        };
        if one.features != features::VERSION {
            continue;
        }
        let end_s = one.at.0 as f64 / 1e6;
        let begin_s = end_s - one.work_s;
        let keys = features::keys(&one.case);
        let device = device_of(&one.case.device);
        let window = windows.entry(keys[STAGE_KEY]).or_default();
        rows.push(Row {
            features: features::row(&one.case, &mut history, begin_s),
            need: need.value,
            short: need.short,
            given: one.given_of(resource),
            device,
            took_s: one.work_s + one.phases.machine_wait_ms / 1000.0,
            plain: window.rule(),
        });
        history.ended(&keys, log(need.value), end_s);
        window.add(need.value, one.given_of(resource), need.short, device);
    }
    limited(rows, observations.len())
}

/// What history is told as.
pub fn log(value: f64) -> f64 {
    (value.max(0.0) + 1e-3).ln()
}

/// A number for a device.
pub fn device_of(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn limited(rows: Vec<Row>, all: usize) -> Vec<Row> {
    let devices: std::collections::HashSet<u64> = rows.iter().map(|row| row.device).collect();
    // Of few devices each has a large share by right.
    let fair = MOST_OF_ONE_DEVICE
        .max(2.0 / devices.len().max(1) as f64)
        .min(1.0);
    let most = ALWAYS.max((fair * all as f64) as usize);
    let mut count: HashMap<u64, usize> = HashMap::new();
    let mut kept: Vec<Row> = rows
        .into_iter()
        .rev()
        .filter(|row| {
            let count = count.entry(row.device).or_default();
            *count += 1;
            *count <= most
        })
        .take(MOST_ROWS)
        .collect();
    kept.reverse();
    kept
}

/// How much is grown from so many rows: small leaves where there are few, a sample per tree where there
/// are many.
fn plans(rows: usize) -> (Plan, Plan) {
    let n = rows as f64;
    let sample = |share: f64, most: f64| share.min(most / n.max(1.0));
    let forest = Plan {
        min_leaf: (n / 40.0).clamp(2.0, PLAN.min_leaf),
        row_share: sample(PLAN.row_share, ROWS_PER_TREE),
        // A small tree has few splits: one without a telling column leaves unlike cases together.
        column_share: if n < MANY { 1.0 } else { PLAN.column_share },
        ..PLAN
    };
    let heads = Plan {
        trees: if n < MANY { 120 } else { HEADS.trees },
        rate: if n < MANY { 0.1 } else { HEADS.rate },
        min_leaf: (n / 20.0).clamp(4.0, HEADS.min_leaf),
        row_share: sample(HEADS.row_share, ROWS_PER_TREE),
        ..HEADS
    };
    (forest, heads)
}

/// From so many rows on trees are grown as on the recorded traces.
const MANY: f64 = MANY_ROWS as f64;
/// More rows make a tree slower and hardly better.
const ROWS_PER_TREE: f64 = 25_000.0;

/// Trains on rows; none where there are too few.
pub fn fit(rows: &[Row]) -> Option<Model> {
    let (plan, heads) = plans(rows.len());
    let table = Table::of_rows(
        &rows
            .iter()
            .map(|row| row.features.clone())
            .collect::<Vec<_>>(),
    );
    let needs: Vec<f64> = rows.iter().map(|row| row.need).collect();
    Model::fit(&table, &needs, HELD_BACK, &plan, &heads)
}

/// Share of the newest rows that correct the quantiles.
const HELD_BACK: f64 = 0.15;

/// What a retry costs: the larger try, and beside it the time of the failed one, in which as much as
/// usual is given in vain. That time is measured where there were shortages, against that of tries that
/// were not short.
pub fn retry_cost(rows: &[Row]) -> RetryCost {
    let median = |of: &dyn Fn(&Row) -> Option<f64>| {
        robust::median(&rows.iter().filter_map(of).collect::<Vec<_>>())
    };
    let usual = median(&|row| Some(row.need));
    let lost_s = median(&|row| row.short.then_some(row.took_s));
    let usual_s = median(&|row| (!row.short).then_some(row.took_s));
    let shortages = rows.iter().filter(|row| row.short).count();
    let measured = lost_s / usual_s.max(1e-3);
    let times = match shortages >= FEWEST_SHORTAGES && measured.is_finite() {
        true => measured.clamp(1.0, 50.0),
        false => UNMEASURED,
    };
    RetryCost {
        fixed: times * if usual.is_finite() { usual } else { 0.0 },
        times_need: 1.0,
    }
}

/// Fewer shortages measure nothing.
const FEWEST_SHORTAGES: usize = 3;
/// Then a retry is taken to cost four usual tries: that of a boot beside short work.
const UNMEASURED: f64 = 4.0;

/// What a model says of a case and gives it: where too little costs a retry, what balances the two; else
/// a quantile.
pub fn answer(asked: &Asked, resource: Resource, cost: RetryCost) -> (Prediction, f64) {
    let said = asked.predict();
    let amount = match resource {
        Resource::Memory => asked.choose(1.0, cost, (0.0, f64::MAX)).amount,
        Resource::Cpu | Resource::Network => said.quantiles[2],
        Resource::Duration => said.quantiles[1],
    };
    (said, amount)
}

/// The amount alone.
pub fn amount(model: &Model, resource: Resource, row: &[f64], cost: RetryCost) -> f64 {
    answer(&model.ask(row), resource, cost).1
}

/// An amount as machines get it: memory in steps, which are a reserve of their own.
fn as_given(resource: Resource, amount: f64) -> f64 {
    match resource {
        Resource::Memory if amount.is_finite() => round_memory(amount) as f64,
        _ => amount,
    }
}

/// What an amount cost, as a multiple of what was needed: what was given, and each try in vain. For
/// durations, which nobody gives, how far the amount was from being the 90 % quantile.
fn loss(resource: Resource, given: f64, need: f64, cost: RetryCost) -> f64 {
    if resource == Resource::Duration {
        let level = SHOWN[1];
        let apart = (need.max(1e-3) / given.max(1e-3)).ln();
        let slope = if apart >= 0.0 { level } else { level - 1.0 };
        return apart * slope;
    }
    let (given, need) = (given.max(1.0), need.max(1.0));
    let tries = ((need / given).ln() / BUMP.ln()).ceil().clamp(0.0, 20.0);
    (given + tries * (cost.fixed + cost.times_need * given)) / need
}

/// How a rival did against the plain rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub verdict: Verdict,
    /// The plain rule, then the rival.
    pub names: Vec<String>,
    /// Predictions that were judged, all on observations later than the training.
    pub judged: usize,
    /// Of those, the share in which the amount was enough: rule, rival.
    pub enough: [f64; 2],
    /// What was given on the average: rule, rival.
    pub given: [f64; 2],
    /// What was needed on the average.
    pub needed: f64,
}

/// Walks forward: trained on the older rows, judged on the next; twice.
pub fn judge(rows: &[Row], resource: Resource) -> Judged {
    let names = vec!["plain rule".to_owned(), "model".to_owned()];
    let mut trial = Trial {
        names: names.clone(),
        losses: Vec::new(),
    };
    let (mut enough, mut given, mut needed) = ([0.0; 2], [0.0; 2], 0.0);
    let first = rows.len() * 3 / 5;
    let step = (rows.len() - first).div_ceil(2).max(1);
    for (train, test) in judge::walk_forward(rows.len(), first, step) {
        let Some(model) = fit(&rows[train.clone()]) else {
            continue;
        };
        let cost = retry_cost(&rows[train]);
        for row in &rows[test] {
            let Some(plain) = row.plain else { continue };
            let rival = amount(&model, resource, &row.features, cost);
            let amounts = [plain, rival].map(|amount| as_given(resource, amount));
            trial.losses.push(
                amounts
                    .iter()
                    .map(|amount| loss(resource, *amount, row.need, cost))
                    .collect(),
            );
            for (at, amount) in amounts.iter().enumerate() {
                enough[at] += f64::from(u8::from(*amount >= row.need));
                given[at] += amount;
            }
            needed += row.need;
        }
    }
    let n = trial.losses.len().max(1) as f64;
    Judged {
        verdict: judge::judge(&trial, 0, Rules::default()),
        names,
        judged: trial.losses.len(),
        enough: enough.map(|sum| sum / n),
        given: given.map(|sum| sum / n),
        needed: needed / n,
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::tests::sample;
    use super::*;
    use crate::learn::judge::Reason;
    use crate::learn::random::Seeded;

    /// Devices of four sizes; the stage touches a tenth of the device's memory.
    fn observed(n: usize) -> Vec<Observation> {
        let mut random = Seeded::new(4);
        (0..n)
            .map(|i| {
                let device_mib = 512.0 * 2f64.powi((i % 4) as i32);
                let mut one = sample(
                    device_mib / 10.0 * (1.0 + 0.05 * random.normal()),
                    60 * i as i64,
                );
                one.case.device = format!("d{}", i % 12);
                one.case.hardware.memory_mib = device_mib;
                one
            })
            .collect()
    }

    #[test]
    fn a_model_that_knows_the_device_beats_the_rule_that_does_not() {
        let rows = rows(&observed(240), Resource::Memory);
        assert_eq!(rows.len(), 240);
        let judged = judge(&rows, Resource::Memory);
        assert_eq!(judged.verdict.reason, Reason::Promoted, "{judged:?}");
        assert!(judged.given[1] < 0.8 * judged.given[0], "{judged:?}");
        assert!(judged.enough[1] > 0.8 && judged.judged >= 90, "{judged:?}");
    }

    #[test]
    fn a_model_without_anything_to_know_is_not_promoted() {
        let mut random = Seeded::new(5);
        let same: Vec<Observation> = (0..200)
            .map(|i| sample(100.0 * (1.0 + 0.02 * random.normal()), 60 * i))
            .collect();
        let rows = rows(&same, Resource::Memory);
        let judged = judge(&rows, Resource::Memory);
        // The margin of the rule is 15 %; a model may save that, and nothing else.
        assert!(judged.given[1] > 0.8 * judged.given[0], "{judged:?}");
        assert_eq!(judge_few(), Reason::TooFew);
    }

    fn judge_few() -> Reason {
        let rows = rows(&observed(12), Resource::Memory);
        judge(&rows, Resource::Memory).verdict.reason
    }

    #[test]
    fn one_device_has_its_share_and_no_more() {
        let mut many = observed(200);
        for one in &mut many[..150] {
            one.case.device = "loud".into();
        }
        let rows = rows(&many, Resource::Memory);
        let loud = device_of("loud");
        assert_eq!(rows.iter().filter(|row| row.device == loud).count(), 50);
        assert_eq!(rows.len(), 100);
    }

    #[test]
    fn other_versions_of_the_features_are_left_out() {
        let mut old = observed(10);
        old[3].features = 0;
        assert_eq!(rows(&old, Resource::Memory).len(), 9);
    }
}
