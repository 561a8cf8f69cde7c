//! What the daemon would have expected at each tick of a trace: the served forecast of the coming
//! hours ([`super::super::forecast::serve`]), made anew from what came before, with what the last moments
//! say ([`super::recent`]), as sizing takes it.

use std::ops::Range;

use super::super::forecast::serve::{self, Learned, Past};
use super::super::forecast::{Shape, Step};
use super::super::sizing::{Expected, peakedness, share_of_recent};
use super::recent::{LEAST_SHARE, Recent};
use super::{DAY, MOST, TICK_S, Trace};

/// Ticks of an hour, and hours of the seasons.
const HOUR: usize = DAY / 24;
const SHAPE: Shape = Shape { day: 24, week: 168 };
/// Hours of history, and of the forecast by which methods are weighed.
const HISTORY: usize = 6 * 168;
const HORIZON: usize = 24;
/// Seconds of requests that say how much they come in clumps: two weeks.
const CLUMPS_S: f64 = 14.0 * 86_400.0;

/// Expected curves of each of the `ticks`. The forecast is made anew `every` so many ticks and moves on
/// in between.
pub fn expect(trace: &Trace, lead_s: f64, ticks: Range<usize>, every: usize) -> Vec<Expected> {
    let every = every.clamp(1, HOUR);
    let counts = trace.counts();
    let mut sums = vec![0.0];
    for tick in 0..ticks.end {
        let count = counts.get(tick).copied().unwrap_or(0.0);
        sums.push(sums[tick] + count);
    }
    let first = trace
        .at_s
        .first()
        .map_or(0, |at| (at / TICK_S).max(0.0) as usize);
    let recent = Recent::until(trace, lead_s, ticks.end, []);
    let (mut steps, mut made_at, mut clumped): (Vec<Step>, usize, f64) = (Vec::new(), 0, 1.0);
    ticks
        .clone()
        .map(|tick| {
            let age = tick.saturating_sub(made_at);
            if steps.is_empty() || age >= every {
                steps = forecast(&sums, first, tick);
                made_at = tick;
            }
            if tick == ticks.start || tick.is_multiple_of(DAY) {
                let until = tick as f64 * TICK_S;
                let end = trace.at_s.partition_point(|at| *at < until);
                let begin = trace.at_s.partition_point(|at| *at < until - CLUMPS_S);
                clumped = peakedness(&trace.at_s[begin..end], lead_s);
            }
            let part = (tick - made_at) as f64 / HOUR as f64;
            let moved: Vec<Step> = steps
                .windows(2)
                .take(2)
                .map(|pair| std::array::from_fn(|i| pair[0][i] + part * (pair[1][i] - pair[0][i])))
                .collect();
            let expected = Expected::of_forecast(&moved, 3600.0, TICK_S, lead_s, clumped, MOST);
            let share = share_of_recent(clumped);
            let recent = if share < LEAST_SHARE {
                None
            } else {
                recent.ask(tick)
            };
            match recent {
                Some(recent) => expected.mixed(&recent, share),
                None => expected,
            }
        })
        .collect()
}

/// The hours from `tick` on, from those before it; `first` is the tick of the first request.
fn forecast(sums: &[f64], first: usize, tick: usize) -> Vec<Step> {
    let hours = (tick.saturating_sub(first) / HOUR).min(HISTORY);
    let begin = tick - hours * HOUR;
    let own: Vec<f64> = (0..hours)
        .map(|hour| sums[begin + (hour + 1) * HOUR] - sums[begin + hour * HOUR])
        .collect();
    let past = Past {
        own: &own,
        family: &[],
        everyone: &[],
        first: tick / HOUR % SHAPE.week,
        shape: SHAPE,
        now_s: (tick as f64 * TICK_S) as i64,
    };
    serve::forecast(&past, &Learned::default(), HORIZON).0
}

#[cfg(test)]
mod tests {
    use super::super::foresee::targets;
    use super::*;
    use crate::learn::sizing::Hysteresis;

    #[test]
    fn a_daily_burst_is_met_before_it_comes_and_nothing_waits_at_night() {
        // Two hundred requests between noon and one, each day.
        let at_s: Vec<f64> = (0..21)
            .flat_map(|day| {
                (0..200).map(move |i| f64::from(day) * 86_400.0 + 43_200.0 + f64::from(i) * 18.0)
            })
            .collect();
        let trace = Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        };
        let ticks = 20 * DAY..21 * DAY;
        for every in [1, HOUR] {
            let expected = expect(&trace, 30.0, ticks.clone(), every);
            let targets = targets(&expected, 1800.0, Hysteresis { share: 0.05 });
            assert!(targets[144] >= 1, "{:?}", &targets[130..160]);
            assert_eq!(targets[..120].iter().max(), Some(&0), "every {every}");
            assert_eq!(targets[170..].iter().max(), Some(&0), "every {every}");
        }
    }

    #[test]
    fn nothing_before_expects_nothing() {
        let expected = expect(&Trace::default(), 6.7, 0..3, 1);
        assert_eq!(
            targets(&expected, 1e4, Hysteresis { share: 0.0 }),
            [0, 0, 0]
        );
    }
}
