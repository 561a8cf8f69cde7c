//! A weekly profile times (or plus) how busy the last days were, with the spread seen at each time of
//! day. Old weeks count less: half after [`HALF_LIFE_WEEKS`].

use super::super::random::Seeded;
use super::super::robust;
use super::{Forecaster, LEVELS, Shape, Step, ordered};

const HALF_LIFE_WEEKS: f64 = 2.0;

/// Profile × level; for demand that scales as a whole.
pub struct Multiplicative;
/// Profile + level; for demand that shifts as a whole, and for values around zero.
pub struct Additive;

fn weights(n: usize, shape: Shape) -> Vec<f64> {
    (0..n)
        .map(|t| 0.5f64.powf((n - 1 - t) as f64 / shape.week as f64 / HALF_LIFE_WEEKS))
        .collect()
}

/// Weighted mean per step of the week.
fn profile(values: &[f64], weights: &[f64], shape: Shape) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); shape.week];
    for (t, (value, weight)) in values.iter().zip(weights).enumerate() {
        let (sum, total) = &mut sums[t % shape.week];
        *sum += weight * value;
        *total += weight;
    }
    sums.iter()
        .map(|(sum, total)| sum / total.max(1e-300))
        .collect()
}

impl Forecaster for Multiplicative {
    fn name(&self) -> &'static str {
        "seasonal-times"
    }

    fn needs(&self, shape: Shape) -> usize {
        shape.week + 2 * shape.day
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let n = history.len();
        let weights = weights(n, shape);
        // A step that never saw demand keeps a little, so that the ratio stays bounded.
        let floor = (0.05 * robust::mean(history)).max(1e-9);
        let profile: Vec<f64> = profile(history, &weights, shape)
            .iter()
            .map(|p| p.max(floor))
            .collect();
        let of = |t: usize| profile[t % shape.week];
        let levels: Vec<f64> = (0..n / shape.day)
            .map(|day| {
                let steps = day * shape.day..(day + 1) * shape.day;
                let seen: f64 = history[steps.clone()].iter().sum();
                seen / steps.map(of).sum::<f64>()
            })
            .collect();
        // How much of a day's deviation is left on the next: regression through the origin.
        let (mut along, mut square) = (0.0, 0.0);
        for pair in levels.windows(2) {
            along += (pair[0] - 1.0) * (pair[1] - 1.0);
            square += (pair[0] - 1.0) * (pair[0] - 1.0);
        }
        let kept = (along / square.max(1e-9)).clamp(0.0, 1.0);
        let level = 1.0 + kept * (levels.last().copied().unwrap_or(1.0) - 1.0);
        let mut spreads: Vec<Option<Step>> = vec![None; shape.day];
        (n..n + horizon)
            .map(|t| {
                let hour = t % shape.day;
                let spread = *spreads[hour].get_or_insert_with(|| {
                    let mut ratios: Vec<(f64, f64)> = (hour..n)
                        .step_by(shape.day)
                        .map(|t| (history[t] / of(t), weights[t]))
                        .collect();
                    robust::weighted_quantiles(&mut ratios, &LEVELS)
                });
                ordered(spread.map(|ratio| of(t) * ratio * level))
            })
            .collect()
    }
}

impl Forecaster for Additive {
    fn name(&self) -> &'static str {
        "seasonal-plus"
    }

    fn needs(&self, shape: Shape) -> usize {
        shape.week + 2 * shape.day
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        /// Pairs of residual and day-to-day step that stand for their sum's distribution.
        const PAIRS: usize = 200;
        /// Share of a day-to-day step's spread that is expected one day ahead.
        const STEP_SHARE: f64 = 0.8;
        let n = history.len();
        let weights = weights(n, shape);
        let days = n / shape.day;
        let day_means: Vec<f64> = history.chunks_exact(shape.day).map(robust::mean).collect();
        let deviations: Vec<f64> = (0..n)
            .map(|t| history[t] - between(&day_means, t, shape.day))
            .collect();
        let profile = profile(&deviations, &weights, shape);
        let days_of_week = shape.week / shape.day;
        let whole = days / days_of_week * days_of_week;
        let usual = robust::mean(&day_means[days - whole..]);
        let weekday: Vec<f64> = (0..days_of_week)
            .map(|k| {
                let same: Vec<f64> = day_means
                    .iter()
                    .skip(k)
                    .step_by(days_of_week)
                    .copied()
                    .collect();
                robust::mean(&same) - usual
            })
            .collect();
        let level: Vec<f64> = day_means
            .iter()
            .enumerate()
            .map(|(d, m)| m - weekday[d % days_of_week])
            .collect();
        let steps: Vec<f64> = level.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let residual = |t: usize| {
            history[t] - profile[t % shape.week] - day_means[(t / shape.day).min(days - 1)]
        };
        let mut random = Seeded::new(0);
        let mut spreads: Vec<Option<Step>> =
            vec![None; horizon.div_ceil(shape.day).max(1) * shape.day];
        (0..horizon)
            .map(|ahead| {
                let t = n + ahead;
                let days_ahead = ahead / shape.day + 1;
                let spread = *spreads[ahead].get_or_insert_with(|| {
                    let residuals: Vec<f64> = (t % shape.day..n)
                        .step_by(shape.day)
                        .map(residual)
                        .collect();
                    let reach = STEP_SHARE * (days_ahead as f64).sqrt();
                    let sums: Vec<f64> = (0..PAIRS)
                        .map(|_| {
                            residuals[random.below(residuals.len())]
                                + reach * steps[random.below(steps.len())]
                        })
                        .collect();
                    let sums = robust::ascending(&sums);
                    LEVELS.map(|level| robust::quantile_sorted(&sums, level))
                });
                let base = level[days - 1]
                    + weekday[t / shape.day % days_of_week]
                    + profile[t % shape.week];
                ordered(spread.map(|s| base + s))
            })
            .collect()
    }
}

/// The daily mean at step `t`, linear between the middles of the days.
fn between(day_means: &[f64], t: usize, day: usize) -> f64 {
    let at = t as f64 / day as f64 - 0.5;
    let last = day_means.len() - 1;
    let below = (at.floor().max(0.0) as usize).min(last);
    let above = (below + 1).min(last);
    let share = (at - below as f64).clamp(0.0, 1.0);
    day_means[below] + share * (day_means[above] - day_means[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    fn weekly() -> Vec<f64> {
        (0..28 * 5)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]) * if t / 4 % 7 < 5 { 1.0 } else { 0.5 })
            .collect()
    }

    #[test]
    fn a_weekly_pattern_is_continued_by_both() {
        let history = weekly();
        for method in [&Multiplicative as &dyn Forecaster, &Additive] {
            let forecast = method.forecast(&history, 8, SHAPE);
            for (step, actual) in forecast.iter().zip(&history) {
                assert!(
                    (step[2] - actual).abs() < 3.0,
                    "{}: {step:?} {actual}",
                    method.name()
                );
            }
        }
    }

    #[test]
    fn constant_and_zero_series_stay_as_they_are() {
        for method in [&Multiplicative as &dyn Forecaster, &Additive] {
            for value in [0.0, 7.0] {
                let history = vec![value; 28 * 3];
                for step in method.forecast(&history, 28, SHAPE) {
                    assert!(
                        step.iter().all(|q| (q - value).abs() < 1e-6),
                        "{}",
                        method.name()
                    );
                }
            }
        }
    }

    #[test]
    fn the_shortest_history_is_enough() {
        for method in [&Multiplicative as &dyn Forecaster, &Additive] {
            let history = vec![1.0; method.needs(SHAPE)];
            assert_eq!(method.forecast(&history, 3, SHAPE).len(), 3);
        }
    }
}
