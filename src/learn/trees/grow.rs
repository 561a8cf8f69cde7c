//! Growing one tree: the leaf with the largest gain is split next, until there are enough leaves.
//!
//! A leaf's histogram holds per bin the sums of gradient and weight; the larger child's is the
//! parent's less the smaller child's. The gain of a split is the usual G²/W left plus right minus
//! parent, which for gradients `weight × target` is the reduction of the squared error and for the
//! pinball gradients that of its quadratic model.

use super::super::random::Seeded;
use super::path::{Paths, Step};
use super::tree::Node;
use super::{Binned, Plan, Tree};

/// A grown tree with the training rows of each leaf.
pub(crate) struct Growth {
    pub tree: Tree,
    pub leaves: Vec<Vec<u32>>,
    pub(super) paths: Paths,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    gradient: f64,
    weight: f64,
}

#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f64,
    column: usize,
    /// The last bin that goes left.
    bin: usize,
    unknown_left: bool,
}

struct Open {
    node: usize,
    depth: usize,
    rows: Vec<u32>,
    cells: Vec<Cell>,
    best: Option<Split>,
}

pub(crate) struct Grower<'a> {
    data: &'a Binned,
    plan: Plan,
    offsets: Vec<usize>,
}

impl<'a> Grower<'a> {
    pub fn new(data: &'a Binned, plan: Plan) -> Self {
        let mut offsets = vec![0];
        for (at, column) in data.columns.iter().enumerate() {
            offsets.push(offsets[at] + column.bins());
        }
        Self {
            data,
            plan,
            offsets,
        }
    }

    /// Grows a tree on `rows`; gradients and weights stand at the rows' numbers.
    pub fn grow(
        &self,
        rows: Vec<u32>,
        gradients: &[f64],
        weights: &[f64],
        random: &mut Seeded,
    ) -> Growth {
        let mut nodes = vec![Node::leaf(0)];
        let mut paths = Paths::default();
        paths.steps.push(Step::leaf(0));
        let cells = self.histogram(&rows, gradients, weights);
        let mut open = vec![self.opened((0, 0), rows, cells, random)];
        while open.len() < self.plan.leaves {
            let Some((at, split)) = open
                .iter()
                .enumerate()
                .filter_map(|(at, leaf)| leaf.best.map(|best| (at, best)))
                .max_by(|a, b| a.1.gain.total_cmp(&b.1.gain).then(b.0.cmp(&a.0)))
            else {
                break;
            };
            let leaf = open.swap_remove(at);
            let (left, right) = self.part(&leaf.rows, split);
            let left_is_small = left.len() <= right.len();
            let small = if left_is_small { &left } else { &right };
            let mut large_cells = leaf.cells;
            let mut small_cells = self.histogram(small, gradients, weights);
            for (large, small) in large_cells.iter_mut().zip(&small_cells) {
                *large = minus(*large, *small);
            }
            if !self.can_split(small, weights) {
                small_cells.clear();
            }
            let (left_cells, right_cells) = if left_is_small {
                (small_cells, large_cells)
            } else {
                (large_cells, small_cells)
            };
            let first = nodes.len();
            let column = &self.data.columns[split.column];
            nodes[leaf.node] = Node {
                feature: column.feature,
                // Bin 0 alone left: every known value goes right.
                edge: match split.bin {
                    0 => f64::MIN,
                    bin => column.edges.get(bin - 1).copied().unwrap_or(f64::INFINITY),
                },
                unknown_left: split.unknown_left,
                to: first as u32,
            };
            nodes.extend([Node::leaf(0), Node::leaf(0)]);
            paths.steps[leaf.node] = Step {
                to: first as u32,
                column: split.column as u16,
                last: split.bin as u8,
                unknown_left: split.unknown_left,
            };
            paths.steps.extend([first, first + 1].map(Step::leaf));
            let depth = leaf.depth + 1;
            paths.depth = paths.depth.max(depth);
            open.push(self.opened((first, depth), left, left_cells, random));
            open.push(self.opened((first + 1, depth), right, right_cells, random));
        }
        let leaves = open
            .into_iter()
            .enumerate()
            .map(|(number, leaf)| {
                nodes[leaf.node] = Node::leaf(number as u32);
                leaf.rows
            })
            .collect();
        Growth {
            tree: Tree { nodes },
            leaves,
            paths,
        }
    }

    fn can_split(&self, rows: &[u32], weights: &[f64]) -> bool {
        let weight: f64 = rows.iter().map(|row| weights[*row as usize]).sum();
        weight >= 2.0 * self.plan.min_leaf
    }

    /// The rows that go left, and those that go right. Each is written to both sides and counts on one: a
    /// branch would be guessed wrongly every other time.
    fn part(&self, rows: &[u32], split: Split) -> (Vec<u32>, Vec<u32>) {
        let (mut left, mut right) = (vec![0; rows.len()], vec![0; rows.len()]);
        let (mut lefts, mut rights) = (0, 0);
        for row in rows {
            let code = usize::from(self.data.row(*row as usize)[split.column]);
            let goes_left =
                ((code != 0) & (code <= split.bin)) | ((code == 0) & split.unknown_left);
            left[lefts] = *row;
            right[rights] = *row;
            lefts += usize::from(goes_left);
            rights += usize::from(!goes_left);
        }
        left.truncate(lefts);
        right.truncate(rights);
        left.shrink_to_fit();
        right.shrink_to_fit();
        (left, right)
    }

    fn histogram(&self, rows: &[u32], gradients: &[f64], weights: &[f64]) -> Vec<Cell> {
        let mut cells = vec![Cell::default(); self.offsets[self.data.columns.len()]];
        for row in rows {
            let row = *row as usize;
            let (gradient, weight) = (gradients[row], weights[row]);
            for (code, offset) in self.data.row(row).iter().zip(&self.offsets) {
                let cell = &mut cells[offset + usize::from(*code)];
                cell.gradient += gradient;
                cell.weight += weight;
            }
        }
        cells
    }

    /// A leaf at (node, depth); without cells it stays one.
    fn opened(
        &self,
        (node, depth): (usize, usize),
        rows: Vec<u32>,
        cells: Vec<Cell>,
        random: &mut Seeded,
    ) -> Open {
        let best = match cells.is_empty() {
            true => None,
            false => self.best(&cells, random),
        };
        Open {
            node,
            depth,
            rows,
            cells,
            best,
        }
    }

    fn best(&self, cells: &[Cell], random: &mut Seeded) -> Option<Split> {
        let mut best: Option<Split> = None;
        for column in 0..self.data.columns.len() {
            if self.plan.column_share < 1.0 && random.unit() >= self.plan.column_share {
                continue;
            }
            let cells = &cells[self.offsets[column]..self.offsets[column + 1]];
            let total = cells.iter().fold(Cell::default(), plus);
            if total.weight < 2.0 * self.plan.min_leaf {
                return None;
            }
            let unknown = cells[0];
            let has_unknown = unknown.weight > 1e-9;
            for unknown_left in [false, true] {
                if unknown_left && !has_unknown {
                    continue;
                }
                let mut left = if unknown_left {
                    unknown
                } else {
                    Cell::default()
                };
                // With the unknown on the left, bin 0 alone is a split of its own.
                let first = if unknown_left { 0 } else { 1 };
                for (bin, cell) in cells.iter().enumerate().take(cells.len() - 1).skip(first) {
                    if bin > 0 {
                        if cell.weight <= 1e-9 {
                            continue;
                        }
                        left = plus(left, cell);
                    }
                    let right = minus(total, left);
                    if left.weight < self.plan.min_leaf {
                        continue;
                    }
                    if right.weight < self.plan.min_leaf {
                        break;
                    }
                    let gain = power(left) + power(right) - power(total);
                    if gain > 1e-9 && best.is_none_or(|best| gain > best.gain) {
                        best = Some(Split {
                            gain,
                            column,
                            bin,
                            unknown_left,
                        });
                    }
                }
            }
        }
        best
    }
}

fn plus(a: Cell, b: &Cell) -> Cell {
    Cell {
        gradient: a.gradient + b.gradient,
        weight: a.weight + b.weight,
    }
}

fn minus(a: Cell, b: Cell) -> Cell {
    Cell {
        gradient: a.gradient - b.gradient,
        weight: a.weight - b.weight,
    }
}

fn power(cell: Cell) -> f64 {
    cell.gradient * cell.gradient / cell.weight
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;

    fn grown(columns: Vec<Vec<f64>>, target: &[f64], leaves: usize) -> Growth {
        let data = Binned::new(&Table { columns }, 64);
        let plan = Plan {
            leaves,
            min_leaf: 2.0,
            ..Plan::default()
        };
        let rows = (0..target.len() as u32).collect();
        let weights = vec![1.0; target.len()];
        Grower::new(&data, plan).grow(rows, target, &weights, &mut Seeded::new(1))
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let x: Vec<f64> = (0..40).map(f64::from).collect();
        let y: Vec<f64> = x
            .iter()
            .map(|x| if *x < 25.0 { 1.0 } else { 9.0 })
            .collect();
        let growth = grown(vec![x], &y, 2);
        assert_eq!(growth.tree.leaf(&[24.0]), growth.tree.leaf(&[0.0]));
        assert_ne!(growth.tree.leaf(&[24.0]), growth.tree.leaf(&[25.0]));
        let sizes: Vec<usize> = growth.leaves.iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 40);
        assert!(sizes.contains(&25), "{sizes:?}");
    }

    #[test]
    fn the_unknown_can_be_a_side_of_its_own() {
        let x = [vec![f64::NAN; 20], (0..20).map(f64::from).collect()].concat();
        let y = [vec![50.0; 20], vec![1.0; 20]].concat();
        let growth = grown(vec![x], &y, 2);
        assert_ne!(growth.tree.leaf(&[f64::NAN]), growth.tree.leaf(&[3.0]));
        assert_eq!(growth.tree.leaf(&[0.0]), growth.tree.leaf(&[19.0]));
    }

    #[test]
    fn nothing_to_learn_makes_one_leaf() {
        assert_eq!(grown(vec![vec![1.0; 30]], &[2.0; 30], 8).leaves.len(), 1);
        assert_eq!(
            grown(vec![(0..30).map(f64::from).collect()], &[2.0; 30], 8)
                .leaves
                .len(),
            1
        );
        assert_eq!(grown(vec![vec![]], &[], 8).leaves.len(), 1);
    }
}
