//! How much will be asked for: forecasts with quantiles for the steps that follow a history.
//!
//! Every method is a [`Forecaster`]; [`select::roster`] lists them. Nobody has to choose: [`select`] tries the
//! methods on the end of each series' own past, combines them where that wins, and falls back to
//! seasonal naive, the plain rule, where nothing beats it. [`width`] keeps the intervals honest,
//! [`events`] adds what a calendar knows, [`month`] what months do, [`prior`] serves the first hours.

pub mod arx;
pub mod combine;
pub mod events;
pub mod features;
pub mod level;
pub mod linear;
#[cfg(feature = "forecast-lstm")]
pub mod lstm;
pub mod month;
#[cfg(feature = "forecast-mstl")]
pub mod mstl;
pub mod naive;
pub mod prior;
#[cfg(feature = "forecast-prophet")]
pub mod prophet;
pub mod seasonal;
pub mod select;
pub mod serve;
pub mod trees;
pub mod width;

use serde::{Deserialize, Serialize};

/// The quantile levels of every forecast.
pub const LEVELS: [f64; 5] = [0.025, 0.1, 0.5, 0.9, 0.975];

/// A forecast of one step: the value at each of [`LEVELS`].
pub type Step = [f64; 5];

/// Steps per season. A history's first step is taken to be the first of a week; steps are counted
/// from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub day: usize,
    /// A multiple of `day`: 7 days, or 5 where only working days are watched.
    pub week: usize,
}

/// One method.
pub trait Forecaster: Sync {
    /// The name that stays: stored with forecasts and shown on pages.
    fn name(&self) -> &'static str;

    /// Steps of history without which it does not answer.
    fn needs(&self, shape: Shape) -> usize;

    /// Forecasts the `horizon` steps after `history` (cleaned: finite, not negative). The caller sees
    /// to [`Forecaster::needs`]; the steps' quantiles are ascending.
    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step>;
}

/// Ascending; what is not a number becomes the step's median or zero.
pub(crate) fn ordered(mut step: Step) -> Step {
    let middle = if step[2].is_finite() { step[2] } else { 0.0 };
    for value in &mut step {
        if !value.is_finite() {
            *value = middle;
        }
    }
    step.sort_unstable_by(f64::total_cmp);
    step
}
