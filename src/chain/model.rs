//! The typed chain: what a chain file means once it has been checked.
//!
//! Chain files are written by people and decoded by [`super::check`], which reports all faults with
//! their places; the serde derives here are for storage and the API only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vocab::{Digest, FailureKind, StageKind};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    pub name: String,
    pub description: String,
    /// Expression over `device` that says whether this chain is meant for a device; none: only by name.
    pub when: Option<String>,
    /// The disk that travels from stage to stage, where the chain has one.
    pub handoff_disk: Option<HandoffDisk>,
    pub on_failure: OnFailure,
    /// At least one.
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffDisk {
    pub size_mib: u64,
    /// Keep a copy from before each stage, so that an attempt can be repeated and replayed on the
    /// disk that its predecessor left. On unless switched off.
    pub checkpoint: bool,
    /// Keep the disk as the run's result when the run succeeded. Off unless switched on.
    #[serde(default)]
    pub keep: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnFailure {
    /// How long a failed run is held, with all that it has, for `retry`, before it is given up.
    pub hold_s: u64,
    /// Keep the failed machine running while the run is held.
    pub keep_machine: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub kind: StageKind,
    pub description: String,
    /// What the run waits for before this stage, without holding a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Name of the base image.
    pub image: String,
    pub resources: Resources,
    /// Join the provisioning network.
    pub network: bool,
    /// Attach the chain's handoff disk; the guest finds its path in `GREENROOM_HANDOFF_DISK`.
    pub handoff_disk: bool,
    pub input: Input,
    pub work: Work,
    pub output: Output,
    pub deadline: Deadline,
    pub retry: Vec<Retry>,
    /// Takes back what the stage did outside its machine. Gets the stage's input, runs on a fresh
    /// machine of the same image.
    pub undo: Option<Work>,
}

/// The device has got its handoff disk, booted from it and reports; what it reports is the run's
/// document's `telemetry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    pub event: AfterEvent,
    /// How long it is to have reported before the stage begins.
    pub watch_s: u64,
    /// How long the run waits in all before it fails.
    pub within_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterEvent {
    Delivered,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    pub vcpus: Bounds,
    pub memory_mib: Bounds,
    pub disk_mib: Bounds,
    /// Kilobytes (1000) a second in each direction.
    pub network_kbytes_per_s: Option<Bounds>,
    /// Whether prediction may choose between `min` and `max`; otherwise `min` is taken.
    pub predict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub min: u64,
    pub max: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Makes the stage's input from the run's document; none: the whole document.
    pub transform: Option<Transform>,
    /// JSON Schema the input must satisfy before the stage is started.
    pub schema: Option<Value>,
    /// The form in which the guest gets it.
    pub format: DocumentFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentFormat {
    Json,
    Xml,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "language", rename_all = "snake_case")]
pub enum Transform {
    /// In process.
    Jmespath { expression: String },
    /// In a child process with limits on time, memory and output.
    Jq { expression: String },
}

/// What runs in the guest. The script's bytes are part of the chain's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Work {
    /// Program and arguments, no shell.
    Command { argv: Vec<String> },
    /// A script, run as given by its first line (`#!`), else by `/bin/sh`.
    Script {
        text: String,
        /// The file it came from, relative to the chain file; none when it stood in the chain itself.
        file: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum Output {
    /// Nothing is taken; only the exit code counts.
    None,
    Json {
        schema: Option<Value>,
        transform: Option<Transform>,
        merge: Merge,
        max_bytes: u64,
    },
    /// Parsed without external entities or DTD and mapped to a document (see [`super::xml`]), then
    /// as JSON.
    Xml {
        schema: Option<Value>,
        transform: Option<Transform>,
        merge: Merge,
        max_bytes: u64,
    },
    /// Kept as an artefact.
    Binary { media_type: String, max_bytes: u64 },
}

/// How a stage's output becomes part of the run's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// JSON Pointer (RFC 6901) of the place; parents are made. Default `/<stage name>`.
    pub at: String,
    pub how: MergeHow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeHow {
    /// Put it there, whatever was there.
    Replace,
    /// JSON Merge Patch (RFC 7396) onto what is there.
    Patch,
    /// Add it at the end of the array that is there.
    Append,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    Seconds(u64),
    /// From the stage's own history: four times its 95th percentile, at least 60 s; 1,800 s while
    /// there are fewer than five successes.
    Derived,
}

/// One row of a retry policy; the first row that names the kind counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    pub on: Vec<FailureKind>,
    /// Tries in all, the first included.
    pub attempts: u32,
    pub backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    pub first_s: f64,
    pub factor: f64,
    pub max_s: f64,
}

impl Chain {
    /// Identity of this version: name, meaning and script bytes.
    pub fn digest(&self) -> Digest {
        Digest::of_document(&serde_json::to_value(self).expect("a chain is plain data"))
    }

    pub fn stage_index(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }
}

impl Stage {
    /// The policy row for a failure of this kind. Without one, what befell the machine rather than
    /// the work (`host`, `boot`, `lost`) is tried three times, and so is a lack of memory, each time with
    /// more of it; anything else once.
    pub fn retry_for(&self, kind: FailureKind) -> Retry {
        self.retry
            .iter()
            .find(|row| row.on.contains(&kind))
            .cloned()
            .unwrap_or_else(|| Retry {
                on: vec![kind],
                attempts: match kind {
                    FailureKind::Host
                    | FailureKind::Boot
                    | FailureKind::Lost
                    | FailureKind::Memory => 3,
                    _ => 1,
                },
                backoff: Backoff {
                    first_s: 1.0,
                    factor: 2.0,
                    max_s: 60.0,
                },
            })
    }
}

impl Backoff {
    /// Pause before try number `attempt` (the second try is 2), seconds.
    pub fn pause_s(&self, attempt: u32) -> f64 {
        let exponent = attempt.saturating_sub(2).min(64);
        (self.first_s * self.factor.powi(i32::try_from(exponent).unwrap_or(64))).min(self.max_s)
    }
}
