//! A run: one execution of a chain for one device. And its attempts: tries at one stage.
//!
//! ```text
//!    ┌───────── the device reports ────────┐
//!    ▼                                     │
//! Queued ─► Running ─► Succeeded        Waiting     Paused ──► Queued: somebody resumes it
//!    ▲         │ └─ a stage is after delivery ─┘        ▲
//!    │         │ └─ somebody holds it: before the next stage (or the first)
//!    │         │ a stage fails for good, or abort (or, while it waits or is paused, its time is up)
//!    │         ▼
//!    │      Undoing ─► Held ─► Failed         (abort: Undoing ─► Aborted)
//!    └── retry ─────────┴───────┘
//! ```
//!
//! `runs::plan` is the only code that changes these values, `runs::drive` the only one that stores
//! them.

use serde::{Deserialize, Serialize};

use super::prediction::StageExpectation;
use super::{AttemptId, DeviceId, Digest, Failure, MachineId, RunId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub device: DeviceId,
    pub device_name: String,
    pub client: String,
    pub chain: String,
    pub chain_version: i64,
    #[serde(flatten)]
    pub state: RunState,
    /// When it entered this state.
    pub state_since: Timestamp,
    /// The stage at which it is; the number of stages once all succeeded.
    pub stage_index: usize,
    /// Grows with each retry. Machines and attempts of an earlier generation are history.
    pub generation: i64,
    /// Digest of the envelope that the current stage gets.
    pub head: Digest,
    /// Set when somebody asked to abort; cleared by a retry.
    pub abort_reason: Option<String>,
    /// Set when somebody asked for a pause before the next stage, until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The run and stage whose saved input this run replays.
    pub replay_of: Option<Replay>,
    /// The machine that has, or may have, the handoff disk.
    pub disk_holder: Option<MachineId>,
    /// Whether handoff disk or checkpoints exist on the host, apart from a kept result.
    pub has_disks: bool,
    /// Their removal has begun: what is left of them is of no use any more.
    #[serde(default)]
    pub disks_going: bool,
    /// The handoff disk is kept as the run's result.
    #[serde(default)]
    pub kept_disk: bool,
    /// Somebody does not want the result any more.
    #[serde(default)]
    pub discarded: bool,
    /// The device reports from its own system: what comes after delivery may begin.
    #[serde(default)]
    pub arrived: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// A pause that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub reason: String,
    /// Seconds that it may last, from when it begins.
    pub within_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub run: RunId,
    pub stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    Running,
    /// Waits, without a machine and without a place, until the device that got its handoff disk reports
    /// from its own system, at most until the given time.
    Waiting {
        until: Timestamp,
    },
    /// Stands between two stages because somebody wants it so, without a machine and without a place,
    /// until somebody resumes it, at most until the given time.
    Paused {
        reason: String,
        until: Timestamp,
    },
    /// Takes back, in reverse order, what the stages did outside their machines.
    Undoing {
        cause: UndoCause,
    },
    /// Waits for a person until the given time, with all that it has.
    Held {
        failure: Failure,
        until: Timestamp,
    },
    Succeeded,
    Failed {
        failure: Failure,
    },
    Aborted {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum UndoCause {
    Failed { failure: Failure },
    Aborted { reason: String },
}

impl RunState {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting { .. } => "waiting",
            Self::Paused { .. } => "paused",
            Self::Undoing { .. } => "undoing",
            Self::Held { .. } => "held",
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Aborted { .. } => "aborted",
        }
    }

    /// Nothing will happen to it any more by itself, but for the removal of what it left.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed { .. } | Self::Aborted { .. }
        )
    }

    /// It may be retried from a stage.
    pub fn can_be_retried(&self) -> bool {
        matches!(
            self,
            Self::Held { .. } | Self::Failed { .. } | Self::Aborted { .. }
        )
    }

    /// It takes one of the host's places for active runs.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Running | Self::Undoing { .. })
    }

    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Held { failure, .. }
            | Self::Failed { failure }
            | Self::Undoing {
                cause: UndoCause::Failed { failure },
            } => Some(failure),
            _ => None,
        }
    }
}

/// Whether an attempt does a stage's work or takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Work,
    Undo,
}

impl Purpose {
    pub fn word(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Undo => "undo",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub run: RunId,
    pub stage_index: usize,
    pub stage: String,
    pub purpose: Purpose,
    /// Counts the tries at this stage over the whole run, from 1.
    pub number: u32,
    pub generation: i64,
    #[serde(flatten)]
    pub progress: Progress,
    pub machine: Option<MachineId>,
    /// The guest may have been told to work, so the stage may have had effects.
    pub begun: bool,
    /// Digest of the envelope it was given.
    pub input: Digest,
    /// Digest of the envelope it left: the next stage's input.
    pub output: Option<Digest>,
    /// It does not begin earlier: back-off after a failure.
    pub not_before: Timestamp,
    /// When the work in the guest has to have ended; set when it starts.
    pub deadline: Option<Timestamp>,
    /// When the work in the guest was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_since: Option<Timestamp>,
    pub phases: AttemptPhases,
    /// What it was expected to use when the run was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<StageExpectation>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl Attempt {
    /// Counts the phase in which it is for what it took so far: an attempt that fails, or is given up,
    /// has spent its time too.
    pub fn close_phase(&mut self, now: Timestamp) {
        let ms_since = |at: Timestamp| now.since(at).as_secs_f64() * 1000.0;
        match self.progress {
            Progress::Planned | Progress::DiskReady if self.phases.machine_wait_ms == 0.0 => {
                self.phases.machine_wait_ms = ms_since(self.created_at.max(self.not_before));
            }
            Progress::Working if self.phases.work_ms == 0.0 => {
                self.phases.work_ms = self.working_since.map_or(0.0, ms_since);
            }
            _ => {}
        }
    }
}

/// How far an attempt has come. Each value says what has been done for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum Progress {
    Planned,
    /// The handoff disk is what this stage is to find, and nobody has it.
    DiskReady,
    /// The machine is up and has the disk, where the stage wants one.
    Equipped,
    /// The work was started in the guest.
    Working,
    /// The work ended with exit code 0.
    Worked,
    /// The output was taken, checked and stored.
    Collected,
    Succeeded,
    Failed {
        failure: Failure,
    },
    /// Overtaken by an abort or a retry.
    Dropped,
}

impl Progress {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::DiskReady => "disk_ready",
            Self::Equipped => "equipped",
            Self::Working => "working",
            Self::Worked => "worked",
            Self::Collected => "collected",
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Dropped => "dropped",
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed { .. } | Self::Dropped)
    }
}

/// How long each phase took, milliseconds, as the daemon saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AttemptPhases {
    /// Waiting for the machine after everything else was ready.
    #[serde(default)]
    pub machine_wait_ms: f64,
    /// Making, checkpointing or restoring the handoff disk.
    #[serde(default)]
    pub disk_ms: f64,
    #[serde(default)]
    pub attach_ms: f64,
    /// Making the input and starting the work in the guest.
    #[serde(default)]
    pub start_ms: f64,
    /// The stage's own work, from its start until its end was seen.
    #[serde(default)]
    pub work_ms: f64,
    /// Fetching, checking and storing the output.
    #[serde(default)]
    pub collect_ms: f64,
    #[serde(default)]
    pub detach_ms: f64,
}
