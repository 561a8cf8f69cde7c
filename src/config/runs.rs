//! Section `runs`: how many, and how long they wait for what.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigFault;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunsConfig {
    /// How many runs are active at once; further ones are queued.
    pub max_active: usize,
    /// From a machine's creation until its guest agent has to have answered, seconds.
    pub boot_deadline_s: u64,
    /// A guest whose agent says nothing for so many seconds is lost.
    pub silence_s: u64,
    /// How long an action waits for a host that cannot be reached before it fails, seconds.
    pub patience_s: u64,
    /// Bytes kept of each stream of a stage's log.
    pub log_cap_bytes: u64,
}

impl Default for RunsConfig {
    fn default() -> Self {
        Self {
            max_active: 8,
            boot_deadline_s: 300,
            silence_s: 60,
            patience_s: 900,
            log_cap_bytes: 8 << 20,
        }
    }
}

const DAY_S: u64 = 86_400;

impl RunsConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if value < least || value > most {
                faults.push(ConfigFault::new(
                    format!("runs.{key}"),
                    format!("{value} is not within {least} and {most}"),
                ));
            }
        };
        within("max_active", self.max_active as u64, 1, 10_000);
        within("boot_deadline_s", self.boot_deadline_s, 5, DAY_S);
        within("silence_s", self.silence_s, 5, DAY_S);
        within("patience_s", self.patience_s, 1, 30 * DAY_S);
        within("log_cap_bytes", self.log_cap_bytes, 4096, 1 << 30);
        faults
    }

    pub fn boot_deadline(&self) -> Duration {
        Duration::from_secs(self.boot_deadline_s)
    }

    pub fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_s)
    }

    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }
}
