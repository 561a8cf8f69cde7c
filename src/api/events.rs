//! Events of all runs on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// The data of one server-sent event, and of a webhook's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventOfRun {
    /// Grows over all runs; also the event's id in the stream.
    pub id: i64,
    pub at: Time,
    /// A short word such as `stage_succeeded`.
    pub kind: String,
    pub message: String,
    pub run: i64,
    pub chain: String,
    pub device: String,
    pub client: String,
}
