//! The same regression as [`super::linear`] with linfa's elastic net: most of its columns say the same,
//! and the net keeps those that say it best. Standardised first, because a penalty that is not in units
//! of each column shrinks the wrong ones.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_elasticnet::ElasticNet;
use ndarray::{Array1, Array2};

use super::super::robust;
use super::linear::{LARGEST_LOG, WIDEN, design, dot};
use super::{Forecaster, LEVELS, Shape, Step, features::Rows, naive, ordered};

/// On logarithms of demand.
pub struct Net;

/// Of the standardised columns; a tenth shrinks too much (twice the error on the calls), a thousandth
/// keeps what is noise.
const PENALTY: f64 = 0.003;
/// Half lasso, half ridge.
const L1_SHARE: f64 = 0.5;
/// Coordinate descent ends here: a fit is bounded whatever the columns are.
const ROUNDS: u32 = 200;
const TOLERANCE: f64 = 1e-3;
/// Weeks after which a row counts half.
const HALF_LIFE_WEEKS: f64 = 4.0;

impl Forecaster for Net {
    fn name(&self) -> &'static str {
        "net-log"
    }

    fn needs(&self, shape: Shape) -> usize {
        3 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let n = history.len();
        let unit = robust::mean(history).max(1e-9);
        let inner: Vec<f64> = history.iter().map(|v| (v / unit).ln_1p()).collect();
        let from = |v: f64| v.min(LARGEST_LOG).exp_m1() * unit;
        let mut forecast = Vec::with_capacity(horizon);
        for block in 0..horizon.div_ceil(shape.day) {
            let rows = Rows::new(&inner, shape, block);
            let steps: Vec<usize> = (rows.first()..n).collect();
            let known: Vec<Vec<f64>> = steps.iter().map(|t| design(&rows, *t, shape)).collect();
            let target: Vec<f64> = steps.iter().map(|t| inner[*t]).collect();
            let weights: Vec<f64> = steps
                .iter()
                .map(|t| 0.5f64.powf((n - t) as f64 / (HALF_LIFE_WEEKS * shape.week as f64)))
                .collect();
            let Some(fitted) = fit(&known, &target, &weights) else {
                // A constant history, say: the plain rule knows as much.
                return naive::Day.forecast(history, horizon, shape);
            };
            let errors: Vec<f64> = known
                .iter()
                .zip(&target)
                .map(|(row, y)| y - dot(row, &fitted))
                .collect();
            for t in n + block * shape.day..(n + horizon).min(n + (block + 1) * shape.day) {
                let middle = dot(&design(&rows, t, shape), &fitted);
                let hour = t % shape.day;
                let mut near: Vec<(f64, f64)> = steps
                    .iter()
                    .zip(errors.iter().zip(&weights))
                    .filter(|(t, _)| {
                        let apart = (**t % shape.day).abs_diff(hour);
                        apart.min(shape.day - apart) <= 1
                    })
                    .map(|(_, (error, weight))| (*error, *weight))
                    .collect();
                let spread = robust::weighted_quantiles(&mut near, &LEVELS);
                forecast.push(ordered(spread.map(|e| from(middle + WIDEN * e))));
            }
        }
        forecast
    }
}

/// One coefficient per column of the rows, the first of which is the constant; none where linfa finds
/// nothing.
fn fit(rows: &[Vec<f64>], target: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let width = rows.first()?.len();
    let total: f64 = weights.iter().sum();
    let mean_of = |of: &dyn Fn(usize) -> f64| -> f64 {
        (0..rows.len()).map(|i| weights[i] * of(i)).sum::<f64>() / total
    };
    let means: Vec<f64> = (0..width).map(|j| mean_of(&|i| rows[i][j])).collect();
    let scales: Vec<f64> = (0..width)
        .map(|j| mean_of(&|i| (rows[i][j] - means[j]).powi(2)).sqrt())
        .collect();
    let middle = mean_of(&|i| target[i]);
    let columns: Vec<usize> = (1..width).filter(|j| scales[*j] > 1e-9).collect();
    if columns.is_empty() {
        return None;
    }
    // Weighted least squares are plain ones of rows times the roots of their weights.
    let roots: Vec<f64> = weights
        .iter()
        .map(|w| (w * rows.len() as f64 / total).sqrt())
        .collect();
    let x = Array2::from_shape_fn((rows.len(), columns.len()), |(i, k)| {
        let j = columns[k];
        roots[i] * (rows[i][j] - means[j]) / scales[j]
    });
    let y = Array1::from_shape_fn(rows.len(), |i| roots[i] * (target[i] - middle));
    let net = ElasticNet::params()
        .penalty(PENALTY)
        .l1_ratio(L1_SHARE)
        .with_intercept(false)
        .max_iterations(ROUNDS)
        .tolerance(TOLERANCE)
        .fit(&Dataset::new(x, y))
        .ok()?;
    let mut fitted = vec![0.0; width];
    fitted[0] = middle;
    for (k, slope) in net.hyperplane().iter().enumerate() {
        let j = columns[k];
        fitted[j] = slope / scales[j];
        fitted[0] -= fitted[j] * means[j];
    }
    fitted.iter().all(|v| v.is_finite()).then_some(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn a_line_is_found_and_what_says_nothing_is_left_out() {
        let rows: Vec<Vec<f64>> = (0..60)
            .map(|x| vec![1.0, f64::from(x), f64::from(x * 37 % 11)])
            .collect();
        let target: Vec<f64> = rows.iter().map(|row| 3.0 + 2.0 * row[1]).collect();
        let fitted = fit(&rows, &target, &[1.0; 60]).unwrap();
        assert!((fitted[1] - 2.0).abs() < 0.02, "{fitted:?}");
        assert!(fitted[2].abs() < 0.05, "{fitted:?}");
        assert!(fit(&[], &[], &[]).is_none());
        assert!(fit(&vec![vec![1.0, 5.0]; 9], &[2.0; 9], &[1.0; 9]).is_none());
    }

    #[test]
    fn a_weekly_pattern_is_continued() {
        let history: Vec<f64> = (0..28 * 8)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]) * if t / 4 % 7 < 5 { 1.0 } else { 0.5 })
            .collect();
        for (step, actual) in Net.forecast(&history, 8, SHAPE).iter().zip(&history) {
            assert!((step[2] / actual - 1.0).abs() < 0.2, "{step:?} {actual}");
        }
    }

    #[test]
    fn constant_and_zero_histories_stay_as_they_are() {
        for value in [0.0, 7.0] {
            for step in Net.forecast(&[value; 28 * 4], 4, SHAPE) {
                assert!(step.iter().all(|q| (q - value).abs() < 0.05), "{step:?}");
            }
        }
    }
}
