//! What sizes are decided from at one tick: the curve of the tick that begins, and of the one after
//! it, because a shell that is ordered then may come too late.

use super::super::forecast::{LEVELS, Step};
use super::{Class, Curve, Hysteresis, Sized, size};

/// Expected curves of the tick that begins and of the one after it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    pub now: Curve,
    pub next: Curve,
}

impl Expected {
    /// From a forecast whose first step, of `step_s` seconds, begins with the tick. The next tick's
    /// step is as far between the first two as a tick is of a step.
    pub fn of_forecast(
        steps: &[Step],
        step_s: f64,
        tick_s: f64,
        lead_s: f64,
        peakedness: f64,
        most: usize,
    ) -> Self {
        let Some(first) = steps.first() else {
            return Self::default();
        };
        let share = (tick_s / step_s).clamp(0.0, 1.0);
        let second = steps.get(1).unwrap_or(first);
        let next = std::array::from_fn(|i| first[i] + share * (second[i] - first[i]));
        // Costs are those of one tick, as in a replay.
        let of_tick = |step: &Step| {
            let requests = step.map(|count| count * share);
            Curve::of_forecast(&requests, tick_s, lead_s, peakedness, most)
        };
        Self {
            now: of_tick(first),
            next: of_tick(&next),
        }
    }

    /// This with another's expectation, which counts by `share` (0–1).
    pub fn mixed(mut self, other: &Self, share: f64) -> Self {
        let share = share.clamp(0.0, 1.0) as f32;
        for (own, other) in [(&mut self.now, &other.now), (&mut self.next, &other.next)] {
            for (own, other) in [
                (&mut own.misses, &other.misses),
                (&mut own.idle_s, &other.idle_s),
            ] {
                if own.is_empty() {
                    own.clone_from(other);
                }
                for (own, other) in own.iter_mut().zip(other) {
                    *own += share * (other - *own);
                }
            }
        }
        self
    }

    /// The curve that asks for more shells of the class, whose own curve is not looked at.
    pub fn larger(&self, class: &Class, hysteresis: Hysteresis) -> (&Curve, Sized) {
        let of = |curve| {
            let class = Class {
                curve,
                ..class.clone()
            };
            size(&[class], u64::MAX, hysteresis)[0]
        };
        let (now, next) = (of(&self.now), of(&self.next));
        if next.shells > now.shells {
            (&self.next, next)
        } else {
            (&self.now, now)
        }
    }
}

/// How much requests come in clumps: variance ÷ mean of the requests in windows of `lead_s`, at least
/// 1. `at_s` ascends; a span without requests counts as windows without.
pub fn peakedness(at_s: &[f64], lead_s: f64) -> f64 {
    let (Some(first), Some(last)) = (at_s.first(), at_s.last()) else {
        return 1.0;
    };
    let lead_s = lead_s.max(1e-3);
    let windows = ((last - first) / lead_s).floor() + 1.0;
    if !windows.is_finite() || windows < 2.0 {
        return 1.0;
    }
    let (mut squares, mut run, mut window) = (0.0, 0.0, f64::NEG_INFINITY);
    for at in at_s {
        let of = ((at - first) / lead_s).floor();
        if of != window {
            squares += run * run;
            (run, window) = (0.0, of);
        }
        run += 1.0;
    }
    squares += run * run;
    let mean = at_s.len() as f64 / windows;
    let variance = (squares / windows - mean * mean).max(0.0);
    (variance / mean).max(1.0)
}

/// How much of what is expected is told by the last moments instead of the forecast of the hour: of
/// requests that come one by one nothing, of requests in clumps the share of their variance that
/// independent ones would not have.
pub fn share_of_recent(peakedness: f64) -> f64 {
    match peakedness.is_finite() {
        true => 1.0 - 1.0 / peakedness.max(1.0),
        false => 0.0,
    }
}

/// Whether a class without hot shells keeps its template, by what the next day is expected to ask for.
/// A template costs a waiting empty fork and its files; without one a request boots.
pub fn keeps_template(next_day: &[Step], is_kept: bool) -> bool {
    /// Requests of a day, at the forecast's 90 %, from which on one is worth it, and below which it
    /// goes: apart, so that it does not come and go.
    const FROM: f64 = 1.0;
    const BELOW: f64 = 0.25;
    let upper: f64 = next_day.iter().map(|step| step[3]).sum();
    let middle: f64 = next_day.iter().map(|step| step[2]).sum();
    const { assert!(LEVELS[3] == 0.9) };
    // Ninetieth percentiles of hours do not add up to that of a day; half of the way is near it for
    // hours that do not depend on each other.
    let likely = middle + 0.5 * (upper - middle).max(0.0);
    if !likely.is_finite() {
        return is_kept;
    }
    likely >= if is_kept { BELOW } else { FROM }
}

#[cfg(test)]
mod tests {
    use super::super::Costs;
    use super::*;

    #[test]
    fn the_tick_before_a_burst_keeps_what_the_burst_needs() {
        let steps = [[0.0; 5], [1200.0; 5]];
        let expected = Expected::of_forecast(&steps, 3600.0, 300.0, 30.0, 1.0, 20);
        let class = Class {
            curve: &Curve::default(),
            costs: Costs { miss_s: 1800.0 },
            now: 0,
            least: 0,
            most: 20,
            memory_mib: 60,
        };
        let none = Hysteresis { share: 0.0 };
        let (curve, sized) = expected.larger(&class, none);
        assert!(curve == &expected.next && sized.shells > 0, "{sized:?}");
        let nothing = Expected::of_forecast(&[], 3600.0, 300.0, 30.0, 1.0, 20);
        assert_eq!(nothing.larger(&class, none).1.shells, 0);
    }

    #[test]
    fn clumps_are_seen_and_even_requests_are_not() {
        let even: Vec<f64> = (0..1000).map(f64::from).collect();
        let clumped: Vec<f64> = (0..1000).map(|i| f64::from(i / 10 * 10)).collect();
        assert_eq!(peakedness(&even, 1.0), 1.0);
        assert!((peakedness(&clumped, 1.0) - 9.0).abs() < 0.3);
        for odd in [&[][..], &[5.0], &[5.0, 5.0], &[0.0, f64::INFINITY]] {
            assert!(peakedness(odd, 1.0) >= 1.0, "{odd:?}");
        }
    }

    #[test]
    fn clumps_are_told_by_the_last_moments() {
        assert_eq!(
            [1.0, 4.0, 0.0, f64::NAN].map(share_of_recent),
            [0.0, 0.75, 0.0, 0.0]
        );
        let of = |count: f64| Expected::of_forecast(&[[count; 5]], 3600.0, 300.0, 1.0, 1.0, 4);
        let (few, many) = (of(60.0), of(600.0));
        assert_eq!(few.clone().mixed(&many, 0.0), few);
        let half = few.clone().mixed(&many, 0.5).now.misses[0];
        assert!((half - (few.now.misses[0] + many.now.misses[0]) / 2.0).abs() < 1e-3);
        assert_eq!(Expected::default().mixed(&many, 0.3), many);
    }

    #[test]
    fn a_template_stays_while_something_may_come() {
        let day = |count: f64| vec![[0.0, 0.0, count, 2.0 * count, 3.0 * count]; 24];
        assert!(keeps_template(&day(0.1), false));
        assert!(keeps_template(&day(0.01), true));
        assert!(!keeps_template(&day(0.01), false));
        assert!(!keeps_template(&day(0.0), true));
        assert!(keeps_template(&[[f64::NAN; 5]], true));
    }
}
