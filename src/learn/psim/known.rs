//! What is known of the demand when a tick begins: the last moments, the last hours, and the same time
//! of earlier days and weeks, as features.

use super::super::robust;
use super::{DAY, LONGEST_HOLD_S, MOST, TICK_S, Trace, WEEK};

/// What is known at the begin of each tick.
pub struct Known {
    pub(super) lead_s: f64,
    counts: Vec<f64>,
    /// The largest need of each tick, at most [`MOST`].
    pub(super) needs: Vec<f64>,
    count_sums: Vec<f64>,
    need_sums: Vec<f64>,
    close: Vec<Close>,
    /// Ticks of which nobody knows what was asked for.
    gaps: std::collections::BTreeSet<usize>,
    /// What nobody can know; see [`super::clairvoyant`].
    told: Vec<Vec<f64>>,
}

/// The last moments before a tick.
#[derive(Clone, Copy)]
struct Close {
    /// Seconds since the last request.
    quiet_s: f64,
    last_10_s: f64,
    last_60_s: f64,
    /// Shells in use, and those given back within two minutes.
    busy: f64,
    back: f64,
}

impl Known {
    pub fn new(trace: &Trace, lead_s: f64) -> Self {
        Self::until(trace, lead_s, trace.ticks().saturating_sub(1), [])
    }

    /// Knows all that came before tick `until`, for which [`Known::row`] answers last; `gaps` are ticks
    /// that nobody watched.
    pub fn until(
        trace: &Trace,
        lead_s: f64,
        until: usize,
        gaps: impl IntoIterator<Item = usize>,
    ) -> Self {
        let mut counts = trace.counts();
        let mut needs: Vec<f64> = trace
            .needs(lead_s)
            .iter()
            .map(|n| n.min(MOST as f64))
            .collect();
        counts.resize(until + 1, 0.0);
        needs.resize(until + 1, 0.0);
        let close = (0..counts.len()).map(|tick| close(trace, tick)).collect();
        Self {
            lead_s,
            count_sums: sums(&counts),
            need_sums: sums(&needs),
            counts,
            needs,
            close,
            gaps: gaps.into_iter().collect(),
            told: Vec::new(),
        }
    }

    /// With columns of numbers that are told for each tick, of it and of the next.
    pub(super) fn told(mut self, columns: Vec<Vec<f64>>) -> Self {
        self.told = columns;
        self
    }

    pub(super) fn is_watched(&self, tick: usize) -> bool {
        !self.gaps.contains(&tick)
    }

    /// The features of a tick, from what came before it. NaN where it reaches back too far.
    pub fn row(&self, tick: usize) -> Vec<f64> {
        let (c, n) = (&self.count_sums, &self.need_sums);
        let at =
            |values: &[f64], back: usize| tick.checked_sub(back).map_or(f64::NAN, |t| values[t]);
        let last = |sums: &[f64], ticks: usize| mean(sums, tick.checked_sub(ticks), tick);
        let around = |sums: &[f64], back: usize, reach: usize| {
            let middle = tick.checked_sub(back);
            let end = middle.map_or(0, |middle| (middle + reach + 1).min(tick));
            mean(
                sums,
                middle.and_then(|middle| middle.checked_sub(reach)),
                end,
            )
        };
        let weeks = |sums: &[f64], reach: usize| {
            let seen: Vec<f64> = (1..=4)
                .map(|week| around(sums, week * WEEK, reach))
                .filter(|mean| mean.is_finite())
                .collect();
            robust::mean(&seen)
        };
        let highest = |ticks: usize| {
            self.needs[tick.saturating_sub(ticks)..tick]
                .iter()
                .copied()
                .fold(0.0, f64::max)
        };
        let close = self.close[tick];
        let clock = [(tick % DAY) as f64, (tick / DAY % 7) as f64];
        let moments = [
            close.quiet_s,
            close.last_10_s,
            close.last_60_s,
            close.busy,
            close.back,
        ];
        let ticks = [
            at(&self.counts, 1),
            at(&self.counts, 2),
            at(&self.needs, 1),
            at(&self.needs, 2),
        ];
        let hours = [
            last(c, 3),
            last(c, 12),
            last(c, 36),
            last(c, DAY),
            last(n, 3),
            last(n, 12),
        ];
        let peaks = [highest(3), highest(12), highest(72)];
        let before = [
            around(c, DAY, 2),
            around(c, WEEK, 2),
            around(n, DAY, 2),
            around(n, WEEK, 3),
        ];
        let usual = [weeks(c, 0), weeks(c, 3), weeks(n, 1), weeks(n, 6)];
        // Busier than a week ago?
        let busier = [last(c, 12) - around(c, WEEK, 12)];
        let told: Vec<f64> = self
            .told
            .iter()
            .flat_map(|column| [tick, tick + 1].map(|t| column.get(t).copied().unwrap_or(f64::NAN)))
            .collect();
        [
            &clock[..],
            &moments,
            &ticks,
            &hours,
            &peaks,
            &before,
            &usual,
            &busier,
            &told,
        ]
        .concat()
    }
}

fn close(trace: &Trace, tick: usize) -> Close {
    const GIVEN_BACK_S: f64 = 120.0;
    const LONG_AGO_S: f64 = 1e6;
    let begin = tick as f64 * TICK_S;
    let until = trace.at_s.partition_point(|at| *at < begin);
    let since = |seconds: f64| until - trace.at_s.partition_point(|at| *at < begin - seconds);
    let held = until - since(LONGEST_HOLD_S);
    let ends = (held..until).map(|i| trace.at_s[i] + trace.hold_s[i]);
    let busy = ends.clone().filter(|end| *end > begin).count();
    let back = ends
        .filter(|end| *end <= begin && *end > begin - GIVEN_BACK_S)
        .count();
    Close {
        quiet_s: until
            .checked_sub(1)
            .map_or(LONG_AGO_S, |i| (begin - trace.at_s[i]).min(LONG_AGO_S)),
        last_10_s: since(10.0) as f64,
        last_60_s: since(60.0) as f64,
        busy: busy as f64,
        back: back as f64,
    }
}

fn sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0];
    for value in values {
        sums.push(sums[sums.len() - 1] + value);
    }
    sums
}

fn mean(sums: &[f64], from: Option<usize>, until: usize) -> f64 {
    match from {
        Some(from) if from < until => (sums[until] - sums[from]) / (until - from) as f64,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_knows_nothing_of_its_own_tick_and_all_of_the_one_before() {
        let at_s: Vec<f64> = (0..900)
            .map(|i| f64::from(i) * 1000.0 + f64::from(i % 7))
            .collect();
        let trace = Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        };
        let tick = 2 * WEEK / 3;
        let row = |trace: &Trace| format!("{:?}", Known::new(trace, 6.7).row(tick));
        let without = |ticks: std::ops::Range<usize>| {
            let mut trace = trace.clone();
            trace
                .at_s
                .retain(|at| !ticks.contains(&((*at / TICK_S) as usize)));
            trace.hold_s.truncate(trace.at_s.len());
            trace
        };
        assert_eq!(row(&trace), row(&without(tick..tick + 4)));
        assert_ne!(row(&trace), row(&without(tick - 4..tick)));
    }
}
