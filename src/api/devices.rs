//! Devices on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Time;

/// Adds a device, or replaces facts and client of the one that has this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutDevice {
    pub name: String,
    /// None: the client to which the caller is bound, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default)]
    pub facts: Map<String, Value>,
}

/// The same, where the path has the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceDevice {
    /// None: the client to which the caller is bound, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default)]
    pub facts: Map<String, Value>,
}

/// The client of devices of which nobody said whose they are.
pub const DEFAULT_CLIENT: &str = "default";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceView {
    pub id: String,
    pub name: String,
    pub client: String,
    pub facts: Map<String, Value>,
    pub added_at: Time,
}
