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
