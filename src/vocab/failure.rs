//! Why an attempt at a stage did not succeed, as a retry policy distinguishes it.

use serde::{Deserialize, Serialize};

/// What kind of failure this is. A chain's retry policy names these words.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The host refused to make the machine, or ran out of something (memory, disk, network).
    Host,
    /// The machine was made, but its guest agent did not answer in time.
    Boot,
    /// The machine vanished, crashed or stopped answering while it worked.
    Lost,
    /// The stage's command ended with a non-zero exit code or by a signal.
    Exit,
    /// The stage's command did not end before its deadline.
    Deadline,
    /// The guest ran out of memory. The next try gets more of it.
    Memory,
    /// The output was missing, too large, not of the declared format or not what the schema says.
    Output,
    /// The input could not be made from the run's state (a transform failed, or gave nothing).
    Input,
    /// A fault of Greenroom itself.
    Internal,
}

impl FailureKind {
    pub const ALL: [FailureKind; 9] = [
        Self::Host,
        Self::Boot,
        Self::Lost,
        Self::Exit,
        Self::Deadline,
        Self::Memory,
        Self::Output,
        Self::Input,
        Self::Internal,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Boot => "boot",
            Self::Lost => "lost",
            Self::Exit => "exit",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Input => "input",
            Self::Internal => "internal",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// One failure with its cause and, where there is one, the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Failure {
    pub kind: FailureKind,
    /// What happened and why, for people. May quote guest text; it is never markup.
    pub message: String,
    /// What would let it continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
    /// What its machine had too little of; the next try gets more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacked: Option<Lack>,
}

/// What a machine can have too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    Memory,
    /// It used all its processor time until the deadline.
    Cpu,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            way_out: None,
            lacked: None,
        }
    }

    pub fn lacking(mut self, lacked: Lack) -> Self {
        self.lacked = Some(lacked);
        self
    }

    pub fn with_way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.message)?;
        if let Some(way_out) = &self.way_out {
            write!(f, " ({way_out})")?;
        }
        Ok(())
    }
}
