//! Section `boot.telemetry`: how often delivered devices report, and how long what is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigFault;
use crate::vocab::telemetry::Keeping;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Seconds between two reports of a device; it is told with each answer.
    pub every_s: u64,
    /// Seconds that reports are first condensed to.
    pub fine_s: u64,
    /// Seconds that those are then condensed to; a multiple of `fine_s`.
    pub coarse_s: u64,
    /// Hours that reports are kept as they came.
    pub keep_raw_h: u64,
    /// Days that the first condensation is kept.
    pub keep_fine_d: u64,
    /// Days that the second one is kept.
    pub keep_coarse_d: u64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        let keeping = Keeping::default();
        Self {
            every_s: keeping.every.as_secs(),
            fine_s: keeping.fine.as_secs(),
            coarse_s: keeping.coarse.as_secs(),
            keep_raw_h: keeping.keep_raw.as_secs() / 3600,
            keep_fine_d: keeping.keep_fine.as_secs() / 86_400,
            keep_coarse_d: keeping.keep_coarse.as_secs() / 86_400,
        }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut wrong = |key: &str, why: String| {
            faults.push(ConfigFault::new(format!("boot.telemetry.{key}"), why));
        };
        // A device that is silent for 120 s is said to be.
        let bounds = [
            ("every_s", self.every_s, 5, 60),
            ("fine_s", self.fine_s, 60, 3600),
            ("coarse_s", self.coarse_s, 60, 86_400),
            ("keep_raw_h", self.keep_raw_h, 1, 8760),
            ("keep_fine_d", self.keep_fine_d, 1, 3650),
            ("keep_coarse_d", self.keep_coarse_d, 1, 36_500),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                wrong(key, format!("{value} is not within {least} and {most}"));
            }
        }
        if self.fine_s > 0
            && (self.coarse_s <= self.fine_s || !self.coarse_s.is_multiple_of(self.fine_s))
        {
            wrong(
                "coarse_s",
                format!(
                    "{} is not a multiple of boot.telemetry.fine_s, {}",
                    self.coarse_s, self.fine_s
                ),
            );
        }
        faults
    }

    pub fn keeping(&self) -> Keeping {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Keeping {
            every: Duration::from_secs(self.every_s),
            fine: Duration::from_secs(self.fine_s),
            coarse: Duration::from_secs(self.coarse_s),
            keep_raw: Duration::from_secs(self.keep_raw_h * 3600),
            keep_fine: days(self.keep_fine_d),
            keep_coarse: days(self.keep_coarse_d),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_come_back() {
        assert_eq!(TelemetryConfig::default().check(), []);
        assert_eq!(TelemetryConfig::default().keeping(), Keeping::default());
        let odd = TelemetryConfig {
            every_s: 1,
            coarse_s: 400,
            ..TelemetryConfig::default()
        };
        let keys: Vec<String> = odd.check().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["boot.telemetry.every_s", "boot.telemetry.coarse_s"]);
    }
}
