//! What followed earlier moments in which as much had just been asked for: the conditional part of what is
//! expected. Demand that comes in clumps says little of itself a day ahead and much a minute ago; the
//! forecast of an hour knows how many will come, and this knows how they come now.
//!
//! A moment is described by one number, the moving average of what the last ticks would have needed. The
//! earlier ticks that are nearest in it are averaged: the requests that each number of shells would have
//! missed. Any rule that sizes by a moving average is among the answers; which of them, the cost decides.

use super::super::sizing::{Curve, Expected};
use super::replay::isolated_misses;
use super::{DAY, MOST, TICK_S, Trace, WEEK};

/// Below this share of what is expected it is not worth asking.
pub const LEAST_SHARE: f64 = 0.02;
/// Weeks that are looked back.
const WEEKS: usize = 6;
/// Of the moving average, what stays from tick to tick.
const KEPT: f64 = 0.7;
/// So many earlier ticks are averaged at least.
const NEAREST: usize = 150;
/// And all that are as near as this, as a logarithm: ticks in which all was quiet are alike.
const NEAR: f64 = 0.05;

/// Of many that are alike the newest so many.
const AVERAGED: usize = 600;

/// Earlier ticks of one class.
pub struct Recent {
    /// Logarithm of the moving average before each tick, and before the one that comes.
    state: Vec<f64>,
    misses: Vec<Vec<f32>>,
    counts: Vec<f64>,
    lead_s: f64,
    first: usize,
    gaps: std::collections::BTreeSet<usize>,
}

impl Recent {
    /// From what came before tick `until`, for which it answers last; `gaps` are ticks that nobody watched.
    pub fn until(
        trace: &Trace,
        lead_s: f64,
        until: usize,
        gaps: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut misses = isolated_misses(trace, lead_s);
        misses.resize(until, vec![0.0; MOST + 1]);
        let mut counts = trace.counts();
        counts.resize(until, 0.0);
        let mut needs = trace.needs(lead_s);
        needs.resize(until, 0.0);
        let mut average = 0.0;
        let mut state = vec![0.0];
        for need in needs {
            average = KEPT * average + (1.0 - KEPT) * need.min(MOST as f64);
            state.push(f64::ln_1p(average));
        }
        let first = trace
            .at_s
            .first()
            .map_or(0, |at| (at / TICK_S).max(0.0) as usize);
        Self {
            state,
            misses,
            counts,
            lead_s,
            first,
            gaps: gaps.into_iter().collect(),
        }
    }

    /// What `tick` and the one after it will ask for, from the ticks before it; none with less than a day
    /// of them.
    pub fn ask(&self, tick: usize) -> Option<Expected> {
        let now = *self.state.get(tick)?;
        let begin = self.first.max(tick.saturating_sub(WEEKS * WEEK));
        // A tick is looked at with the one after it, which must have ended too.
        let mut like: Vec<(f64, usize)> = (begin..tick.saturating_sub(1))
            .filter(|t| !self.gaps.contains(t) && !self.gaps.contains(&(t + 1)))
            .map(|t| ((self.state[t] - now).abs(), t))
            .collect();
        if like.len() < DAY {
            return None;
        }
        let nth = NEAREST.min(like.len() - 1);
        let (_, farthest, _) = like.select_nth_unstable_by(nth, |a, b| a.0.total_cmp(&b.0));
        let reach = farthest.0.max(NEAR);
        like.retain(|(apart, _)| *apart <= reach);
        like.sort_unstable_by_key(|(_, t)| *t);
        like.drain(..like.len().saturating_sub(AVERAGED));
        let curve = |ahead: usize| {
            let part = 1.0 / like.len() as f64;
            let mut misses = vec![0.0f64; MOST + 1];
            let mut count = 0.0;
            for (_, t) in &like {
                count += part * self.counts[t + ahead];
                for (sum, missed) in misses.iter_mut().zip(&self.misses[t + ahead]) {
                    *sum += part * f64::from(*missed);
                }
            }
            let idle_s = misses.iter().enumerate().map(|(shells, missed)| {
                let booting = (count - missed).max(0.0) * self.lead_s;
                (shells as f64 * TICK_S - booting).max(0.0) as f32
            });
            Curve {
                idle_s: idle_s.collect(),
                misses: misses.iter().map(|missed| *missed as f32).collect(),
            }
        };
        Some(Expected {
            now: curve(0),
            next: curve(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sizing::Hysteresis;
    use super::super::foresee::targets;
    use super::*;

    /// Four times a day, at no time of its own, half an hour in which twelve come at once every two
    /// minutes; one an hour else.
    fn storms(days: usize) -> Trace {
        let mut at_s: Vec<f64> = (0..days * 24)
            .map(|hour| hour as f64 * 3600.0 + 7.0)
            .collect();
        for storm in 0..4 * days {
            let begin = storm as f64 * 21_600.0 + (storm * 7919 % 40) as f64 * 300.0;
            for minute in 0..15 {
                at_s.extend(
                    (0..12).map(|i| begin + 120.0 * f64::from(minute) + 0.01 * f64::from(i)),
                );
            }
        }
        at_s.sort_by(f64::total_cmp);
        Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        }
    }

    #[test]
    fn while_a_storm_lasts_shells_are_kept_and_after_it_they_go() {
        let trace = storms(16);
        let recent = Recent::until(&trace, 0.6, 16 * DAY, []);
        let wanted = |tick: usize| {
            let expected = recent.ask(tick).expect("an answer");
            targets(&[expected], 1000.0, Hysteresis { share: 0.0 })[0]
        };
        // The first storm of the last day.
        let begin = 15 * DAY + 60 * 7919 % 40;
        assert!(
            wanted(begin) <= 1,
            "nobody knows of it yet: {}",
            wanted(begin)
        );
        for tick in begin + 3..begin + 6 {
            assert!(wanted(tick) >= 11, "{tick}: {}", wanted(tick));
        }
        assert!(
            wanted(begin + 24) <= 1,
            "it is over: {}",
            wanted(begin + 24)
        );
    }

    #[test]
    fn it_knows_nothing_of_what_comes_and_nothing_of_gaps() {
        let trace = storms(4);
        let known = |trace: &Trace, gaps: Vec<usize>| {
            Recent::until(trace, 0.6, trace.ticks(), gaps).ask(3 * DAY)
        };
        let mut before = trace.clone();
        before.at_s.retain(|at| *at < 3.0 * 86_400.0);
        before.hold_s.truncate(before.at_s.len());
        before.at_s.push(3.9 * 86_400.0);
        before.hold_s.push(1.0);
        assert_eq!(known(&trace, vec![]), known(&before, vec![]));
        assert!(
            known(&trace, (0..3 * DAY - 9).collect()).is_none(),
            "all but an hour is a gap"
        );
        assert!(Recent::until(&trace, 0.6, 10, []).ask(9).is_none());
        assert!(
            Recent::until(&Trace::default(), 0.6, 0, [])
                .ask(0)
                .is_none()
        );
    }
}
