//! Exponential smoothing with two seasons (day and week) and carried-over error (Taylor 2003, 2010).
//! The smoothing constants are those of a small grid with the least error over whole days ahead; the
//! spread is that of the errors it made at the same number of steps ahead.

use super::super::robust;
use super::{Forecaster, LEVELS, Shape, Step, ordered};

/// Smooths demand itself or, with `log`, its logarithm.
pub struct Smoothing {
    pub log: bool,
}

/// Share of each step's error that moves the level and the two profiles, and the share of an error
/// that is expected again at the next step.
#[derive(Clone, Copy)]
struct Constants {
    level: f64,
    day: f64,
    week: f64,
    carry: f64,
}

/// Added before a logarithm is taken, in means.
const FLOOR: f64 = 0.02;
/// Weeks after which an error counts half.
const HALF_LIFE_WEEKS: f64 = 4.0;
/// No forecast is above e³⁰ times the mean.
const LARGEST_LOG: f64 = 30.0;

const LEVEL: [f64; 3] = [0.01, 0.06, 0.2];
const DAY: [f64; 3] = [0.02, 0.15, 0.4];
const WEEK: [f64; 3] = [0.05, 0.2, 0.45];
const CARRY: [f64; 2] = [0.5, 0.9];

impl Forecaster for Smoothing {
    fn name(&self) -> &'static str {
        if self.log {
            "smoothing-log"
        } else {
            "smoothing"
        }
    }

    fn needs(&self, shape: Shape) -> usize {
        2 * shape.week + 2 * shape.day
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let unit = robust::mean(history).max(1e-9);
        let inner: Vec<f64> = history
            .iter()
            .map(|v| {
                if self.log {
                    (v / unit + FLOOR).ln()
                } else {
                    v / unit
                }
            })
            .collect();
        let from = |v: f64| {
            if self.log {
                (v.min(LARGEST_LOG).exp() - FLOOR) * unit
            } else {
                v * unit
            }
        };
        let mut best: Option<(f64, Run)> = None;
        for level in LEVEL {
            for day in DAY {
                for week in WEEK {
                    for carry in CARRY {
                        let constants = Constants {
                            level,
                            day,
                            week,
                            carry,
                        };
                        let run = run(&inner, horizon, shape, constants);
                        if run.loss.is_finite() && best.as_ref().is_none_or(|b| run.loss < b.0) {
                            best = Some((run.loss, run));
                        }
                    }
                }
            }
        }
        let Some((_, run)) = best else {
            return vec![[robust::mean(history); 5]; horizon];
        };
        (0..horizon)
            .map(|ahead| {
                let mut errors: Vec<(f64, f64)> = Vec::new();
                for near in ahead.saturating_sub(1)..=(ahead + 1).min(horizon - 1) {
                    let n = run.errors[near].len();
                    errors.extend(run.errors[near].iter().enumerate().map(|(i, e)| {
                        let age = (n - i) as f64 * shape.day as f64 / shape.week as f64;
                        (*e, 0.5f64.powf(age / HALF_LIFE_WEEKS))
                    }));
                }
                let spread = robust::weighted_quantiles(&mut errors, &LEVELS);
                ordered(
                    spread.map(|e| from(run.forecast[ahead] + if e.is_finite() { e } else { 0.0 })),
                )
            })
            .collect()
    }
}

struct Run {
    /// Mean absolute error of its forecasts, the newer the heavier.
    loss: f64,
    forecast: Vec<f64>,
    /// Per number of steps ahead, oldest first.
    errors: Vec<Vec<f64>>,
}

/// One pass; errors are collected for forecasts made at whole days before the end.
fn run(y: &[f64], horizon: usize, shape: Shape, c: Constants) -> Run {
    let Shape { day, week } = shape;
    let n = y.len();
    let mut level = robust::mean(&y[..week]);
    let mut days: Vec<f64> = (0..day)
        .map(|h| robust::mean(&(h..week).step_by(day).map(|t| y[t]).collect::<Vec<_>>()) - level)
        .collect();
    let mut weeks: Vec<f64> = (0..week)
        .map(|t| 0.5 * (y[t] - level - days[t % day]))
        .collect();
    let mut carried = 0.0;
    let mut errors = vec![Vec::new(); horizon];
    let ahead = |t: usize, level: f64, days: &[f64], weeks: &[f64], carried: f64| -> Vec<f64> {
        let mut left = carried;
        (0..horizon)
            .map(|i| {
                left *= c.carry;
                level + days[(t + i) % day] + weeks[(t + i) % week] + left
            })
            .collect()
    };
    let (mut loss, mut count) = (0.0, 0);
    for t in 0..n {
        if t >= 2 * week && (n - t).is_multiple_of(day) {
            for (i, f) in ahead(t, level, &days, &weeks, carried).iter().enumerate() {
                if t + i < n {
                    let error = y[t + i] - f;
                    errors[i].push(error);
                    loss +=
                        error.abs() * 0.5f64.powf((n - t) as f64 / (HALF_LIFE_WEEKS * week as f64));
                    count += 1;
                }
            }
        }
        let expected = level + days[t % day] + weeks[t % week];
        let error = y[t] - expected - c.carry * carried;
        level += c.level * error;
        days[t % day] += c.day * error;
        weeks[t % week] += c.week * error;
        carried = y[t] - expected;
    }
    let forecast = ahead(n, level, &days, &weeks, carried);
    Run {
        loss: if count > 0 {
            loss / count as f64
        } else {
            f64::INFINITY
        },
        forecast,
        errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn a_weekly_pattern_is_continued() {
        let history: Vec<f64> = (0..28 * 5)
            .map(|t| f64::from([4, 10, 30, 5][t % 4]) * if t / 4 % 7 < 5 { 1.0 } else { 0.5 })
            .collect();
        for log in [false, true] {
            let smoothing = Smoothing { log };
            for (step, actual) in smoothing.forecast(&history, 8, SHAPE).iter().zip(&history) {
                assert!(
                    (step[2] / actual - 1.0).abs() < 0.15,
                    "{log}: {step:?} {actual}"
                );
            }
        }
    }

    #[test]
    fn a_new_level_is_followed() {
        let history: Vec<f64> = (0..28 * 6)
            .map(|t| if t < 28 * 4 { 10.0 } else { 20.0 })
            .collect();
        let forecast = Smoothing { log: false }.forecast(&history, 4, SHAPE);
        assert!((forecast[3][2] - 20.0).abs() < 2.0, "{forecast:?}");
    }

    #[test]
    fn the_shortest_constant_history_stays_as_it_is() {
        for (log, value) in [(false, 0.0), (false, 7.0), (true, 0.0), (true, 7.0)] {
            let smoothing = Smoothing { log };
            for step in smoothing.forecast(&vec![value; smoothing.needs(SHAPE)], 4, SHAPE) {
                assert!(
                    step.iter().all(|q| (q - value).abs() < 1e-6),
                    "{log} {step:?}"
                );
            }
        }
    }
}
