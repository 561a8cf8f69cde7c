//! The audit log on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::vocab::Digest;

/// A call that changed something, or was to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    pub seq: i64,
    pub at: Time,
    /// The answer's `X-Request-Id`.
    pub request: String,
    /// Such as `user:ada`.
    pub who: String,
    /// Address, or user of the socket.
    pub origin: String,
    pub role: String,
    /// The client to which the caller is bound; empty: none.
    pub client: String,
    /// The operation, such as `run_start`.
    pub action: String,
    /// Method and path.
    pub subject: String,
    /// The answer's HTTP status; 0: it was asked for, and there is no record of its end.
    pub status: i64,
    /// Why it was refused.
    pub detail: String,
    /// Covers this record and all before it.
    pub hash: Digest,
}

/// Whether the log is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerdict {
    pub whole: bool,
    /// Records that were read and fit together.
    pub records: i64,
    /// `SEQ:HASH` of the last of these: note it elsewhere, and verify against it later.
    pub head: String,
    /// What is wrong, where something is.
    pub flaw: Option<String>,
}
