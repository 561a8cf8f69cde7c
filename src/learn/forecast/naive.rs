//! The plain rule: as it was one season ago, with the errors this rule has made before.

use super::super::robust;
use super::{Forecaster, LEVELS, Shape, Step, ordered};

/// As yesterday at this time.
pub struct Day;
/// As a week ago at this time.
pub struct Week;

impl Forecaster for Day {
    fn name(&self) -> &'static str {
        "naive-day"
    }

    fn needs(&self, shape: Shape) -> usize {
        shape.day
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        seasonal(history, horizon, shape.day)
    }
}

impl Forecaster for Week {
    fn name(&self) -> &'static str {
        "naive-week"
    }

    fn needs(&self, shape: Shape) -> usize {
        shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        seasonal(history, horizon, shape.week)
    }
}

/// The last season again and again. The errors are those of the same rule as many seasons ahead,
/// pooled over the steps.
fn seasonal(history: &[f64], horizon: usize, season: usize) -> Vec<Step> {
    const FEWEST_ERRORS: usize = 20;
    let n = history.len();
    if n == 0 {
        return vec![[0.0; 5]; horizon];
    }
    let last = season.min(n);
    let spreads: Vec<Step> = (1..=horizon.div_ceil(season).max(1))
        .map(|seasons| {
            let back = seasons * season;
            let errors: Vec<f64> = if n > back + FEWEST_ERRORS {
                (back..n).map(|t| history[t] - history[t - back]).collect()
            } else {
                vec![0.0]
            };
            let errors = robust::ascending(&errors);
            LEVELS.map(|level| robust::quantile_sorted(&errors, level))
        })
        .collect();
    (0..horizon)
        .map(|step| {
            let base = history[n - last + step % last];
            ordered(spreads[step / season].map(|error| base + error))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn a_perfect_season_has_no_spread() {
        let history: Vec<f64> = (0..80).map(|t| f64::from(t % 4)).collect();
        let forecast = Day.forecast(&history, 6, SHAPE);
        assert_eq!(forecast[1], [1.0; 5]);
        assert_eq!(forecast[5], [1.0; 5]);
    }

    #[test]
    fn a_horizon_beyond_a_season_expects_the_errors_of_two() {
        let history: Vec<f64> = (0..80).map(f64::from).collect();
        let forecast = Day.forecast(&history, 5, SHAPE);
        assert_eq!((forecast[0][2], forecast[4][2]), (76.0 + 4.0, 76.0 + 8.0));
    }

    #[test]
    fn too_little_history_still_answers() {
        assert_eq!(Week.forecast(&[3.0], 2, SHAPE), vec![[3.0; 5]; 2]);
        assert_eq!(Day.forecast(&[], 2, SHAPE), vec![[0.0; 5]; 2]);
    }
}
