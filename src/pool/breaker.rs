//! When to try again after a failure, and when to give up. Pure.
//!
//! ```text
//! closed ──failure──► pausing (1 s, 2 s, 4 s … 5 min, ±20 %) ──3rd in a row──► open: give up on it
//!    ▲                    │
//!    └──────success───────┘
//! ```

use std::time::Duration;

use crate::vocab::{Digest, Timestamp};

/// After so many failures in a row a template's generation is given up.
pub const GIVES_UP_AFTER: u32 = 3;

/// The first pause, and the longest. GARM, which creates runners the same way, goes from 10 s to 5 min;
/// a fork takes a second rather than minutes, so that this begins lower.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Breaker {
    /// In a row.
    pub failures: u32,
    pub pauses_until: Option<Timestamp>,
    /// The last failure's words.
    pub words: Option<String>,
}

impl Breaker {
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// `what` names the thing that failed: pauses of different things are not equally long.
    pub fn failed(&mut self, what: &str, words: &str, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.pauses_until = Some(now.after(pause(what, self.failures)));
        self.words = Some(words.to_owned());
    }

    pub fn may_try(&self, now: Timestamp) -> bool {
        self.pauses_until.is_none_or(|until| until <= now)
    }

    pub fn is_open(&self) -> bool {
        self.failures >= GIVES_UP_AFTER
    }
}

/// Doubles with each failure, with up to a fifth more or less, which depends on what failed and how
/// often: the same arguments give the same pause.
pub fn pause(what: &str, failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let drawn = Digest::of(format!("{what} {failures}").as_bytes()).to_string();
    let share = u32::from_str_radix(&drawn[..4], 16).unwrap_or(0);
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.8 + 0.4 * f64::from(share) / f64::from(0xffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_differ_between_things() {
        for failures in 1..40 {
            let expected = FIRST_PAUSE
                .saturating_mul(1 << (failures - 1).min(16))
                .min(LONGEST_PAUSE);
            let pause = pause("a", failures);
            assert!(pause >= expected.mul_f64(0.8) && pause <= expected.mul_f64(1.2));
        }
        assert_ne!(pause("a", 3), pause("b", 3));
        assert_eq!(pause("a", 3), pause("a", 3));
    }

    #[test]
    fn three_in_a_row_open_it_and_a_success_closes_it() {
        let mut breaker = Breaker::default();
        assert!(breaker.may_try(Timestamp(0)) && !breaker.is_open());
        for _ in 0..2 {
            breaker.failed("t", "why", Timestamp(0));
        }
        assert!(!breaker.may_try(Timestamp(1_000_000)) && !breaker.is_open());
        assert!(breaker.may_try(Timestamp(3_000_000)));
        let mut mended = breaker.clone();
        mended.succeeded();
        mended.failed("t", "why", Timestamp(0));
        assert!(!mended.is_open());
        breaker.failed("t", "why", Timestamp(0));
        assert!(breaker.is_open());
    }
}
