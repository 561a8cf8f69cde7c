//! Learned forecasts: quantile boosting and a forest on the features of [`super::features`].

use super::super::robust;
use super::super::trees::boost::Boost;
use super::super::trees::forest::Forest;
use super::super::trees::{Binned, Plan, Table};
use super::features::{DAYS_BACK, Rows, WEEKS_BACK};
use super::{Forecaster, LEVELS, Shape, Step, ordered};

/// One boosted model per quantile.
pub struct Boosted {
    /// In units of the last known week's mean, so that a trend is followed.
    pub relative: bool,
}

/// A forest: the distribution over the steps of the past that were like this one.
pub struct Wood {
    pub relative: bool,
}

const BOOST: Plan = Plan {
    trees: 150,
    leaves: 15,
    min_leaf: 8.0,
    rate: 0.06,
    row_share: 0.7,
    column_share: 0.6,
    bins: 64,
    seed: 1,
};

const FOREST: Plan = Plan {
    trees: 80,
    leaves: 200,
    min_leaf: 5.0,
    rate: 1.0,
    row_share: 0.63,
    column_share: 0.4,
    bins: 64,
    seed: 1,
};

/// Weeks after which a row counts half.
const HALF_LIFE_WEEKS: f64 = 4.0;

/// What a method answers for one row.
type Answer = Box<dyn Fn(&[f64]) -> Step>;

/// Trains on the past of each day ahead and asks for that day's steps.
fn learned(
    history: &[f64],
    horizon: usize,
    shape: Shape,
    relative: bool,
    fit: fn(&Binned, &[f64], &[f64]) -> Answer,
) -> Vec<Step> {
    let n = history.len();
    let floor = 0.05 * robust::mean(history) + 1e-9;
    let mut forecast = Vec::with_capacity(horizon);
    for block in 0..horizon.div_ceil(shape.day) {
        let rows = Rows::new(history, shape, block);
        let unit = |t: usize| match relative {
            true => rows.mean_before(rows.origin(t), shape.week).max(floor),
            false => 1.0,
        };
        let row = |t: usize| {
            let mut row = rows.row(t);
            for value in &mut row[..DAYS_BACK + WEEKS_BACK + 6] {
                *value /= unit(t);
            }
            row
        };
        let steps: Vec<usize> = (rows.first()..n).collect();
        let table = Table::of_rows(&steps.iter().map(|t| row(*t)).collect::<Vec<_>>());
        let target: Vec<f64> = steps.iter().map(|t| history[*t] / unit(*t)).collect();
        let weights: Vec<f64> = steps
            .iter()
            .map(|t| 0.5f64.powf((n - t) as f64 / (HALF_LIFE_WEEKS * shape.week as f64)))
            .collect();
        let answer = fit(&Binned::new(&table, BOOST.bins), &target, &weights);
        let ahead = n + block * shape.day..(n + horizon).min(n + (block + 1) * shape.day);
        forecast.extend(ahead.map(|t| ordered(answer(&row(t)).map(|value| value * unit(t)))));
    }
    forecast
}

impl Forecaster for Boosted {
    fn name(&self) -> &'static str {
        if self.relative {
            "boosted-relative"
        } else {
            "boosted"
        }
    }

    fn needs(&self, shape: Shape) -> usize {
        3 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        learned(
            history,
            horizon,
            shape,
            self.relative,
            |data, target, weights| {
                let models =
                    LEVELS.map(|level| Boost::fit(data, target, Some(weights), level, &BOOST));
                Box::new(move |row| models.each_ref().map(|model| model.predict(row)))
            },
        )
    }
}

impl Forecaster for Wood {
    fn name(&self) -> &'static str {
        if self.relative {
            "forest-relative"
        } else {
            "forest"
        }
    }

    fn needs(&self, shape: Shape) -> usize {
        3 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        learned(
            history,
            horizon,
            shape,
            self.relative,
            |data, target, weights| {
                let forest = Forest::fit(data, target, Some(weights), &FOREST);
                Box::new(move |row| forest.quantiles(row, &LEVELS))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    fn growing(slope: f64) -> Vec<f64> {
        let mut random = Seeded::new(2);
        (0..28 * 8)
            .map(|t| {
                f64::from([10, 40, 80, 20][t % 4]) * (1.0 + slope * t as f64) + 2.0 * random.unit()
            })
            .collect()
    }

    #[test]
    fn a_daily_pattern_is_learned() {
        let history = growing(0.0);
        for method in [
            &Boosted { relative: false } as &dyn Forecaster,
            &Wood { relative: false },
        ] {
            let forecast = method.forecast(&history, 8, SHAPE);
            assert_eq!(forecast.len(), 8);
            for (step, usual) in forecast.iter().zip([11.0, 41.0, 81.0, 21.0].iter().cycle()) {
                assert!((step[2] - usual).abs() < 3.0, "{}: {step:?}", method.name());
            }
        }
    }

    #[test]
    fn a_trend_is_followed_relative_to_the_last_week() {
        let history = growing(0.004);
        let peak = 80.0 * (1.0 + 0.004 * (28.0 * 8.0 + 2.0));
        let error = |relative| (Wood { relative }.forecast(&history, 4, SHAPE)[2][2] - peak).abs();
        assert!(
            error(true) < error(false),
            "{} {}",
            error(true),
            error(false)
        );
    }

    #[test]
    fn constant_and_zero_histories_stay_as_they_are() {
        for value in [0.0, 7.0] {
            for relative in [false, true] {
                let history = vec![value; 28 * 4];
                for step in (Wood { relative }).forecast(&history, 4, SHAPE) {
                    assert!(step.iter().all(|q| (q - value).abs() < 1e-6), "{step:?}");
                }
            }
        }
    }
}
