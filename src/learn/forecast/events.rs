//! What a calendar knows and a history cannot: planned events with an expected effect. Days with past
//! events are taken back to normal before a method learns from them.

use serde::{Deserialize, Serialize};

use super::Step;

/// A planned event: from step `from` to before step `until`, demand is expected to be `factor` times
/// the usual, give or take `doubt` (a standard deviation of the factor's logarithm).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub name: String,
    pub from: usize,
    pub until: usize,
    pub factor: f64,
    pub doubt: f64,
}

/// Factors beyond these bounds are a mistake in the calendar.
const FACTORS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

impl Event {
    fn holds(&self, step: usize) -> bool {
        (self.from..self.until).contains(&step)
    }

    fn bounded(&self) -> f64 {
        if self.factor.is_nan() {
            1.0
        } else {
            self.factor.clamp(*FACTORS.start(), *FACTORS.end())
        }
    }
}

/// The history as it would have been without its events. Where an event all but stopped demand there
/// is nothing to divide, and the step becomes a gap.
pub fn without(history: &[f64], events: &[Event]) -> Vec<f64> {
    const TOO_LITTLE: f64 = 0.2;
    history
        .iter()
        .enumerate()
        .map(|(step, value)| {
            let factor: f64 = events
                .iter()
                .filter(|e| e.holds(step))
                .map(Event::bounded)
                .product();
            if factor < TOO_LITTLE {
                f64::NAN
            } else {
                value / factor
            }
        })
        .collect()
}

/// A forecast whose first step is `first`, with the events that fall into it. Doubt widens the
/// interval on both sides.
pub fn with(forecast: &[Step], first: usize, events: &[Event]) -> Vec<Step> {
    /// Standard normal quantiles of [`super::LEVELS`].
    const Z: [f64; 5] = [-1.96, -1.282, 0.0, 1.282, 1.96];
    forecast
        .iter()
        .enumerate()
        .map(|(step, quantiles)| {
            let mut quantiles = *quantiles;
            for event in events.iter().filter(|e| e.holds(first + step)) {
                let doubt = if event.doubt.is_nan() {
                    0.0
                } else {
                    event.doubt.clamp(0.0, 2.0)
                };
                for (value, z) in quantiles.iter_mut().zip(Z) {
                    *value *= event.bounded() * (z * doubt).exp();
                }
            }
            super::ordered(quantiles)
        })
        .collect()
}

/// The factor that past occurrences of an event had: median of actual ÷ expected, with its spread as
/// doubt; none without an occurrence.
pub fn learned(actual_and_expected: &[(f64, f64)]) -> Option<(f64, f64)> {
    let logs: Vec<f64> = actual_and_expected
        .iter()
        .filter(|(actual, expected)| *actual > 0.0 && *expected > 0.0)
        .map(|(actual, expected)| (actual / expected).ln())
        .collect();
    if logs.is_empty() {
        return None;
    }
    let middle = super::super::robust::median(&logs);
    let apart: Vec<f64> = logs.iter().map(|log| (log - middle).abs()).collect();
    // 1.4826 makes the median deviation of a normal distribution its standard deviation; one
    // occurrence says nothing about the spread.
    const UNKNOWN: f64 = 0.3;
    let spread = 1.4826 * super::super::robust::median(&apart);
    let share = 1.0 / logs.len() as f64;
    let doubt = share * UNKNOWN + (1.0 - share) * spread;
    Some((middle.exp().clamp(*FACTORS.start(), *FACTORS.end()), doubt))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(from: usize, until: usize, factor: f64) -> Event {
        Event {
            name: "release".to_owned(),
            from,
            until,
            factor,
            doubt: 0.1,
        }
    }

    #[test]
    fn an_event_lifts_its_own_steps_only() {
        let forecast = with(&[[1.0, 2.0, 3.0, 4.0, 5.0]; 3], 10, &[event(11, 12, 2.0)]);
        assert_eq!(forecast[0], forecast[2]);
        assert_eq!(forecast[1][2], 6.0);
        assert!(forecast[1][4] > 10.0 && forecast[1][0] < 2.0);
    }

    #[test]
    fn past_events_are_taken_back() {
        let usual = without(&[10.0, 30.0, 0.0], &[event(1, 2, 3.0), event(2, 3, 0.0)]);
        assert_eq!(usual[..2], [10.0, 10.0]);
        assert!(usual[2].is_nan());
    }

    #[test]
    fn mistaken_factors_are_bounded() {
        for factor in [f64::NAN, f64::INFINITY, -3.0] {
            let forecast = with(&[[1.0; 5]], 0, &[event(0, 1, factor)]);
            assert!(
                forecast[0].iter().all(|q| q.is_finite() && *q <= 200.0),
                "{factor}"
            );
        }
    }

    #[test]
    fn a_factor_is_learned_robustly() {
        let (factor, doubt) = learned(&[(20.0, 10.0), (22.0, 10.0), (900.0, 10.0)]).unwrap();
        assert!(
            (factor - 2.2).abs() < 1e-9 && doubt < 0.4,
            "{factor} {doubt}"
        );
        assert_eq!(learned(&[(0.0, 3.0)]), None);
    }
}
