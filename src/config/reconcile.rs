//! Section `reconcile`: the comparison of what is stored with what is there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigFault;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileConfig {
    /// Seconds between two comparisons when nothing asks for one earlier.
    pub interval_s: u64,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self { interval_s: 30 }
    }
}

impl ReconcileConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        if (1..=3600).contains(&self.interval_s) {
            return Vec::new();
        }
        vec![ConfigFault::new(
            "reconcile.interval_s",
            format!("{} is not within 1 and 3600", self.interval_s),
        )]
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_s)
    }
}
