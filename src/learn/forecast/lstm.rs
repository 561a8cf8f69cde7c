//! A small recurrent network per series (LSTM; Hochreiter and Schmidhuber 1997), trained on the
//! pinball loss, through burn on its ndarray backend. Cargo feature `forecast-lstm`. Some thousand
//! times the cost of the cheap mix, and better on some series: the back-tests decide.

use std::sync::{Mutex, PoisonError};

use burn_autodiff::Autodiff;
use burn_core as burn;
use burn_core::module::{AutodiffModule, Module};
use burn_core::tensor::backend::Backend;
use burn_core::tensor::{Tensor, TensorData};
use burn_ndarray::{NdArray, NdArrayDevice};
use burn_nn::{Linear, LinearConfig, Lstm as Cell, LstmConfig};
use burn_optim::{AdamConfig, GradientsParams, Optimizer};

use super::super::random::Seeded;
use super::super::robust;
use super::{Forecaster, LEVELS, Shape, Step, naive, ordered};

/// `epochs` passes over half of the windows; 3 are useless, 60 were measured (see the benches).
pub struct Lstm {
    pub epochs: usize,
}

impl Default for Lstm {
    fn default() -> Self {
        Self { epochs: 20 }
    }
}

type Plain = NdArray<f32>;
type Learning = Autodiff<Plain>;

const HIDDEN: usize = 24;
const BATCH: usize = 32;
const SEED: u64 = 7;

/// The backend has one source of randomness for all: one training at a time is the same each time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Module, Debug)]
struct Net<B: Backend> {
    cell: Cell<B>,
    out: Linear<B>,
}

impl<B: Backend> Net<B> {
    fn new(features: usize, outputs: usize, device: &B::Device) -> Self {
        Self {
            cell: LstmConfig::new(features, HIDDEN, true).init(device),
            out: LinearConfig::new(HIDDEN, outputs).init(device),
        }
    }

    /// `[batch, steps of a day, features]` to `[batch, horizon × levels]`.
    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 2> {
        let (_, state) = self.cell.forward(input, None);
        self.out.forward(state.hidden)
    }
}

impl Forecaster for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn needs(&self, shape: Shape) -> usize {
        3 * shape.week
    }

    fn forecast(&self, history: &[f64], horizon: usize, shape: Shape) -> Vec<Step> {
        let middle = robust::mean(history);
        let apart: Vec<f64> = history.iter().map(|v| (v - middle).powi(2)).collect();
        let scale = robust::mean(&apart).sqrt();
        if !scale.is_finite() || scale < 1e-9 || history.len() < shape.week + horizon + BATCH {
            return naive::Day.forecast(history, horizon, shape);
        }
        let series = Windows {
            values: history
                .iter()
                .map(|v| ((v - middle) / scale) as f32)
                .collect(),
            shape,
        };
        let found = series.learn(self.epochs, horizon);
        (0..horizon)
            .map(|step| {
                ordered(std::array::from_fn(|q| {
                    f64::from(found[step * LEVELS.len() + q]) * scale + middle
                }))
            })
            .collect()
    }
}

/// A standardised series, seen as days: position in the day is time, each day of the last week a
/// feature.
struct Windows {
    values: Vec<f32>,
    shape: Shape,
}

impl Windows {
    fn features(&self) -> usize {
        self.shape.week / self.shape.day + 2
    }

    /// What is known when step `end` begins.
    fn input(&self, end: usize) -> Vec<f32> {
        let Shape { day, week } = self.shape;
        let days = week / day;
        let mut row = Vec::with_capacity(day * self.features());
        for step in 0..day {
            row.extend((1..=days).map(|back| self.values[end - back * day + step]));
            row.push(step as f32 / day as f32);
            row.push((end % week / day) as f32 / days as f32);
        }
        row
    }

    /// Trains, and forecasts what follows the end.
    fn learn(&self, epochs: usize, horizon: usize) -> Vec<f32> {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let device = NdArrayDevice::default();
        Learning::seed(&device, SEED);
        let (day, week, n) = (self.shape.day, self.shape.week, self.values.len());
        let levels = LEVELS.len();
        let mut net: Net<Learning> = Net::new(self.features(), horizon * levels, &device);
        let mut adam = AdamConfig::new().init::<Learning, Net<Learning>>();
        let mut random = Seeded::new(SEED);
        let level: Vec<f32> = (0..horizon)
            .flat_map(|_| LEVELS.map(|level| level as f32))
            .collect();
        let level = Tensor::<Learning, 2>::from_data(
            TensorData::new(level, [1, horizon * levels]),
            &device,
        );
        let ends = week..=n - horizon;
        let span = ends.end() - ends.start() + 1;
        let batches = (span / BATCH / 2).max(8);
        for epoch in 0..epochs {
            let rate = if 2 * epoch < epochs { 3e-3 } else { 1e-3 };
            for _ in 0..batches {
                let mut input = Vec::with_capacity(BATCH * day * self.features());
                let mut target = Vec::with_capacity(BATCH * horizon * levels);
                for _ in 0..BATCH {
                    let pick = (random.unit() * span as f64) as usize;
                    let end = (ends.start() + pick).min(*ends.end());
                    input.extend(self.input(end));
                    for step in 0..horizon {
                        target.extend([self.values[end + step]; LEVELS.len()]);
                    }
                }
                let shape = [BATCH, day, self.features()];
                let input = Tensor::from_data(TensorData::new(input, shape), &device);
                let shape = [BATCH, horizon * levels];
                let target = Tensor::from_data(TensorData::new(target, shape), &device);
                let error: Tensor<Learning, 2> = target - net.forward(input);
                let above = level.clone() * error.clone();
                let below = (level.clone() - 1.0) * error;
                let loss = above.max_pair(below).mean();
                let slopes = GradientsParams::from_grads(loss.backward(), &net);
                net = adam.step(rate, net, slopes);
            }
        }
        let net = net.valid();
        let shape = [1, day, self.features()];
        let input = Tensor::<Plain, 3>::from_data(TensorData::new(self.input(n), shape), &device);
        let found = net.forward(input).into_data().to_vec::<f32>();
        found.unwrap_or_else(|_| vec![0.0; horizon * levels])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::score;
    use super::*;

    const SHAPE: Shape = Shape { day: 4, week: 28 };

    #[test]
    fn a_pattern_is_learned_and_the_same_each_time() {
        let mut random = Seeded::new(3);
        let history: Vec<f64> = (0..28 * 8)
            .map(|t| f64::from([20, 60, 90, 30][t % 4]) + 2.0 * random.normal())
            .collect();
        let lstm = Lstm { epochs: 30 };
        let forecast = lstm.forecast(&history, 4, SHAPE);
        for (step, middle) in forecast.iter().zip([20.0, 60.0, 90.0, 30.0]) {
            assert!((step[2] - middle).abs() < 15.0, "{step:?} {middle}");
            assert!(step.is_sorted());
        }
        assert_eq!(forecast, lstm.forecast(&history, 4, SHAPE));
    }

    /// A day whose course a flat line misses, and weekends that are half as busy: what came is not seen.
    #[test]
    fn a_daily_shape_is_learned_far_better_than_a_flat_line() {
        let mut random = Seeded::new(8);
        let all: Vec<f64> = (0..28 * 9)
            .map(|t| {
                let busy = if t / 4 % 7 < 5 { 1.0 } else { 0.5 };
                f64::from([20, 60, 90, 30][t % 4]) * busy + 4.0 * random.normal()
            })
            .collect();
        let (history, actual) = all.split_at(28 * 8);
        let sorted = robust::ascending(history);
        let flat: Vec<Step> =
            vec![LEVELS.map(|level| robust::quantile_sorted(&sorted, level)); actual.len()];
        let flat = score::mean_pinball(actual, &flat);
        // Day by day, each from what was known when it began.
        let mut own = 0.0;
        for day in 0..7 {
            let known = &all[..history.len() + 4 * day];
            let steps = Lstm::default().forecast(known, 4, SHAPE);
            assert!(steps.iter().all(|step| step.is_sorted()));
            own += score::mean_pinball(&actual[4 * day..4 * day + 4], &steps) / 7.0;
        }
        assert!(own < 0.5 * flat, "lstm {own}, flat {flat}");
    }

    #[test]
    fn odd_histories_are_answered() {
        let gap = |t: usize| if t % 9 < 4 { f64::NAN } else { (t % 4) as f64 };
        for history in [
            vec![],
            vec![3.0],
            vec![0.0; 28 * 4],
            vec![7.0; 28 * 4],
            vec![1e300; 28 * 4],
            (0..28 * 4).map(gap).collect(),
            (0..28 * 4).map(|t| f64::from(t == 100)).collect(),
        ] {
            let steps = (Lstm { epochs: 1 }).forecast(&history, 4, SHAPE);
            assert_eq!(steps.len(), 4, "{history:?}");
            for step in steps {
                assert!(step.iter().all(|q| q.is_finite()), "{history:?} {step:?}");
                assert!(step.is_sorted(), "{history:?} {step:?}");
            }
        }
    }
}
