//! Telemetry of a delivered device as the API shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;
use crate::vocab::telemetry::Metric;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TelemetryView {
    pub device: String,
    pub since: Time,
    /// Seconds that each point is for; 0: each is one report.
    pub step_s: u64,
    pub metrics: Vec<MetricView>,
    /// The newest report, as `telemetry.schema.json` says it.
    #[serde(default)]
    pub latest: Option<Value>,
    #[serde(default)]
    pub latest_at: Option<Time>,
}

/// One metric over the time that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricView {
    pub metric: Metric,
    /// `share` (0 to 1), `MiB`, `B/s` or nothing.
    pub unit: String,
    /// Reports that had it.
    pub n: u64,
    pub min: f64,
    pub mean: f64,
    pub max: f64,
    /// By time; steps in which nothing was heard are left out.
    pub points: Vec<PointView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PointView {
    pub at: Time,
    pub n: u64,
    pub min: f64,
    pub mean: f64,
    pub max: f64,
}
