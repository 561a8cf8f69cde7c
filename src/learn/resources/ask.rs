//! What a model makes of one case: the quantiles that are shown, and the amount to give it.

use serde::{Deserialize, Serialize};

use super::super::trees::boost::Boost;
use super::super::trees::like::Cases;
use super::model::{BUMP, MANY_ROWS, Model, SHOWN};

/// What one case is expected to use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// At the levels of [`SHOWN`], ascending.
    pub quantiles: [f64; SHOWN.len()],
    /// How many training rows are like it, as an effective number; few make it unsure.
    pub like: f64,
}

/// What it costs to be wrong, in units of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryCost {
    /// A retry costs as much as so many units of the resource given in vain.
    pub fixed: f64,
    /// And this many times what was needed, for the second, larger try.
    pub times_need: f64,
}

/// An amount and why it is that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    pub amount: f64,
    /// Chance that it is enough, as the model sees it.
    pub level: f64,
    pub clipped: Option<Clipped>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clipped {
    ToLeast,
    ToMost,
}

/// A model with one case before it. The forest is walked once, whatever is asked then.
pub struct Asked<'a> {
    model: &'a Model,
    row: &'a [f64],
    cases: Cases,
}

impl<'a> Asked<'a> {
    pub(super) fn new(model: &'a Model, row: &'a [f64]) -> Self {
        let cases = model.forest.cases(row);
        Self { model, row, cases }
    }

    pub fn predict(&self) -> Prediction {
        let mut quantiles = both(&self.cases, &self.model.heads, self.row);
        for (q, shift) in quantiles.iter_mut().zip(self.model.shift) {
            *q = (*q + shift).exp();
        }
        quantiles.sort_unstable_by(f64::total_cmp);
        Prediction {
            quantiles,
            like: self.cases.effective,
        }
    }

    /// What one in ten like cases stay below.
    pub fn low(&self) -> f64 {
        let [low] = self.cases.quantiles(&[0.1]);
        low.exp()
    }

    /// The amount with the least expected cost: amount × `unit` + expected number of retries × what one
    /// costs, within `bounds`. Each retry gets [`BUMP`] times the amount, so that a deep shortage costs
    /// several. Features, uses and bounds are in the model's units; `unit` says what one of them is
    /// worth in the cost's (1 where they are the same).
    pub fn choose(&self, unit: f64, cost: RetryCost, bounds: (f64, f64)) -> Chosen {
        let mut like = self.cases.quantiles(&POINTS);
        if let (true, [.., highest]) = (self.model.rows < MANY_ROWS, &self.model.heads[..]) {
            // A few unlike cases in the leaves are a tail that a dear retry would buy. The highest head
            // begins at the highest use and comes down only where like rows say so: what is beyond it
            // is not of this case.
            let shift = self.model.shift[SHOWN.len() - 1];
            let ceiling = highest.predict(self.row) + shift.max(0.0);
            for log in &mut like {
                *log = log.min(ceiling);
            }
        }
        let part = 1.0 / like.len() as f64;
        let mut best = (f64::INFINITY, bounds.1, 1.0);
        for (point, log) in like.iter().enumerate() {
            let amount = log.exp() * (1.0 + HEADROOM);
            let tries: f64 = like[point + 1..]
                .iter()
                .map(|need| ((need - log) / BUMP.ln()).ceil())
                .sum();
            let retry = cost.fixed + cost.times_need * amount * unit;
            let total = amount * unit + part * tries * retry;
            if total < best.0 {
                best = (total, amount, POINTS[point]);
            }
        }
        let (_, wanted, level) = best;
        let amount = wanted.clamp(bounds.0, bounds.1.max(bounds.0));
        let clipped = match amount.total_cmp(&wanted) {
            std::cmp::Ordering::Greater => Some(Clipped::ToLeast),
            std::cmp::Ordering::Less => Some(Clipped::ToMost),
            std::cmp::Ordering::Equal => None,
        };
        Chosen {
            amount,
            level,
            clipped,
        }
    }
}

/// The median is the mean of both, as logarithms; above it the heads answer, whose reserves are
/// smaller: on the recorded job runtimes at the 90 % quantile 1.5 against the forest's 2.1 times what
/// was used.
pub(super) fn both(like: &Cases, heads: &[Boost], row: &[f64]) -> [f64; SHOWN.len()] {
    let [forest] = like.quantiles(&[SHOWN[0]]);
    let mut quantiles = [0.0; SHOWN.len()];
    for (q, head) in quantiles.iter_mut().zip(heads) {
        *q = head.predict(row);
    }
    quantiles[0] = (quantiles[0] + forest) / 2.0;
    quantiles
}

/// The distribution is read at so many levels, evenly.
const POINTS: [f64; 100] = {
    let mut points = [0.0; 100];
    let mut i = 0;
    while i < 100 {
        points[i] = (i as f64 + 0.5) / 100.0;
        i += 1;
    }
    points
};

/// A little more than a like case used, or the like case itself would not have fitted.
const HEADROOM: f64 = 0.01;
