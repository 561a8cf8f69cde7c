//! Statistics that one absurd value cannot move far: quantiles, medians, caps. Pure; no allocation
//! is kept.

/// The value at `level` (0–1) of ascending values, linearly interpolated between neighbours (the
/// rule of numpy's `quantile`). NaN where there are none.
pub fn quantile_sorted(ascending: &[f64], level: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = level.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    ascending[below] + (ascending[above] - ascending[below]) * (at - below as f64)
}

/// The same of values in any order; values that are not finite are left out.
pub fn quantile(values: &[f64], level: f64) -> f64 {
    quantile_sorted(&ascending(values), level)
}

/// The finite values in ascending order.
pub fn ascending(values: &[f64]) -> Vec<f64> {
    let mut kept: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    kept.sort_unstable_by(f64::total_cmp);
    kept
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The arithmetic mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Quantiles of weighted values at ascending `levels`: the weight's middle stands at each value, and
/// between the values it is interpolated. `pairs` are sorted by the way. NaN where there are none.
pub fn weighted_quantiles<const N: usize>(pairs: &mut [(f64, f64)], levels: &[f64; N]) -> [f64; N] {
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    weighted_quantiles_sorted(pairs, levels)
}

/// The same of values that ascend.
pub fn weighted_quantiles_sorted<const N: usize>(
    pairs: &[(f64, f64)],
    levels: &[f64; N],
) -> [f64; N] {
    let total: f64 = pairs.iter().map(|pair| pair.1).sum();
    let mut found = [f64::NAN; N];
    if pairs.is_empty() || total <= 0.0 {
        return found;
    }
    let mut level = 0;
    let mut below = 0.0;
    let mut previous: Option<(f64, f64)> = None;
    for (value, weight) in pairs.iter() {
        let middle = (below + weight / 2.0) / total;
        below += weight;
        while level < N && levels[level] <= middle {
            found[level] = match previous {
                Some((at, from)) if middle > at => {
                    from + (value - from) * (levels[level] - at) / (middle - at)
                }
                _ => *value,
            };
            level += 1;
        }
        previous = Some((middle, *value));
    }
    for rest in &mut found[level..] {
        *rest = pairs[pairs.len() - 1].0;
    }
    found
}

/// What a value may be at most, given its companions: `TIMES` their 99 % quantile (with one added, so
/// that counts around zero keep room). Far beyond any burst in the traces, and near enough that one
/// poisoned device cannot fill a host.
pub fn ceiling(values: &[f64]) -> f64 {
    const TIMES: f64 = 20.0;
    let high = quantile(values, 0.99);
    if high.is_nan() {
        f64::INFINITY
    } else {
        TIMES * (high.abs() + 1.0)
    }
}

/// The same for few values, whose own 99 % quantile one absurd value moves: `TIMES` their median.
pub fn ceiling_of_few(values: &[f64]) -> f64 {
    const TIMES: f64 = 20.0;
    let middle = median(values);
    if middle.is_nan() {
        f64::INFINITY
    } else {
        TIMES * (middle.abs() + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_follow_numpy() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.9), 3.7);
        assert_eq!(quantile(&[5.0], 0.1), 5.0);
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(quantile(&[f64::NAN, 1.0, f64::INFINITY], 0.5), 1.0);
    }

    #[test]
    fn weights_move_a_quantile_and_equal_weights_do_not() {
        let even = weighted_quantiles(&mut [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)], &[0.1, 0.5, 0.9]);
        assert_eq!(even, [1.0, 2.0, 3.0]);
        let tilted = weighted_quantiles(&mut [(1.0, 8.0), (2.0, 1.0), (3.0, 1.0)], &[0.5]);
        assert!(tilted[0] < 1.4, "{tilted:?}");
        assert!(weighted_quantiles(&mut [], &[0.5])[0].is_nan());
    }

    #[test]
    fn one_absurd_value_does_not_lift_the_ceiling() {
        let mut values: Vec<f64> = (0..200).map(f64::from).collect();
        let before = ceiling(&values);
        values.push(1e300);
        assert!(ceiling(&values) < before * 1.05);
    }
}
