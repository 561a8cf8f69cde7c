//! Devices on the wire.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Time;

/// Adds a device, or replaces facts and client of the one that has this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutDevice {
    pub name: String,
    #[serde(default = "default_client")]
    pub client: String,
    #[serde(default)]
    pub facts: Map<String, Value>,
}

pub fn default_client() -> String {
    "default".into()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    pub id: String,
    pub name: String,
    pub client: String,
    pub facts: Map<String, Value>,
    pub added_at: Time,
}
