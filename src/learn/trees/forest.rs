//! A forest that answers with a distribution: which earlier cases is this one like, and how much
//! (quantile regression forest; Meinshausen 2006). Trees are grown on the squared error of samples of
//! the rows; a leaf keeps its rows, so any statistic of the like cases can be had.

use serde::{Deserialize, Serialize};

use super::super::random::Seeded;
use super::super::robust;
use super::boost::{sampled, unit_weights};
use super::grow::Grower;
use super::like::Like;
use super::{Binned, Plan, Tree};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forest {
    trees: Vec<(Tree, Vec<Vec<u32>>)>,
    target: Vec<f64>,
    weights: Vec<f64>,
}

impl Forest {
    /// Learns from rows with `target`; `weights` as in [`super::boost::Boost::fit`].
    pub fn fit(data: &Binned, target: &[f64], weights: Option<&[f64]>, plan: &Plan) -> Self {
        let n = data.rows().min(target.len());
        let weights = unit_weights(weights, n);
        let gradients: Vec<f64> = (0..n).map(|row| target[row] * weights[row]).collect();
        let grower = Grower::new(data, *plan);
        let mut random = Seeded::new(plan.seed);
        let trees = (0..if n == 0 { 0 } else { plan.trees })
            .map(|_| {
                let rows = sampled(n, plan.row_share, &mut random);
                let growth = grower.grow(rows, &gradients, &weights, &mut random);
                (growth.tree, growth.leaves)
            })
            .collect();
        Self {
            trees,
            target: target[..n].to_vec(),
            weights,
        }
    }

    /// Quantiles of the target at ascending `levels`; NaN where nothing was learned.
    pub fn quantiles<const N: usize>(&self, row: &[f64], levels: &[f64; N]) -> [f64; N] {
        let mut pairs = Vec::new();
        for (tree, leaves) in &self.trees {
            let like = &leaves[tree.leaf(row)];
            let total: f64 = like.iter().map(|row| self.weights[*row as usize]).sum();
            pairs.extend(like.iter().map(|row| {
                let row = *row as usize;
                (self.target[row], self.weights[row] / total.max(1e-12))
            }));
        }
        robust::weighted_quantiles(&mut pairs, levels)
    }

    /// What is kept to answer with like cases, with at most `most` rows of each leaf. Weights are not.
    pub fn like(&self, most: usize) -> Like {
        Like::new(&self.trees, &self.target, most)
    }

    /// The target of a training row.
    pub fn target(&self, row: usize) -> f64 {
        self.target[row]
    }

    /// Mean of the target.
    pub fn mean(&self, row: &[f64]) -> f64 {
        let mut sum = 0.0;
        self.each_like(row, |like, share| sum += share * self.target[like]);
        sum
    }

    /// Calls `each(training row, share)` for the like cases; the shares add up to 1.
    pub fn each_like(&self, row: &[f64], mut each: impl FnMut(usize, f64)) {
        let part = 1.0 / self.trees.len().max(1) as f64;
        for (tree, leaves) in &self.trees {
            let like = &leaves[tree.leaf(row)];
            let total: f64 = like.iter().map(|row| self.weights[*row as usize]).sum();
            for row in like {
                let row = *row as usize;
                each(row, part * self.weights[row] / total.max(1e-12));
            }
        }
    }

    /// Per tree and leaf the mean of vectors that belong to the training rows, to be averaged by
    /// [`Forest::mean_of`]: cheap answers where a whole curve is wanted.
    pub fn leaf_means(&self, width: usize, of: impl Fn(usize) -> Vec<f32>) -> LeafMeans {
        let trees = self
            .trees
            .iter()
            .map(|(_, leaves)| {
                leaves
                    .iter()
                    .map(|rows| {
                        let mut sum = vec![0.0; width];
                        let mut total = 0.0;
                        for row in rows {
                            let row = *row as usize;
                            total += self.weights[row];
                            for (sum, value) in sum.iter_mut().zip(of(row)) {
                                *sum += self.weights[row] * f64::from(value);
                            }
                        }
                        sum.iter().map(|v| (v / total.max(1e-12)) as f32).collect()
                    })
                    .collect()
            })
            .collect();
        LeafMeans { width, trees }
    }

    /// The mean over the like cases of the vectors given to [`Forest::leaf_means`].
    pub fn mean_of(&self, means: &LeafMeans, row: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; means.width];
        for ((tree, _), leaves) in self.trees.iter().zip(&means.trees) {
            for (sum, value) in sum.iter_mut().zip(&leaves[tree.leaf(row)]) {
                *sum += f64::from(*value);
            }
        }
        let n = self.trees.len().max(1) as f64;
        sum.iter().map(|v| v / n).collect()
    }
}

/// See [`Forest::leaf_means`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeafMeans {
    width: usize,
    trees: Vec<Vec<Vec<f32>>>,
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;

    #[test]
    fn like_cases_make_the_distribution() {
        let x: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let y: Vec<f64> = (0..400)
            .map(|i| if i % 2 == 0 { f64::from(i % 10) } else { 100.0 })
            .collect();
        let plan = Plan {
            trees: 20,
            leaves: 8,
            min_leaf: 5.0,
            row_share: 0.6,
            ..Plan::default()
        };
        let data = Binned::new(&Table { columns: vec![x] }, 64);
        let forest = Forest::fit(&data, &y, None, &plan);
        assert_eq!(forest.quantiles(&[1.0], &[0.1, 0.9]), [100.0, 100.0]);
        let [low, high] = forest.quantiles(&[0.0], &[0.1, 0.9]);
        assert!(low < 2.0 && high > 6.0, "{low} {high}");
        let mut shares = 0.0;
        forest.each_like(&[0.0], |row, share| {
            assert_eq!(row % 2, 0);
            shares += share;
        });
        assert!((shares - 1.0).abs() < 1e-9);
        let means = forest.leaf_means(1, |row| vec![y[row] as f32]);
        assert!((forest.mean_of(&means, &[0.0])[0] - forest.mean(&[0.0])).abs() < 1e-3);
    }

    #[test]
    fn an_empty_forest_says_so() {
        let data = Binned::new(
            &Table {
                columns: vec![vec![]],
            },
            64,
        );
        let forest = Forest::fit(&data, &[], None, &Plan::default());
        assert!(forest.quantiles(&[1.0], &[0.5])[0].is_nan());
    }
}
