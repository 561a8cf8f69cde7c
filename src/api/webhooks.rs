//! Webhooks on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Shown, Time};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWebhook {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its host must be among `api.webhooks.targets` of the configuration.
    pub url: String,
    /// Kinds of events it is told, such as `run_succeeded`; none: all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The one client whose runs it is told about; none: the caller's own reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookView {
    pub id: String,
    pub name: String,
    pub url: String,
    pub kinds: Vec<String>,
    pub client: Option<String>,
    pub created_by: String,
    pub created_at: Time,
}

/// The one time that a webhook's secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddedWebhook {
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// Key of the signatures: `whsec_` and base64.
    pub secret: Shown,
}

/// One message, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    pub id: String,
    /// The event it tells; 0: a test.
    pub event: i64,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    pub tries: i64,
    pub created_at: Time,
    /// When it is tried next.
    pub next_at: Option<Time>,
    pub ended_at: Option<Time>,
    /// HTTP status of the last answer.
    pub status: Option<i64>,
    pub error: String,
}

/// How a test message fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestedWebhook {
    pub delivered: bool,
    pub status: Option<u16>,
    pub took_ms: f64,
    pub error: Option<String>,
}
