//! Demand's nouns: who asked for a machine, what a calendar expects, how a class's size is chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::pool::{Class, Target, Tier};

/// Seconds of the smallest step in which arrivals are counted, and between two decisions.
pub const BUCKET_S: i64 = 300;

/// Somebody asked for a machine of a class, whether one waited or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// The claim's key: tells a repeated report from a second arrival.
    pub key: String,
    pub class: Class,
    pub client: String,
    /// What the device is to become; none where nobody said so, or it was not looked up yet.
    #[serde(default)]
    pub persona: Option<String>,
    pub at: Timestamp,
    /// What served it; worse than `Warm` where the pool had nothing.
    pub tier: Tier,
    /// From asking to a machine that answers; none where the claimant had to make its own.
    pub wait_ms: Option<f64>,
}

/// Whose arrivals: of a class, of a persona, of a client, or of all where none is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Series {
    pub class: Option<Class>,
    /// The empty name stands for requests without a persona.
    pub persona: Option<String>,
    pub client: Option<String>,
}

impl Series {
    pub fn of_class(class: &Class) -> Self {
        Self {
            class: Some(class.clone()),
            ..Self::default()
        }
    }

    /// Whatever classes it is made from.
    pub fn of_persona(persona: &str) -> Self {
        Self {
            persona: Some(persona.to_owned()),
            ..Self::default()
        }
    }

    /// The same of one client, or of all.
    pub fn by(self, client: Option<&str>) -> Self {
        Self {
            client: client.map(str::to_owned),
            ..self
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.class, self.persona.as_deref()) {
            (Some(class), _) => write!(f, "{class}")?,
            (None, Some("")) => f.write_str("no persona")?,
            (None, Some(persona)) => write!(f, "persona {persona}")?,
            (None, None) => f.write_str("everything")?,
        }
        match &self.client {
            Some(client) => write!(f, " for {client}"),
            None => Ok(()),
        }
    }
}

/// Arrivals of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Count {
    pub start_s: i64,
    pub arrivals: u64,
    pub hot: u64,
    pub warm: u64,
    /// Served by neither.
    pub cold: u64,
    /// Of those that the pool served.
    pub wait_ms: f64,
}

/// How full the pool was of a class when a bucket began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    pub at_s: i64,
    /// Shells that waited.
    pub ready: u32,
    pub claimed: u32,
    /// Shells that were to wait; none where nobody had said so.
    pub wanted: Option<u32>,
}

/// From when until when the daemon saw what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// A calendar entry: demand is expected to be `factor` times the usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedEvent {
    pub name: String,
    /// A class or an image; none concerns all.
    pub of: Option<String>,
    pub from: Timestamp,
    pub until: Timestamp,
    pub factor: f64,
    /// A standard deviation of the factor's logarithm: 0.1 is give or take a tenth.
    pub doubt: f64,
}

impl PlannedEvent {
    pub fn concerns(&self, class: &Class) -> bool {
        self.of
            .as_ref()
            .is_none_or(|of| *of == class.image || *of == class.to_string())
    }
}

/// Who says how many shells of a class wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A number that somebody set.
    Fixed,
    /// The forecast, weighed against what waiting costs.
    Forecast,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Forecast => "forecast",
        })
    }
}

/// How the size of a class is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub class: Class,
    pub mode: Mode,
    /// What a shell that waits for an hour costs, in any currency.
    pub idle_hour_cost: f64,
    /// What a cold start costs, in the same: a request for which a machine is cloned and booted. One that a
    /// fork serves costs as much less as it waits less.
    pub cold_cost: f64,
    /// Bounds of the number of hot shells.
    pub least: u32,
    pub most: u32,
    /// When somebody first said how it is chosen: from then on nobody coming is an observation.
    #[serde(default)]
    pub since: Timestamp,
    /// What was set before the forecast took over, and is set again after it.
    pub before: Option<Target>,
    /// The forecast's last word. Where the pool has another target, somebody has set it by hand.
    pub told: Option<Target>,
}

/// A cold start costs as much as a shell that waits for half an hour: on the recorded traces this is
/// where the curve of cold share against idle time bends.
const COLD_IN_IDLE_HOURS: f64 = 0.5;

impl Policy {
    /// What holds for a class of which nobody said anything.
    pub fn of(class: Class) -> Self {
        Self {
            class,
            mode: Mode::Fixed,
            idle_hour_cost: 1.0,
            cold_cost: COLD_IN_IDLE_HOURS,
            least: 0,
            most: 64,
            since: Timestamp(0),
            before: None,
            told: None,
        }
    }

    /// A cold start in seconds of one idle shell.
    pub fn miss_s(&self) -> f64 {
        const MOST_S: f64 = 1e9;
        let seconds = 3600.0 * self.cold_cost / self.idle_hour_cost;
        if seconds.is_finite() {
            seconds.clamp(0.0, MOST_S)
        } else {
            3600.0 * COLD_IN_IDLE_HOURS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_concerns_a_class_by_its_name_or_image() {
        let class: Class = "tiny:1x128@acme".parse().unwrap();
        let event = |of: Option<&str>| PlannedEvent {
            name: "release".into(),
            of: of.map(str::to_owned),
            from: Timestamp(0),
            until: Timestamp(1),
            factor: 2.0,
            doubt: 0.1,
        };
        for of in [None, Some("tiny"), Some("tiny:1x128@acme")] {
            assert!(event(of).concerns(&class), "{of:?}");
        }
        for of in ["tiny:1x128", "toolbox"] {
            assert!(!event(Some(of)).concerns(&class), "{of}");
        }
    }

    #[test]
    fn costs_that_make_no_sense_fall_back() {
        let class: Class = "tiny:1x128".parse().unwrap();
        let miss = |idle_hour_cost, cold_cost| {
            Policy {
                idle_hour_cost,
                cold_cost,
                ..Policy::of(class.clone())
            }
            .miss_s()
        };
        assert_eq!(miss(1.0, 0.5), 1800.0);
        assert_eq!(miss(0.0, 0.0), 1800.0);
        assert_eq!(miss(1e-300, 1e300), 1800.0);
        assert_eq!(miss(1e-6, 1e6), 1e9);
    }
}
