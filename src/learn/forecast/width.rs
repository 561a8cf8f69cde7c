//! Keeping intervals honest: after each day the interval is widened if it held too little and narrowed
//! if it held too much (adaptive conformal inference; Gibbs and Candès 2021), so that in the long run
//! 80 % means 80 % whatever the model believes.

use serde::{Deserialize, Serialize};

use super::Step;

/// The state that is kept per series: log widths of the 80 % and the 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Width {
    log80: f64,
    log95: f64,
}

/// How far one day's misses move the logarithm of a width.
const GAIN: f64 = 0.4;
/// A width changes by at most this factor, either way.
const MOST: f64 = 8.0;

impl Width {
    /// Widens a forecast about its median.
    pub fn apply(&self, step: &Step) -> Step {
        let middle = step[2];
        let at = |value: f64, log: f64| middle + (value - middle) * log.exp();
        let step = [
            at(step[0], self.log95),
            at(step[1], self.log80),
            middle,
            at(step[3], self.log80),
            at(step[4], self.log95),
        ];
        super::super::score::tidy(&step)
    }

    /// Learns from a day: what was forecast (with the width applied) and what came.
    pub fn learn(&mut self, forecast: &[Step], actual: &[f64]) {
        let n = forecast.len().min(actual.len());
        if n == 0 {
            return;
        }
        let missed = |low: usize, high: usize| {
            let outside = forecast
                .iter()
                .zip(actual)
                .filter(|(s, y)| **y < s[low] || **y > s[high])
                .count();
            outside as f64 / n as f64
        };
        let bound = MOST.ln();
        self.log80 = (self.log80 + GAIN * (missed(1, 3) - 0.2)).clamp(-bound, bound);
        self.log95 = (self.log95 + GAIN * (missed(0, 4) - 0.05)).clamp(-bound, bound);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    #[test]
    fn a_band_that_is_far_too_narrow_learns_to_hold_what_it_promises() {
        let mut width = Width::default();
        let mut random = Seeded::new(4);
        let step = [99.0, 99.5, 100.0, 100.5, 101.0];
        let mut held = 0;
        for day in 0..300 {
            let forecast = vec![width.apply(&step); 24];
            let actual: Vec<f64> = (0..24).map(|_| 100.0 + random.normal()).collect();
            if day >= 100 {
                held += forecast
                    .iter()
                    .zip(&actual)
                    .filter(|(s, y)| **y >= s[1] && **y <= s[3])
                    .count();
            }
            width.learn(&forecast, &actual);
        }
        let share = f64::from(held as u32) / (200.0 * 24.0);
        assert!((0.78..0.82).contains(&share), "{share}");
    }

    #[test]
    fn nonsense_does_not_widen_without_end() {
        let mut width = Width::default();
        for _ in 0..10_000 {
            width.learn(&[[0.0; 5]], &[1e300]);
        }
        assert!(width.apply(&[0.0, 1.0, 2.0, 3.0, 4.0])[4] <= 2.0 + 2.0 * MOST + 1e-9);
        width.learn(&[], &[]);
    }
}
