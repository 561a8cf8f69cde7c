//! From counts and watched spans to what forecasts and replays take. Pure.

use std::collections::BTreeMap;

use super::watch::covered_s;
use super::{HORIZON, STEP_S, WEEKS};
use crate::learn::forecast::events::Event;
use crate::learn::forecast::prior::Habit;
use crate::learn::forecast::{Shape, events};
use crate::learn::psim::{LONGEST_HOLD_S, Trace};
use crate::learn::robust;
use crate::learn::series::{self, Faults};
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Count, PlannedEvent, Watched};

/// Hours of a day and a week.
pub const SHAPE: Shape = Shape { day: 24, week: 168 };
/// A Monday's midnight: 1970-01-05.
const MONDAY_S: i64 = 345_600;
const WEEK_S: i64 = 604_800;

/// A class's requests per hour, the last hour ending at `until_s`; NaN where nobody watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    pub until_s: i64,
    pub values: Vec<f64>,
}

impl Hours {
    /// Counts in buckets become hours that end at a bucket's border, so that each bucket brings the
    /// forecast up to date. An hour of which less than half was watched is a gap; one with a smaller
    /// gap is taken to have gone on alike. The history begins when somebody watched and the class was
    /// there: with its first arrival, or at `born_s` where that was earlier; six weeks ago at most.
    pub fn of(counts: &[Count], spans: &[Watched], born_s: Option<i64>, until_s: i64) -> Self {
        let earliest = until_s - WEEKS * WEEK_S;
        let watched_s = spans
            .iter()
            .map(|span| span.from.0.div_euclid(1_000_000))
            .min();
        let first_s = counts.first().map(|count| count.start_s);
        let there_s = first_s.into_iter().chain(born_s).min();
        let begin = match (watched_s, there_s) {
            (Some(watched), Some(there)) => watched.max(there).clamp(earliest, until_s),
            _ => until_s,
        };
        let hours = usize::try_from((until_s - begin) / STEP_S).unwrap_or(0);
        let start_s = until_s - hours as i64 * STEP_S;
        let mut seen: BTreeMap<i64, f64> = BTreeMap::new();
        for count in counts {
            if (start_s..until_s).contains(&count.start_s) {
                *seen.entry((count.start_s - start_s) / STEP_S).or_default() +=
                    count.arrivals as f64;
            }
        }
        let values = (0..hours as i64)
            .map(|hour| {
                let watched = covered_s(spans, start_s + hour * STEP_S, STEP_S);
                let share = watched / STEP_S as f64;
                let count = seen.get(&hour).copied().unwrap_or(0.0);
                // What was counted was watched, whatever the spans say of its last minutes.
                if share < 0.5 { f64::NAN } else { count / share }
            })
            .collect();
        Self { until_s, values }
    }

    pub fn start_s(&self) -> i64 {
        self.until_s - self.values.len() as i64 * STEP_S
    }

    /// The same from `steps` hours before.
    pub fn last(&self, steps: usize) -> &[f64] {
        &self.values[self.values.len().saturating_sub(steps)..]
    }

    /// As methods take it: without what planned events did, no gaps, nothing absurd.
    pub fn cleaned(&self, planned: &[&PlannedEvent]) -> (Vec<f64>, Faults) {
        let events = steps_of(planned, self.start_s(), self.values.len());
        series::clean(&events::without(&self.values, &events), SHAPE)
    }

    /// What others may be expected to be like; none with less than a week.
    pub fn habit(&self, cleaned: &[f64]) -> Option<Habit> {
        let first = step_of_week(self.start_s());
        let skipped = (SHAPE.week - first) % SHAPE.week;
        Habit::of(cleaned.get(skipped..)?, SHAPE)
    }
}

/// Hour of the week in which a moment lies.
pub fn step_of_week(at_s: i64) -> usize {
    usize::try_from((at_s - MONDAY_S).rem_euclid(WEEK_S) / STEP_S).unwrap_or(0)
}

/// Events in steps from `start_s` on; those that touch none of `steps` are left out. An event that
/// holds for a part of a step changes it by as much.
pub fn steps_of(planned: &[&PlannedEvent], start_s: i64, steps: usize) -> Vec<Event> {
    let end_s = start_s.saturating_add(steps as i64 * STEP_S);
    let mut found = Vec::new();
    for event in planned {
        let (from, until) = (
            event.from.0.div_euclid(1_000_000).max(start_s),
            event.until.0.div_euclid(1_000_000).min(end_s),
        );
        if until <= from {
            continue;
        }
        let step = |at: i64| usize::try_from((at - start_s) / STEP_S).unwrap_or(0);
        for step in step(from)..=step(until - 1) {
            let begin = start_s + step as i64 * STEP_S;
            let held = until.min(begin + STEP_S) - from.max(begin);
            let share = held as f64 / STEP_S as f64;
            found.push(Event {
                name: event.name.clone(),
                from: step,
                until: step + 1,
                factor: 1.0 + share * (event.factor - 1.0),
                doubt: event.doubt,
            });
        }
    }
    found
}

/// Names of the events that change the coming day.
pub fn names_ahead(planned: &[&PlannedEvent], now_s: i64) -> Vec<String> {
    let mut names: Vec<String> = steps_of(planned, now_s, HORIZON)
        .into_iter()
        .map(|event| event.name)
        .collect();
    names.dedup();
    names
}

/// Recorded arrivals as a replay takes them: seconds from a Monday's midnight, and that midnight. What
/// was held for an unknown time is taken to have been held as long as others (20 minutes where that is
/// not known either).
pub fn trace(arrivals: &[(Timestamp, Option<f64>)]) -> Option<(Trace, i64)> {
    const HELD_S: f64 = 1200.0;
    let first_s = arrivals.first()?.0.0.div_euclid(1_000_000);
    let zero_s = (first_s - MONDAY_S).div_euclid(WEEK_S) * WEEK_S + MONDAY_S;
    let known: Vec<f64> = arrivals.iter().filter_map(|(_, held)| *held).collect();
    let usual = match robust::median(&known) {
        held if held.is_finite() => held,
        _ => HELD_S,
    };
    let trace = Trace {
        at_s: arrivals
            .iter()
            .map(|(at, _)| at.0 as f64 / 1e6 - zero_s as f64)
            .collect(),
        hold_s: arrivals
            .iter()
            .map(|(_, held)| held.unwrap_or(usual).clamp(0.0, LONGEST_HOLD_S))
            .collect(),
    };
    Some((trace, zero_s))
}

/// Buckets between `from_s` and `until_s`, counted from `zero_s`, that were not watched whole.
pub fn gaps(spans: &[Watched], zero_s: i64, until_s: i64) -> Vec<usize> {
    let buckets = usize::try_from((until_s - zero_s) / BUCKET_S).unwrap_or(0);
    (0..buckets)
        .filter(|bucket| {
            let start = zero_s + *bucket as i64 * BUCKET_S;
            covered_s(spans, start, BUCKET_S) < 0.9 * BUCKET_S as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = MONDAY_S + 43_200;

    fn count(start_s: i64, arrivals: u64) -> Count {
        Count {
            start_s,
            arrivals,
            ..Count::default()
        }
    }

    fn span(from_s: i64, until_s: i64) -> Watched {
        Watched {
            from: Timestamp(from_s * 1_000_000),
            until: Timestamp(until_s * 1_000_000),
        }
    }

    #[test]
    fn hours_end_at_any_bucket_and_gaps_are_gaps() {
        let counts = [
            count(NOON - 300, 1),
            count(NOON - 3600, 2),
            count(NOON - 3900, 4),
            count(NOON, 99),
        ];
        let spans = [
            span(NOON - 5 * 3600, NOON - 3 * 3600),
            span(NOON - 2 * 3600 + 600, NOON),
        ];
        let hours = Hours::of(&counts, &spans, Some(0), NOON);
        assert_eq!(hours.values[..2], [0.0, 0.0]);
        assert!(hours.values[2].is_nan());
        // Ten minutes are missing of the hour before the last.
        assert!((hours.values[3] - 4.0 / (5.0 / 6.0)).abs() < 1e-9);
        assert_eq!(hours.values[4], 3.0);
        let later = Hours::of(&counts, &spans, Some(0), NOON - 300);
        assert_eq!(later.values.last(), Some(&6.0));
        assert!(Hours::of(&counts, &[], Some(0), NOON).values.is_empty());
        // Without a birth the first arrival is one: whole hours since then.
        assert_eq!(Hours::of(&counts[..3], &spans, None, NOON).values.len(), 0);
        assert!(Hours::of(&[], &spans, None, NOON).values.is_empty());
    }

    #[test]
    fn six_weeks_are_enough_and_a_clock_far_ahead_costs_nothing() {
        let spans = [span(0, NOON)];
        let far = i64::from(i32::MAX);
        let hours = Hours::of(&[], &spans, Some(0), far);
        assert_eq!(hours.values.len(), 1008);
        assert!(hours.values.iter().all(|v| v.is_nan()));
        assert_eq!(hours.cleaned(&[]).0, vec![0.0; 1008]);
    }

    #[test]
    fn the_step_of_a_week_counts_from_monday() {
        assert_eq!(step_of_week(MONDAY_S), 0);
        assert_eq!(step_of_week(NOON), 12);
        assert_eq!(step_of_week(MONDAY_S - 1), 167);
    }

    #[test]
    fn an_event_changes_a_step_by_the_part_that_it_holds() {
        let event = PlannedEvent {
            name: "release".into(),
            of: None,
            from: Timestamp((NOON + 1800) * 1_000_000),
            until: Timestamp((NOON + 7200) * 1_000_000),
            factor: 3.0,
            doubt: 0.1,
        };
        let steps = steps_of(&[&event], NOON, 24);
        let of: Vec<(usize, f64)> = steps.iter().map(|e| (e.from, e.factor)).collect();
        assert_eq!(of, [(0, 2.0), (1, 3.0)]);
        assert!(steps_of(&[&event], NOON + 7200, 24).is_empty());
        assert_eq!(names_ahead(&[&event], NOON), ["release"]);
    }

    #[test]
    fn a_trace_begins_on_a_monday_and_unknown_holds_are_like_others() {
        let at = |s: i64| Timestamp((NOON + s) * 1_000_000);
        let (trace, zero_s) =
            trace(&[(at(0), Some(30.0)), (at(5), None), (at(9), Some(1e9))]).unwrap();
        assert_eq!(zero_s, MONDAY_S);
        assert_eq!(trace.at_s, [43_200.0, 43_205.0, 43_209.0]);
        assert_eq!(trace.hold_s[0], 30.0);
        assert!(trace.hold_s.iter().all(|h| *h <= LONGEST_HOLD_S));
        assert!(super::trace(&[]).is_none());
    }
}
