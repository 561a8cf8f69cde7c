//! Several forecasts made one. Weights come from back-tests: forecasts of the last days, made from
//! what came before each.

use super::super::score;
use super::{Forecaster, LEVELS, Shape, Step, naive, ordered, seasonal};

/// Forecasts of a part of the past by several members, beside what came.
#[derive(Debug, Clone)]
pub struct BackTest {
    pub actual: Vec<f64>,
    /// One per member, in the roster's order.
    pub forecasts: Vec<Vec<Step>>,
}

impl BackTest {
    /// The same with all values replaced by their square roots.
    pub fn rooted(&self) -> Self {
        let root = |step: &Step| step.map(|v| v.max(0.0).sqrt());
        Self {
            actual: self.actual.iter().map(|v| v.max(0.0).sqrt()).collect(),
            forecasts: self
                .forecasts
                .iter()
                .map(|f| f.iter().map(root).collect())
                .collect(),
        }
    }
}

/// Makes up to `days` back-tests of `horizon` steps, the latest first, each a day before the other.
/// Only those for which every member has the history it needs.
pub fn back_tests(
    members: &[&dyn Forecaster],
    history: &[f64],
    horizon: usize,
    shape: Shape,
    days: usize,
) -> Vec<BackTest> {
    let needs = members
        .iter()
        .map(|member| member.needs(shape))
        .max()
        .unwrap_or(0);
    (0..days)
        .map_while(|day| {
            let origin = history.len().checked_sub(horizon + day * shape.day)?;
            (origin >= needs && origin > 0).then(|| BackTest {
                actual: history[origin..origin + horizon].to_vec(),
                forecasts: members
                    .iter()
                    .map(|member| member.forecast(&history[..origin], horizon, shape))
                    .collect(),
            })
        })
        .collect()
}

/// Mean pinball loss of each member.
pub fn losses(tests: &[BackTest], members: usize) -> Vec<f64> {
    (0..members)
        .map(|member| {
            let sum: f64 = tests
                .iter()
                .map(|test| score::mean_pinball(&test.actual, &test.forecasts[member]))
                .sum();
            sum / tests.len().max(1) as f64
        })
        .collect()
}

/// Weights loss⁻⁴, summing to 1; equal ones without tests.
pub fn by_loss(tests: &[BackTest], members: usize) -> Vec<f64> {
    let raw: Vec<f64> = losses(tests, members)
        .iter()
        .map(|loss| loss.max(1e-9).powi(-4))
        .collect();
    shares(raw)
}

/// Weights, summing to 1, whose combination would have had the least pinball loss in the tests:
/// exponentiated gradient steps from equal weights (Kivinen and Warmuth 1997), stopped early so that
/// few tests do not decide everything. `scale` makes losses of all series alike.
pub fn by_stacking(tests: &[BackTest], members: usize, scale: f64) -> Vec<f64> {
    // On origins of the demand traces that no reported figure uses, 100 steps of 2 on four tests were
    // the best of {30, 100} × {0.5, 2} × {4, 6}.
    const STEPS: usize = 100;
    const PACE: f64 = 2.0;
    let mut weights = vec![1.0 / members.max(1) as f64; members];
    for _ in 0..STEPS {
        let mut gradient = vec![0.0; members];
        let mut terms = 0usize;
        for test in tests {
            for (step, actual) in test.actual.iter().enumerate() {
                for (q, level) in LEVELS.iter().enumerate() {
                    let combined: f64 = test
                        .forecasts
                        .iter()
                        .zip(&weights)
                        .map(|(f, w)| w * f[step][q])
                        .sum();
                    let slope = if *actual > combined {
                        -level
                    } else {
                        1.0 - level
                    };
                    for (gradient, forecast) in gradient.iter_mut().zip(&test.forecasts) {
                        *gradient += slope * forecast[step][q] / scale;
                    }
                    terms += 1;
                }
            }
        }
        if terms == 0 {
            break;
        }
        // Only differences matter; taking the least off keeps the exponentials finite.
        let least = gradient.iter().copied().fold(f64::INFINITY, f64::min);
        for (weight, gradient) in weights.iter_mut().zip(&gradient) {
            *weight *= (-2.0 * PACE * (gradient - least) / terms as f64).exp();
        }
        weights = shares(weights);
    }
    weights
}

fn shares(raw: Vec<f64>) -> Vec<f64> {
    let total: f64 = raw.iter().sum();
    if total.is_finite() && total > 0.0 {
        raw.iter().map(|weight| weight / total).collect()
    } else {
        vec![1.0 / raw.len().max(1) as f64; raw.len()]
    }
}

/// The weighted mean of forecasts, quantile by quantile.
pub fn combined(forecasts: &[Vec<Step>], weights: &[f64], horizon: usize) -> Vec<Step> {
    (0..horizon)
        .map(|step| {
            let mut sum = [0.0; LEVELS.len()];
            for (forecast, weight) in forecasts.iter().zip(weights) {
                for (sum, value) in sum.iter_mut().zip(&forecast[step]) {
                    *sum += weight * value;
                }
            }
            ordered(sum)
        })
        .collect()
}

/// The same of square roots, squared: what one member sees as a burst lifts the mixture less.
pub fn combined_in_roots(forecasts: &[Vec<Step>], weights: &[f64], horizon: usize) -> Vec<Step> {
    let roots: Vec<Vec<Step>> = forecasts
        .iter()
        .map(|forecast| {
            forecast
                .iter()
                .map(|s| s.map(|v| v.max(0.0).sqrt()))
                .collect()
        })
        .collect();
    combined(&roots, weights, horizon)
        .iter()
        .map(|step| step.map(|v| v * v))
        .collect()
}

/// The cheap path: four plain methods by their loss over the last four days. Under a millisecond.
pub struct Cheap;

const CHEAP: [&dyn Forecaster; 4] = [
    &seasonal::Multiplicative,
    &seasonal::Additive,
    &naive::Day,
    &naive::Week,
];

impl Forecaster for Cheap {
    fn name(&self) -> &'static str {
        "cheap-mix"
    }

    fn needs(&self, shape: Shape) -> usize {
        seasonal::Multiplicative.needs(shape)
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let tests = back_tests(&CHEAP, history, horizon, shape, 4);
        let weights = by_loss(&tests, CHEAP.len());
        let forecasts: Vec<Vec<Step>> = CHEAP
            .iter()
            .map(|member| member.forecast(history, horizon, shape))
            .collect();
        combined(&forecasts, &weights, horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    fn test(actual: &[f64], members: &[f64]) -> BackTest {
        BackTest {
            actual: actual.to_vec(),
            forecasts: members
                .iter()
                .map(|m| vec![[*m; 5]; actual.len()])
                .collect(),
        }
    }

    #[test]
    fn the_better_member_weighs_more() {
        let tests = [test(&[10.0, 11.0], &[10.5, 20.0])];
        for weights in [by_loss(&tests, 2), by_stacking(&tests, 2, 1.0)] {
            assert!(weights[0] > 0.95, "{weights:?}");
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn stacking_finds_the_mixture_that_no_member_is() {
        // One is too low, the other too high: half of each is right.
        let tests = [test(&[10.0; 6], &[5.0, 15.0])];
        let weights = by_stacking(&tests, 2, 1.0);
        let mixed = weights[0] * 5.0 + weights[1] * 15.0;
        assert!((mixed - 10.0).abs() < 1.5, "{weights:?}");
    }

    #[test]
    fn without_tests_and_with_nonsense_all_weigh_alike() {
        assert_eq!(by_stacking(&[], 4, 1.0), vec![0.25; 4]);
        assert_eq!(by_loss(&[], 2), vec![0.5; 2]);
        let wild = [test(&[f64::MAX; 3], &[0.0, f64::MAX])];
        let weights = by_stacking(&wild, 2, 1.0);
        assert!(weights.iter().all(|w| w.is_finite()), "{weights:?}");
    }

    #[test]
    fn a_back_test_sees_only_what_came_before() {
        let history: Vec<f64> = (0..28 * 3).map(f64::from).collect();
        let tests = back_tests(&[&naive::Day], &history, 4, SHAPE, 3);
        assert_eq!(tests.len(), 3);
        assert_eq!(tests[1].actual, history[76..80]);
        // The naive median is the day before the origin plus the trend's error of one day.
        assert_eq!(tests[1].forecasts[0][0][2], 76.0);
        assert!(back_tests(&[&naive::Week], &history[..20], 4, SHAPE, 3).is_empty());
    }

    #[test]
    fn the_cheap_mix_follows_a_weekly_pattern() {
        let history: Vec<f64> = (0..28 * 6)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]) * if t / 4 % 7 < 5 { 1.0 } else { 0.5 })
            .collect();
        for (step, actual) in Cheap.forecast(&history, 8, SHAPE).iter().zip(&history) {
            assert!((step[2] - actual).abs() < 2.0, "{step:?} {actual}");
        }
    }
}
