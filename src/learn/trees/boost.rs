//! Gradient boosting for one quantile: each tree follows the signs of the errors, and each leaf then
//! gives the quantile of its rows' errors (as LightGBM's `quantile` objective does).

use serde::{Deserialize, Serialize};

use super::super::random::Seeded;
use super::super::robust;
use super::grow::Grower;
use super::{Binned, Plan, Tree};

/// A trained model of one quantile of the target. It serialises as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boost {
    pub level: f64,
    base: f64,
    /// With their leaves' values.
    trees: Vec<Tree>,
    /// Range of the targets it was trained on; a prediction never leaves it.
    range: (f64, f64),
}

impl Boost {
    /// Learns the quantile `level` of `target` given the table's rows. `weights` (none: all alike)
    /// say how much a row matters. An empty table gives a model that answers zero.
    pub fn fit(
        data: &Binned,
        target: &[f64],
        weights: Option<&[f64]>,
        level: f64,
        plan: &Plan,
    ) -> Self {
        let n = data.rows().min(target.len());
        let mut model = Self {
            level,
            base: 0.0,
            trees: Vec::new(),
            range: (0.0, 0.0),
        };
        if n == 0 {
            return model;
        }
        let is_even = weights.is_none();
        let weights = unit_weights(weights, n);
        let low = target[..n].iter().copied().fold(f64::INFINITY, f64::min);
        let high = target[..n]
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        model.range = (low, high);
        let quantile = |rows: &mut dyn Iterator<Item = usize>, predicted: &[f64]| match is_even {
            true => even_quantile(
                rows.map(|row| target[row] - predicted[row]).collect(),
                level,
            ),
            false => {
                let pair = |row: usize| (target[row] - predicted[row], weights[row]);
                leaf_quantile(&mut rows.map(pair).collect::<Vec<_>>(), level)
            }
        };
        model.base = quantile(&mut (0..n), &vec![0.0; n]);
        let grower = Grower::new(data, *plan);
        let mut random = Seeded::new(plan.seed);
        let mut predicted = vec![model.base; n];
        let mut gradients = vec![0.0; n];
        for _ in 0..plan.trees {
            let is_above = |row: usize| target[row] > predicted[row];
            // With few rows the quantile is the largest target, and none is above: the signs say nothing
            // of who belongs together, the errors do.
            let none_above = !(0..n).any(is_above);
            for row in 0..n {
                let pull = match (none_above, is_above(row)) {
                    (true, _) => target[row] - predicted[row],
                    (false, true) => level,
                    (false, false) => level - 1.0,
                };
                gradients[row] = pull * weights[row];
            }
            let rows = sampled(n, plan.row_share, &mut random);
            let mut growth = grower.grow(rows, &gradients, &weights, &mut random);
            if growth.leaves.len() < 2 && plan.row_share >= 1.0 {
                break;
            }
            let values: Vec<f64> = growth
                .leaves
                .iter()
                .map(|rows| {
                    let mut rows = rows.iter().map(|row| *row as usize);
                    // Rounded: a stored model has half as many digits.
                    f64::from((plan.rate * quantile(&mut rows, &predicted)) as f32)
                })
                .collect();
            growth.tree.give_values(|leaf| values[leaf]);
            growth.add_values(data, &mut predicted);
            model.trees.push(growth.tree);
        }
        model
    }

    /// The quantile for a row of features.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let sum: f64 = self.trees.iter().map(|tree| tree.value(row)).sum();
        (self.base + sum).clamp(self.range.0, self.range.1)
    }
}

/// Weights scaled to a mean of 1; all 1 where none are given or they make no sense.
pub(super) fn unit_weights(weights: Option<&[f64]>, n: usize) -> Vec<f64> {
    let sum: f64 = weights.map_or(0.0, |weights| weights[..n].iter().sum());
    match weights {
        Some(weights) if sum.is_finite() && sum > 0.0 => weights[..n]
            .iter()
            .map(|weight| weight * n as f64 / sum)
            .collect(),
        _ => vec![1.0; n],
    }
}

pub(super) fn sampled(n: usize, share: f64, random: &mut Seeded) -> Vec<u32> {
    if share >= 1.0 {
        return (0..n as u32).collect();
    }
    (0..n as u32).filter(|_| random.unit() < share).collect()
}

/// What [`leaf_quantile`] is where all weigh the same, without sorting them.
fn even_quantile(mut errors: Vec<f64>, level: f64) -> f64 {
    let Some(last) = errors.len().checked_sub(1) else {
        return 0.0;
    };
    let at = (level * errors.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (_, below, above) = errors.select_nth_unstable_by(at as usize, f64::total_cmp);
    let next = above.iter().copied().fold(f64::INFINITY, f64::min);
    let value = match next.is_finite() {
        true => *below + (next - *below) * at.fract(),
        false => *below,
    };
    if value.is_finite() { value } else { 0.0 }
}

fn leaf_quantile(pairs: &mut [(f64, f64)], level: f64) -> f64 {
    let [value] = robust::weighted_quantiles(pairs, &[level]);
    if value.is_finite() { value } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;

    /// y = x0 + noise × x1, so that the upper quantile depends on x1.
    fn sample(n: usize) -> (Table, Vec<f64>) {
        let mut random = Seeded::new(3);
        let x0: Vec<f64> = (0..n).map(|_| random.unit() * 10.0).collect();
        let x1: Vec<f64> = (0..n).map(|_| random.unit() * 4.0).collect();
        let y = (0..n)
            .map(|i| x0[i] + (random.unit() - 0.5) * x1[i])
            .collect();
        (
            Table {
                columns: vec![x0, x1],
            },
            y,
        )
    }

    #[test]
    fn quantiles_cover_what_they_promise_on_new_rows() {
        let (table, y) = sample(1500);
        let data = Binned::new(&table, 64);
        let plan = Plan {
            trees: 60,
            min_leaf: 20.0,
            ..Plan::default()
        };
        let model = Boost::fit(&data, &y, None, 0.9, &plan);
        let mut random = Seeded::new(99);
        let below = (0..1000)
            .filter(|_| {
                let (a, b) = (random.unit() * 10.0, random.unit() * 4.0);
                a + (random.unit() - 0.5) * b <= model.predict(&[a, b])
            })
            .count();
        assert!((840..=950).contains(&below), "{below}");
        // Wider where the noise is.
        let wide = model.predict(&[5.0, 3.9]) - 5.0;
        let narrow = model.predict(&[5.0, 0.1]) - 5.0;
        assert!(wide > narrow + 0.3, "{wide} {narrow}");
    }

    #[test]
    fn the_same_seed_gives_the_same_model_and_it_survives_storage() {
        let (table, y) = sample(200);
        let data = Binned::new(&table, 32);
        let plan = Plan {
            trees: 10,
            row_share: 0.7,
            column_share: 0.5,
            ..Plan::default()
        };
        let a = Boost::fit(&data, &y, None, 0.5, &plan);
        assert_eq!(a, Boost::fit(&data, &y, None, 0.5, &plan));
        let stored = serde_json::to_string(&a).unwrap();
        let b: Boost = serde_json::from_str(&stored).unwrap();
        assert_eq!(a.predict(&table.row(3)), b.predict(&table.row(3)));
    }

    #[test]
    fn quantiles_of_even_weights_are_those_of_weights() {
        let mut random = Seeded::new(8);
        for n in [1, 2, 3, 10, 77] {
            let errors: Vec<f64> = (0..n).map(|_| (random.unit() * 20.0).floor()).collect();
            for level in [0.02, 0.5, 0.9, 0.98] {
                let mut pairs: Vec<_> = errors.iter().map(|error| (*error, 1.0)).collect();
                let (a, b) = (
                    even_quantile(errors.clone(), level),
                    leaf_quantile(&mut pairs, level),
                );
                assert!((a - b).abs() < 1e-9, "{n} {level}: {a} {b}");
            }
        }
    }

    #[test]
    fn nothing_and_one_row_are_learned_without_a_fault() {
        let none = Binned::new(
            &Table {
                columns: vec![vec![]],
            },
            64,
        );
        assert_eq!(
            Boost::fit(&none, &[], None, 0.5, &Plan::default()).predict(&[1.0]),
            0.0
        );
        let one = Binned::new(
            &Table {
                columns: vec![vec![1.0]],
            },
            64,
        );
        assert_eq!(
            Boost::fit(&one, &[7.0], None, 0.9, &Plan::default()).predict(&[4.0]),
            7.0
        );
    }

    #[test]
    fn a_prediction_stays_inside_of_what_was_seen() {
        let (table, y) = sample(300);
        let model = Boost::fit(&Binned::new(&table, 64), &y, None, 0.975, &Plan::default());
        let high = y.iter().copied().fold(f64::MIN, f64::max);
        assert!(model.predict(&[1e300, f64::NAN]) <= high);
    }
}
