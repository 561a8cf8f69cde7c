//! How many shells to keep: the newsvendor's question, asked for all classes of a host at once.
//!
//! A class brings a [`Curve`]: for each number of shells the misses and idle seconds that are expected
//! in the coming period, from a forecast ([`Curve::of_forecast`]) or learned from a replay
//! ([`super::psim`]). One more shell is worth it while the misses it saves, at their cost, outweigh
//! the idle time it adds. A budget is spent where a MiB saves most. The same function serves the
//! daemon and the simulation.

use serde::{Deserialize, Serialize};

mod ahead;
pub mod tiers;

pub use ahead::{Expected, keeps_template, peakedness, share_of_recent};

use super::forecast::{LEVELS, Step};

/// What is expected of a period for each number of shells 0, 1, 2, …
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Curve {
    /// Requests that find no ready shell.
    pub misses: Vec<f32>,
    /// Seconds that ready shells wait, all together.
    pub idle_s: Vec<f32>,
}

/// What waiting and missing cost, in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// A cold start, in seconds of one idle shell.
    pub miss_s: f64,
}

/// One class of shells at a decision.
#[derive(Debug, Clone)]
pub struct Class<'a> {
    pub curve: &'a Curve,
    pub costs: Costs,
    /// Shells that are kept now.
    pub now: usize,
    /// Bounds set by people or rules.
    pub least: usize,
    pub most: usize,
    /// What one shell takes of the budget.
    pub memory_mib: u64,
}

/// Why it is as many as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One more would cost more than it saves.
    Balanced,
    /// Fewer would do for now, but not clearly enough to let go.
    Held,
    /// More would be worth it, but the budget is spent elsewhere.
    Budget,
    /// A bound that was set says so.
    Bound,
    /// Nothing is known; the bound below is kept.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sized {
    pub shells: usize,
    pub reason: Reason,
    /// Expected misses of the period with so many shells.
    pub misses: f64,
    /// Cost of the period, in idle seconds.
    pub cost_s: f64,
}

/// Letting go saves at least this share of the period's cost, or the shells are kept.
/// Only what forecasts say clearly is given up; a boot costs more than a moment of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hysteresis {
    pub share: f64,
}

impl Curve {
    fn cost(&self, shells: usize, costs: Costs) -> f64 {
        f64::from(self.idle_s[shells]) + costs.miss_s * f64::from(self.misses[shells])
    }

    /// How many shells the curve speaks of at most.
    fn last(&self) -> Option<usize> {
        self.misses.len().min(self.idle_s.len()).checked_sub(1)
    }

    /// The curve that a forecast of the period's requests implies, up to `most` shells. Requests are
    /// taken to come at random within the period, in clumps of `peakedness` (variance ÷ mean of the
    /// requests in a lead time; 1 for independent ones): Erlang's loss formula, for clumps in Hayward's
    /// approximation. The forecast's quantiles are mixed, so that an unsure forecast keeps more.
    pub fn of_forecast(
        requests: &Step,
        period_s: f64,
        lead_s: f64,
        peakedness: f64,
        most: usize,
    ) -> Self {
        let mut curve = Self {
            misses: vec![0.0; most + 1],
            idle_s: vec![0.0; most + 1],
        };
        let z = if peakedness.is_finite() {
            peakedness.max(1.0)
        } else {
            1.0
        };
        const POINTS: usize = 19;
        for point in 0..POINTS {
            let level = (point as f64 + 0.5) / POINTS as f64;
            let count = at_level(requests, level).max(0.0);
            let load = count / period_s * lead_s;
            let lost = lost_shares(load / z, (most as f64 / z).ceil() as usize + 1);
            for shells in 0..=most {
                let at = shells as f64 / z;
                let (below, part) = (at.floor() as usize, at.fract());
                let share = lost[below] + part * (lost[below + 1] - lost[below]);
                let booting = load * (1.0 - share);
                curve.misses[shells] += (count * share / POINTS as f64) as f32;
                curve.idle_s[shells] +=
                    ((shells as f64 - booting).max(0.0) * period_s / POINTS as f64) as f32;
            }
        }
        curve
    }
}

/// The forecast's value at any level: linear between the levels it has, flat beyond.
fn at_level(step: &Step, level: f64) -> f64 {
    let above = LEVELS.partition_point(|known| *known < level);
    if above == 0 {
        return step[0];
    }
    if above == LEVELS.len() {
        return step[LEVELS.len() - 1];
    }
    let share = (level - LEVELS[above - 1]) / (LEVELS[above] - LEVELS[above - 1]);
    step[above - 1] + share * (step[above] - step[above - 1])
}

/// Erlang's B for 0..=`most` servers at a load.
fn lost_shares(load: f64, most: usize) -> Vec<f64> {
    let mut lost = vec![1.0];
    for servers in 1..=most {
        let before = lost[servers - 1];
        lost.push(load * before / (servers as f64 + load * before));
    }
    if load <= 0.0 {
        lost.fill(0.0);
    }
    lost
}

/// Decides for all classes of a host together. `budget_mib` bounds the memory of all shells; bounds
/// below (`least`) are kept even then. An empty curve keeps `least`.
pub fn size(classes: &[Class], budget_mib: u64, hysteresis: Hysteresis) -> Vec<Sized> {
    let mut decided: Vec<Sized> = classes
        .iter()
        .map(|class| alone(class, hysteresis))
        .collect();
    let total = |decided: &[Sized]| -> u64 {
        decided
            .iter()
            .zip(classes)
            .map(|(d, c)| d.shells as u64 * c.memory_mib)
            .sum()
    };
    // The shells that save least per MiB go until the rest fits.
    while total(&decided) > budget_mib {
        let least_saved = (0..classes.len())
            .filter(|i| decided[*i].shells > classes[*i].least && classes[*i].memory_mib > 0)
            .min_by(|a, b| {
                saved(&classes[*a], decided[*a].shells)
                    .total_cmp(&saved(&classes[*b], decided[*b].shells))
            });
        let Some(i) = least_saved else {
            break;
        };
        decided[i] = told(&classes[i], decided[i].shells - 1, Reason::Budget);
    }
    decided
}

/// What the last of so many shells saves, per MiB.
fn saved(class: &Class, shells: usize) -> f64 {
    match class.curve.last() {
        Some(last) if shells <= last => {
            (class.curve.cost(shells - 1, class.costs) - class.curve.cost(shells, class.costs))
                / class.memory_mib as f64
        }
        _ => f64::NEG_INFINITY,
    }
}

fn told(class: &Class, shells: usize, reason: Reason) -> Sized {
    let (misses, cost_s) = match class.curve.last() {
        Some(last) => {
            let at = shells.min(last);
            (
                f64::from(class.curve.misses[at]),
                class.curve.cost(at, class.costs),
            )
        }
        None => (f64::NAN, f64::NAN),
    };
    Sized {
        shells,
        reason,
        misses,
        cost_s,
    }
}

/// One class, as if the budget were endless.
fn alone(class: &Class, hysteresis: Hysteresis) -> Sized {
    let (least, most) = (class.least, class.most.max(class.least));
    let Some(last) = class.curve.last() else {
        return told(class, least, Reason::Unknown);
    };
    let cost = |shells: usize| class.curve.cost(shells, class.costs);
    let best = (0..=last)
        .min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
        .unwrap_or(0);
    let now = class.now.min(last);
    // Up at once; down only where it pays clearly.
    let held = best < now && cost(now) - cost(best) <= hysteresis.share * cost(now);
    let wanted = if held { now } else { best };
    let shells = wanted.clamp(least, most);
    let reason = match (shells == wanted, held) {
        (false, _) => Reason::Bound,
        (true, true) => Reason::Held,
        (true, false) => Reason::Balanced,
    };
    told(class, shells, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Hysteresis = Hysteresis { share: 0.0 };

    fn class(curve: &Curve, miss_s: f64) -> Class<'_> {
        Class {
            curve,
            costs: Costs { miss_s },
            now: 0,
            least: 0,
            most: 64,
            memory_mib: 100,
        }
    }

    fn steady(count: f64) -> Curve {
        Curve::of_forecast(&[count; 5], 300.0, 6.7, 1.0, 20)
    }

    #[test]
    fn erlang_is_erlang() {
        // B(2, 1) = 1/5, B(5, 3) = 0.11005 (any table of Erlang B).
        assert!((lost_shares(1.0, 2)[2] - 0.2).abs() < 1e-12);
        assert!((lost_shares(3.0, 5)[5] - 0.11005).abs() < 1e-5);
        assert_eq!(lost_shares(0.0, 3), [0.0; 4]);
    }

    #[test]
    fn dearer_misses_and_more_doubt_keep_more_shells() {
        let sure = steady(60.0);
        let unsure = Curve::of_forecast(&[5.0, 20.0, 60.0, 120.0, 180.0], 300.0, 6.7, 1.0, 20);
        let clumped = Curve::of_forecast(&[60.0; 5], 300.0, 6.7, 4.0, 20);
        let size_of =
            |curve: &Curve, miss_s| size(&[class(curve, miss_s)], u64::MAX, NONE)[0].shells;
        assert!(size_of(&sure, 100.0) < size_of(&sure, 10_000.0));
        assert!(size_of(&sure, 3000.0) < size_of(&unsure, 3000.0));
        assert!(size_of(&sure, 3000.0) < size_of(&clumped, 3000.0));
        assert_eq!(size_of(&steady(0.0), 1e6), 0);
    }

    #[test]
    fn down_only_where_it_pays_clearly() {
        let curve = steady(60.0);
        let mut class = class(&curve, 3000.0);
        let best = size(&[class.clone()], u64::MAX, NONE)[0].shells;
        class.now = best + 1;
        let kept = size(&[class.clone()], u64::MAX, Hysteresis { share: 0.3 })[0];
        assert_eq!((kept.shells, kept.reason), (best + 1, Reason::Held));
        class.now = 20;
        let fell = size(&[class], u64::MAX, Hysteresis { share: 0.3 })[0];
        assert_eq!((fell.shells, fell.reason), (best, Reason::Balanced));
    }

    #[test]
    fn a_budget_is_spent_where_it_saves_most() {
        let (busy, quiet) = (steady(90.0), steady(3.0));
        let classes = [class(&busy, 3000.0), class(&quiet, 3000.0)];
        let free = size(&classes, u64::MAX, NONE);
        let tight = size(&classes, 300, NONE);
        assert!(free[0].shells + free[1].shells > 3 && free[1].shells > 0);
        assert_eq!(tight[0].shells + tight[1].shells, 3);
        assert!(tight[0].shells > tight[1].shells);
        assert_eq!(tight[0].reason, Reason::Budget);
        let mut bound = classes.to_vec();
        bound[1].least = 2;
        assert_eq!(size(&bound, 0, NONE)[1].shells, 2);
    }

    #[test]
    fn nothing_known_and_nonsense_keep_the_bounds() {
        let empty = Curve::default();
        let mut unknown = class(&empty, 100.0);
        unknown.least = 1;
        let told = size(&[unknown], 0, NONE)[0];
        assert_eq!((told.shells, told.reason), (1, Reason::Unknown));
        let wild = Curve::of_forecast(&[f64::MAX; 5], 300.0, 6.7, f64::NAN, 8);
        let mut class = class(&wild, 1e9);
        class.most = 4;
        assert!(size(&[class], u64::MAX, NONE)[0].shells <= 4);
    }
}
