//! Chains on the wire.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;
use crate::vocab::Digest;

/// A chain file to be checked and stored as its name's next version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyChain {
    /// The file's text.
    pub source: String,
    /// The scripts and schemas that it names, by relative path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChainSummary {
    pub name: String,
    pub version: i64,
    pub digest: Digest,
    pub applied_at: Time,
    pub description: String,
    /// Which devices it is meant for; none: only by name.
    pub when: Option<String>,
    pub stages: Vec<String>,
}

/// The answer to an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedChainView {
    #[serde(flatten)]
    pub chain: ChainSummary,
    /// False: the newest version meant the same already.
    pub is_new: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChainView {
    #[serde(flatten)]
    pub summary: ChainSummary,
    /// The text as it was applied.
    pub source: String,
    /// What it means: the checked chain with all defaults in place and scripts included.
    pub chain: Value,
}
