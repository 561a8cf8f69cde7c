//! Foresight: what will the next ticks ask for, given the last hours and the same time of earlier
//! weeks? A forest finds the earlier ticks that were like this one; the mean of their replayed cost
//! curves ([`super::replay`]) is what [`super::super::sizing`] decides from. Learned anew each week
//! from the last weeks only.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::super::sizing::{Class, Costs, Curve, Expected, Hysteresis, Reason};
use super::super::trees::forest::{Forest, LeafMeans};
use super::super::trees::{Binned, Plan, Table};
use super::known::Known;
use super::{DAY, MOST, TICK_S, WEEK};

/// Weeks that are learned from.
const WEEKS: usize = 6;
/// Weeks after which a tick counts half.
const HALF_LIFE_WEEKS: f64 = 4.0;

/// Chosen on the four weeks before the reported ones, where calls do not tell plans apart: there bursts cost
/// 2 % less with a quarter of the columns than with 0.4, as much more with 10 ticks per leaf, and the
/// same with twice as many trees.
const PLAN: Plan = Plan {
    trees: 100,
    leaves: 150,
    min_leaf: 20.0,
    rate: 1.0,
    row_share: 0.5,
    column_share: 0.25,
    bins: 128,
    seed: 1,
};

/// What one learning gives: it serialises, and answers for a tick in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foresight {
    forest: Forest,
    now: LeafMeans,
    next: LeafMeans,
}

impl Foresight {
    /// Learns from the weeks before tick `until`; none with less than two days of them.
    pub fn learn(known: &Known, curves: &[Curve], until: usize) -> Option<Self> {
        // A tick is learned with the one after it, which must have ended too.
        let ticks: Vec<usize> = (until.saturating_sub(WEEKS * WEEK).max(DAY)
            ..until.saturating_sub(1))
            .filter(|tick| known.is_watched(*tick) && known.is_watched(tick + 1))
            .collect();
        if ticks.len() < DAY {
            return None;
        }
        let table = Table::of_rows(&ticks.iter().map(|t| known.row(*t)).collect::<Vec<_>>());
        let target: Vec<f64> = ticks.iter().map(|t| known.needs[*t]).collect();
        let weights: Vec<f64> = ticks
            .iter()
            .map(|t| 0.5f64.powf((until - t) as f64 / (HALF_LIFE_WEEKS * WEEK as f64)))
            .collect();
        let forest = Forest::fit(
            &Binned::new(&table, PLAN.bins),
            &target,
            Some(&weights),
            &PLAN,
        );
        let both = |curve: &Curve| [&curve.misses[..], &curve.idle_s].concat();
        let means = |ahead: usize| {
            forest.leaf_means(2 * (MOST + 1), |row| both(&curves[ticks[row] + ahead]))
        };
        let now = means(0);
        // A shell that takes little of a tick is there soon enough when the tick begins; to keep what the next
        // one needs made bursts 3 % dearer on those four weeks, and calls no cheaper.
        let next = match known.lead_s <= TICK_S / 3.0 {
            true => now.clone(),
            false => means(1),
        };
        Some(Self { forest, now, next })
    }

    /// The curves that like ticks had, for a row of [`Known::row`].
    pub fn ask(&self, row: &[f64]) -> Expected {
        let curve = |means: &LeafMeans| {
            let mean: Vec<f32> = self
                .forest
                .mean_of(means, row)
                .into_iter()
                .map(|v| v as f32)
                .collect();
            let (misses, idle_s) = mean.split_at(MOST + 1);
            Curve {
                misses: misses.to_vec(),
                idle_s: idle_s.to_vec(),
            }
        };
        Expected {
            now: curve(&self.now),
            next: curve(&self.next),
        }
    }
}

/// Expected curves of each of the `ticks`, each from what was known at its begin, learned anew each
/// week. Nothing is expected while there is too little to learn from.
pub fn expect(known: &Known, curves: &[Curve], ticks: Range<usize>) -> Vec<Expected> {
    let mut expected = Vec::with_capacity(ticks.len());
    for begin in ticks.clone().step_by(WEEK) {
        let foresight = Foresight::learn(known, curves, begin);
        expected.extend(
            (begin..(begin + WEEK).min(ticks.end)).map(|tick| match &foresight {
                Some(foresight) => foresight.ask(&known.row(tick)),
                None => Expected::default(),
            }),
        );
    }
    expected
}

/// The targets that [`super::super::sizing::size`] gives for expected curves: enough for the tick and,
/// as a shell needs its time, for the one after it.
pub fn targets(expected: &[Expected], miss_s: f64, hysteresis: Hysteresis) -> Vec<usize> {
    let mut now = 0;
    expected
        .iter()
        .map(|expected| {
            let class = Class {
                curve: &expected.now,
                costs: Costs { miss_s },
                now,
                least: 0,
                most: MOST,
                memory_mib: 1,
            };
            let (_, sized) = expected.larger(&class, hysteresis);
            now = if sized.reason == Reason::Unknown {
                0
            } else {
                sized.shells
            };
            now
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Host, Trace, replay};
    use super::*;

    /// Ten requests at once every day at noon, nothing else.
    fn noon() -> Trace {
        let at_s: Vec<f64> = (0..14)
            .flat_map(|day| {
                (0..10).map(move |i| f64::from(day) * 86_400.0 + 43_260.0 + f64::from(i) * 0.1)
            })
            .collect();
        Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        }
    }

    #[test]
    fn a_daily_burst_is_met_and_nothing_idles_at_night() {
        let trace = noon();
        let host = Host {
            lead_s: 60.0,
            reuse_s: None,
        };
        let known = Known::new(&trace, host.lead_s);
        let curves = replay::curves(&trace, host);
        let ticks = 12 * DAY..13 * DAY;
        let expected = expect(&known, &curves, ticks);
        let targets = targets(&expected, 50_000.0, Hysteresis { share: 0.0 });
        assert!(targets[144] >= 10, "{:?}", &targets[140..148]);
        assert_eq!(targets[..100].iter().max(), Some(&0));
    }

    #[test]
    fn too_little_to_learn_from_expects_nothing() {
        let trace = noon();
        let known = Known::new(&trace, 6.7);
        let curves = replay::curves(
            &trace,
            Host {
                lead_s: 6.7,
                reuse_s: None,
            },
        );
        assert!(Foresight::learn(&known, &curves, DAY).is_none());
        let expected = expect(&known, &curves, 0..3);
        assert_eq!(
            targets(&expected, 1000.0, Hysteresis { share: 0.0 }),
            [0, 0, 0]
        );
    }
}
