//! The plain rule: a moving window over what a stage used, its 95 % quantile with a margin. It serves
//! until a model beats it, and whenever none does.

use std::collections::{HashMap, VecDeque};

use crate::vocab::prediction::Spread;

/// Newest observations that count; as many as a derived deadline looks back.
const WINDOW: usize = 200;
/// Fewer observations say nothing.
pub const ENOUGH: usize = 5;
/// What to give: this quantile, with a margin (the recommender of the Kubernetes VPA has 15 %).
const LEVEL: f64 = 0.95;
const MARGIN: f64 = 1.15;
/// A device counts at most so many times its fair share, so that one that is out of its mind does not
/// decide for the others.
const MOST_SHARES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    value: f64,
    /// What it had; none where that has no limit.
    given: Option<f64>,
    short: bool,
    device: u64,
}

/// The newest observations of one resource of one stage, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    seen: VecDeque<Seen>,
}

impl Window {
    /// Takes an observation, in order of time. Nonsense is left out.
    pub fn add(&mut self, value: f64, given: Option<f64>, short: bool, device: u64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        self.seen.push_back(Seen {
            value,
            given,
            short,
            device,
        });
        if self.seen.len() > WINDOW {
            self.seen.pop_front();
        }
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// What the plain rule gives; none with fewer than [`ENOUGH`] observations.
    pub fn rule(&self) -> Option<f64> {
        let ascending = self.counted()?;
        let quantile = super::super::robust::quantile_sorted(&ascending, LEVEL);
        Some(self.no_more_than_enough(quantile * MARGIN))
    }

    pub fn spread(&self) -> Option<Spread> {
        let ascending = self.counted()?;
        let at = |level| super::super::robust::quantile_sorted(&ascending, level);
        Some(Spread {
            low: at(0.1),
            middle: at(0.5),
            high: at(0.9),
        })
    }

    /// An amount, but no more than was always enough. Guest memory that was touched is a ceiling of what
    /// is needed: Linux fills what it has, and a margin on that would grow without end.
    pub fn no_more_than_enough(&self, amount: f64) -> f64 {
        if self.seen.iter().any(|seen| seen.short) {
            return amount;
        }
        let most = self
            .seen
            .iter()
            .filter_map(|seen| seen.given)
            .reduce(f64::max);
        most.map_or(amount, |most| amount.min(most))
    }

    /// The values that count, ascending: of each device the newest ones, up to its share.
    fn counted(&self) -> Option<Vec<f64>> {
        if self.seen.len() < ENOUGH {
            return None;
        }
        let mut per_device: HashMap<u64, usize> = HashMap::new();
        for seen in &self.seen {
            *per_device.entry(seen.device).or_default() += 1;
        }
        let share = (MOST_SHARES * self.seen.len())
            .div_ceil(per_device.len().max(1))
            .max(1);
        per_device.clear();
        let mut kept: Vec<f64> = Vec::new();
        for seen in self.seen.iter().rev() {
            let count = per_device.entry(seen.device).or_default();
            *count += 1;
            if *count <= share {
                kept.push(seen.value);
            }
        }
        // One absurd value among few would be the quantile.
        let ceiling = super::super::robust::ceiling_of_few(&kept);
        for value in &mut kept {
            *value = value.min(ceiling);
        }
        kept.sort_unstable_by(f64::total_cmp);
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(values: &[f64]) -> Window {
        let mut window = Window::default();
        for (i, value) in values.iter().enumerate() {
            window.add(*value, Some(1000.0), false, i as u64);
        }
        window
    }

    #[test]
    fn it_waits_for_enough_and_adds_a_margin() {
        assert_eq!(window(&[100.0; 4]).rule(), None);
        assert!((window(&[100.0; 5]).rule().unwrap() - 115.0).abs() < 1e-9);
        let spread = window(&[1.0, 2.0, 3.0, 4.0, 5.0]).spread().unwrap();
        assert_eq!(spread.middle, 3.0);
    }

    #[test]
    fn what_was_always_enough_is_not_exceeded_unless_it_was_not() {
        let mut full = window(&[990.0; 20]);
        assert_eq!(full.rule(), Some(1000.0));
        full.add(1500.0, Some(1000.0), true, 99);
        assert!(full.rule().unwrap() > 1100.0);
    }

    #[test]
    fn a_device_that_is_out_of_its_mind_does_not_decide_for_the_others() {
        let mut window = Window::default();
        for i in 0..100u64 {
            window.add(100.0, None, false, i % 20);
            // It comes as often as all others together.
            window.add(900.0, None, false, 777);
        }
        let poisoned = window.counted().unwrap();
        let share = poisoned.iter().filter(|v| **v > 500.0).count() as f64 / poisoned.len() as f64;
        assert!(share < 0.2, "{share}");
        let mut absurd = Window::default();
        for i in 0..30 {
            absurd.add(if i == 7 { 1e300 } else { 100.0 }, None, false, i);
        }
        assert!(absurd.rule().unwrap() < 4000.0);
        absurd.add(f64::NAN, None, false, 1);
        absurd.add(-1.0, None, false, 1);
        assert_eq!(absurd.len(), 30);
    }

    #[test]
    fn the_window_moves() {
        let window = window(&[vec![500.0; 300], vec![100.0; 200]].concat());
        assert!((window.rule().unwrap() - 115.0).abs() < 1e-9);
    }
}
