//! Prophet (Taylor and Letham 2018): a trend with changepoints and Fourier seasons, fitted by Stan,
//! which is compiled to WebAssembly and part of the crate: nothing is fetched or run outside. Through
//! augurs. Cargo feature `forecast-prophet`.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use augurs::prophet::wasmstan::WasmstanOptimizer;
use augurs::prophet::{
    IntervalWidth, PositiveFloat, PredictionData, Prophet as Model, ProphetOptions, Seasonality,
    SeasonalityOption, TrainingData,
};

use super::{Forecaster, Shape, Step, naive, ordered};

pub struct Prophet;

/// Draws from which intervals are made.
const DRAWS: u32 = 400;
/// Fourier terms of a week that is not seven days long, as many as Prophet gives a year.
const TERMS: NonZeroU32 = NonZeroU32::new(10).expect("ten");
/// Any Monday's midnight: only differences matter.
const ZERO_S: i64 = 1_578_268_800;

impl Forecaster for Prophet {
    fn name(&self) -> &'static str {
        "prophet"
    }

    fn needs(&self, shape: Shape) -> usize {
        2 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        fitted(history, horizon, shape)
            .filter(|steps| steps.len() == horizon)
            .unwrap_or_else(|| naive::Day.forecast(history, horizon, shape))
    }
}

/// Compiling the module takes most of a second: once.
fn optimizer() -> WasmstanOptimizer {
    static OPTIMIZER: OnceLock<WasmstanOptimizer> = OnceLock::new();
    OPTIMIZER.get_or_init(WasmstanOptimizer::new).clone()
}

fn fitted(history: &[f64], horizon: usize, shape: Shape) -> Option<Vec<Step>> {
    // Its optimiser does not return from values beyond reason, and a line needs no model.
    let is_sane = |v: &f64| v.is_finite() && v.abs() <= 1e12;
    if !history.iter().all(is_sane) || history.iter().all(|v| *v == history[0]) {
        return None;
    }
    let step_s = 86_400 / shape.day as i64;
    let n = history.len();
    let at: Vec<i64> = (0..(n + horizon) as i64)
        .map(|step| ZERO_S + step * step_s)
        .collect();
    let is_week = shape.week == 7 * shape.day;
    let options = ProphetOptions {
        yearly_seasonality: SeasonalityOption::Manual(false),
        daily_seasonality: SeasonalityOption::Manual(true),
        weekly_seasonality: SeasonalityOption::Manual(is_week),
        uncertainty_samples: DRAWS,
        ..ProphetOptions::default()
    };
    let mut model = Model::new(options, optimizer());
    if !is_week {
        let days = PositiveFloat::try_new(shape.week as f64 / shape.day as f64).ok()?;
        let week = Seasonality::new(days, TERMS);
        model.add_seasonality("week".to_owned(), week).ok()?;
    }
    let training = TrainingData::new(at[..n].to_vec(), history.to_vec()).ok()?;
    model.fit(training, Default::default()).ok()?;
    let mut ask = |width: f64| {
        model.set_interval_width(IntervalWidth::try_from(width).ok()?);
        let asked = PredictionData::new(at[n..].to_vec());
        Some(model.predict(Some(asked)).ok()?.yhat)
    };
    let (wide, narrow) = (ask(0.95)?, ask(0.80)?);
    let (low95, high95) = (wide.lower?, wide.upper?);
    let (low80, high80) = (narrow.lower?, narrow.upper?);
    (0..horizon)
        .map(|i| {
            Some(ordered([
                *low95.get(i)?,
                *low80.get(i)?,
                *wide.point.get(i)?,
                *high80.get(i)?,
                *high95.get(i)?,
            ]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Seeded;
    use super::super::super::score;
    use super::*;

    #[test]
    fn two_seasons_are_continued_offline() {
        let shape = Shape { day: 24, week: 168 };
        let mut random = Seeded::new(2);
        let history: Vec<f64> = (0..168 * 4)
            .map(|t| {
                let day = (std::f64::consts::TAU * (t % 24) as f64 / 24.0).sin();
                let week = if t / 24 % 7 < 5 { 20.0 } else { 0.0 };
                60.0 + 30.0 * day + week + random.normal()
            })
            .collect();
        let forecast = Prophet.forecast(&history, 24, shape);
        for (hour, step) in forecast.iter().enumerate() {
            let middle = 80.0 + 30.0 * (std::f64::consts::TAU * hour as f64 / 24.0).sin();
            assert!((step[2] - middle).abs() < 10.0, "{hour} {step:?} {middle}");
            assert!(step.is_sorted());
        }
        // Not what the plain rule would have said.
        assert_ne!(forecast, naive::Day.forecast(&history, 24, shape));
    }

    /// Six weeks of hours, of which the last days are kept apart: courses of the day and of the week, more
    /// each week, and much noise, which the naive rules repeat.
    fn growing(random: &mut Seeded) -> Vec<f64> {
        (0..168 * 6)
            .map(|t| {
                let wave = |steps: f64| (std::f64::consts::TAU * t as f64 / steps).sin();
                80.0 + 0.15 * t as f64
                    + 30.0 * wave(24.0)
                    + 30.0 * wave(168.0)
                    + 12.0 * random.normal()
            })
            .collect()
    }

    #[test]
    fn a_weekly_season_and_a_trend_are_followed_better_than_by_the_naive_rules() {
        let shape = Shape { day: 24, week: 168 };
        let all = growing(&mut Seeded::new(4));
        let (history, actual) = all.split_at(168 * 5 + 4 * 24);
        let actual = &actual[..48];
        let loss = |steps: &[Step]| score::mean_pinball(actual, steps);
        let own = Prophet.forecast(history, 48, shape);
        assert!(own.iter().all(|step| step.is_sorted()), "{own:?}");
        let (own, day, week) = (
            loss(&own),
            loss(&naive::Day.forecast(history, 48, shape)),
            loss(&naive::Week.forecast(history, 48, shape)),
        );
        assert!(
            own < 0.85 * day && own < 0.85 * week,
            "prophet {own}, as yesterday {day}, as a week ago {week}"
        );
    }

    #[test]
    fn its_interval_holds_most_of_what_comes_and_is_no_line() {
        let shape = Shape { day: 24, week: 168 };
        let all = growing(&mut Seeded::new(9));
        let (history, actual) = all.split_at(168 * 5);
        let steps = Prophet.forecast(history, actual.len(), shape);
        let inside = |low: usize, high: usize| {
            let pairs = steps.iter().zip(actual);
            let within = pairs.filter(|(s, y)| s[low] <= **y && **y <= s[high]);
            within.count() as f64 / actual.len() as f64
        };
        assert!((0.6..=0.97).contains(&inside(1, 3)), "{}", inside(1, 3));
        assert!(inside(0, 4) >= 0.85, "{}", inside(0, 4));
    }

    #[test]
    fn odd_histories_are_answered() {
        let shape = Shape { day: 4, week: 20 };
        let gap = |t: usize| if t % 9 < 4 { f64::NAN } else { (t % 4) as f64 };
        for history in [
            vec![],
            vec![3.0],
            vec![1.0, 5.0],
            vec![0.0; 64],
            vec![7.0; 64],
            vec![f64::MAX / 1e10; 64],
            (0..64).map(gap).collect(),
            // One moment among quiet ones.
            (0..64).map(|t| f64::from(t == 40)).collect(),
        ] {
            let steps = Prophet.forecast(&history, 4, shape);
            assert_eq!(steps.len(), 4, "{history:?}");
            for step in steps {
                assert!(step.iter().all(|q| q.is_finite()), "{history:?} {step:?}");
                assert!(step.is_sorted(), "{history:?} {step:?}");
            }
        }
        let flat = Prophet.forecast(&[7.0; 64], 4, shape);
        assert_eq!(flat, [[7.0; 5]; 4]);
    }
}
