//! What was expected of a stage's machine, what it used, and which persona a classifier proposes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a machine is predicted. The words are also the names of the models.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Guest memory, MiB.
    Memory,
    /// Processor time while it worked hardest, percent of one CPU.
    Cpu,
    /// Network traffic of the busier direction while it was busiest, kilobytes (1000) a second.
    Network,
    /// Work of the stage, seconds.
    Duration,
}

impl Resource {
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Network, Self::Duration];

    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Network => "network",
            Self::Duration => "duration",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Memory => "MiB",
            Self::Cpu => "% of a CPU",
            Self::Network => "kB/s",
            Self::Duration => "s",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// Where an expectation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Written in the chain: there is too little history.
    Chain,
    /// The plain rule over what the stage used before.
    History,
    /// A trained model that beats the plain rule.
    Model,
}

/// Where the value will lie, with the chance that it is below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// One in ten is below.
    pub low: f64,
    pub middle: f64,
    /// Nine in ten are below.
    pub high: f64,
}

/// One resource of one stage, in the resource's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expected {
    /// What to give or to reckon with.
    pub amount: f64,
    /// None where nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    pub source: Source,
    /// The model that said so, such as `memory#7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Observations behind it: of the stage, or that the model was trained on.
    pub observations: u64,
    pub reason: String,
}

/// What one stage is expected to use, made when the run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageExpectation {
    pub memory: Expected,
    pub cpu: Expected,
    pub network: Expected,
    pub duration: Expected,
    /// Version of the features that models were asked with.
    pub features: u32,
}

impl StageExpectation {
    pub fn of(&self, resource: Resource) -> &Expected {
        match resource {
            Resource::Memory => &self.memory,
            Resource::Cpu => &self.cpu,
            Resource::Network => &self.network,
            Resource::Duration => &self.duration,
        }
    }
}

/// What a stage's machine used while its work ran, from the host's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Used {
    pub cpu_ms: f64,
    /// Percent of one CPU, over the whole work.
    pub cpu_mean_percent: f64,
    /// Percent of one CPU, in the busiest second that was seen.
    pub cpu_peak_percent: f64,
    /// Share of the time in which it used all the processor time that it had.
    pub cpu_short_share: f64,
    /// Guest memory that had ever been touched by the end: a ceiling of what is needed, because Linux
    /// fills free memory with files that it has read.
    pub memory_mib: f64,
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    pub net_received_bytes: u64,
    pub net_sent_bytes: u64,
    /// The busier direction, in the busiest second that was seen.
    pub net_peak_kbytes_per_s: f64,
    /// Time between the first and the last look.
    pub watched_s: f64,
    /// Looks that were taken.
    pub looks: u32,
    /// Time for which the host could not be asked, seconds.
    pub gaps_s: f64,
}

/// What a classifier says of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proposal {
    pub persona: String,
    /// Chance that it is right, 0–1.
    pub confidence: f64,
    /// From this confidence on it is taken without asking.
    pub threshold: f64,
    /// The next likeliest.
    pub others: Vec<(String, f64)>,
    /// Facts that spoke for it (positive) or against it, strongest first.
    pub reasons: Vec<(String, f64)>,
    /// Such as `persona#3`.
    pub model: String,
    /// Devices it was trained on.
    pub examples: u64,
}

impl Proposal {
    pub fn is_sure(&self) -> bool {
        self.confidence >= self.threshold
    }

    /// For people: `92 %, because of role cook, site north`.
    pub fn told(&self) -> String {
        let facts: Vec<&str> = self
            .reasons
            .iter()
            .filter(|(_, weight)| *weight > 0.0)
            .take(3)
            .map(|(fact, _)| fact.as_str())
            .collect();
        let because = match facts.is_empty() {
            true => String::new(),
            false => format!(", because of {}", facts.join(", ")),
        };
        format!(
            "{} is {:.0} % sure{because}",
            self.model,
            100.0 * self.confidence
        )
    }
}
