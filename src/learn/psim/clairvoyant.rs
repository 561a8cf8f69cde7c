//! How far any forecast of rates could come: foresight that is told, beside all that it knows, how many
//! requests really come around each tick, but not when each of them comes. For judging only.
//!
//! The rate is the number of requests per tick under a bell of a given width around the tick, of what
//! came before and of what comes after alike. A narrow bell says nearly which requests come (and how a
//! burst will fall), a wide one what a perfect forecast of the hour would.

use std::ops::Range;

use super::super::sizing::Expected;
use super::known::Known;
use super::{Host, Trace, foresee, replay};

/// Requests per tick around each tick and the one after it, under a bell with a standard deviation of
/// `width` ticks.
pub fn rates(trace: &Trace, width: f64) -> Vec<f64> {
    let counts = trace.counts();
    let reach = (3.0 * width).ceil() as usize;
    (0..counts.len())
        .map(|tick| {
            let (mut sum, mut total) = (0.0, 0.0);
            let from = tick.saturating_sub(reach);
            for (at, count) in counts.iter().enumerate().take(tick + reach + 1).skip(from) {
                let apart = (at as f64 - tick as f64) / width;
                let weight = (-0.5 * apart * apart).exp();
                sum += weight * count;
                total += weight;
            }
            sum / total
        })
        .collect()
}

/// What foresight expects of each of the `ticks` when it is told the rates under bells of these widths.
pub fn expect(trace: &Trace, host: Host, ticks: Range<usize>, widths: &[f64]) -> Vec<Expected> {
    let told = widths.iter().map(|width| rates(trace, *width)).collect();
    let known = Known::new(trace, host.lead_s).told(told);
    foresee::expect(&known, &replay::curves(trace, host), ticks)
}

#[cfg(test)]
mod tests {
    use super::super::foresee::targets;
    use super::super::{DAY, WEEK};
    use super::*;
    use crate::learn::random::Seeded;
    use crate::learn::sizing::Hysteresis;

    /// One a minute, and at hours that nobody can know four a minute.
    fn tides() -> Trace {
        let mut random = Seeded::new(5);
        let mut at_s = Vec::new();
        for hour in 0..16 * 24 {
            let many = if random.unit() < 0.3 { 240 } else { 60 };
            at_s.extend((0..many).map(|_| 3600.0 * (f64::from(hour) + random.unit())));
        }
        at_s.sort_by(f64::total_cmp);
        Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        }
    }

    #[test]
    fn a_rate_is_what_comes_around_a_tick() {
        let trace = tides();
        let (narrow, wide) = (rates(&trace, 0.1), rates(&trace, 1e3));
        let counts = trace.counts();
        assert!(
            narrow
                .iter()
                .zip(&counts)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let mean = trace.at_s.len() as f64 / trace.ticks() as f64;
        assert!(
            (wide[8 * DAY] - mean).abs() < 1.0,
            "{} {mean}",
            wide[8 * DAY]
        );
    }

    #[test]
    fn who_is_told_of_a_flood_keeps_more_before_it() {
        let trace = tides();
        let host = Host {
            lead_s: 60.0,
            reuse_s: None,
        };
        let ticks = 2 * WEEK..2 * WEEK + DAY;
        let of = |widths: &[f64]| {
            let expected = expect(&trace, host, ticks.clone(), widths);
            targets(&expected, 1500.0, Hysteresis { share: 0.0 })
        };
        let (told, not) = (of(&[2.0]), of(&[]));
        let counts = trace.counts();
        // The first tick of a flood after a calm hour.
        let sudden = |tick: &usize| {
            let hour = |at: usize| counts[at..at + 12].iter().sum::<f64>();
            tick.is_multiple_of(12) && hour(tick - 12) < 120.0 && hour(*tick) > 180.0
        };
        let floods: Vec<usize> = ticks
            .clone()
            .filter(sudden)
            .map(|t| t - ticks.start)
            .collect();
        let kept = |targets: &[usize]| floods.iter().map(|at| targets[*at]).sum::<usize>();
        assert!(
            !floods.is_empty() && kept(&told) > kept(&not),
            "{told:?} {not:?}"
        );
    }
}
