//! The first hours: what a persona without a history of its own is expected to ask for, from its
//! family, and where that has none, from everyone. Its own observations take over as they come.

use serde::{Deserialize, Serialize};

use super::super::robust;
use super::{LEVELS, Shape, Step};

/// How busy one member of a group is: its own mean per step, and its profile over the week relative
/// to that mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Habit {
    pub mean: f64,
    /// One factor per step of the week, mean 1.
    pub week: Vec<f64>,
}

impl Habit {
    /// Of a cleaned history from the begin of a week; none if it is shorter than a week or nothing was
    /// ever asked for.
    pub fn of(history: &[f64], shape: Shape) -> Option<Self> {
        let mean = robust::mean(history);
        if history.len() < shape.week || mean <= 0.0 || !mean.is_finite() {
            return None;
        }
        let week = (0..shape.week)
            .map(|at| {
                let same: Vec<f64> = history
                    .iter()
                    .skip(at)
                    .step_by(shape.week)
                    .copied()
                    .collect();
                robust::mean(&same) / mean
            })
            .collect();
        Some(Self { mean, week })
    }
}

/// Where a first forecast came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Family,
    Everyone,
    /// Nobody has a history: nothing is expected, widely.
    Nobody,
}

/// So many of a member's own steps weigh as much as its group: one day of hours.
const OWN_STEPS: f64 = 24.0;

/// Forecasts `horizon` steps from step `first` of a week on. `own` is what was seen so far (possibly
/// nothing, ending where the forecast begins); `family` and `everyone` are the habits of others.
pub fn forecast(
    own: &[f64],
    family: &[Habit],
    everyone: &[Habit],
    first: usize,
    horizon: usize,
    shape: Shape,
) -> (Vec<Step>, Source) {
    let (group, source) = match (family.is_empty(), everyone.is_empty()) {
        (false, _) => (family, Source::Family),
        (true, false) => (everyone, Source::Everyone),
        (true, true) => (&[][..], Source::Nobody),
    };
    let means: Vec<f64> = group.iter().map(|habit| habit.mean).collect();
    let usual = if means.is_empty() {
        0.0
    } else {
        robust::median(&means)
    };
    let factor = |step: usize| {
        let seen: Vec<f64> = group
            .iter()
            .filter_map(|habit| habit.week.get(step % shape.week).copied())
            .collect();
        if seen.is_empty() {
            1.0
        } else {
            robust::median(&seen)
        }
    };
    // What was seen against what the group would have seen at these steps.
    let start = (first + shape.week * (own.len() / shape.week + 1)).saturating_sub(own.len());
    let expected: f64 = (0..own.len()).map(|i| factor(start + i)).sum();
    let own_mean = own.iter().sum::<f64>() / expected.max(1e-9);
    let trust = if own.is_empty() {
        0.0
    } else {
        expected / (expected + OWN_STEPS)
    };
    let mean = trust * own_mean + (1.0 - trust) * usual;
    // How far members of a group lie apart is how wrong its middle may be about a new one.
    let ratios: Vec<f64> = robust::ascending(
        &means
            .iter()
            .map(|m| m / usual.max(1e-9))
            .collect::<Vec<_>>(),
    );
    let steps = (0..horizon)
        .map(|step| {
            let middle = mean * factor(first + step);
            super::ordered(LEVELS.map(|level| {
                let apart = if ratios.is_empty() {
                    1.0
                } else {
                    robust::quantile_sorted(&ratios, level)
                };
                let apart = 1.0 + (1.0 - trust) * (apart - 1.0);
                // Counts scatter at least like Poisson's.
                let z = [-1.96, -1.282, 0.0, 1.282, 1.96]
                    [LEVELS.iter().position(|known| *known == level).unwrap_or(2)];
                (middle * apart + z * middle.max(0.1).sqrt()).max(0.0)
            }))
        })
        .collect();
    (steps, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    fn habit(mean: f64) -> Habit {
        let history: Vec<f64> = (0..56)
            .map(|t| mean * f64::from([0, 1, 3, 0][t % 4]))
            .collect();
        Habit::of(&history, SHAPE).unwrap()
    }

    #[test]
    fn a_newcomer_is_expected_to_be_like_its_family() {
        let family = [habit(10.0), habit(12.0), habit(14.0)];
        let (forecast, source) = forecast(&[], &family, &[habit(900.0)], 0, 4, SHAPE);
        assert_eq!(source, Source::Family);
        assert_eq!(forecast[0][2], 0.0);
        assert!((forecast[2][2] - 36.0).abs() < 1e-6, "{:?}", forecast[2]);
        assert!(forecast[2][4] > 40.0);
    }

    #[test]
    fn its_own_days_take_over() {
        let family = [habit(10.0), habit(12.0)];
        let own: Vec<f64> = (0..4 * 20)
            .map(|t| 50.0 * f64::from([0, 1, 3, 0][t % 4]))
            .collect();
        let (early, _) = forecast(&own[..4], &family, &[], 4, 4, SHAPE);
        let (late, _) = forecast(&own, &family, &[], 80, 4, SHAPE);
        assert!(early[2][2] > 33.0 && early[2][2] < late[2][2] && late[2][2] > 110.0);
        assert!((late[0][2]).abs() < 1e-6);
    }

    #[test]
    fn with_nobody_to_ask_nothing_is_expected() {
        let (forecast, source) = forecast(&[], &[], &[], 0, 2, SHAPE);
        assert_eq!((forecast[0][2], source), (0.0, Source::Nobody));
        assert_eq!(
            super::forecast(&[], &[], &[habit(5.0)], 0, 2, SHAPE).1,
            Source::Everyone
        );
        assert!(Habit::of(&[0.0; 28], SHAPE).is_none());
    }
}
