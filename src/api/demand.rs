//! Demand on the wire: forecasts, what became of them, planned events, policies of pool sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TargetView, Time, WhichClass};

/// What is expected of a class, or of a persona, in the coming day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastView {
    /// None: of a persona.
    pub class: Option<String>,
    /// None: of a class. Empty: requests without a persona.
    #[serde(default)]
    pub persona: Option<String>,
    /// Of a persona: what it was made from.
    #[serde(default)]
    pub parent: Option<String>,
    /// Of a persona: the classes of its machines, the largest share first.
    #[serde(default)]
    pub classes: Vec<ClassShare>,
    /// None: all clients together.
    pub client: Option<String>,
    /// The first step begins here.
    pub made_at: Time,
    pub step_s: i64,
    pub steps: Vec<ForecastStep>,
    /// `family`, `everyone`, `nobody`, `days`, `cheap`, `combined` or `plain_rule`.
    pub basis: String,
    /// The same for people.
    pub because: String,
    /// Requests per hour of the last day, oldest first; null where nobody watched.
    pub last_day: Vec<Option<f64>>,
    /// Hours of history that it was made from.
    pub known_hours: usize,
    /// Hours of these that nobody watched, and hours that were cut down because they were absurd.
    pub gaps: usize,
    pub capped: usize,
    /// Planned events that change it, by name.
    pub events: Vec<String>,
    /// How methods were compared, when they last were.
    pub choice: Option<ChoiceView>,
    /// How many machines wait because of it, and why; none where the number is fixed.
    pub sized: Option<String>,
    /// Version of the model.
    pub model: String,
}

/// How many of a persona's machines are of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassShare {
    pub class: String,
    /// 0 to 1.
    pub share: f64,
}

impl ForecastView {
    /// For people.
    pub fn name(&self) -> &str {
        match (&self.class, self.persona.as_deref()) {
            (Some(class), _) => class,
            (None, Some("") | None) => "(no persona)",
            (None, Some(persona)) => persona,
        }
    }
}

/// Requests of one step, by quantile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastStep {
    pub at: Time,
    /// 2.5 %, 10 %, 50 %, 90 % and 97.5 %.
    pub low95: f64,
    pub low80: f64,
    pub median: f64,
    pub high80: f64,
    pub high95: f64,
}

/// What the back-tests said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChoiceView {
    pub made_at: Time,
    /// `combined`, `plain_rule` or `short`.
    pub method: String,
    pub weights: Vec<Weighed>,
    /// Loss relative to the better plain rule; below 1 is better.
    pub losses: Vec<Weighed>,
}

/// A method and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weighed {
    pub method: String,
    pub value: f64,
}

/// What was expected against what came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedView {
    /// One of the two is named.
    pub class: Option<String>,
    #[serde(default)]
    pub persona: Option<String>,
    pub client: Option<String>,
    /// Each hour beside the last forecast that was made so long before it.
    pub ahead_s: i64,
    pub hours: Vec<ComparedHour>,
    /// Hours with both a forecast and an outcome.
    pub judged: usize,
    /// Mean distance of the median from what came, requests per hour.
    pub error: f64,
    /// The same of "as yesterday at this time"; none where no day before is known.
    pub plain_error: Option<f64>,
    /// Mean pinball loss.
    pub pinball: f64,
    /// Shares of hours within the intervals.
    pub within80: f64,
    pub within95: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedHour {
    pub at: Time,
    /// None where no forecast was made early enough.
    pub expected: Option<ForecastStep>,
    pub made_at: Option<Time>,
    /// None where nobody watched.
    pub actual: Option<f64>,
}

/// A calendar entry: demand is expected to be `factor` times the usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEventView {
    pub name: String,
    /// A class or an image; none concerns all.
    pub of: Option<String>,
    pub from: Time,
    pub until: Time,
    pub factor: f64,
    pub doubt: f64,
}

/// Adds a calendar entry, or replaces the one of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPlannedEvent {
    pub name: String,
    /// A class or an image; all when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    pub from: Time,
    pub until: Time,
    /// 3 is three times the usual, 0 nothing.
    pub factor: f64,
    /// How sure that is: 0.1 is give or take a tenth.
    #[serde(default)]
    pub doubt: f64,
}

/// How a class's number is chosen, and what that comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    pub class: String,
    /// `fixed` or `forecast`.
    pub mode: String,
    /// What a machine that waits for an hour costs, and what a cold start does (a clone that boots), in one
    /// currency.
    pub idle_hour_cost: f64,
    pub cold_cost: f64,
    /// Bounds of the number that the forecast chooses.
    pub least: u32,
    pub most: u32,
    /// What is wanted now.
    pub target: Option<TargetView>,
    /// What is wanted again when the mode is `fixed` again.
    pub before: Option<TargetView>,
    /// Why it is as many as it is; none where the number is fixed.
    pub why: Option<String>,
    /// Seconds until an ordered machine is ready, as the preview takes it.
    pub lead_s: f64,
    /// What a request costs by the tier that serves it: a shortage costs as much as its tier waits longer.
    #[serde(default)]
    pub tiers: Vec<TierView>,
    /// The last seven days replayed, the policy first; empty where nothing was asked for, and in lists.
    #[serde(default)]
    pub preview: Vec<PreviewView>,
}

/// A tier that serves requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TierView {
    /// `hot`, `warm` (a fork), `cool` (a clone that boots) or `cold` (an image that is made or fetched first).
    pub tier: String,
    /// Median seconds until a machine answers.
    pub wait_s: f64,
    /// Requests of the last two weeks that it is of; 0 where it is taken as expected.
    pub measured: usize,
    /// In the policy's currency.
    pub cost: f64,
    /// This one serves who finds no machine waiting.
    pub is_next: bool,
}

/// One way of choosing the number on the recent arrivals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewView {
    /// As `greenroom simulate` names it.
    pub rule: String,
    /// This is what the policy says.
    pub is_asked: bool,
    pub requests: usize,
    pub cold: usize,
    /// Seconds that machines waited, all together, per day.
    pub idle_s_per_day: f64,
    pub cost_per_day: f64,
}

/// Sets how a class's number is chosen; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    pub class: WhichClass,
    /// `fixed` or `forecast`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_hour_cost: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_cost: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Says what it would come to, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// How full the pool was of a class, beside who came, in steps of five minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LevelsView {
    pub class: String,
    pub step_s: i64,
    /// Those of which anything is known, oldest first.
    pub steps: Vec<LevelStep>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LevelStep {
    pub at: Time,
    /// Machines that waited when it began, and that were to wait; null where nobody looked, or had said so.
    pub ready: Option<u32>,
    pub wanted: Option<u32>,
    /// Requests in it: served by a machine that waited, by a fork, by neither.
    pub hot: u64,
    pub warm: u64,
    pub cold: u64,
    /// What those that were served waited, all together, milliseconds.
    pub wait_ms: f64,
}
