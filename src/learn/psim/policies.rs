//! The plain rules that foresight has to beat: fixed, reactive, moving average, seasonal quantile,
//! sample average. Each gives a target per tick from what was known before it.

use super::super::robust;
use super::{MOST, TICK_S, WEEK};

/// Weeks that the seasonal rules look back.
const WEEKS: usize = 6;
/// Ticks to either side of the same time of the week: one hour.
const AROUND: usize = 12;

/// The largest need of the last `ticks` ticks.
pub fn reactive(needs: &[f64], ticks: usize) -> Vec<usize> {
    (0..needs.len())
        .map(|k| {
            let seen = &needs[k.saturating_sub(ticks)..k];
            seen.iter().copied().fold(0.0, f64::max) as usize
        })
        .collect()
}

/// Exponentially weighted mean (weight 0.3 for the latest tick) plus `deviations` standard
/// deviations, rounded up.
pub fn moving_average(needs: &[f64], deviations: f64) -> Vec<usize> {
    const KEPT: f64 = 0.7;
    let (mut total, mut squares, mut sum, mut sum2) = (0.0, 0.0, 0.0, 0.0);
    let mut targets = Vec::with_capacity(needs.len());
    for need in needs {
        let mut target = 0.0;
        if total > 0.0 {
            let mean: f64 = sum / total;
            let unbiased = total * total - squares;
            let variance = if unbiased > 0.0 {
                (sum2 / total - mean * mean).max(0.0) * total * total / unbiased
            } else {
                0.0
            };
            target = (mean + deviations * variance.sqrt()).ceil().max(0.0);
        }
        targets.push(target as usize);
        total = KEPT * total + 1.0;
        squares = KEPT * KEPT * squares + 1.0;
        sum = KEPT * sum + need;
        sum2 = KEPT * sum2 + need * need;
    }
    targets
}

/// The same time of earlier weeks, as ranges of ticks; the nearest week first.
pub(super) fn like(tick: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (1..=WEEKS).map_while(move |week| {
        let middle = tick.checked_sub(week * WEEK)?;
        Some(middle.checked_sub(AROUND)?..middle + AROUND + 1)
    })
}

/// The quantile of the needs at the same time of the last weeks.
pub fn seasonal_quantile(needs: &[f64], level: f64) -> Vec<usize> {
    (0..needs.len())
        .map(|tick| {
            let seen: Vec<f64> = like(tick)
                .flat_map(|range| needs[range.start..range.end.min(tick)].to_vec())
                .collect();
            if seen.is_empty() {
                0
            } else {
                robust::quantile(&seen, level).ceil() as usize
            }
        })
        .collect()
}

/// The target with the least cost over like ticks: shells × seconds + `penalty_s` × misses, where
/// `misses[tick][stock]` is known from the past. Weeks count half after three.
pub fn sample_average(misses: &[Vec<f32>], penalty_s: f64) -> Vec<usize> {
    // Sums over ticks, so that a range costs one subtraction.
    let mut sums = vec![vec![0.0f64; MOST + 1]];
    for row in misses {
        let last = &sums[sums.len() - 1];
        sums.push(
            last.iter()
                .zip(row)
                .map(|(sum, m)| sum + f64::from(*m))
                .collect(),
        );
    }
    (0..misses.len())
        .map(|tick| {
            let mut mean = vec![0.0; MOST + 1];
            let mut total = 0.0;
            for (age, range) in like(tick).enumerate() {
                let weight = 0.5f64.powf((age + 1) as f64 / 3.0);
                for (stock, mean) in mean.iter_mut().enumerate() {
                    *mean += weight * (sums[range.end][stock] - sums[range.start][stock]);
                }
                total += weight * range.len() as f64;
            }
            if total == 0.0 {
                return 0;
            }
            let cost = |stock: usize| stock as f64 * TICK_S + penalty_s * mean[stock] / total;
            (0..=MOST)
                .min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
                .unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_knows_the_present_tick() {
        let mut needs = vec![2.0; 2 * WEEK];
        let at = 2 * WEEK - 1;
        let before = (
            reactive(&needs, 3)[at],
            moving_average(&needs, 1.0)[at],
            seasonal_quantile(&needs, 0.9)[at],
        );
        needs[at] = 50.0;
        let after = (
            reactive(&needs, 3)[at],
            moving_average(&needs, 1.0)[at],
            seasonal_quantile(&needs, 0.9)[at],
        );
        assert_eq!(before, (2, 2, 2));
        assert_eq!(before, after);
    }

    #[test]
    fn the_sample_average_weighs_shells_against_misses() {
        // Each tick has 4 misses without a shell, 1 with one, none with two.
        let mut row = vec![0.0; MOST + 1];
        (row[0], row[1]) = (4.0, 1.0);
        let misses = vec![row; WEEK + 20];
        assert_eq!(sample_average(&misses, 50.0)[WEEK + 15], 0);
        assert_eq!(sample_average(&misses, 200.0)[WEEK + 15], 1);
        assert_eq!(sample_average(&misses, 400.0)[WEEK + 15], 2);
        assert_eq!(sample_average(&misses, 400.0)[5], 0);
    }
}
