//! The kinds of stage. A kind is a promise to people about what a stage is for; all kinds run alike.

use serde::{Deserialize, Serialize};

/// To add a kind: a variant, its word and its one-line purpose here. `chain check`, the pages and
/// the predictors take the list from [`StageKind::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    Discovery,
    Configuration,
    Application,
    Security,
    Monitoring,
    Custom,
}

impl StageKind {
    pub const ALL: [StageKind; 6] = [
        Self::Discovery,
        Self::Configuration,
        Self::Application,
        Self::Security,
        Self::Monitoring,
        Self::Custom,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Configuration => "configuration",
            Self::Application => "application",
            Self::Security => "security",
            Self::Monitoring => "monitoring",
            Self::Custom => "custom",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What such a stage is for, in one line.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Discovery => "finds out what the device is",
            Self::Configuration => "lays out disks, operating system, network and users",
            Self::Application => "installs what the persona's users need",
            Self::Security => "hardens, and proves it with a report",
            Self::Monitoring => "verifies the result and reports on it",
            Self::Custom => "anything else",
        }
    }
}
