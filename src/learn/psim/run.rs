//! The event loop of P-sim.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use super::{BOOTS_AT_ONCE, HOT_S, RESET_S, TICK_S, Trace};

/// What shells cost on this host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host {
    /// Seconds from the order of a shell until it is ready.
    pub lead_s: f64,
    /// How long a returned shell may wait for its next request; none: every shell is used once.
    pub reuse_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    pub requests: usize,
    pub cold: usize,
    /// Seconds that ready shells waited, all together.
    pub idle_s: f64,
    /// Boots that were started for the pool.
    pub boots: usize,
}

impl Outcome {
    /// Cold requests in percent.
    pub fn cold_percent(&self) -> f64 {
        100.0 * self.cold as f64 / self.requests.max(1) as f64
    }

    pub fn idle_per_request(&self) -> f64 {
        self.idle_s / self.requests.max(1) as f64
    }

    /// Mean seconds a request waited, given what a cold one waits.
    pub fn mean_wait_s(&self, cold_s: f64) -> f64 {
        let share = self.cold as f64 / self.requests.max(1) as f64;
        share * cold_s + (1.0 - share) * HOT_S
    }
}

/// Runs the ticks of a trace with `target(tick)` shells each.
pub fn run(
    trace: &Trace,
    host: Host,
    ticks: Range<usize>,
    target: impl Fn(usize) -> usize,
) -> Outcome {
    watched(trace, host, ticks, target, |_, _, _| ())
}

/// The same; `watch(tick, misses, idle_s)` is told the parts of each tick as they occur.
pub(super) fn watched(
    trace: &Trace,
    host: Host,
    ticks: Range<usize>,
    target: impl Fn(usize) -> usize,
    mut watch: impl FnMut(usize, usize, f64),
) -> Outcome {
    let (begin, end) = (ticks.start as f64 * TICK_S, ticks.end as f64 * TICK_S);
    let mut next = trace.at_s.partition_point(|at| *at < begin);
    let mut outcome = Outcome::default();
    let mut fresh = 0usize;
    let mut queued = 0usize;
    // All boots take equally long, so they end in the order of their starts.
    let mut booting: VecDeque<f64> = VecDeque::new();
    let mut held: BinaryHeap<Reverse<Time>> = BinaryHeap::new();
    let mut returned: VecDeque<f64> = VecDeque::new();
    let mut now = begin;
    let mut tick = ticks.start;
    let mut next_tick = begin;
    let mut stock = 0usize;
    loop {
        let request = trace.at_s.get(next).copied().unwrap_or(f64::INFINITY);
        let boot = booting.front().copied().unwrap_or(f64::INFINITY);
        let back = held.peek().map_or(f64::INFINITY, |Reverse(Time(at))| *at);
        let stale = match (host.reuse_s, returned.front()) {
            (Some(reuse_s), Some(since)) => since + reuse_s,
            _ => f64::INFINITY,
        };
        let at = request.min(boot).min(back).min(stale).min(next_tick);
        let until = at.min(end);
        let ready = fresh + returned.len();
        let idle = ready as f64 * (until - now);
        outcome.idle_s += idle;
        watch(tick.saturating_sub(1).max(ticks.start), 0, idle);
        if at >= end {
            return outcome;
        }
        now = at;
        if at == next_tick {
            stock = target(tick);
            tick += 1;
            next_tick = tick as f64 * TICK_S;
        } else if at == boot {
            booting.pop_front();
            fresh += 1;
        } else if at == back {
            held.pop();
            returned.push_back(now);
        } else if at == stale {
            returned.pop_front();
        } else {
            outcome.requests += 1;
            let waits = if returned.pop_back().is_some() {
                HOT_S
            } else if fresh > 0 {
                fresh -= 1;
                HOT_S
            } else {
                outcome.cold += 1;
                watch(tick - 1, 1, 0.0);
                host.lead_s
            };
            if host.reuse_s.is_some() {
                held.push(Reverse(Time(now + waits + trace.hold_s[next] + RESET_S)));
            }
            next += 1;
        }
        let all = fresh + returned.len() + booting.len() + queued;
        if all < stock {
            queued += stock - all;
        } else {
            let surplus = all - stock;
            let cancelled = queued.min(surplus);
            queued -= cancelled;
            fresh -= fresh.min(surplus - cancelled);
        }
        while queued > 0 && booting.len() < BOOTS_AT_ONCE {
            queued -= 1;
            outcome.boots += 1;
            booting.push_back(now + host.lead_s);
        }
    }
}

/// A time that orders.
#[derive(PartialEq)]
struct Time(f64);

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(at_s: &[f64], hold_s: f64) -> Trace {
        Trace {
            at_s: at_s.to_vec(),
            hold_s: vec![hold_s; at_s.len()],
        }
    }

    const BOOT: Host = Host {
        lead_s: 10.0,
        reuse_s: None,
    };

    #[test]
    fn one_shell_serves_what_does_not_come_within_a_boot() {
        // Ready at 10; taken at 20, ready again at 30; the one at 25 is cold.
        let outcome = run(&trace(&[20.0, 25.0, 40.0], 5.0), BOOT, 0..1, |_| 1);
        assert_eq!((outcome.requests, outcome.cold), (3, 1));
        assert_eq!(outcome.idle_s, 10.0 + 10.0 + 250.0);
        assert_eq!(outcome.boots, 3);
    }

    #[test]
    fn without_a_pool_all_is_cold_and_nothing_idles() {
        let outcome = run(&trace(&[20.0, 40.0], 5.0), BOOT, 0..1, |_| 0);
        assert_eq!((outcome.cold, outcome.idle_s), (2, 0.0));
        assert_eq!(outcome.mean_wait_s(0.6), 0.6);
    }

    #[test]
    fn a_returned_shell_is_used_again_until_it_is_stale() {
        let host = Host {
            lead_s: 10.0,
            reuse_s: Some(60.0),
        };
        // Cold at 20, back at 20 + 10 + 5 + 0.6, reused at 50, back at 55.63, gone at 115.63.
        let outcome = run(&trace(&[20.0, 50.0, 200.0], 5.0), host, 0..1, |_| 0);
        assert_eq!(outcome.cold, 2);
        let idle = (50.0 - 35.6) + 60.0 + 60.0;
        assert!((outcome.idle_s - idle).abs() < 1e-6, "{}", outcome.idle_s);
    }

    #[test]
    fn a_fallen_target_destroys_the_surplus_at_once() {
        let outcome = run(
            &trace(&[], 0.0),
            BOOT,
            0..2,
            |tick| if tick == 0 { 4 } else { 1 },
        );
        assert_eq!(outcome.idle_s, 4.0 * 290.0 + 300.0);
    }

    #[test]
    fn only_so_many_boots_run_at_once() {
        let outcome = run(&trace(&[], 0.0), BOOT, 0..1, |_| 20);
        assert_eq!(outcome.idle_s, 16.0 * 290.0 + 4.0 * 280.0);
    }
}
