//! A device: the thing that is provisioned.

use serde::{Deserialize, Serialize};

use super::{DeviceId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    /// Unique, chosen by people: letters, digits, `.`, `_` and `-`, at most 64 characters.
    pub name: String,
    /// On whose behalf it is provisioned. Runs of different clients take turns.
    pub client: String,
    /// What is known about it: an object. Triggers and stages read it as `device`.
    pub facts: serde_json::Map<String, serde_json::Value>,
    pub added_at: Timestamp,
}

/// Names of devices, chains, stages and images share one alphabet, so that they are safe in file
/// names, domain names and XML alike.
pub fn is_plain_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() <= 64
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
