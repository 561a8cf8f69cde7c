//! How long a whole chain takes, from how long its stages do: samples of all stages, added up.

use super::super::random::Seeded;
use super::super::robust;
use crate::vocab::prediction::Spread;

/// A chain's duration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole {
    pub spread: Spread,
    /// Nineteen in twenty are below.
    pub late: f64,
}

const SAMPLES: usize = 2000;
/// Of a stage's spread, so much of the variance is its run's: a busy host slows all stages of a run.
const SHARED: f64 = 0.5;
/// Standard deviations from the middle to the 90 % quantile of a normal distribution.
const TO_HIGH: f64 = 1.2816;

/// The sum of stages whose durations are spread like these, each log-normal with its own middle and its
/// own distances to both sides. None where there is no stage.
pub fn whole(stages: &[Spread]) -> Option<Whole> {
    if stages.is_empty() {
        return None;
    }
    let mut random = Seeded::new(17);
    let sums: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let shared = random.normal() * SHARED.sqrt();
            stages
                .iter()
                .map(|stage| {
                    let z = shared + random.normal() * (1.0 - SHARED).sqrt();
                    let middle = stage.middle.max(1e-3);
                    let side = if z >= 0.0 {
                        stage.high / middle
                    } else {
                        middle / stage.low.max(1e-3)
                    };
                    let sigma = side.max(1.0).ln() / TO_HIGH;
                    middle * (sigma * z).exp()
                })
                .sum()
        })
        .collect();
    let sums = robust::ascending(&sums);
    let at = |level| robust::quantile_sorted(&sums, level);
    Some(Whole {
        spread: Spread {
            low: at(0.1),
            middle: at(0.5),
            high: at(0.9),
        },
        late: at(0.95),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(low: f64, middle: f64, high: f64) -> Spread {
        Spread { low, middle, high }
    }

    #[test]
    fn one_stage_is_itself_and_many_are_less_spread_than_their_sum() {
        let one = whole(&[spread(8.0, 10.0, 13.0)]).unwrap();
        assert!((one.spread.middle / 10.0 - 1.0).abs() < 0.05, "{one:?}");
        assert!((one.spread.high / 13.0 - 1.0).abs() < 0.05, "{one:?}");
        assert!(one.late > one.spread.high);
        let five = whole(&[spread(8.0, 10.0, 13.0); 5]).unwrap();
        assert!(
            five.spread.middle > 49.0 && five.spread.high < 65.0,
            "{five:?}"
        );
    }

    #[test]
    fn constant_and_absurd_stages() {
        let whole_of = |stages: &[Spread]| whole(stages).map(|whole| whole.late);
        assert_eq!(whole_of(&[]), None);
        assert!((whole_of(&[spread(2.0, 2.0, 2.0); 3]).unwrap() - 6.0).abs() < 1e-9);
        assert!(whole_of(&[spread(0.0, 0.0, 1e300)]).unwrap().is_finite());
    }
}
