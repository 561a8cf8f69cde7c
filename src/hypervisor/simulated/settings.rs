//! How large and how fast a simulated host is, and what its guests have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::faults::Chaos;
use super::identity;
use crate::vocab::machine::Accelerator;

/// How large and how fast the host is.
#[derive(Debug, Clone, PartialEq)]
pub struct SimSettings {
    pub host_name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub accelerator: Accelerator,
    pub latencies: Latencies,
    /// Its seed is also that of the guests' random numbers.
    pub chaos: Chaos,
    /// Programs that each guest has besides its shell's: as short commands they end with 0 and do
    /// nothing.
    pub tools: BTreeSet<String>,
    /// Files that each booted guest has, path to text.
    pub files: BTreeMap<String, String>,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            host_name: "simulated".into(),
            cpus: 64,
            memory_mib: 1 << 20,
            disk_mib: 1 << 24,
            accelerator: Accelerator::Tcg,
            latencies: Latencies::default(),
            chaos: Chaos::default(),
            tools: ["python3", "jq", "ansible", "true", "busybox"]
                .map(str::to_owned)
                .into(),
            files: BTreeMap::from([(
                identity::MACHINE_ID.to_owned(),
                "0123456789abcdef0123456789abcdef\n".to_owned(),
            )]),
        }
    }
}

/// How long things take; zero by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    pub make_disk: Duration,
    pub start: Duration,
    /// As `start`, for a fork.
    pub create_fork: Duration,
    pub load: Duration,
    pub pause: Duration,
    pub resume: Duration,
    /// From a fork's resume until its agent answers.
    pub wake: Duration,
    pub capture: Duration,
    /// From the start until the agent answers.
    pub boot: Duration,
    pub agent_call: Duration,
    pub attach: Duration,
    pub destroy: Duration,
}
