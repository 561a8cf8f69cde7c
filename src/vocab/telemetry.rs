//! What a delivered device measures of itself, and how measurements are condensed.
//!
//! ```text
//!  report, every few seconds ──► measures (raw) ──► Bucket of 5 minutes ──► Bucket of an hour
//! ```
//!
//! A bucket keeps count, sum, least and greatest of each metric, so buckets of buckets are exact.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// To add one: a variant, its words here, and where it is computed in `netboot::telemetry`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of the processors that was busy, 0 to 1.
    Cpu,
    /// Load average over one minute.
    Load,
    /// Memory in use (total less available), MiB.
    Memory,
    /// Share of the memory that is in use, 0 to 1.
    MemoryShare,
    /// Bytes read from disks per second.
    DiskRead,
    DiskWrite,
    /// Bytes received per second, without the loopback.
    NetIn,
    NetOut,
    /// Share of the root file system that is used, 0 to 1.
    Root,
    Processes,
    /// Units that failed.
    FailedUnits,
}

impl Metric {
    pub const ALL: [Self; 11] = [
        Self::Cpu,
        Self::Load,
        Self::Memory,
        Self::MemoryShare,
        Self::DiskRead,
        Self::DiskWrite,
        Self::NetIn,
        Self::NetOut,
        Self::Root,
        Self::Processes,
        Self::FailedUnits,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Load => "load",
            Self::Memory => "memory",
            Self::MemoryShare => "memory_share",
            Self::DiskRead => "disk_read",
            Self::DiskWrite => "disk_write",
            Self::NetIn => "net_in",
            Self::NetOut => "net_out",
            Self::Root => "root",
            Self::Processes => "processes",
            Self::FailedUnits => "failed_units",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.word() == word)
    }

    /// `share`, `MiB`, `B/s` or nothing.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::MemoryShare | Self::Root => "share",
            Self::Memory => "MiB",
            Self::DiskRead | Self::DiskWrite | Self::NetIn | Self::NetOut => "B/s",
            Self::Load | Self::Processes | Self::FailedUnits => "",
        }
    }
}

/// One moment's values.
pub type Measures = BTreeMap<Metric, f64>;

/// Values of one metric over a span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there were, at least one.
    pub n: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    pub fn of(value: f64) -> Self {
        Self {
            n: 1,
            sum: value,
            min: value,
            max: value,
        }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            n: self.n + other.n,
            sum: self.sum + other.sum,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    pub fn mean(self) -> f64 {
        self.sum / self.n as f64
    }
}

/// What was measured from `at` on, for one step; a single measurement where the step is zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    pub at: Timestamp,
    pub values: BTreeMap<Metric, Summary>,
}

impl Bucket {
    pub fn of(at: Timestamp, measures: &Measures) -> Self {
        Self {
            at,
            values: measures
                .iter()
                .map(|(metric, value)| (*metric, Summary::of(*value)))
                .collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        for (metric, summary) in &other.values {
            self.values
                .entry(*metric)
                .and_modify(|own| *own = own.and(*summary))
                .or_insert(*summary);
        }
    }
}

/// The beginning of the step that a moment is in. Steps are counted from 1970.
pub fn step_start(at: Timestamp, step: Duration) -> Timestamp {
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp(at.0 - at.0.rem_euclid(step))
}

/// Condenses buckets, in the order of their time, into larger ones.
pub fn roll(finer: &[Bucket], step: Duration) -> Vec<Bucket> {
    let mut rolled: Vec<Bucket> = Vec::new();
    for bucket in finer {
        let at = step_start(bucket.at, step);
        match rolled.last_mut() {
            Some(last) if last.at == at => last.add(bucket),
            _ => rolled.push(Bucket {
                at,
                values: bucket.values.clone(),
            }),
        }
    }
    rolled
}

/// How telemetry is taken and for how long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Between two reports of a device.
    pub every: Duration,
    pub fine: Duration,
    pub coarse: Duration,
    pub keep_raw: Duration,
    pub keep_fine: Duration,
    pub keep_coarse: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Self {
            every: Duration::from_secs(15),
            fine: Duration::from_secs(300),
            coarse: Duration::from_secs(3600),
            keep_raw: days(2),
            keep_fine: days(30),
            keep_coarse: days(730),
        }
    }
}

impl Keeping {
    /// The finest step that reaches back to `since` and gives at most `most` buckets; zero means the
    /// measurements themselves.
    pub fn step_for(&self, since: Timestamp, now: Timestamp, most: u32) -> Duration {
        let span = now.since(since);
        let fits = |step: Duration, kept: Duration| span <= kept && span <= step * most;
        if fits(self.every, self.keep_raw) {
            Duration::ZERO
        } else if fits(self.fine, self.keep_fine) {
            self.fine
        } else {
            self.coarse
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn one(at_s: i64, cpu: f64) -> Bucket {
        Bucket::of(
            Timestamp(at_s * SECOND),
            &Measures::from([(Metric::Cpu, cpu)]),
        )
    }

    #[test]
    fn every_metric_has_a_word_of_its_own() {
        for metric in Metric::ALL {
            assert_eq!(Metric::from_word(metric.word()), Some(metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.word());
        }
    }

    #[test]
    fn the_finest_step_that_reaches_back_is_taken() {
        let keeping = Keeping::default();
        let now = Timestamp(1_800_000_000 * SECOND);
        let ago = |s: i64| Timestamp(now.0 - s * SECOND);
        assert_eq!(keeping.step_for(ago(3600), now, 400), Duration::ZERO);
        assert_eq!(keeping.step_for(ago(86_400), now, 400), keeping.fine);
        assert_eq!(keeping.step_for(ago(90 * 86_400), now, 400), keeping.coarse);
    }

    proptest! {
        /// Hours made of five minutes are hours made of everything; nothing is lost or counted twice.
        #[test]
        fn buckets_of_buckets_are_exact(mut at in prop::collection::vec(0i64..40_000, 1..200), values in prop::collection::vec(-1e6f64..1e6, 200)) {
            at.sort_unstable();
            let raw: Vec<Bucket> = at.iter().zip(&values).map(|(at, value)| one(*at, value.round())).collect();
            let fine = roll(&raw, Duration::from_secs(300));
            let coarse = roll(&fine, Duration::from_secs(3600));
            prop_assert_eq!(&coarse, &roll(&raw, Duration::from_secs(3600)));
            let count = |all: &[Bucket]| all.iter().flat_map(|bucket| bucket.values.values()).map(|summary| summary.n).sum::<u64>();
            prop_assert_eq!(count(&coarse), raw.len() as u64);
            for bucket in &fine {
                prop_assert_eq!(bucket.at, step_start(bucket.at, Duration::from_secs(300)));
                let summary = bucket.values[&Metric::Cpu];
                prop_assert!(summary.min <= summary.mean() && summary.mean() <= summary.max);
            }
            prop_assert!(fine.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }
}
