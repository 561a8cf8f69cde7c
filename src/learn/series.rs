//! Counts per equal step of time, made from events as they come: in any order, twice, from a clock
//! that jumped, or not at all.

use super::robust;

/// Equal steps from `start_s` on; a step nobody watched is NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Unix time of the first step's begin, a multiple of `step_s`.
    pub start_s: i64,
    pub step_s: i64,
    pub values: Vec<f64>,
}

/// What was wrong with the events a series was made of; shown beside a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Faults {
    /// Events with an id that was there before.
    pub duplicates: usize,
    /// Events outside of the watched span: a clock that jumped.
    pub outside: usize,
    /// Steps without observation.
    pub gaps: usize,
    /// Values cut down to the ceiling.
    pub capped: usize,
}

/// One arrival. The id tells a repeated report from a second arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub id: u64,
    pub at_s: i64,
}

/// A longest series: ten years of five-minute steps. A clock jump must not allocate the memory of
/// the host.
pub const LONGEST: usize = 1_100_000;

impl Series {
    /// Counts events per step between `from_s` (inclusive) and `until_s`, in Unix seconds.
    pub fn count(events: &[Event], from_s: i64, until_s: i64, step_s: i64) -> (Self, Faults) {
        let step_s = step_s.max(1);
        let start_s = from_s.div_euclid(step_s) * step_s;
        let steps = usize::try_from(until_s.saturating_sub(start_s).div_euclid(step_s))
            .unwrap_or(0)
            .min(LONGEST);
        let mut values = vec![0.0; steps];
        let mut faults = Faults::default();
        let mut seen = std::collections::HashSet::with_capacity(events.len());
        for event in events {
            if !seen.insert(event.id) {
                faults.duplicates += 1;
                continue;
            }
            let step = event.at_s.saturating_sub(start_s).div_euclid(step_s);
            match usize::try_from(step)
                .ok()
                .and_then(|step| values.get_mut(step))
            {
                Some(count) => *count += 1.0,
                None => faults.outside += 1,
            }
        }
        let series = Self {
            start_s,
            step_s,
            values,
        };
        (series, faults)
    }

    /// Steps per day and week, where the step divides a day.
    pub fn shape(&self) -> Option<super::forecast::Shape> {
        (86_400 % self.step_s == 0 && self.step_s < 86_400).then(|| {
            let day = (86_400 / self.step_s) as usize;
            super::forecast::Shape { day, week: 7 * day }
        })
    }

    /// Adjacent steps added up, whole groups only; a group with a gap is a gap.
    pub fn coarser(&self, times: usize) -> Self {
        let times = times.max(1);
        Self {
            start_s: self.start_s,
            step_s: self.step_s * times as i64,
            values: self
                .values
                .chunks_exact(times)
                .map(|group| group.iter().sum())
                .collect(),
        }
    }
}

/// Values a model may learn from: finite, not negative, no higher than the [`robust::ceiling`] of
/// their companions. A gap takes the median of the same step of the week (of the day, of all) around
/// it; where nothing is known it is zero.
pub fn clean(values: &[f64], shape: super::forecast::Shape) -> (Vec<f64>, Faults) {
    let mut faults = Faults::default();
    let ceiling = robust::ceiling(values);
    let mut cleaned: Vec<f64> = values
        .iter()
        .map(|value| {
            if !value.is_finite() {
                faults.gaps += 1;
                f64::NAN
            } else if *value > ceiling {
                faults.capped += 1;
                ceiling
            } else {
                value.max(0.0)
            }
        })
        .collect();
    if faults.gaps > 0 {
        let known = cleaned.clone();
        let overall = robust::median(&known);
        let like = |at: usize, season: usize| {
            let same: Vec<f64> = known
                .iter()
                .skip(at % season)
                .step_by(season)
                .copied()
                .collect();
            robust::median(&same)
        };
        for (at, value) in cleaned.iter_mut().enumerate().filter(|(_, v)| v.is_nan()) {
            *value = [like(at, shape.week), like(at, shape.day), overall, 0.0]
                .into_iter()
                .find(|v| v.is_finite())
                .unwrap_or(0.0);
        }
    }
    (cleaned, faults)
}

#[cfg(test)]
mod tests {
    use super::super::forecast::Shape;
    use super::*;

    const SHAPE: Shape = Shape { day: 2, week: 4 };

    fn event(id: u64, at_s: i64) -> Event {
        Event { id, at_s }
    }

    #[test]
    fn order_duplicates_and_jumps_do_not_matter() {
        let events = [
            event(1, 65),
            event(2, 5),
            event(1, 65),
            event(3, -9),
            event(4, i64::MAX),
        ];
        let (series, faults) = Series::count(&events, 0, 180, 60);
        assert_eq!(series.values, [1.0, 1.0, 0.0]);
        assert_eq!((faults.duplicates, faults.outside), (1, 2));
    }

    #[test]
    fn a_span_beyond_reason_is_cut() {
        let (series, _) = Series::count(&[], i64::MIN / 2, i64::MAX, 1);
        assert_eq!(series.values.len(), LONGEST);
        let (empty, _) = Series::count(&[], 100, 0, 60);
        assert!(empty.values.is_empty());
    }

    #[test]
    fn a_gap_takes_the_value_of_its_like() {
        let values = [1.0, 9.0, 2.0, 8.0, 1.0, f64::NAN, 2.0, 8.0];
        let (cleaned, faults) = clean(&values, SHAPE);
        assert_eq!((cleaned[5], faults.gaps), (9.0, 1));
        assert_eq!(clean(&[f64::NAN], SHAPE).0, [0.0]);
        assert!(clean(&[], SHAPE).0.is_empty());
    }

    #[test]
    fn absurd_values_are_capped_and_negative_ones_lifted() {
        let mut values = vec![3.0; 300];
        values[7] = f64::MAX;
        values[8] = -4.0;
        let (cleaned, faults) = clean(&values, SHAPE);
        assert_eq!((cleaned[7], cleaned[8], faults.capped), (80.0, 0.0, 1));
    }

    #[test]
    fn a_shape_needs_whole_days() {
        let of = |step_s| {
            Series {
                start_s: 0,
                step_s,
                values: vec![],
            }
            .shape()
        };
        assert_eq!(of(3600), Some(Shape { day: 24, week: 168 }));
        assert_eq!(of(86_400), None);
        assert_eq!(of(7), None);
    }
}
