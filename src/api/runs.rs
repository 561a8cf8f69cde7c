//! Runs on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::personas::PersonaOfRun;
use super::{DeviceView, Time};
use crate::vocab::machine::{EngineKind, MachinePhases, Size};
use crate::vocab::persona::PersonaRef;
use crate::vocab::prediction::{StageExpectation, Used};
use crate::vocab::run::AttemptPhases;
use crate::vocab::{Digest, Failure};

/// What somebody wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Name or id of the device.
    pub device: String,
    /// None: the one that the persona names by its label `chain`, else the one whose trigger holds for the
    /// device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What the device is to become: NAME or NAME@VERSION. None: what assignments and rules say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<PersonaRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// Seconds for which a failure is held, instead of the chain's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_machine: Option<bool>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortRun {
    pub reason: String,
}

/// A pause before the next stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRun {
    pub reason: String,
    /// Seconds after which the run is undone when nobody resumed it; a day when not given, 30 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_s: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRun {
    /// The stage to go on from; none: where it makes sense.
    #[serde(default)]
    pub from: Option<String>,
    /// Although earlier stages were undone.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRun {
    pub stage: String,
}

/// The answer to a start: `run` for a real one, `plan` always.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartedRun {
    pub run: Option<RunSummary>,
    pub plan: PlannedRun,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedRun {
    pub device: DeviceView,
    pub chain: String,
    pub chain_version: i64,
    /// Why this chain.
    pub chain_reason: String,
    pub stages: Vec<PlannedStage>,
    /// What the device is to become, if anything says so.
    #[serde(default)]
    pub persona: Option<PersonaOfRun>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedStage {
    pub name: String,
    pub kind: String,
    pub image: String,
    pub image_digest: Digest,
    pub size: Size,
    pub size_reason: String,
    pub engine: EngineKind,
    pub engine_reason: String,
    pub deadline_s: f64,
    pub deadline_reason: String,
    pub expected_s: Option<f64>,
    /// What its machine is expected to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<StageExpectation>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    pub id: i64,
    pub device: String,
    pub client: String,
    pub chain: String,
    pub chain_version: i64,
    /// `queued`, `running`, `waiting`, `paused`, `undoing`, `held`, `succeeded`, `failed`, `aborted`.
    pub state: String,
    pub state_since: Time,
    /// Why it failed, is held, or is being undone.
    pub failure: Option<Failure>,
    /// Why it was aborted.
    pub abort_reason: Option<String>,
    /// Until when it is held, or paused.
    pub held_until: Option<Time>,
    /// Why somebody has it paused; before it is, why it pauses before its next stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_reason: Option<String>,
    /// Stages that have succeeded.
    pub stages_done: usize,
    pub generation: i64,
    pub replay_of: Option<ReplayOf>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayOf {
    pub run: i64,
    pub stage: String,
}

impl RunSummary {
    pub fn is_terminal(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "aborted")
    }

    /// Nothing goes on without a person.
    pub fn is_at_rest(&self) -> bool {
        self.is_terminal() || self.state == "held"
    }
}

/// Why a run is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhyView {
    pub state: String,
    /// Seconds in this state.
    pub age_s: f64,
    pub doing: String,
    pub deadline: Option<Time>,
    /// What happens next without anybody's help.
    pub next: String,
    pub you_can: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageView {
    pub name: String,
    pub kind: String,
    /// `waiting`, `preparing`, `working`, `finishing`, `succeeded`, `failed`, `undone`, `dropped`.
    pub state: String,
    pub tries: u32,
    pub elapsed_s: f64,
    pub expected_s: Option<f64>,
    /// Its machine is made ready ahead of need.
    pub prefetching: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    pub id: String,
    pub stage: String,
    /// From 0, in the order of the chain.
    pub stage_index: usize,
    /// `work` or `undo`.
    pub purpose: String,
    /// Counts the tries at this stage, from 1.
    pub number: u32,
    pub generation: i64,
    pub progress: String,
    pub failure: Option<Failure>,
    /// Id of its machine, which is the UUID of the libvirt domain.
    pub machine: Option<String>,
    /// Digest of the envelope it was given.
    pub input: Digest,
    /// Digest of the envelope it left.
    pub output: Option<Digest>,
    pub deadline: Option<Time>,
    pub phases: AttemptPhases,
    /// What it was expected to use when the run was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<StageExpectation>,
    /// What it used, once its work has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineView {
    /// UUID of the libvirt domain.
    pub uuid: String,
    /// Name of the libvirt domain.
    pub name: String,
    pub stage: String,
    /// `making`, `up`, `kept`, `releasing`, `gone`.
    pub state: String,
    pub kept_until: Option<Time>,
    pub generation: i64,
    pub engine: EngineKind,
    pub engine_reason: String,
    pub size: Size,
    pub phases: MachinePhases,
    pub made_at: Time,
    pub up_at: Option<Time>,
    pub gone_at: Option<Time>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    pub id: i64,
    pub at: Time,
    /// A short word such as `stage_succeeded`.
    pub kind: String,
    pub message: String,
}

/// One side effect: what was intended, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalEntryView {
    pub seq: i64,
    pub action: String,
    /// The attempt or machine it is about.
    pub subject: String,
    pub generation: i64,
    pub intent_at: Time,
    /// None while it is under way.
    pub result_at: Option<Time>,
    /// `ok`, or what went wrong.
    pub outcome: Option<String>,
}

/// The end of a machine's serial console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleView {
    pub stage: String,
    /// Name of the libvirt domain.
    pub machine: String,
    /// The machine's state.
    pub state: String,
    /// Without a terminal's control sequences.
    pub lines: Vec<String>,
}

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    #[serde(flatten)]
    pub run: RunSummary,
    pub why: WhyView,
    pub stages: Vec<StageView>,
    pub attempts: Vec<AttemptView>,
    pub machines: Vec<MachineView>,
    /// Oldest first.
    pub events: Vec<EventView>,
    /// What was decided before it started.
    pub plan: Vec<PlannedStage>,
    /// What the device is to become, pinned when the run was made.
    #[serde(default)]
    pub persona: Option<PersonaOfRun>,
    /// Only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Vec<JournalEntryView>>,
}

/// One line of the stream of `watch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchUpdate {
    pub run: RunSummary,
    pub why: WhyView,
    pub stages: Vec<StageView>,
    /// What has just happened, where this update is due to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventView>,
    /// The newest line of the log of the stage that works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_line: Option<String>,
}

/// One line of the stream of `logs`: a piece of a stage's output as it came, not a line of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogPiece {
    pub stage: String,
    /// `work` or `undo`.
    pub purpose: String,
    /// The attempt's number.
    pub number: u32,
    pub attempt: String,
    /// `out` or `err`.
    pub stream: String,
    /// Offset of its first byte in the guest's stream.
    pub position: i64,
    pub at: Time,
    pub text: String,
}

/// What a run has made so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunOutput {
    pub run: i64,
    pub state: String,
    /// The device's facts and what each stage merged into them.
    pub document: serde_json::Value,
    pub artefacts: Vec<ArtefactView>,
    /// The handoff disk on the daemon's host, where it is kept as the run's result: raw.
    pub disk: Option<String>,
}

/// A binary output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArtefactView {
    pub stage: String,
    pub media_type: String,
    pub size_bytes: u64,
    /// SHA-256, hexadecimal.
    pub digest: String,
}
