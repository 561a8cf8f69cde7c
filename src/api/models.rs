//! What was learned, on the wire: models, how they were judged, and what they say of a device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;
use crate::vocab::machine::Size;
use crate::vocab::prediction::{Proposal, Spread, StageExpectation};

/// One training and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelView {
    pub id: i64,
    /// `memory`, `cpu`, `network`, `duration`, `persona`.
    pub name: String,
    /// `training`, `serving`, `beaten`, `retired`, `failed`.
    pub state: String,
    pub made_at: Time,
    /// Why it was trained.
    pub why: String,
    /// Version of the features.
    pub features: u32,
    /// Rows it was trained on.
    pub rows: u64,
    pub took_ms: f64,
    /// Digest of the artefact that holds it.
    pub digest: Option<String>,
    /// What was decided, in a sentence.
    pub verdict: String,
    /// Losses on later data and the like; its shape depends on the kind of model.
    pub judged: Value,
}

/// One kind of model: what serves, and how far the next one is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelSummary {
    pub name: String,
    /// Of what it predicts; empty for personas.
    pub unit: String,
    /// None: the plain rule serves.
    pub serving: Option<ModelView>,
    pub last: Option<ModelView>,
    /// Observations that no training has seen.
    pub unseen: usize,
}

/// One kind of model with its trainings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelDetail {
    #[serde(flatten)]
    pub model: ModelSummary,
    /// What serves where no model does.
    pub plain_rule: String,
    /// Newest first, at most 50.
    pub trainings: Vec<ModelView>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainModel {
    /// Why, for the record.
    #[serde(default)]
    pub why: String,
}

/// One feature's part in what a model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InfluenceView {
    pub feature: String,
    /// As it is here; none where it is not known.
    pub value: Option<f64>,
    /// What is expected, divided by what would be with the feature as usual.
    pub factor: f64,
}

/// Why a model says what it says of one stage of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelExplanation {
    pub name: String,
    pub device: String,
    pub chain: String,
    pub stage: String,
    /// The model, or which rule serves instead.
    pub by: String,
    /// Strongest first.
    pub influences: Vec<InfluenceView>,
}

/// What a chain would need for a device, and what the device seems to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictionView {
    pub device: String,
    pub chain: String,
    pub chain_version: i64,
    pub stages: Vec<PredictedStage>,
    /// Work of all stages, seconds; none while a stage has no history.
    pub duration: Option<Spread>,
    /// Nineteen in twenty such runs take less, seconds.
    pub duration_late: Option<f64>,
    /// The persona that the device has now, and why.
    pub persona: Option<String>,
    pub persona_reason: String,
    /// What the classifier says; none while there is none.
    pub proposal: Option<Proposal>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedStage {
    pub name: String,
    pub size: Size,
    pub size_reason: String,
    pub expected: Option<StageExpectation>,
}

/// What came of what was said of the newest stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordView {
    /// By chain, stage, resource and day.
    pub days: Vec<StageDayView>,
    pub calibration: Vec<CalibrationView>,
    pub saved: SavedView,
}

/// Predictions of one resource of one stage on one day (UTC).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageDayView {
    pub chain: String,
    pub stage: String,
    /// `memory`, `cpu`, `network`, `duration`.
    pub resource: String,
    /// The day's begin.
    pub day: Time,
    pub tries: usize,
    /// Of these, those of which a model said what they need; the plain rule said it of the others.
    pub by_model: usize,
    /// Median factor between expected and needed, at least 1: 1.1 is a tenth off.
    pub off: f64,
    /// The same of the plain rule on the same tries; null where it knew too little.
    pub plain_off: Option<f64>,
}

/// Whether intervals hold what they promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationView {
    pub resource: String,
    pub tries: usize,
    /// Share that was below the low value (10 % should be), the middle (50 %) and the high (90 %).
    pub below_low: f64,
    pub below_middle: f64,
    pub below_high: f64,
}

/// What sizes from models saved against the plain rule's, before a chain's bounds; negative is a cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SavedView {
    /// Tries that a model had sized and the plain rule could have.
    pub tries: usize,
    pub vcpu_hours: f64,
    pub gib_hours: f64,
    /// Of tries that would have run short of memory and did not, less those that did and would not have.
    pub seconds: f64,
}
