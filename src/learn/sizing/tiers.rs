//! What a shortage costs: as much as the tier that serves instead makes people wait.

use serde::{Deserialize, Serialize};

use super::super::psim::FORK_S;
use super::super::robust;

/// Requests below which a median says little.
pub const ENOUGH: usize = 5;
/// A shell that waits answers within this (median of claims measured in the lab), a machine that is cloned
/// and booted after this (the boot of the traces that policies are judged on), and one whose image has to
/// be made or fetched first after this (the slow boot of the same).
const EXPECTED_S: [f64; 4] = [0.03, FORK_S, 6.7, 180.0];
/// Even where a fork answers as fast as a shell, it has to be made: a shortage is never free.
const LEAST: f64 = 0.01;
/// Nor is any shortage worth more than so many cold starts.
const MOST: f64 = 100.0;

/// Seconds until a machine answers, by tier from hot to cold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    pub seconds: [f64; 4],
    /// Requests that each median is of; a tier with too few of them is taken as expected.
    pub measured: [usize; 4],
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            seconds: EXPECTED_S,
            measured: [0; 4],
        }
    }
}

impl Waits {
    /// From waits in seconds by tier. A colder tier is never taken to be faster than a warmer one.
    pub fn of(measured: [&[f64]; 4]) -> Self {
        let mut waits = Self::default();
        let mut slowest = 0.0f64;
        for (tier, seen) in measured.iter().enumerate() {
            let seen: Vec<f64> = seen
                .iter()
                .copied()
                .filter(|s| s.is_finite() && *s >= 0.0)
                .collect();
            if seen.len() >= ENOUGH {
                waits.seconds[tier] = robust::median(&seen);
                waits.measured[tier] = seen.len();
            }
            waits.seconds[tier] = waits.seconds[tier].max(slowest);
            slowest = waits.seconds[tier];
        }
        waits
    }

    /// What a shortage costs that this tier serves (0 hot to 3 cold), in cold starts (a clone that boots,
    /// tier 2): by how much longer it takes than a shell that waits.
    pub fn cold_starts(&self, tier: usize) -> f64 {
        let [hot, _, boot, _] = self.seconds;
        if tier == 0 {
            return 0.0;
        }
        let (longer, whole) = (self.seconds[tier.min(3)] - hot, boot - hot);
        if whole <= 0.0 {
            return 1.0;
        }
        (longer / whole).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_costs_what_the_tier_that_serves_it_waits() {
        let waits = Waits::of([&[0.1; 9], &[1.1; 9], &[10.1; 9], &[]]);
        assert_eq!(waits.cold_starts(0), 0.0);
        assert!((waits.cold_starts(1) - 0.1).abs() < 1e-9);
        assert_eq!(waits.cold_starts(2), 1.0);
        assert!((waits.cold_starts(3) - 17.99).abs() < 1e-9);
        assert_eq!(waits.measured, [9, 9, 9, 0]);
    }

    #[test]
    fn too_few_are_not_believed_and_nonsense_stays_in_bounds() {
        assert_eq!(Waits::of([&[9.0; 4], &[], &[], &[]]), Waits::default());
        let odd = [f64::NAN, -5.0, f64::INFINITY, 0.2, 0.2, 0.2, 0.2, 0.2];
        let waits = Waits::of([&odd, &[0.1; 5], &[0.2; 5], &[1e12; 5]]);
        assert_eq!(
            waits.seconds[..3],
            [0.2; 3],
            "never faster than a warmer one"
        );
        assert_eq!(waits.cold_starts(1), 1.0, "all of them are alike");
        assert_eq!(
            Waits::of([&[0.0; 5], &[0.0; 5], &[], &[]]).cold_starts(1),
            LEAST
        );
        assert_eq!(Waits::of([&[], &[], &[], &[1e12; 5]]).cold_starts(9), MOST);
    }
}
