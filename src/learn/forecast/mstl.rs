//! Seasonal-trend decomposition by Loess with two seasons, and exponential smoothing of the rest
//! (MSTL; Bandara, Hyndman, Bergmeir 2021), through augurs. Cargo feature `forecast-mstl`.

use augurs::ets::AutoETS;
use augurs::mstl::MSTLModel;
use augurs::prelude::*;

use super::{Forecaster, Shape, Step, naive, ordered};

pub struct Mstl;

impl Forecaster for Mstl {
    fn name(&self) -> &'static str {
        "mstl"
    }

    /// Loess needs each season more than twice.
    fn needs(&self, shape: Shape) -> usize {
        2 * shape.week + 2 * shape.day
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        decomposed(history, horizon, shape)
            .filter(|steps| steps.len() == horizon)
            .unwrap_or_else(|| naive::Day.forecast(history, horizon, shape))
    }
}

fn decomposed(history: &[f64], horizon: usize, shape: Shape) -> Option<Vec<Step>> {
    let trend = AutoETS::non_seasonal().into_trend_model();
    let fitted = MSTLModel::new(vec![shape.day, shape.week], trend)
        .fit(history)
        .ok()?;
    let wide = fitted.predict(horizon, 0.95).ok()?;
    let narrow = fitted.predict(horizon, 0.80).ok()?;
    let (outer, inner) = (wide.intervals?, narrow.intervals?);
    let steps = (0..horizon).map(|i| {
        Some(ordered([
            *outer.lower.get(i)?,
            *inner.lower.get(i)?,
            *wide.point.get(i)?,
            *inner.upper.get(i)?,
            *outer.upper.get(i)?,
        ]))
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn two_seasons_are_continued() {
        let mut random = Seeded::new(2);
        let history: Vec<f64> = (0..28 * 8)
            .map(|t| {
                f64::from([20, 60, 90, 30][t % 4]) * if t / 4 % 7 < 5 { 1.0 } else { 0.5 }
                    + random.normal()
            })
            .collect();
        let forecast = Mstl.forecast(&history, 4, SHAPE);
        for (step, middle) in forecast.iter().zip([20.0, 60.0, 90.0, 30.0]) {
            assert!((step[2] - middle).abs() < 8.0, "{step:?} {middle}");
            assert!(step.is_sorted());
        }
    }

    #[test]
    fn odd_histories_are_answered() {
        for history in [vec![0.0; 64], vec![7.0; 64], vec![f64::MAX / 1e10; 64]] {
            for step in Mstl.forecast(&history, 4, SHAPE) {
                assert!(step.iter().all(|q| q.is_finite()), "{step:?}");
            }
        }
    }
}
