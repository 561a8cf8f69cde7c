//! Regression on the same time of earlier days and weeks and on the calendar (an ARX model), with a
//! ridge so that few rows suffice. The spread is that of its own errors at the same time of day.

use super::super::robust;
use super::features::{DAYS_BACK, Rows, WEEKS_BACK};
use super::{Forecaster, LEVELS, Shape, Step, ordered};

/// On logarithms of demand, so that what scales as a whole is a sum.
pub struct Linear;

/// Penalty per column, in rows.
const RIDGE: f64 = 3.0;
/// In-sample errors are smaller than those to come.
pub(super) const WIDEN: f64 = 1.1;
/// Weeks after which a row counts half.
const HALF_LIFE_WEEKS: f64 = 4.0;
/// No forecast is above e³⁰ times the mean, whatever the regression says.
pub(super) const LARGEST_LOG: f64 = 30.0;

impl Forecaster for Linear {
    fn name(&self) -> &'static str {
        "linear-log"
    }

    fn needs(&self, shape: Shape) -> usize {
        3 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let n = history.len();
        // In units of the series' own mean, so that the ridge means the same for all.
        let unit = robust::mean(history).max(1e-9);
        let to = |v: f64| (v / unit).ln_1p();
        let from = |v: f64| v.min(LARGEST_LOG).exp_m1() * unit;
        let inner: Vec<f64> = history.iter().map(|v| to(*v)).collect();
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
            let fitted = ridge(&known, &target, &weights, RIDGE);
            let predicted: Vec<f64> = known.iter().map(|row| dot(row, &fitted)).collect();
            for t in n + block * shape.day..(n + horizon).min(n + (block + 1) * shape.day) {
                let middle = dot(&design(&rows, t, shape), &fitted);
                let hour = t % shape.day;
                let near = |t: usize| {
                    let apart = (t % shape.day).abs_diff(hour);
                    apart.min(shape.day - apart) <= 1
                };
                let mut errors: Vec<(f64, f64)> = steps
                    .iter()
                    .zip(target.iter().zip(&predicted))
                    .zip(&weights)
                    .filter(|((t, _), _)| near(**t))
                    .map(|((_, (y, p)), w)| (y - p, *w))
                    .collect();
                let spread = robust::weighted_quantiles(&mut errors, &LEVELS);
                forecast.push(ordered(spread.map(|e| from(middle + WIDEN * e))));
            }
        }
        forecast
    }
}

/// Constant, lags and levels (the unknown as the weekly mean), one column per time of day and day.
pub(super) fn design(rows: &Rows, t: usize, shape: Shape) -> Vec<f64> {
    let raw = rows.row(t);
    let lags = DAYS_BACK + WEEKS_BACK + 6;
    let level = raw[DAYS_BACK + WEEKS_BACK + 2];
    let mut row = Vec::with_capacity(1 + lags + shape.day + shape.week / shape.day);
    row.push(1.0);
    row.extend(
        raw[..lags]
            .iter()
            .map(|v| if v.is_finite() { *v } else { level }),
    );
    for v in &mut row {
        if !v.is_finite() {
            *v = 0.0;
        }
    }
    row.extend((0..shape.day).map(|h| f64::from(u8::from(t % shape.day == h))));
    row.extend(
        (0..shape.week / shape.day).map(|d| f64::from(u8::from(t % shape.week / shape.day == d))),
    );
    row
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Weighted least squares with a penalty on all but the constant, by Cholesky.
pub fn ridge(rows: &[Vec<f64>], target: &[f64], weights: &[f64], penalty: f64) -> Vec<f64> {
    let width = rows.first().map_or(0, Vec::len);
    let mut a = vec![vec![0.0; width]; width];
    let mut b = vec![0.0; width];
    for ((row, y), w) in rows.iter().zip(target).zip(weights) {
        for i in 0..width {
            let wi = w * row[i];
            if wi == 0.0 {
                continue;
            }
            b[i] += wi * y;
            for j in 0..=i {
                a[i][j] += wi * row[j];
            }
        }
    }
    for (i, row) in a.iter_mut().enumerate() {
        row[i] += if i == 0 { 1e-6 } else { penalty };
    }
    for i in 0..width {
        for j in 0..=i {
            let sum = a[i][j] - dot(&a[i][..j], &a[j][..j]);
            a[i][j] = if i == j {
                sum.max(1e-12).sqrt()
            } else {
                sum / a[j][j]
            };
        }
    }
    for i in 0..width {
        for k in 0..i {
            b[i] -= a[i][k] * b[k];
        }
        b[i] /= a[i][i];
    }
    for i in (0..width).rev() {
        for k in i + 1..width {
            b[i] -= a[k][i] * b[k];
        }
        b[i] /= a[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn least_squares_find_a_line() {
        let rows: Vec<Vec<f64>> = (0..20).map(|x| vec![1.0, f64::from(x)]).collect();
        let target: Vec<f64> = rows.iter().map(|row| 3.0 + 2.0 * row[1]).collect();
        let fitted = ridge(&rows, &target, &[1.0; 20], 1e-9);
        assert!(
            (fitted[0] - 3.0).abs() < 1e-3 && (fitted[1] - 2.0).abs() < 1e-4,
            "{fitted:?}"
        );
        assert!(ridge(&[], &[], &[], 1.0).is_empty());
    }

    #[test]
    fn a_weekly_pattern_and_a_growth_are_continued() {
        let history: Vec<f64> = (0..28 * 8)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]) * (1.0 + 0.002 * t as f64))
            .collect();
        let forecast = Linear.forecast(&history, 8, SHAPE);
        assert!(
            (forecast[2][2] / (30.0 * 1.45) - 1.0).abs() < 0.1,
            "{:?}",
            forecast[2]
        );
        assert!(
            (forecast[6][2] / (30.0 * 1.46) - 1.0).abs() < 0.1,
            "{:?}",
            forecast[6]
        );
    }

    #[test]
    fn constant_and_zero_histories_stay_as_they_are() {
        for value in [0.0, 7.0] {
            for step in Linear.forecast(&[value; 28 * 4], 4, SHAPE) {
                assert!(step.iter().all(|q| (q - value).abs() < 0.05), "{step:?}");
            }
        }
    }
}
