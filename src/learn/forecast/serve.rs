//! What is told of one series now: the cheap path, run at each bucket, on top of what the full path
//! learned hours ago.
//!
//! ```text
//! no history ─► prior (family, everyone) ─► own days ─► cheap mix ─┬─► told
//!                                  full path, each few hours ──────┘   (both, or the plain rule alone)
//! ```

use serde::{Deserialize, Serialize};

use super::combine::{self, Cheap};
use super::prior::{self, Habit, Source};
use super::select::{self, Choice, Method};
use super::width::Width;
use super::{Forecaster, Shape, Step, naive};

/// Stored beside what was learned and told; another version's is learned anew.
pub const MODEL: &str = "demand-1";
/// A full forecast that is older is not used any more.
pub const FULL_AGE_S: i64 = 12 * 3600;

/// What is kept of a series between two forecasts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Learned {
    pub width: Width,
    pub full: Option<Full>,
    /// The day (Unix days) up to which the width has learned.
    #[serde(default)]
    pub width_day: i64,
}

/// The outcome of the full path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// Unix seconds at which its first step begins.
    pub made_s: i64,
    pub step_s: i64,
    pub steps: Vec<Step>,
    pub choice: Choice,
}

/// From what a forecast was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Too little of its own: others of its image, or all.
    Family,
    Everyone,
    /// Nothing is known of anybody.
    Nobody,
    /// Its own last days, repeated.
    Days,
    /// The cheap mix of methods.
    Cheap,
    /// The cheap mix and the combination that the full path chose.
    Combined,
    /// Seasonal naive: nothing has beaten it.
    PlainRule,
}

impl Basis {
    pub fn words(self) -> &'static str {
        match self {
            Self::Family => "others of its image, for want of a history of its own",
            Self::Everyone => "all classes, for want of a history of its own",
            Self::Nobody => "nothing yet: nobody has a history",
            Self::Days => "its own last days",
            Self::Cheap => "the cheap mix of seasonal methods",
            Self::Combined => "the combination that won the back-tests, and the cheap mix",
            Self::PlainRule => "the same time of earlier days or weeks: no method has beaten it",
        }
    }
}

/// A series at the moment of a forecast.
pub struct Past<'a> {
    /// Cleaned steps, the last of which ends now.
    pub own: &'a [f64],
    pub family: &'a [Habit],
    pub everyone: &'a [Habit],
    /// Step of the week that begins now.
    pub first: usize,
    pub shape: Shape,
    /// Now, Unix seconds.
    pub now_s: i64,
}

/// The cheap path: `horizon` steps from now on, before events and width. Under a millisecond for hours.
pub fn forecast(past: &Past, learned: &Learned, horizon: usize) -> (Vec<Step>, Basis) {
    let Past { own, shape, .. } = *past;
    if own.len() < Cheap.needs(shape) {
        return early(past, horizon);
    }
    let full = learned
        .full
        .as_ref()
        .and_then(|full| Some((full, full.at(past.now_s, horizon)?)));
    match full {
        Some((full, _)) if full.choice.method == Method::PlainRule => {
            let rule: &dyn Forecaster = match full.choice.weights.first() {
                Some((name, _)) if name == naive::Week.name() => &naive::Week,
                _ => &naive::Day,
            };
            (rule.forecast(own, horizon, shape), Basis::PlainRule)
        }
        Some((full, steps)) if full.choice.method == Method::Combined => {
            let cheap = Cheap.forecast(own, horizon, shape);
            let both = combine::combined(&[steps, cheap], &[0.5, 0.5], horizon);
            (both, Basis::Combined)
        }
        _ => (Cheap.forecast(own, horizon, shape), Basis::Cheap),
    }
}

/// The first days.
fn early(past: &Past, horizon: usize) -> (Vec<Step>, Basis) {
    let Past {
        own,
        family,
        everyone,
        first,
        shape,
        ..
    } = *past;
    let has_group = !family.is_empty() || !everyone.is_empty();
    if !has_group && own.len() >= naive::Day.needs(shape).max(2 * shape.day) {
        return (naive::Day.forecast(own, horizon, shape), Basis::Days);
    }
    let (steps, source) = prior::forecast(own, family, everyone, first, horizon, shape);
    let basis = match source {
        Source::Family => Basis::Family,
        Source::Everyone => Basis::Everyone,
        Source::Nobody => Basis::Nobody,
    };
    (steps, basis)
}

impl Full {
    /// The full path: up to seconds; not for the hot path.
    pub fn make(own: &[f64], horizon: usize, shape: Shape, now_s: i64, step_s: i64) -> Self {
        let (steps, choice) = select::forecast(own, horizon, shape);
        Self {
            made_s: now_s,
            step_s,
            steps,
            choice,
        }
    }

    /// Its steps as seen from a later moment, which need not be at one of its own borders; none where it
    /// is too old, from the future (a clock that went back), or too short.
    pub fn at(&self, now_s: i64, horizon: usize) -> Option<Vec<Step>> {
        let age = now_s.checked_sub(self.made_s)?;
        if !(0..=FULL_AGE_S).contains(&age) || self.step_s <= 0 {
            return None;
        }
        let whole = usize::try_from(age / self.step_s).ok()?;
        let part = (age % self.step_s) as f64 / self.step_s as f64;
        (whole..whole + horizon)
            .map(|step| {
                let (from, to) = (self.steps.get(step)?, self.steps.get(step + 1)?);
                Some(std::array::from_fn(|i| from[i] + part * (to[i] - from[i])))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    fn week(count: usize) -> Vec<f64> {
        (0..count)
            .map(|t| f64::from([2, 10, 30, 5][t % 4]))
            .collect()
    }

    fn past<'a>(own: &'a [f64], family: &'a [Habit]) -> Past<'a> {
        Past {
            own,
            family,
            everyone: &[],
            first: own.len() % 28,
            shape: SHAPE,
            now_s: 0,
        }
    }

    #[test]
    fn from_nothing_to_the_full_path() {
        let basis = |steps: usize, family: &[Habit], learned: &Learned| {
            let own = week(steps);
            let (steps, basis) = forecast(&past(&own, family), learned, 4);
            assert_eq!(steps.len(), 4);
            assert!(steps.iter().flatten().all(|q| q.is_finite()));
            basis
        };
        let family = [Habit::of(&week(56), SHAPE).unwrap()];
        let none = Learned::default();
        assert_eq!(basis(0, &[], &none), Basis::Nobody);
        assert_eq!(basis(0, &family, &none), Basis::Family);
        assert_eq!(basis(12, &[], &none), Basis::Days);
        assert_eq!(basis(60, &[], &none), Basis::Cheap);
        let learned = Learned {
            full: Some(Full::make(&week(28 * 6), 12, SHAPE, 0, 21_600)),
            ..none
        };
        // This pattern is the same each day, so the plain rule is right.
        assert_eq!(basis(28 * 6, &[], &learned), Basis::PlainRule);
    }

    #[test]
    fn an_older_full_forecast_is_moved_to_now() {
        let steps: Vec<Step> = (0..30).map(|t| [f64::from(t); 5]).collect();
        let full = Full {
            made_s: 1000,
            step_s: 3600,
            steps,
            choice: Choice {
                method: Method::Combined,
                weights: vec![],
                losses: vec![],
            },
        };
        assert_eq!(full.at(1000, 2).unwrap(), [[0.0; 5], [1.0; 5]]);
        assert_eq!(full.at(1000 + 5400, 1).unwrap(), [[1.5; 5]]);
        assert_eq!(full.at(999, 1), None, "the clock went back");
        assert_eq!(full.at(1000 + FULL_AGE_S + 1, 1), None);
        assert_eq!(full.at(1000, 30), None);
        assert_eq!(full.at(i64::MIN, 1), None);
    }
}
