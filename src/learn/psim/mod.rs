//! P-sim v1: what a pool's sizes would have cost and served on a recorded trace, exactly.
//!
//! Requests come at given times, one shell each, and hold it for a given time. A boot takes
//! `lead_s`; [`BOOTS_AT_ONCE`] run at once, further ones queue. Whenever ready + booting + queued
//! shells are fewer than the target of the present tick, boots are started; when the target falls,
//! queued boots are cancelled first and surplus ready shells are destroyed at once. A request takes a
//! ready shell (hot, [`HOT_S`]), or it is cold: it gets a boot of its own outside of the pool's
//! budget and never waits for a booting shell of the pool. With `reuse_s`, a shell comes back
//! [`RESET_S`] after its hold and stays up to that long even above the target, the latest taken
//! first. Targets are set at each tick of [`TICK_S`] with what was known at its begin.
//!
//! Measured are the share of cold requests and the time integral of ready, unassigned shells per
//! request. [`replay`] gives the same for every constant target at once: the cost curves that
//! [`super::sizing`] chooses from.

pub mod clairvoyant;
pub mod foresee;
pub mod foretell;
pub mod known;
pub mod policies;
pub mod recent;
pub mod replay;
pub mod rule;
mod run;

pub use run::{Host, Outcome, run};

/// Seconds between decisions.
pub const TICK_S: f64 = 300.0;
pub const BOOTS_AT_ONCE: usize = 16;
/// A ready shell is handed over in this time.
pub const HOT_S: f64 = 0.03;
/// A fork from a resident template takes this long.
pub const FORK_S: f64 = 0.6;
/// A shell that comes back is clean after this time.
pub const RESET_S: f64 = 0.6;
/// Ticks of a week.
pub const WEEK: usize = 7 * 86_400 / TICK_S as usize;
/// Ticks of a day.
pub const DAY: usize = 86_400 / TICK_S as usize;
/// The largest target that is considered.
pub const MOST: usize = 64;

/// Recorded requests, ascending; times in seconds from a Monday's midnight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    pub at_s: Vec<f64>,
    pub hold_s: Vec<f64>,
}

/// Why a text is no trace.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoTrace {
    #[error(
        "line {line}: expected `UNIX_SECONDS,HOLD_SECONDS` such as 1656604920,191, but it is {text:?}"
    )]
    Line { line: usize, text: String },
    #[error(
        "there are no requests in it; expected a heading and lines `UNIX_SECONDS,HOLD_SECONDS`"
    )]
    Empty,
}

/// A shell is not held longer than this in a replay; what lasts longer is a server.
pub const LONGEST_HOLD_S: f64 = 14_400.0;

impl Trace {
    /// Reads lines `UNIX_SECONDS,HOLD_SECONDS` (UTC), a heading allowed. Times are moved so that 0 is
    /// the midnight of a Monday before the first request; lines may be in any order.
    pub fn read(text: &str) -> Result<Self, NoTrace> {
        const WEEK_S: f64 = 604_800.0;
        /// 1970-01-01 was a Thursday; the first Monday came four days later.
        const MONDAY_S: f64 = 345_600.0;
        let mut requests = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut parts = line.split(',').map(|part| part.trim().parse::<f64>());
            match (parts.next(), parts.next()) {
                (Some(Ok(at)), Some(Ok(hold))) if at.is_finite() && hold.is_finite() => {
                    requests.push((at, hold.clamp(0.0, LONGEST_HOLD_S)));
                }
                _ if number == 0 || line.trim().is_empty() => {}
                _ => {
                    return Err(NoTrace::Line {
                        line: number + 1,
                        text: line.to_owned(),
                    });
                }
            }
        }
        requests.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some(first) = requests.first() else {
            return Err(NoTrace::Empty);
        };
        let zero = ((first.0 - MONDAY_S) / WEEK_S).floor() * WEEK_S + MONDAY_S;
        Ok(Self {
            at_s: requests.iter().map(|request| request.0 - zero).collect(),
            hold_s: requests.iter().map(|request| request.1).collect(),
        })
    }

    /// Ticks from zero to the one of the last request, that one included.
    pub fn ticks(&self) -> usize {
        self.at_s
            .last()
            .map_or(0, |last| (last / TICK_S) as usize + 1)
    }

    /// Requests per tick.
    pub fn counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.ticks()];
        for at in &self.at_s {
            counts[(at / TICK_S) as usize] += 1.0;
        }
        counts
    }

    /// Per tick the stock that would have served it without a miss: the largest number of requests
    /// within any `lead_s` that end in it.
    pub fn needs(&self, lead_s: f64) -> Vec<f64> {
        let mut needs = vec![0.0; self.ticks()];
        let mut oldest = 0;
        for (i, at) in self.at_s.iter().enumerate() {
            while self.at_s[oldest] < at - lead_s {
                oldest += 1;
            }
            let need: &mut f64 = &mut needs[(at / TICK_S) as usize];
            *need = need.max((i - oldest + 1) as f64);
        }
        needs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_in_any_order_from_a_monday() {
        // 2022-06-30 was a Thursday: three days and 16 hours after Monday's midnight.
        let trace = Trace::read("submit,hold\n1656604949,2\n1656604920,1\n").unwrap();
        let thursday = 3.0 * 86_400.0 + 16.0 * 3600.0 + 120.0;
        assert_eq!(trace.at_s, [thursday, thursday + 29.0]);
        assert_eq!(trace.hold_s, [1.0, 2.0]);
    }

    #[test]
    fn a_broken_line_is_named() {
        assert_eq!(
            Trace::read("a,b\n5,x\n"),
            Err(NoTrace::Line {
                line: 2,
                text: "5,x".to_owned()
            })
        );
        assert_eq!(Trace::read("heading\n"), Err(NoTrace::Empty));
    }

    #[test]
    fn needs_count_the_requests_of_a_lead_time() {
        let trace = Trace {
            at_s: vec![10.0, 12.0, 20.0, 299.0, 301.0],
            hold_s: vec![0.0; 5],
        };
        assert_eq!(trace.needs(6.7), [2.0, 2.0]);
        assert_eq!(trace.counts(), [4.0, 1.0]);
    }
}
