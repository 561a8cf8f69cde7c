//! What a stage has used, in constant memory: a histogram with exponentially growing bins in which
//! old observations fade (as in the Autopilot and the Kubernetes VPA recommenders). Answers without
//! any training, serialises, and adds up.

use serde::{Deserialize, Serialize};

/// Bins grow by this factor: a quantile is right within 5 %.
const GROWTH: f64 = 1.05;
/// The lowest bin's upper end, in whatever unit is recorded.
const FIRST: f64 = 1.0;
/// Bins; the highest begins at FIRST × GROWTH^398, about 2.7e8.
const BINS: usize = 400;
/// When a reference time lies so many half-lives back, the weights are scaled down to it.
const RESCALE: f64 = 60.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    half_life_s: f64,
    /// Weights are those at this time.
    reference_s: f64,
    /// Sparse: bin and weight.
    bins: Vec<(u16, f64)>,
    /// Observations ever added.
    pub count: u64,
}

impl Histogram {
    /// An observation counts half after `half_life_s`.
    pub fn new(half_life_s: f64) -> Self {
        Self {
            half_life_s: half_life_s.max(1.0),
            reference_s: 0.0,
            bins: Vec::new(),
            count: 0,
        }
    }

    /// Adds a value seen at a time (Unix seconds). Values that are not finite or negative are left
    /// out; those above the last bin count as it.
    pub fn add(&mut self, value: f64, at_s: f64) {
        if !value.is_finite() || value < 0.0 || !at_s.is_finite() {
            return;
        }
        if self.count == 0 || at_s > self.reference_s + RESCALE * self.half_life_s {
            let fade = 0.5f64.powf(((at_s - self.reference_s) / self.half_life_s).min(1000.0));
            for (_, weight) in &mut self.bins {
                *weight *= fade;
            }
            self.bins.retain(|(_, weight)| *weight > 1e-12);
            self.reference_s = at_s;
        }
        // A report from long ago (or a clock that was far ahead) has its share and no more.
        let ahead = ((at_s - self.reference_s) / self.half_life_s).clamp(-RESCALE, RESCALE);
        let weight = 2.0f64.powf(ahead);
        let bin = bin(value);
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.bins[at].1 += weight,
            Err(at) => self.bins.insert(at, (bin, weight)),
        }
        self.count += 1;
    }

    /// The upper end of the bin in which the quantile lies; none without observations.
    pub fn quantile(&self, level: f64) -> Option<f64> {
        let total: f64 = self.bins.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        self.bins
            .iter()
            .find(|(_, weight)| {
                below += weight;
                below >= level.clamp(0.0, 1.0) * total
            })
            .or(self.bins.last())
            .map(|(bin, _)| FIRST * GROWTH.powi(i32::from(*bin)))
    }

    /// Another's observations are taken over; the half-lives should be equal.
    pub fn merge(&mut self, other: &Self) {
        let at = self.reference_s.max(other.reference_s);
        let fade = |of: &Self| 0.5f64.powf(((at - of.reference_s) / of.half_life_s).min(1000.0));
        let (own, others) = (fade(self), fade(other));
        let mut all = vec![0.0; BINS];
        for (histogram, fade) in [(&*self, own), (other, others)] {
            for (bin, weight) in &histogram.bins {
                all[usize::from(*bin).min(BINS - 1)] += weight * fade;
            }
        }
        self.bins = (0u16..)
            .zip(all)
            .filter(|(_, weight)| *weight > 1e-12)
            .collect();
        self.reference_s = at;
        self.count += other.count;
    }
}

fn bin(value: f64) -> u16 {
    if value <= FIRST {
        return 0;
    }
    // A hair less, so that a bin's own end falls into it.
    ((value / FIRST).ln() / GROWTH.ln() - 1e-9)
        .ceil()
        .clamp(0.0, (BINS - 1) as f64) as u16
}

/// The plain rule: the 95 % quantile of history with a margin, as a moving-window recommender has it.
pub fn plain_rule(history: &Histogram) -> Option<f64> {
    const LEVEL: f64 = 0.95;
    const MARGIN: f64 = 1.15;
    history.quantile(LEVEL).map(|value| value * MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bin() {
        let mut histogram = Histogram::new(86_400.0);
        for value in 1..=1000 {
            histogram.add(f64::from(value), 5.0e8);
        }
        for level in [0.1, 0.5, 0.95] {
            let found = histogram.quantile(level).unwrap() / (1000.0 * level);
            assert!((0.999..=1.052).contains(&found), "{level}: {found}");
        }
        assert!(plain_rule(&histogram).unwrap() > 1090.0);
    }

    #[test]
    fn the_old_fades() {
        let mut histogram = Histogram::new(3600.0);
        for i in 0..100 {
            histogram.add(1000.0, f64::from(i));
        }
        for i in 0..100 {
            histogram.add(10.0, 10.0 * 3600.0 + f64::from(i));
        }
        assert!(histogram.quantile(0.95).unwrap() < 11.0);
        // A year later what was is nothing.
        histogram.add(500.0, 3.0e7);
        assert!(histogram.quantile(0.01).unwrap() > 490.0);
    }

    #[test]
    fn nonsense_has_no_or_one_share() {
        let mut histogram = Histogram::new(3600.0);
        assert_eq!(histogram.quantile(0.5), None);
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            histogram.add(value, 0.0);
        }
        assert_eq!(histogram.count, 0);
        for i in 0..99 {
            histogram.add(100.0, 1e9 + f64::from(i));
        }
        histogram.add(f64::MAX, 1e9);
        histogram.add(7.0, -1e300);
        assert!(histogram.quantile(0.95).unwrap() < 106.0);
    }

    #[test]
    fn two_add_up() {
        let (mut a, mut b) = (Histogram::new(3600.0), Histogram::new(3600.0));
        a.add(10.0, 1000.0);
        b.add(1000.0, 1000.0);
        a.merge(&b);
        assert!(a.quantile(0.4).unwrap() < 11.0 && a.quantile(0.9).unwrap() > 990.0);
        assert_eq!(a.count, 2);
        let stored = serde_json::to_string(&a).unwrap();
        assert_eq!(
            serde_json::from_str::<Histogram>(&stored)
                .unwrap()
                .quantile(0.9),
            a.quantile(0.9)
        );
    }
}
