//! Who asked for a machine, kept until somebody counts it. Memory only: who counts comes by in seconds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::vocab::Timestamp;
use crate::vocab::demand::Arrival;

/// Beyond so many that nobody fetched, the oldest are forgotten.
const MOST: usize = 100_000;
/// Whoever is sent away and asks again with the same key within this time is one arrival.
const SAME: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Arrivals {
    inner: Mutex<Inner>,
    /// Something can be fetched.
    pub came: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Arrival>,
    /// Keys that came and were sent away, and when they last asked.
    sent_away: BTreeMap<String, Timestamp>,
}

impl Arrivals {
    pub fn note(&self, arrival: Arrival, was_served: bool) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = arrival.at;
        inner
            .sent_away
            .retain(|_, at| now.since(*at) < SAME && at.since(now) < SAME);
        // A claim that is served in the end was counted when it first asked.
        let was_there = if was_served {
            inner.sent_away.remove(&arrival.key).is_some()
        } else {
            inner.sent_away.insert(arrival.key.clone(), now).is_some()
        };
        if was_there {
            return;
        }
        if inner.waiting.len() >= MOST {
            inner.waiting.drain(..MOST / 10);
        }
        inner.waiting.push(arrival);
        drop(inner);
        self.came.notify_one();
    }

    /// All that came since the last time.
    pub fn take(&self) -> Vec<Arrival> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut inner.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::pool::Tier;

    fn arrival(key: &str, at_s: i64) -> Arrival {
        Arrival {
            key: key.into(),
            class: "tiny:1x128".parse().unwrap(),
            client: "default".into(),
            persona: None,
            at: Timestamp(at_s * 1_000_000),
            tier: Tier::Cool,
            wait_ms: None,
        }
    }

    #[test]
    fn who_asks_again_and_again_is_one_arrival() {
        let arrivals = Arrivals::default();
        for second in 0..100 {
            arrivals.note(arrival("a", second), false);
        }
        arrivals.note(arrival("b", 100), false);
        arrivals.note(arrival("a", 101), true);
        arrivals.note(arrival("a", 102), true);
        let keys: Vec<String> = arrivals.take().into_iter().map(|a| a.key).collect();
        assert_eq!(
            keys,
            ["a", "b", "a"],
            "a key may be used again once it was served"
        );
        assert!(arrivals.take().is_empty());
        arrivals.note(arrival("b", 500), false);
        assert_eq!(arrivals.take().len(), 1, "long after it is another");
    }

    #[test]
    fn what_nobody_fetches_does_not_grow_without_end() {
        let arrivals = Arrivals::default();
        for number in 0..MOST + 5 {
            arrivals.note(arrival(&number.to_string(), number as i64), true);
        }
        assert!(arrivals.take().len() <= MOST);
    }
}
