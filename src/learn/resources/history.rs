//! What like work used before, as features: the last observations under keys from fine to coarse
//! (persona, stage and class; persona and stage; stage …), each known only once it had ended.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::super::robust;

/// Observations kept per key.
const KEPT: usize = 20;
/// Features per key.
pub const WIDTH: usize = 9;

/// Grows while time goes on; asked before each piece of work.
#[derive(Debug, Default)]
pub struct History {
    seen: HashMap<(usize, u64), VecDeque<f64>>,
    /// Ended later than now: end, order of arrival, keys, value.
    pending: BinaryHeap<Reverse<(OrderedTime, usize)>>,
    told: Vec<(Vec<u64>, f64)>,
}

#[derive(Debug, PartialEq)]
struct OrderedTime(f64);

impl Eq for OrderedTime {}

impl PartialOrd for OrderedTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl History {
    /// Work with `keys` (fine to coarse) ended at `end_s` having used `value`.
    pub fn ended(&mut self, keys: &[u64], value: f64, end_s: f64) {
        if value.is_finite() && end_s.is_finite() {
            self.pending
                .push(Reverse((OrderedTime(end_s), self.told.len())));
            self.told.push((keys.to_vec(), value));
        }
    }

    /// Features of work that begins at `now_s`: per key the number of observations, mean, least, most,
    /// last, spread, median, 90 % quantile, and the mean of the last two. NaN where nothing is known.
    pub fn features(&mut self, keys: &[u64], now_s: f64) -> Vec<f64> {
        while let Some(Reverse((OrderedTime(end), _))) = self.pending.peek() {
            if *end > now_s {
                break;
            }
            let Some(Reverse((_, told))) = self.pending.pop() else {
                break;
            };
            let (keys, value) = std::mem::take(&mut self.told[told]);
            for key in keys.into_iter().enumerate() {
                let values = self.seen.entry(key).or_default();
                values.push_back(value);
                if values.len() > KEPT {
                    values.pop_front();
                }
            }
        }
        keys.iter()
            .copied()
            .enumerate()
            .flat_map(|key| {
                let values: Vec<f64> = self
                    .seen
                    .get(&key)
                    .map_or_else(Vec::new, |v| v.iter().copied().collect());
                summary(&values)
            })
            .collect()
    }
}

fn summary(values: &[f64]) -> [f64; WIDTH] {
    let Some(last) = values.last() else {
        let mut unknown = [f64::NAN; WIDTH];
        unknown[0] = 0.0;
        return unknown;
    };
    let ascending = robust::ascending(values);
    let mean = robust::mean(values);
    let spread = robust::mean(
        &values
            .iter()
            .map(|v| (v - mean) * (v - mean))
            .collect::<Vec<_>>(),
    );
    [
        values.len() as f64,
        mean,
        ascending[0],
        ascending[ascending.len() - 1],
        *last,
        spread.sqrt(),
        robust::quantile_sorted(&ascending, 0.5),
        robust::quantile_sorted(&ascending, 0.9),
        robust::mean(&values[values.len().saturating_sub(2)..]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_ended_is_known() {
        let mut history = History::default();
        history.ended(&[1, 7], 5.0, 100.0);
        history.ended(&[2, 7], 9.0, 50.0);
        assert_eq!(history.features(&[1, 7], 60.0)[0], 0.0);
        assert_eq!(history.features(&[1, 7], 60.0)[WIDTH], 1.0);
        let later = history.features(&[1, 7], 100.0);
        assert_eq!((later[0], later[WIDTH], later[WIDTH + 1]), (1.0, 2.0, 7.0));
    }

    #[test]
    fn a_key_keeps_its_last_twenty() {
        let mut history = History::default();
        for i in 0..50 {
            history.ended(&[1], f64::from(i), f64::from(i));
        }
        let row = history.features(&[1], 1000.0);
        assert_eq!((row[0], row[2], row[4]), (20.0, 30.0, 49.0));
    }
}
