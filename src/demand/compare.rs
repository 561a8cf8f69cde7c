//! What was expected against what came. Pure.

use std::collections::BTreeMap;

use super::STEP_S;
use super::watch::covered_s;
use crate::learn::forecast::Step;
use crate::learn::score;
use crate::store::demand::Told;
use crate::vocab::Timestamp;
use crate::vocab::demand::{Count, Watched};

/// One hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    pub start_s: i64,
    /// What the latest forecast said that was made early enough; none where there is none.
    pub expected: Option<Step>,
    pub made_at: Option<Timestamp>,
    /// None where nobody watched.
    pub actual: Option<f64>,
}

/// How good the forecasts of some hours were.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// Hours with both a forecast and an outcome.
    pub hours: usize,
    /// Mean distance of the median from what came, requests.
    pub error: f64,
    /// The same of "as yesterday at this time"; NaN where no day before is known.
    pub plain_error: f64,
    /// Mean pinball loss over all quantiles.
    pub pinball: f64,
    /// Share of hours within the 80 % and the 95 % interval.
    pub within80: f64,
    pub within95: f64,
}

/// The `hours` before `until_s` (a whole hour), each with the last forecast made `ahead_s` before it.
pub fn hours(
    told: &[(Timestamp, Told)],
    counts: &[Count],
    spans: &[Watched],
    until_s: i64,
    hours: usize,
    ahead_s: i64,
) -> Vec<Hour> {
    let counted: BTreeMap<i64, u64> = counts.iter().map(|c| (c.start_s, c.arrivals)).collect();
    (0..hours as i64)
        .rev()
        .map(|back| {
            let start_s = until_s - (back + 1) * STEP_S;
            let latest = start_s.saturating_sub(ahead_s).saturating_mul(1_000_000);
            let found = told.iter().rev().find_map(|(made_at, told)| {
                let offset = start_s - told.start_s;
                let fits = made_at.0 <= latest
                    && told.step_s == STEP_S
                    && offset >= 0
                    && offset % STEP_S == 0;
                let step = *told.steps.get(usize::try_from(offset / STEP_S).ok()?)?;
                fits.then_some((*made_at, step))
            });
            let watched = covered_s(spans, start_s, STEP_S) >= 0.9 * STEP_S as f64;
            Hour {
                start_s,
                expected: found.map(|(_, step)| step),
                made_at: found.map(|(made_at, _)| made_at),
                actual: watched.then(|| counted.get(&start_s).map_or(0.0, |n| *n as f64)),
            }
        })
        .collect()
}

/// Scores of hours in their order.
pub fn scores(hours: &[Hour]) -> Scores {
    let known: Vec<(Step, f64)> = hours
        .iter()
        .filter_map(|hour| Some((hour.expected?, hour.actual?)))
        .collect();
    let (steps, actual): (Vec<Step>, Vec<f64>) = known.iter().copied().unzip();
    let n = known.len().max(1) as f64;
    let share = |low: usize, high: usize| {
        let inside = known.iter().filter(|(s, y)| s[low] <= *y && *y <= s[high]);
        inside.count() as f64 / n
    };
    let plain: Vec<f64> = hours
        .iter()
        .enumerate()
        .filter_map(|(at, hour)| {
            hour.expected?;
            let before = hours.get(at.checked_sub(24)?)?.actual?;
            Some((hour.actual? - before).abs())
        })
        .collect();
    Scores {
        hours: known.len(),
        error: known.iter().map(|(s, y)| (s[2] - y).abs()).sum::<f64>() / n,
        plain_error: crate::learn::robust::mean(&plain),
        pinball: score::mean_pinball(&actual, &steps),
        within80: share(1, 3),
        within95: share(0, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(start_h: i64, values: &[f64]) -> (Timestamp, Told) {
        let told = Told {
            start_s: start_h * STEP_S,
            step_s: STEP_S,
            steps: values
                .iter()
                .map(|v| [0.0, v - 1.0, *v, v + 1.0, v + 9.0])
                .collect(),
            how: String::new(),
        };
        (Timestamp(start_h * STEP_S * 1_000_000), told)
    }

    #[test]
    fn each_hour_is_compared_with_the_last_forecast_that_was_early_enough() {
        let forecasts = [told(0, &[5.0, 6.0, 7.0]), told(1, &[60.0, 70.0])];
        let counts = [
            Count {
                start_s: STEP_S,
                arrivals: 6,
                ..Count::default()
            },
            Count {
                start_s: 2 * STEP_S,
                arrivals: 9,
                ..Count::default()
            },
        ];
        let watched = [Watched {
            from: Timestamp(0),
            until: Timestamp(3 * STEP_S * 1_000_000),
        }];
        let at = |ahead_s| hours(&forecasts, &counts, &watched, 4 * STEP_S, 4, ahead_s);
        let medians = |hours: &[Hour]| -> Vec<Option<f64>> {
            hours.iter().map(|h| h.expected.map(|s| s[2])).collect()
        };
        assert_eq!(medians(&at(0)), [Some(5.0), Some(60.0), Some(70.0), None]);
        assert_eq!(medians(&at(STEP_S + 1)), [None, None, Some(7.0), None]);
        let hours = at(STEP_S);
        assert_eq!(hours[3].actual, None, "nobody watched");
        let scores = scores(&hours);
        assert_eq!(scores.hours, 2);
        assert_eq!(scores.error, (0.0 + 61.0) / 2.0);
        assert_eq!(scores.within80, 0.5);
        assert!(scores.plain_error.is_nan());
    }

    #[test]
    fn nothing_to_compare_scores_nothing() {
        assert!(hours(&[], &[], &[], 0, 0, 0).is_empty());
        let scores = scores(&hours(&[], &[], &[], 7200, 2, 0));
        assert_eq!((scores.hours, scores.error), (0, 0.0));
    }
}
