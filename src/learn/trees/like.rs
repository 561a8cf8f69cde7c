//! What is kept of a forest to answer with the cases that one is like: per leaf a few of its rows, which
//! are numbered in the order of their targets, so that an answer sorts whole numbers and not targets.

use serde::{Deserialize, Serialize};

use super::super::robust;
use super::Tree;

/// A forest of rows that all weigh the same; see [`super::forest::Forest::like`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Like {
    /// Of each tree the leaves' rows, which are numbers into `ascending`.
    trees: Vec<(Tree, Vec<Vec<u32>>)>,
    /// The targets.
    ascending: Vec<f64>,
}

/// The targets of like cases, ascending, each with its share; the shares add up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases {
    pairs: Vec<(f64, f64)>,
    /// How many training rows these are, as an effective number.
    pub effective: f64,
}

impl Like {
    /// Of trees with the training rows of their leaves, at most `most` of each leaf, evenly spread over
    /// their targets: answers take a time that does not grow with the training.
    pub(super) fn new(trees: &[(Tree, Vec<Vec<u32>>)], target: &[f64], most: usize) -> Self {
        let mut order: Vec<u32> = (0..target.len() as u32).collect();
        order.sort_by(|a, b| target[*a as usize].total_cmp(&target[*b as usize]));
        let mut rank = vec![0u32; order.len()];
        for (at, row) in order.iter().enumerate() {
            rank[*row as usize] = at as u32;
        }
        let kept = |rows: &Vec<u32>| -> Vec<u32> {
            let mut ranks: Vec<u32> = rows.iter().map(|row| rank[*row as usize]).collect();
            ranks.sort_unstable();
            if ranks.len() <= most {
                return ranks;
            }
            let step = ranks.len() as f64 / most as f64;
            let at = |i: usize| ranks[((i as f64 + 0.5) * step) as usize];
            (0..most).map(at).collect()
        };
        Self {
            trees: trees
                .iter()
                .map(|(tree, leaves)| (tree.clone(), leaves.iter().map(kept).collect()))
                .collect(),
            ascending: order.iter().map(|row| target[*row as usize]).collect(),
        }
    }

    /// The cases that a row of features is like; none where nothing was learned.
    pub fn cases(&self, row: &[f64]) -> Cases {
        let part = 1.0 / self.trees.len().max(1) as f32;
        // Number and share in one word, so that a plain sort brings the same rows together.
        let mut words: Vec<u64> = Vec::with_capacity(self.trees.len() * 32);
        for (tree, leaves) in &self.trees {
            let rows = &leaves[tree.leaf(row)];
            let share = u64::from((part / rows.len().max(1) as f32).to_bits());
            words.extend(rows.iter().map(|row| (u64::from(*row) << 32) | share));
        }
        words.sort_unstable();
        let mut pairs: Vec<(f64, f64)> = Vec::with_capacity(words.len());
        let mut squares = 0.0;
        for same in words.chunk_by(|a, b| a >> 32 == b >> 32) {
            let value = self.ascending[(same[0] >> 32) as usize];
            let mut sum = 0.0;
            // A pair for each tree: quantiles are interpolated between pairs, and one heavy pair would
            // spread half-way to the next value.
            for word in same {
                let share = f64::from(f32::from_bits(*word as u32));
                sum += share;
                pairs.push((value, share));
            }
            squares += sum * sum;
        }
        Cases {
            pairs,
            effective: 1.0 / f64::max(squares, 1e-12),
        }
    }
}

impl Cases {
    /// Quantiles of the target at ascending `levels`; NaN where there are no cases.
    pub fn quantiles<const N: usize>(&self, levels: &[f64; N]) -> [f64; N] {
        robust::weighted_quantiles_sorted(&self.pairs, levels)
    }
}

#[cfg(test)]
mod tests {
    use super::super::forest::Forest;
    use super::super::{Binned, Plan, Table};
    use super::*;

    const PLAN: Plan = Plan {
        trees: 10,
        leaves: 2,
        min_leaf: 20.0,
        rate: 1.0,
        row_share: 0.5,
        column_share: 1.0,
        bins: 64,
        seed: 1,
    };

    fn grown() -> Forest {
        let x: Vec<f64> = (0..2000).map(|i| f64::from(i % 2)).collect();
        let y: Vec<f64> = (0..2000).map(|i| f64::from(i * 7 % 1000)).collect();
        let data = Binned::new(&Table { columns: vec![x] }, 64);
        Forest::fit(&data, &y, None, &PLAN)
    }

    #[test]
    fn all_rows_say_what_the_forest_says_and_few_about_the_same() {
        let forest = grown();
        const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
        let whole = forest.quantiles(&[1.0], &LEVELS);
        let all = forest.like(usize::MAX).cases(&[1.0]);
        for (a, b) in whole.iter().zip(all.quantiles(&LEVELS)) {
            assert!((a - b).abs() < 2.0, "{a} {b}");
        }
        // Ten samples of half of a thousand rows.
        assert!(
            (900.0..=1000.0).contains(&all.effective),
            "{}",
            all.effective
        );
        let few = forest.like(20).cases(&[1.0]);
        assert!(few.effective <= 200.0);
        for (a, b) in whole.iter().zip(few.quantiles(&LEVELS)) {
            assert!((a - b).abs() < 60.0, "{a} {b}");
        }
    }

    #[test]
    fn it_survives_storage_and_nothing_says_nothing() {
        let like = grown().like(20);
        let stored = serde_json::to_string(&like).unwrap();
        let read: Like = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.cases(&[0.0]), like.cases(&[0.0]));
        let empty = Binned::new(&Table::default(), 64);
        let nothing = Forest::fit(&empty, &[], None, &PLAN).like(20);
        assert!(nothing.cases(&[1.0]).quantiles(&[0.5])[0].is_nan());
    }
}
