//! Which method serves a series? Asked of its own past: the rivals forecast its last days from what
//! came before, and their mixture is stacked on the older of these tests and judged on the newest.
//! Seasonal naive is the plain rule; what does not beat it stays off, and the answer says so.

use serde::{Deserialize, Serialize};

use super::super::score;
use super::arx::Net;
use super::combine::{self, BackTest, Cheap};
use super::level::Smoothing;
use super::linear::Linear;
use super::trees::{Boosted, Wood};
use super::{Forecaster, Shape, Step, naive, seasonal};

/// Back-tests that weights are stacked on.
const TESTS: usize = 4;
/// The mixture serves unless its loss is above the better plain rule's by this factor. The plain rules
/// are members of it, and the better one is only known afterwards: with a factor of 0.99 six of 28 days
/// of the taxi trace were left to a rule that then lost.
const MARGIN: f64 = 1.1;

/// All methods, the plain rules first.
pub fn roster() -> Vec<&'static dyn Forecaster> {
    let mut members: Vec<&'static dyn Forecaster> = vec![
        &naive::Day,
        &naive::Week,
        &seasonal::Multiplicative,
        &seasonal::Additive,
        &Linear,
        &Net,
        &Smoothing { log: false },
        &Smoothing { log: true },
        &Wood { relative: false },
        &Wood { relative: true },
        &Boosted { relative: false },
        &Boosted { relative: true },
    ];
    members.extend(further());
    members
}

/// Those that are built in by a cargo feature only.
#[allow(unused_mut, reason = "without features there are none")]
fn further() -> Vec<&'static dyn Forecaster> {
    let mut further: Vec<&'static dyn Forecaster> = Vec::new();
    #[cfg(feature = "forecast-mstl")]
    further.push(&super::mstl::Mstl);
    #[cfg(feature = "forecast-prophet")]
    further.push(&super::prophet::Prophet);
    #[cfg(feature = "forecast-lstm")]
    further.push(&super::lstm::Lstm { epochs: 20 });
    further
}

/// How many of the roster are plain rules.
const PLAIN: usize = 2;

/// How a forecast came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub method: Method,
    /// The members' weights; those of no weight left out.
    pub weights: Vec<(String, f64)>,
    /// Loss of each rival in the back-tests, relative to the better plain rule. Empty where there was
    /// too little history to test.
    pub losses: Vec<(String, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Several methods, weighted.
    Combined,
    /// Seasonal naive: nothing beat it in the back-tests.
    PlainRule,
    /// Too little history to compare; what it suffices for.
    Short,
}

/// The full path: forecasts and says how.
pub fn forecast(history: &[f64], horizon: usize, shape: Shape) -> (Vec<Step>, Choice) {
    forecast_with(&roster(), history, horizon, shape)
}

/// The same with other members, the plain rules first.
pub fn forecast_with(
    members: &[&'static dyn Forecaster],
    history: &[f64],
    horizon: usize,
    shape: Shape,
) -> (Vec<Step>, Choice) {
    let members: Vec<&dyn Forecaster> = members
        .iter()
        .copied()
        .filter(|m| history.len() >= m.needs(shape))
        .collect();
    let tests = combine::back_tests(&members, history, horizon, shape, TESTS);
    if tests.is_empty() {
        return short(history, horizon, shape);
    }
    // In square roots, in which counts scatter alike whether few or many: a burst in one test does not
    // decide all weights.
    let rooted: Vec<BackTest> = tests.iter().map(BackTest::rooted).collect();
    let roots: Vec<f64> = history.iter().map(|v| v.max(0.0).sqrt()).collect();
    let scale = score::scale(&roots, shape.day);
    let weights = combine::by_stacking(&rooted, members.len(), scale);
    let mut losses = combine::losses(&tests, members.len());
    let plain = (0..PLAIN.min(members.len()))
        .min_by(|a, b| losses[*a].total_cmp(&losses[*b]))
        .unwrap_or(0);
    // Judged on tests its weights have not seen: each test in turn with weights from the others.
    let mixture = left_out_loss(&tests, &rooted, members.len(), scale);
    let reference = losses[plain].max(1e-12);
    let mut told: Vec<(String, f64)> = members
        .iter()
        .zip(&losses)
        .map(|(m, loss)| (m.name().to_owned(), loss / reference))
        .collect();
    told.push(("combined".to_owned(), mixture / reference));
    losses.push(mixture);
    if mixture > MARGIN * losses[plain] {
        let choice = Choice {
            method: Method::PlainRule,
            weights: vec![(members[plain].name().to_owned(), 1.0)],
            losses: told,
        };
        return (members[plain].forecast(history, horizon, shape), choice);
    }
    let forecasts: Vec<Vec<Step>> = members
        .iter()
        .map(|member| member.forecast(history, horizon, shape))
        .collect();
    let choice = Choice {
        method: Method::Combined,
        weights: members
            .iter()
            .zip(&weights)
            .filter(|(_, weight)| **weight > 0.005)
            .map(|(member, weight)| (member.name().to_owned(), *weight))
            .collect(),
        losses: told,
    };
    (
        combine::combined_in_roots(&forecasts, &weights, horizon),
        choice,
    )
}

/// Mean loss of the mixture on each test, stacked on the other tests.
fn left_out_loss(tests: &[BackTest], rooted: &[BackTest], members: usize, scale: f64) -> f64 {
    let sum: f64 = (0..tests.len())
        .map(|out| {
            let mut others = rooted.to_vec();
            others.remove(out);
            let weights = combine::by_stacking(&others, members, scale);
            let judged = &tests[out];
            let mixed =
                combine::combined_in_roots(&judged.forecasts, &weights, judged.actual.len());
            score::mean_pinball(&judged.actual, &mixed)
        })
        .sum();
    sum / tests.len().max(1) as f64
}

/// Where nothing can be compared: the cheap mix, a naive rule, or the mean of what there is.
fn short(history: &[f64], horizon: usize, shape: Shape) -> (Vec<Step>, Choice) {
    let ladder: [&dyn Forecaster; 3] = [&Cheap, &naive::Week, &naive::Day];
    let member = ladder
        .into_iter()
        .find(|member| history.len() >= member.needs(shape))
        .unwrap_or(&naive::Day);
    let choice = Choice {
        method: Method::Short,
        weights: vec![(member.name().to_owned(), 1.0)],
        losses: Vec::new(),
    };
    (member.forecast(history, horizon, shape), choice)
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn a_noisy_weekly_pattern_is_served_by_a_mixture() {
        let mut random = Seeded::new(5);
        let history: Vec<f64> = (0..28 * 8)
            .map(|t| (f64::from([20, 60, 90, 30][t % 4]) + 12.0 * random.normal()).max(0.0))
            .collect();
        let (forecast, choice) = super::forecast(&history, 4, SHAPE);
        assert_eq!(choice.method, Method::Combined, "{choice:?}");
        assert!((forecast[2][2] - 90.0).abs() < 20.0);
        assert!((choice.weights.iter().map(|w| w.1).sum::<f64>() - 1.0).abs() < 0.1);
    }

    #[test]
    fn where_yesterday_is_right_the_plain_rule_serves() {
        let history: Vec<f64> = (0..28 * 6)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]))
            .collect();
        let (forecast, choice) = super::forecast(&history, 4, SHAPE);
        assert_eq!(choice.method, Method::PlainRule);
        assert_eq!(forecast[2], [30.0; 5]);
    }

    #[test]
    fn what_a_cargo_feature_brings_is_back_tested_and_nothing_else_is() {
        let mut random = Seeded::new(6);
        let history: Vec<f64> = (0..28 * 6)
            .map(|t| (f64::from([20, 60, 90, 30][t % 4]) + 9.0 * random.normal()).max(0.0))
            .collect();
        let (steps, choice) = super::forecast(&history, 4, SHAPE);
        assert!(steps.iter().all(|step| step.is_sorted()), "{steps:?}");
        for (name, is_built_in) in [
            ("mstl", cfg!(feature = "forecast-mstl")),
            ("prophet", cfg!(feature = "forecast-prophet")),
            ("lstm", cfg!(feature = "forecast-lstm")),
        ] {
            let loss = choice.losses.iter().find(|(of, _)| of == name);
            assert_eq!(loss.is_some(), is_built_in, "{name}: {choice:?}");
            assert!(
                loss.is_none_or(|(_, loss)| *loss > 0.0 && loss.is_finite()),
                "{choice:?}"
            );
        }
    }

    #[test]
    fn every_length_of_history_is_answered() {
        let history: Vec<f64> = (0..28 * 5)
            .map(|t| f64::from((t * 7 % 13) as u32))
            .collect();
        for n in [0, 1, 3, 4, 5, 27, 28, 29, 36, 56, 64, 83, 84, 88, 100, 139] {
            let (forecast, choice) = super::forecast(&history[..n], 4, SHAPE);
            assert_eq!(forecast.len(), 4, "{n}");
            assert!(
                forecast.iter().flatten().all(|q| q.is_finite()),
                "{n}: {forecast:?}"
            );
            assert!(!choice.weights.is_empty(), "{n}");
        }
    }
}
