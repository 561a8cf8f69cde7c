//! How good a forecast was: scaled pinball loss, MASE, coverage.
//!
//! The definitions are fixed, so that figures can be compared over years: the scale of a series is
//! the mean absolute error of the seasonal naive forecast (season: one day) over its own history;
//! `spl` is the mean over the five [`LEVELS`] and all steps of 2 × pinball loss ÷ scale; forecasts
//! are sorted and cut off at zero before they are judged.

use super::forecast::{LEVELS, Step};

#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Score {
    /// Mean absolute error of the median ÷ scale.
    pub mase: f64,
    /// Scaled pinball loss; the smaller the better.
    pub spl: f64,
    /// Share of values inside of the 80 % interval.
    pub cover80: f64,
    /// Share of values inside of the 95 % interval.
    pub cover95: f64,
    /// Mean width of the 80 % interval ÷ scale.
    pub width80: f64,
}

/// Mean of |y(t) − y(t − season)|; 1 where that is zero or there is no such pair.
pub fn scale(history: &[f64], season: usize) -> f64 {
    if history.len() <= season {
        return 1.0;
    }
    let pairs = history.len() - season;
    let sum: f64 = (season..history.len())
        .map(|t| (history[t] - history[t - season]).abs())
        .sum();
    if sum > 0.0 { sum / pairs as f64 } else { 1.0 }
}

/// Loss of one quantile: `level` × what it was too low, (1 − `level`) × what it was too high.
pub fn pinball(actual: f64, quantile: f64, level: f64) -> f64 {
    let error = actual - quantile;
    (level * error).max((level - 1.0) * error)
}

/// Mean pinball loss over all levels and steps; not scaled, nothing cut off.
pub fn mean_pinball(actual: &[f64], forecast: &[Step]) -> f64 {
    let sum: f64 = actual
        .iter()
        .zip(forecast)
        .map(|(y, step)| {
            LEVELS
                .iter()
                .zip(step)
                .map(|(level, q)| pinball(*y, *q, *level))
                .sum::<f64>()
        })
        .sum();
    sum / (actual.len() * LEVELS.len()) as f64
}

/// Judges a forecast of the values that follow `history`. Zeros where `actual` is empty.
pub fn score(history: &[f64], actual: &[f64], forecast: &[Step], season: usize) -> Score {
    let n = actual.len().min(forecast.len());
    if n == 0 {
        return Score::default();
    }
    let scale = scale(history, season);
    let judged: Vec<Step> = forecast[..n].iter().map(tidy).collect();
    let mean = |f: &dyn Fn(f64, &Step) -> f64| {
        actual
            .iter()
            .zip(&judged)
            .map(|(y, s)| f(*y, s))
            .sum::<f64>()
            / n as f64
    };
    let inside =
        |low: usize, high: usize| mean(&|y, s| f64::from(u8::from(y >= s[low] && y <= s[high])));
    Score {
        mase: mean(&|y, s| (y - s[2]).abs()) / scale,
        spl: 2.0 * mean_pinball(&actual[..n], &judged) / scale,
        cover80: inside(1, 3),
        cover95: inside(0, 4),
        width80: mean(&|_, s| s[3] - s[1]) / scale,
    }
}

/// Ascending and not negative: what is counted cannot be less than nothing.
pub fn tidy(step: &Step) -> Step {
    let mut step = step.map(|q| if q.is_nan() { 0.0 } else { q.max(0.0) });
    step.sort_unstable_by(f64::total_cmp);
    step
}

/// Mean of some scores, each as heavy as the others.
pub fn mean(scores: &[Score]) -> Score {
    let n = scores.len().max(1) as f64;
    let part = |f: fn(&Score) -> f64| scores.iter().map(f).sum::<f64>() / n;
    Score {
        mase: part(|s| s.mase),
        spl: part(|s| s.spl),
        cover80: part(|s| s.cover80),
        cover95: part(|s| s.cover95),
        width80: part(|s| s.width80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_forecast_costs_nothing() {
        let history = [1.0, 3.0, 2.0, 5.0];
        let score = score(&history, &[4.0], &[[4.0; 5]], 2);
        assert_eq!((score.mase, score.spl, score.cover80), (0.0, 0.0, 1.0));
    }

    #[test]
    fn too_low_costs_the_level_and_too_high_the_rest() {
        assert_eq!(pinball(10.0, 8.0, 0.9), 1.8);
        assert!((pinball(8.0, 10.0, 0.9) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_score_is_computed_by_hand_for_one_step() {
        // Scale: |2-1| + |5-3| over a season of 2 = mean of 1 and 2.
        let history = [1.0, 3.0, 2.0, 5.0];
        let step = [0.0, 1.0, 2.0, 3.0, 4.0];
        let score = score(&history, &[3.5], &[step], 2);
        let loss =
            0.025 * 3.5 + 0.1 * 2.5 + 0.5 * 1.5 + 0.9 * 0.5 + 0.975f64.mul_add(0.0, 0.025 * 0.5);
        assert!((score.spl - 2.0 * loss / 5.0 / 1.5).abs() < 1e-12);
        assert!((score.mase - 1.0).abs() < 1e-12);
        assert_eq!((score.cover80, score.cover95), (0.0, 1.0));
    }

    #[test]
    fn constant_and_empty_histories_have_a_scale() {
        assert_eq!(scale(&[3.0; 50], 24), 1.0);
        assert_eq!(scale(&[], 24), 1.0);
        assert_eq!(super::score(&[], &[], &[], 24), Score::default());
    }

    #[test]
    fn crossing_and_missing_quantiles_are_put_in_order() {
        assert_eq!(
            tidy(&[3.0, -1.0, f64::NAN, 2.0, 9.0]),
            [0.0, 0.0, 2.0, 3.0, 9.0]
        );
    }
}
