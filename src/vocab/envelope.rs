//! The handoff: what one stage passes to the next.
//!
//! The *document* is the run's state: `{"device": {…}, …}` into which each stage's output is merged.
//! Bulk data travels beside it as artefacts (named, with media type, size and digest) or on the
//! handoff disk. The digest of stage k's outgoing envelope is the digest of stage k+1's incoming one.

use serde::{Deserialize, Serialize};

use super::Digest;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub document: serde_json::Value,
    /// Binary outputs so far, newest last.
    #[serde(default)]
    pub artefacts: Vec<Artefact>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// The stage that made it.
    pub stage: String,
    pub media_type: String,
    pub size_bytes: u64,
    pub digest: Digest,
}

impl Envelope {
    pub fn of_facts(facts: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self {
            document: serde_json::json!({ "device": facts }),
            artefacts: Vec::new(),
        }
    }

    /// The bytes that are stored and hashed: compact JSON, keys sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::json!({ "document": self.document, "artefacts": self.artefacts })
            .to_string()
            .into_bytes()
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
