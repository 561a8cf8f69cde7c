//! A grown tree as it is asked: nodes of sixteen bytes that lie side by side.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub nodes: Vec<Node>,
}

/// Stored as (edge, to, feature, unknown left): a model has tens of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, u32, u16, bool)", into = "(f64, u32, u16, bool)")]
pub(crate) struct Node {
    /// What is no larger goes left. Of a leaf: its value, where the model gives it one.
    pub edge: f64,
    /// The left child, with the right one behind it. Of a leaf: its number.
    pub to: u32,
    /// [`LEAF`] of a leaf.
    pub feature: u16,
    pub unknown_left: bool,
}

const LEAF: u16 = u16::MAX;

impl Node {
    pub fn leaf(number: u32) -> Self {
        Self {
            edge: 0.0,
            to: number,
            feature: LEAF,
            unknown_left: false,
        }
    }

    pub fn is_leaf(&self) -> bool {
        self.feature == LEAF
    }
}

impl From<(f64, u32, u16, bool)> for Node {
    fn from((edge, to, feature, unknown_left): (f64, u32, u16, bool)) -> Self {
        Self {
            edge,
            to,
            feature,
            unknown_left,
        }
    }
}

impl From<Node> for (f64, u32, u16, bool) {
    fn from(node: Node) -> Self {
        (node.edge, node.to, node.feature, node.unknown_left)
    }
}

impl Tree {
    /// The leaf that a row falls into.
    fn end(&self, row: &[f64]) -> &Node {
        let mut node = &self.nodes[0];
        while !node.is_leaf() {
            let value = row.get(usize::from(node.feature)).copied();
            let value = value.unwrap_or(f64::NAN);
            let goes_right = match value.is_finite() {
                true => value > node.edge,
                false => !node.unknown_left,
            };
            node = &self.nodes[node.to as usize + usize::from(goes_right)];
        }
        node
    }

    /// The number of the leaf that a row falls into.
    pub fn leaf(&self, row: &[f64]) -> usize {
        self.end(row).to as usize
    }

    /// The value of the leaf that a row falls into.
    pub fn value(&self, row: &[f64]) -> f64 {
        self.end(row).edge
    }

    /// Gives each leaf the value that `of` has for its number.
    pub fn give_values(&mut self, of: impl Fn(usize) -> f64) {
        for node in self.nodes.iter_mut().filter(|node| node.is_leaf()) {
            node.edge = of(node.to as usize);
        }
    }
}
