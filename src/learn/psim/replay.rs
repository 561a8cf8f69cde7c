//! What each constant target would have cost and missed, tick by tick: the pool's own rules run over
//! the recorded requests once per target.

use super::super::sizing::Curve;
use super::run::{Host, watched};
use super::{MOST, Trace};

/// Per tick a curve over targets 0..=[`MOST`].
pub fn curves(trace: &Trace, host: Host) -> Vec<Curve> {
    let ticks = trace.ticks();
    let mut curves = vec![
        Curve {
            misses: vec![0.0; MOST + 1],
            idle_s: vec![0.0; MOST + 1]
        };
        ticks
    ];
    for target in 0..=MOST {
        watched(
            trace,
            host,
            0..ticks,
            |_| target,
            |tick, misses, idle_s| {
                let curve = &mut curves[tick];
                curve.misses[target] += misses as f32;
                curve.idle_s[target] += idle_s as f32;
            },
        );
    }
    curves
}

/// The requests of each tick that find `stock` or more requests within `lead_s` before them: misses
/// as the sample-average rule counts them.
pub fn isolated_misses(trace: &Trace, lead_s: f64) -> Vec<Vec<f32>> {
    let mut misses = vec![vec![0.0f32; MOST + 1]; trace.ticks()];
    let mut oldest = 0;
    for (i, at) in trace.at_s.iter().enumerate() {
        while trace.at_s[oldest] < at - lead_s {
            oldest += 1;
        }
        let row = &mut misses[(at / super::TICK_S) as usize];
        for missed in row.iter_mut().take((i - oldest).min(MOST) + 1) {
            *missed += 1.0;
        }
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_says_what_the_run_says() {
        let at_s: Vec<f64> = (0..200).map(|i| f64::from(i * i % 997) * 3.0).collect();
        let mut at_s = at_s;
        at_s.sort_by(f64::total_cmp);
        let trace = Trace {
            hold_s: vec![30.0; at_s.len()],
            at_s,
        };
        for reuse_s in [None, Some(120.0)] {
            let host = Host {
                lead_s: 6.7,
                reuse_s,
            };
            let curves = curves(&trace, host);
            for target in [0, 1, 3] {
                let outcome = super::super::run(&trace, host, 0..trace.ticks(), |_| target);
                let misses: f32 = curves.iter().map(|curve| curve.misses[target]).sum();
                let idle: f32 = curves.iter().map(|curve| curve.idle_s[target]).sum();
                assert_eq!(misses as usize, outcome.cold);
                assert!((f64::from(idle) - outcome.idle_s).abs() < 1.0 + 1e-4 * outcome.idle_s);
            }
        }
    }
}
