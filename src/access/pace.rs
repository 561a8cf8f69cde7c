//! How many requests are too many: the generic cell rate algorithm (ITU-T I.371), one number per caller.

use std::collections::HashMap;
use std::time::Duration;

/// So many per second on the average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub per_s: f64,
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_s.max(1e-6))
    }
}

/// Everyone's pace. Times are the span since some fixed instant; they never run backwards.
#[derive(Debug, Default)]
pub struct Paces {
    /// When each key's allowance would be whole again: the theoretical arrival time.
    whole_at: HashMap<String, Duration>,
}

/// How many keys are kept before those are dropped whose allowance is whole. An attacker with many
/// addresses costs at most this much memory, about 100 bytes each, between two clean-ups.
const MANY: usize = 20_000;

impl Paces {
    /// Takes one request of a key's allowance, or says how long to wait.
    pub fn take(&mut self, key: &str, rate: Rate, now: Duration) -> Result<(), Duration> {
        if self.whole_at.len() >= MANY {
            self.whole_at.retain(|_, whole_at| *whole_at > now);
        }
        let interval = rate.interval();
        let whole_at = self.whole_at.get(key).copied().unwrap_or(now).max(now);
        let tolerance = interval.saturating_mul(rate.burst.saturating_sub(1));
        let early = whole_at.saturating_sub(now);
        if early > tolerance {
            return Err(early - tolerance);
        }
        self.whole_at.insert(key.to_owned(), whole_at + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let rate = Rate {
            per_s: 10.0,
            burst: 5,
        };
        let mut paces = Paces::default();
        let at = Duration::from_millis;
        for _ in 0..5 {
            assert_eq!(paces.take("a", rate, at(0)), Ok(()));
        }
        assert_eq!(paces.take("a", rate, at(0)), Err(at(100)));
        assert_eq!(paces.take("b", rate, at(0)), Ok(()), "each for itself");
        assert_eq!(paces.take("a", rate, at(100)), Ok(()));
        assert!(paces.take("a", rate, at(101)).is_err());
        let allowed = (0..10_000)
            .filter(|ms| paces.take("c", rate, at(*ms)).is_ok())
            .count();
        assert_eq!(allowed, 104, "the burst of 5, then one each 100 ms");
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let rate = Rate {
            per_s: 1.0,
            burst: 1,
        };
        let mut paces = Paces::default();
        for n in 0..100_000u64 {
            let _ = paces.take(&n.to_string(), rate, Duration::from_millis(n));
        }
        assert!(paces.whole_at.len() <= MANY);
    }
}
