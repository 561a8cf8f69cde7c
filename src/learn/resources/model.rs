//! How much one stage will use: a distribution learned from like cases, and the amount to give it.
//!
//! Too little costs a retry, too much is idle. [`Asked::choose`] gives the amount at which the two
//! balance, so that the quantile follows from the measured cost of a retry instead of being set:
//! where one more percent of certainty is dear (a volatile, large machine) it buys less of it.

use serde::{Deserialize, Serialize};

use super::super::robust;
use super::super::trees::boost::Boost;
use super::super::trees::forest::Forest;
use super::super::trees::like::Like;
use super::super::trees::{Binned, Plan, Table};
use super::ask::both;
pub use super::ask::{Asked, Chosen, Clipped, Prediction, RetryCost};

/// Quantiles that a prediction shows.
pub const SHOWN: [f64; 4] = [0.5, 0.9, 0.95, 0.98];

/// A trained model of one resource. It works on logarithms, so that its errors are factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub(super) forest: Like,
    /// One per level of [`SHOWN`]: sharper than the forest, which knows the whole distribution.
    pub(super) heads: Vec<Boost>,
    /// What the newest observations, which the forest was not shown at first, say of its quantiles:
    /// to be added at each of [`SHOWN`].
    pub(super) shift: [f64; SHOWN.len()],
    /// Rows it was trained on.
    pub rows: usize,
}

pub const PLAN: Plan = Plan {
    trees: 80,
    leaves: 400,
    min_leaf: 12.0,
    rate: 1.0,
    row_share: 0.5,
    column_share: 0.4,
    bins: 128,
    seed: 1,
};

/// How the quantile heads are grown. Chosen by walking forward through the first 60 % of the recorded jobs:
/// with 150 trees of at least 20 rows per leaf the 90 % quantiles covered .873 and reserved 1.35 times what
/// was used, with 250 of 40 .864 and 1.45.
pub const HEADS: Plan = Plan {
    trees: 150,
    leaves: 31,
    min_leaf: 20.0,
    rate: 0.05,
    row_share: 0.8,
    column_share: 1.0,
    bins: 128,
    seed: 2,
};

/// Fewer rows are left to the histogram.
pub const FEWEST_ROWS: usize = 24;

/// Models of fewer rows are small trees, in which like cases are not all alike.
pub const MANY_ROWS: usize = 1000;

/// Like cases that a leaf keeps; more of them made answers slower and no better.
const PER_LEAF: usize = 40;

/// Uses below this are alike: a logarithm needs a floor.
const FLOOR: f64 = 1e-4;

impl Model {
    /// Learns from rows of features and what was used, in order of time; none where there are fewer
    /// than [`FEWEST_ROWS`]. The newest `held_back` share corrects the quantiles before it is learned
    /// from itself (split conformal; Romano, Patterson, Candès 2019).
    pub fn fit(
        table: &Table,
        used: &[f64],
        held_back: f64,
        plan: &Plan,
        heads: &Plan,
    ) -> Option<Self> {
        let cap = robust::ceiling(used).max(FLOOR);
        let keep: Vec<usize> = (0..table.rows().min(used.len()))
            .filter(|row| used[*row].is_finite())
            .collect();
        if keep.len() < FEWEST_ROWS {
            return None;
        }
        let target: Vec<f64> = keep
            .iter()
            .map(|row| used[*row].clamp(FLOOR, cap).ln())
            .collect();
        let split = keep.len() - (keep.len() as f64 * held_back.clamp(0.0, 0.5)) as usize;
        let mut shift = [0.0; SHOWN.len()];
        let fit = |rows: usize| {
            let data = Binned::new(&table.pick(&keep[..rows]), plan.bins);
            let target = &target[..rows];
            let heads: Vec<Boost> = SHOWN
                .iter()
                .map(|level| Boost::fit(&data, target, None, *level, heads))
                .collect();
            let forest = Forest::fit(&data, target, None, plan);
            (forest.like(PER_LEAF), heads)
        };
        if keep.len() - split >= FEWEST_ROWS / 2 {
            let (forest, heads) = fit(split);
            let mut errors = vec![Vec::new(); SHOWN.len()];
            for row in split..keep.len() {
                let case = table.row(keep[row]);
                let quantiles = both(&forest.cases(&case), &heads, &case);
                for (errors, q) in errors.iter_mut().zip(quantiles) {
                    errors.push(target[row] - q);
                }
            }
            for ((shift, errors), level) in shift.iter_mut().zip(&errors).zip(SHOWN) {
                *shift = robust::quantile(errors, level);
            }
        }
        let (forest, heads) = fit(keep.len());
        Some(Self {
            forest,
            heads,
            shift,
            rows: keep.len(),
        })
    }

    /// What the model makes of a row of features: asked once, for all that is wanted of it.
    pub fn ask<'a>(&'a self, row: &'a [f64]) -> Asked<'a> {
        Asked::new(self, row)
    }

    pub fn predict(&self, row: &[f64]) -> Prediction {
        self.ask(row).predict()
    }

    /// See [`Asked::low`].
    pub fn low(&self, row: &[f64]) -> f64 {
        self.ask(row).low()
    }

    /// See [`Asked::choose`].
    pub fn choose(&self, row: &[f64], unit: f64, cost: RetryCost, bounds: (f64, f64)) -> Chosen {
        self.ask(row).choose(unit, cost, bounds)
    }
}

/// A stage that ran short gets so many times the amount on its next try.
pub const BUMP: f64 = 1.5;

/// The next try after too little: at least what was seen used, and clearly more than was given.
pub fn after_shortage(given: f64, most: f64) -> f64 {
    (given * BUMP).min(most)
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    const SMALL: Plan = Plan {
        trees: 20,
        leaves: 30,
        ..PLAN
    };
    const FEW: Plan = Plan {
        trees: 60,
        rate: 0.1,
        leaves: 8,
        ..HEADS
    };

    /// Uses 100 × the feature, give or take 20 %, and 4 times that in one case of ten where it is wild.
    fn sample(n: usize) -> (Table, Vec<f64>) {
        let mut random = Seeded::new(8);
        let rows: Vec<Vec<f64>> = (0..n)
            .map(|i| vec![1.0 + (i % 4) as f64, (i / 4 % 2) as f64])
            .collect();
        let used = rows
            .iter()
            .map(|row| {
                let wild = row[1] > 0.5 && random.unit() < 0.1;
                100.0 * row[0] * (0.2 * random.normal()).exp() * if wild { 4.0 } else { 1.0 }
            })
            .collect();
        (Table::of_rows(&rows), used)
    }

    #[test]
    fn quantiles_follow_the_case() {
        let (table, used) = sample(1200);
        let model = Model::fit(&table, &used, 0.2, &SMALL, &FEW).unwrap();
        let calm = model.predict(&[2.0, 0.0]);
        assert!((170.0..230.0).contains(&calm.quantiles[0]), "{calm:?}");
        let wild = model.predict(&[2.0, 1.0]);
        assert!(
            wild.quantiles[3] > 2.0 * calm.quantiles[3],
            "{wild:?} {calm:?}"
        );
        assert!(calm.like > 20.0);
    }

    #[test]
    fn dearer_retries_buy_more_certainty() {
        let (table, used) = sample(1200);
        let model = Model::fit(&table, &used, 0.0, &SMALL, &FEW).unwrap();
        let of = |fixed| {
            let cost = RetryCost {
                fixed,
                times_need: 1.0,
            };
            model.choose(&[2.0, 1.0], 1.0, cost, (0.0, 1e9))
        };
        assert!(of(50_000.0).amount > 1.5 * of(300.0).amount);
        assert!(of(50_000.0).level > 0.95 && of(300.0).level < 0.95);
    }

    #[test]
    fn bounds_clip_and_say_so() {
        let (table, used) = sample(400);
        let model = Model::fit(&table, &used, 0.2, &SMALL, &FEW).unwrap();
        let cost = RetryCost {
            fixed: 1000.0,
            times_need: 1.0,
        };
        let chosen = model.choose(&[2.0, 0.0], 1.0, cost, (64.0, 128.0));
        assert_eq!(
            (chosen.amount, chosen.clipped),
            (128.0, Some(Clipped::ToMost))
        );
        let chosen = model.choose(&[2.0, 0.0], 1.0, cost, (4096.0, 8192.0));
        assert_eq!(
            (chosen.amount, chosen.clipped),
            (4096.0, Some(Clipped::ToLeast))
        );
        assert_eq!(after_shortage(100.0, 120.0), 120.0);
    }

    #[test]
    fn poison_moves_little_and_few_rows_teach_nothing() {
        let (table, mut used) = sample(400);
        let before = Model::fit(&table, &used, 0.2, &SMALL, &FEW)
            .unwrap()
            .predict(&[2.0, 0.0]);
        used[5] = 1e300;
        used[6] = f64::NAN;
        used[7] = -5.0;
        let after = Model::fit(&table, &used, 0.2, &SMALL, &FEW)
            .unwrap()
            .predict(&[2.0, 0.0]);
        assert!((after.quantiles[1] / before.quantiles[1] - 1.0).abs() < 0.3);
        assert!(Model::fit(&table.pick(&[0, 1, 2]), &used, 0.2, &SMALL, &FEW).is_none());
    }
}
