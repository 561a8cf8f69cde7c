//! Regression trees on dense tables: features cut into at most 255 bins, trees grown best leaf first
//! on histograms (as LightGBM does; Ke et al. 2017). [`boost`] builds quantile models of them,
//! [`forest`] distributions. One thread, no randomness but the seed's.

pub mod boost;
pub mod forest;
mod grow;
pub mod like;
mod path;
mod tree;

use serde::{Deserialize, Serialize};

use tree::Tree;

/// Columns of equal length; NaN is "not known".
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub columns: Vec<Vec<f64>>,
}

impl Table {
    /// Of rows of equal width.
    pub fn of_rows(rows: &[Vec<f64>]) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        Self {
            columns: (0..width)
                .map(|c| rows.iter().map(|row| row[c]).collect())
                .collect(),
        }
    }

    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    pub fn row(&self, row: usize) -> Vec<f64> {
        self.columns.iter().map(|column| column[row]).collect()
    }

    /// The named rows, in that order.
    pub fn pick(&self, rows: &[usize]) -> Self {
        Self {
            columns: self
                .columns
                .iter()
                .map(|column| rows.iter().map(|row| column[*row]).collect())
                .collect(),
        }
    }
}

/// A table with each value replaced by its bin. Bin 0 holds what is not known. Columns that are the same
/// in all rows are left out: they tell nothing.
#[derive(Debug, Clone)]
pub struct Binned {
    /// Row after row: a histogram then adds to another cell each time, and does not wait for the last.
    codes: Vec<u8>,
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Debug, Clone)]
struct Column {
    /// Where it stands in the table.
    feature: u16,
    /// The upper edges of bins 1, 2, …; the last bin has none.
    edges: Vec<f64>,
}

impl Column {
    fn bins(&self) -> usize {
        self.edges.len() + 2
    }
}

impl Binned {
    /// Cuts each column at quantiles of its distinct values into at most `bins` (≤ 254) bins.
    pub fn new(table: &Table, bins: usize) -> Self {
        let (features, columns): (Vec<&Vec<f64>>, Vec<Column>) = table
            .columns
            .iter()
            .enumerate()
            .filter_map(|(feature, values)| {
                let edges = edges(values, bins.clamp(2, 254));
                let known = values.iter().filter(|value| value.is_finite()).count();
                let tells = !edges.is_empty() || (known > 0 && known < values.len());
                let feature = feature as u16;
                tells.then_some((values, Column { feature, edges }))
            })
            .unzip();
        let rows = table.rows();
        let mut codes = Vec::with_capacity(rows * columns.len());
        for row in 0..rows {
            let of = |(values, column): (&&Vec<f64>, &Column)| code(&column.edges, values[row]);
            codes.extend(features.iter().zip(&columns).map(of));
        }
        Self {
            codes,
            columns,
            rows,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bins of one row, column by column.
    fn row(&self, row: usize) -> &[u8] {
        let width = self.columns.len();
        &self.codes[row * width..(row + 1) * width]
    }
}

fn edges(column: &[f64], bins: usize) -> Vec<f64> {
    let ascending = super::robust::ascending(column);
    let mut distinct = ascending.clone();
    distinct.dedup();
    if distinct.len() <= bins {
        return distinct
            .windows(2)
            .map(|pair| (pair[0] + pair[1]) / 2.0)
            .collect();
    }
    // Half-way to the next value, so that a stored model's rounding cannot move a row.
    let mut edges: Vec<f64> = (1..bins)
        .filter_map(|bin| {
            let at = super::robust::quantile_sorted(&ascending, bin as f64 / bins as f64);
            let above = distinct.partition_point(|value| *value <= at);
            let (below, above) = (distinct.get(above.checked_sub(1)?)?, distinct.get(above)?);
            Some((below + above) / 2.0)
        })
        .collect();
    edges.dedup();
    edges
}

fn code(edges: &[f64], value: f64) -> u8 {
    if value.is_finite() {
        1 + edges.partition_point(|edge| *edge < value) as u8
    } else {
        0
    }
}

/// How trees are grown and how many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub trees: usize,
    /// Leaves per tree at most.
    pub leaves: usize,
    /// Rows (by weight, mean 1) per leaf at least.
    pub min_leaf: f64,
    /// Share of each tree's correction that is applied.
    pub rate: f64,
    /// Share of rows each tree sees.
    pub row_share: f64,
    /// Share of columns each split may use.
    pub column_share: f64,
    pub bins: usize,
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            trees: 150,
            leaves: 15,
            min_leaf: 8.0,
            rate: 0.06,
            row_share: 1.0,
            column_share: 1.0,
            bins: 64,
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_keep_the_order_and_set_the_unknown_apart() {
        let table = Table {
            columns: vec![vec![3.0, f64::NAN, 1.0, 2.0, 2.0]],
        };
        let binned = Binned::new(&table, 64);
        assert_eq!(binned.codes, [3, 0, 1, 2, 2]);
        assert_eq!(binned.columns[0].bins(), 4);
        let many = Table {
            columns: vec![(0..1000).map(f64::from).collect()],
        };
        let binned = Binned::new(&many, 16);
        assert_eq!(binned.columns[0].bins(), 17);
        assert!(binned.codes.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn a_column_that_tells_nothing_is_left_out() {
        let known_or_not = [vec![5.0; 9], vec![f64::NAN]].concat();
        let table = Table {
            columns: vec![vec![5.0; 10], vec![f64::NAN; 10], known_or_not],
        };
        let binned = Binned::new(&table, 64);
        let kept: Vec<u16> = binned.columns.iter().map(|column| column.feature).collect();
        assert_eq!(kept, [2]);
        assert_eq!(binned.row(9), [0]);
        let skewed = Table {
            columns: vec![[vec![0.0; 990], (0..200).map(f64::from).collect()].concat()],
        };
        assert!(Binned::new(&skewed, 16).columns[0].bins() >= 3);
    }
}
