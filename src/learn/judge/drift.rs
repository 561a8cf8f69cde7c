//! Has the world changed? ADWIN (Bifet and Gavaldà 2007): a window of a model's errors that grows while
//! all is alike and drops its older part as soon as two parts differ by more than chance explains.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Buckets of one size that are kept before two are merged.
const PER_ROW: usize = 5;
/// A cut is looked for at every so many values.
const CLOCK: u64 = 32;
/// Fewer values on one side decide nothing.
const LEAST: f64 = 5.0;
/// A single error counts at most as so many standard errors of those before it, so that one absurd
/// value is no change.
const CLIP: f64 = 8.0;

/// State of one stream; it serialises, so that a restart forgets nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Chance of a false alarm per cut.
    delta: f64,
    /// Rows of buckets, newest row first; a bucket of row r sums 2^r values: total and variance × n.
    rows: Vec<VecDeque<(f64, f64)>>,
    width: f64,
    total: f64,
    /// Sum of squared deviations from the mean.
    deviation: f64,
    seen: u64,
}

impl Default for Drift {
    fn default() -> Self {
        Self::new(0.002)
    }
}

impl Drift {
    pub fn new(delta: f64) -> Self {
        Self {
            delta,
            rows: vec![VecDeque::new()],
            width: 0.0,
            total: 0.0,
            deviation: 0.0,
            seen: 0,
        }
    }

    /// Mean error of the present window; NaN before the first.
    pub fn mean(&self) -> f64 {
        self.total / self.width
    }

    /// Takes the next error (scaled by what is usual for the model). True when the older errors no
    /// longer belong to the newer; they are forgotten then.
    pub fn learn(&mut self, error: f64) -> bool {
        if !error.is_finite() {
            return false;
        }
        let spread = (self.deviation / self.width.max(1.0)).sqrt();
        let value = match self.width >= 2.0 * CLOCK as f64 && spread > 0.0 {
            true => error.clamp(self.mean() - CLIP * spread, self.mean() + CLIP * spread),
            false => error,
        };
        self.seen += 1;
        if self.width > 0.0 {
            let apart = value - self.mean();
            self.deviation += apart * apart * self.width / (self.width + 1.0);
        }
        self.width += 1.0;
        self.total += value;
        self.rows[0].push_back((value, 0.0));
        self.compress();
        let mut changed = false;
        if self.seen.is_multiple_of(CLOCK) {
            while self.cut() {
                changed = true;
            }
        }
        changed
    }

    fn compress(&mut self) {
        let mut row = 0;
        while self.rows[row].len() > PER_ROW {
            let size = (1u64 << row) as f64;
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front())
            else {
                return;
            };
            let apart = a.0 / size - b.0 / size;
            let merged = (a.0 + b.0, a.1 + b.1 + apart * apart * size / 2.0);
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row + 1].push_back(merged);
            row += 1;
        }
    }

    /// Drops the oldest bucket if some cut separates unlike parts.
    fn cut(&mut self) -> bool {
        if self.width < 2.0 * LEAST {
            return false;
        }
        let (mut old_n, mut old_sum) = (0.0, 0.0);
        let log = (2.0 * self.width.ln() / self.delta).ln();
        let variance = self.deviation / self.width;
        for row in (0..self.rows.len()).rev() {
            let size = (1u64 << row) as f64;
            for (sum, _) in &self.rows[row] {
                old_n += size;
                old_sum += sum;
                let new_n = self.width - old_n;
                if old_n < LEAST || new_n < LEAST {
                    continue;
                }
                let apart = (old_sum / old_n - (self.total - old_sum) / new_n).abs();
                let harmonic = 1.0 / (old_n - LEAST + 1.0) + 1.0 / (new_n - LEAST + 1.0);
                let bound = (2.0 * harmonic * variance * log).sqrt() + 2.0 / 3.0 * harmonic * log;
                if apart > bound {
                    self.drop_oldest();
                    return true;
                }
            }
        }
        false
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.iter().rposition(|row| !row.is_empty()) else {
            return;
        };
        let size = (1u64 << row) as f64;
        if let Some((sum, deviation)) = self.rows[row].pop_front() {
            let rest = self.width - size;
            if rest > 0.0 {
                let apart = sum / size - (self.total - sum) / rest;
                let lost = deviation + apart * apart * size * rest / self.width;
                self.deviation = (self.deviation - lost).max(0.0);
            }
            self.width = rest;
            self.total -= sum;
        }
        while self.rows.len() > 1 && self.rows[self.rows.len() - 1].is_empty() {
            self.rows.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::*;

    fn stream(random: &mut Seeded, n: usize, scale: f64) -> Vec<f64> {
        (0..n).map(|_| scale * random.normal().abs()).collect()
    }

    #[test]
    fn a_shift_of_scale_is_found_soon_and_calm_is_left_alone() {
        let mut random = Seeded::new(5);
        let mut delays = Vec::new();
        let mut false_alarms = 0;
        for _ in 0..40 {
            let mut drift = Drift::default();
            for error in stream(&mut random, 1000, 1.0) {
                false_alarms += usize::from(drift.learn(error));
            }
            let after = stream(&mut random, 1000, 1.5);
            delays.push(after.iter().position(|e| drift.learn(*e)).unwrap_or(1000) as f64);
        }
        assert!(false_alarms <= 2, "{false_alarms}");
        let median = super::super::super::robust::median(&delays);
        assert!(median <= 130.0, "{median}");
    }

    #[test]
    fn one_absurd_error_is_no_drift() {
        let mut random = Seeded::new(6);
        let mut drift = Drift::default();
        for (i, error) in stream(&mut random, 1000, 1.0).into_iter().enumerate() {
            let error = if i == 500 { 1e300 } else { error };
            assert!(!drift.learn(error), "at {i}");
        }
        assert!(!drift.learn(f64::NAN));
        assert!(drift.mean() < 1.0);
    }

    #[test]
    fn the_window_stays_small_and_survives_storage() {
        let mut random = Seeded::new(7);
        let mut drift = Drift::default();
        for error in stream(&mut random, 20_000, 1.0) {
            drift.learn(error);
        }
        assert!(drift.rows.iter().map(VecDeque::len).sum::<usize>() < 100);
        let stored = serde_json::to_string(&drift).unwrap();
        assert!(
            (serde_json::from_str::<Drift>(&stored).unwrap().mean() - drift.mean()).abs() < 1e-9
        );
    }
}
