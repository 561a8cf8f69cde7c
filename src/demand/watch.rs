//! When somebody counted. A time that nobody watched is a gap in the history, not a zero. Pure.

use std::time::Duration;

use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, Watched};

/// A daemon that looks says so at least this often; after a longer silence it was not there, or the
/// clock was put forward.
const SILENCE: Duration = Duration::from_secs(2 * BUCKET_S as u64 + 60);

/// The span that is watched now. A start, a long silence and a clock that went back begin another.
pub fn extended(last: Option<Watched>, now: Timestamp) -> Watched {
    match last {
        Some(last) if now >= last.until && now.since(last.until) <= SILENCE => Watched {
            from: last.from,
            until: now,
        },
        _ => Watched {
            from: now,
            until: now,
        },
    }
}

/// Seconds of the time from `start_s` on, `step_s` long, that any of the spans covers. They may overlap
/// and are in the order of their begins.
pub fn covered_s(spans: &[Watched], start_s: i64, step_s: i64) -> f64 {
    let (begin, end) = (
        start_s.saturating_mul(1_000_000),
        start_s.saturating_add(step_s).saturating_mul(1_000_000),
    );
    let mut reached = begin;
    let mut covered = 0i64;
    for span in spans {
        let (from, until) = (span.from.0.max(reached), span.until.0.min(end));
        if until > from {
            covered += until - from;
            reached = until;
        }
    }
    covered as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    fn span(from: i64, until: i64) -> Watched {
        Watched {
            from: at(from),
            until: at(until),
        }
    }

    #[test]
    fn a_span_goes_on_until_somebody_was_away_or_the_clock_jumped() {
        assert_eq!(extended(None, at(5)), span(5, 5));
        assert_eq!(extended(Some(span(5, 5)), at(305)), span(5, 305));
        assert_eq!(extended(Some(span(5, 305)), at(5000)), span(5000, 5000));
        assert_eq!(extended(Some(span(5, 305)), at(100)), span(100, 100));
        let wild = Watched {
            from: Timestamp(i64::MIN),
            until: Timestamp(i64::MIN),
        };
        assert_eq!(extended(Some(wild), at(0)), span(0, 0));
    }

    #[test]
    fn overlapping_spans_cover_once() {
        let spans = [span(0, 100), span(50, 120), span(200, 1000)];
        assert_eq!(covered_s(&spans, 0, 300), 220.0);
        assert_eq!(covered_s(&spans, 300, 300), 300.0);
        assert_eq!(covered_s(&spans, 1000, 300), 0.0);
        assert_eq!(covered_s(&spans, i64::MAX - 5, 300), 0.0);
    }
}
