//! Section `host`: how much of the host machines may take together.

use serde::{Deserialize, Serialize};

use super::ConfigFault;
use crate::capacity::Room;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostShare {
    /// Memory for all machines, MiB; 70 % of the host's when not given.
    pub memory_mib: Option<u64>,
    /// vCPUs of all machines; four for each CPU of the host when not given.
    pub vcpus: Option<u64>,
}

impl HostShare {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if self.memory_mib.is_some_and(|memory| memory < 256) {
            faults.push(ConfigFault::new(
                "host.memory_mib",
                "no machine fits into less than 256",
            ));
        }
        if self.vcpus == Some(0) {
            faults.push(ConfigFault::new(
                "host.vcpus",
                "no machine fits into 0 vCPUs; give at least 1",
            ));
        }
        faults
    }

    /// The share of a host of this size.
    pub fn room(&self, host_memory_mib: u64, host_cpus: u32) -> Room {
        Room {
            memory_mib: self.memory_mib.unwrap_or(host_memory_mib * 7 / 10),
            vcpus: self.vcpus.unwrap_or(u64::from(host_cpus) * 4),
        }
    }
}
