//! How training rows find their leaves in a tree that was just grown.

use super::Binned;
use super::grow::Growth;

/// A grown tree in terms of bins, so that training rows find their leaves without a comparison of edges.
#[derive(Default)]
pub(super) struct Paths {
    pub steps: Vec<Step>,
    pub depth: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Step {
    /// The left child, with the right one behind it; a leaf leads to itself.
    pub to: u32,
    pub column: u16,
    /// The last bin that goes left.
    pub last: u8,
    pub unknown_left: bool,
}

impl Step {
    pub fn leaf(node: usize) -> Self {
        Self {
            to: node as u32,
            column: 0,
            last: u8::MAX,
            unknown_left: true,
        }
    }
}

impl Growth {
    /// The value of each training row's leaf is added to what stands at the row. Eight rows walk side by
    /// side for as many steps as the tree is deep: one waits for memory while the others go on.
    pub fn add_values(&self, data: &Binned, to: &mut [f64]) {
        const ABREAST: usize = 8;
        let Paths { steps, depth } = &self.paths;
        for (block, to) in to.chunks_mut(ABREAST).enumerate() {
            let mut at = [0usize; ABREAST];
            for _ in 0..*depth {
                for (i, at) in at.iter_mut().enumerate().take(to.len()) {
                    let step = steps[*at];
                    let code = data.row(block * ABREAST + i)[usize::from(step.column)];
                    let goes_left =
                        ((code != 0) & (code <= step.last)) | ((code == 0) & step.unknown_left);
                    *at = step.to as usize + usize::from(!goes_left);
                }
            }
            for (at, to) in at.iter().zip(to) {
                *to += self.tree.nodes[*at].edge;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::super::grow::Grower;
    use super::super::{Plan, Table};
    use super::*;

    #[test]
    fn rows_find_the_leaf_that_they_are_asked_for_by_edges() {
        let mut random = Seeded::new(2);
        // The second column is the same in all rows, and the third often not known.
        let rows: Vec<Vec<f64>> = (0..333)
            .map(|_| {
                let odd = random.unit();
                let third = if odd < 0.3 { f64::NAN } else { odd };
                vec![(random.unit() * 9.0).floor(), 4.0, third]
            })
            .collect();
        let target: Vec<f64> = rows
            .iter()
            .map(|row| row[0] + if row[2].is_nan() { 20.0 } else { 5.0 * row[2] })
            .collect();
        let data = Binned::new(&Table::of_rows(&rows), 16);
        let plan = Plan {
            leaves: 30,
            min_leaf: 3.0,
            ..Plan::default()
        };
        let mut growth =
            Grower::new(&data, plan).grow((0..200).collect(), &target, &[1.0; 333], &mut random);
        assert!(growth.leaves.len() > 20, "{}", growth.leaves.len());
        growth.tree.give_values(|leaf| leaf as f64);
        let mut found = vec![1000.0; rows.len()];
        growth.add_values(&data, &mut found);
        for (row, found) in rows.iter().zip(&found) {
            assert_eq!(*found, 1000.0 + growth.tree.value(row));
        }
        for (number, rows) in growth.leaves.iter().enumerate() {
            for row in rows {
                assert_eq!(found[*row as usize], 1000.0 + number as f64);
            }
        }
    }
}
