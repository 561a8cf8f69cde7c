//! What the learning forecasters know about a step to come: the same time on earlier days and weeks,
//! how busy the last days were, and where in the week it lies. Nothing after the origin is looked at.

use super::Shape;

/// Same time on so many of the last known days.
pub const DAYS_BACK: usize = 7;
/// Same time of the week so many weeks back.
pub const WEEKS_BACK: usize = 3;
/// Features per row.
pub const WIDTH: usize = DAYS_BACK + WEEKS_BACK + 9;

/// Rows for the steps of one day ahead. `block` 0 is the day that begins at the end of the history,
/// 1 the one after it; a row of step t knows what was known when its own day (and `block` more) began.
pub struct Rows<'a> {
    history: &'a [f64],
    sums: Vec<f64>,
    shape: Shape,
    block: usize,
}

impl<'a> Rows<'a> {
    pub fn new(history: &'a [f64], shape: Shape, block: usize) -> Self {
        let mut sums = Vec::with_capacity(history.len() + 1);
        sums.push(0.0);
        for value in history {
            sums.push(sums[sums.len() - 1] + value);
        }
        Self {
            history,
            sums,
            shape,
            block,
        }
    }

    /// The first step whose row is whole enough to learn from.
    pub fn first(&self) -> usize {
        self.shape.week + (self.block + 1) * self.shape.day
    }

    /// The end of what step `t`'s row may look at.
    pub fn origin(&self, t: usize) -> usize {
        let n = self.history.len();
        let day = self.shape.day;
        let begin = if t >= n {
            n + (t - n) / day * day
        } else {
            n - (n - t).div_ceil(day) * day
        };
        begin.saturating_sub(self.block * day)
    }

    /// Mean of the `steps` before `end`; NaN where they are not all there.
    pub fn mean_before(&self, end: usize, steps: usize) -> f64 {
        match end.checked_sub(steps) {
            Some(begin) if steps > 0 => (self.sums[end] - self.sums[begin]) / steps as f64,
            _ => f64::NAN,
        }
    }

    /// The features of step `t`, which may lie in the history or after it.
    pub fn row(&self, t: usize) -> Vec<f64> {
        let Shape { day, week } = self.shape;
        let origin = self.origin(t);
        let known = |back: usize| match t.checked_sub(back) {
            Some(at) if at < origin => self.history[at],
            _ => f64::NAN,
        };
        let days_ahead = self.block + 1;
        let mut row = Vec::with_capacity(WIDTH);
        row.extend((0..DAYS_BACK).map(|k| known((days_ahead + k) * day)));
        let weeks_ahead = (days_ahead * day).div_ceil(week);
        row.extend((0..WEEKS_BACK).map(|k| known((weeks_ahead + k) * week)));
        row.push(self.mean_before(origin, day));
        row.push(self.mean_before(origin, 3 * day));
        row.push(self.mean_before(origin, week));
        row.push(self.mean_before(origin, (day / 6).max(1)));
        // The last known day against the same day a week before: is it a busy week?
        row.push(match origin.checked_sub(week) {
            Some(before) => self.mean_before(origin, day) - self.mean_before(before, day),
            None => f64::NAN,
        });
        // The step's neighbours a week ago, so that a peak may shift.
        let around: Vec<f64> = [weeks_ahead * week - 1, weeks_ahead * week + 1]
            .into_iter()
            .map(known)
            .filter(|v| v.is_finite())
            .collect();
        row.push(super::super::robust::mean(&around));
        row.push((t % day) as f64);
        row.push((t % week) as f64);
        row.push((t % week / day) as f64);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_looks_beyond_its_origin() {
        let shape = Shape { day: 4, week: 28 };
        let history: Vec<f64> = (0..117).map(f64::from).collect();
        for block in 0..3 {
            let rows = Rows::new(&history, shape, block);
            for t in rows.first()..history.len() + 4 * (block + 1) {
                let origin = rows.origin(t);
                assert!(
                    origin + block * 4 <= t && t < origin + (block + 1) * 4,
                    "{t} {origin}"
                );
                let row = rows.row(t);
                assert_eq!(row.len(), WIDTH);
                // Values are their own positions, so each lag and mean must lie before the origin.
                let seen = &row[..DAYS_BACK + WEEKS_BACK + 4];
                assert!(
                    seen.iter().all(|v| v.is_nan() || *v < origin as f64),
                    "{t}: {row:?}"
                );
            }
        }
    }
}
