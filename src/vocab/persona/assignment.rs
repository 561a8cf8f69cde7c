//! Who gets which persona: assignments, rules, and the outcome of choosing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PersonaRef;
use crate::vocab::Timestamp;

/// What an assignment is for. In this order, the earlier wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Subject {
    /// By the device's name.
    Device(String),
    /// Devices whose fact `user` (or `users`) has this text.
    User(String),
    /// The fact `role` or `roles`.
    Role(String),
    /// The fact `group` or `groups`.
    Group(String),
}

impl Subject {
    pub const KINDS: [&'static str; 4] = ["device", "user", "role", "group"];

    pub fn of(kind: &str, name: &str) -> Option<Self> {
        let name = name.to_owned();
        Some(match kind {
            "device" => Self::Device(name),
            "user" => Self::User(name),
            "role" => Self::Role(name),
            "group" => Self::Group(name),
            _ => return None,
        })
    }

    pub fn kind(&self) -> &'static str {
        Self::KINDS[self.rank()]
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Device(name) | Self::User(name) | Self::Role(name) | Self::Group(name) => name,
        }
    }

    /// 0 wins over 1, and so on.
    pub fn rank(&self) -> usize {
        match self {
            Self::Device(_) => 0,
            Self::User(_) => 1,
            Self::Role(_) => 2,
            Self::Group(_) => 3,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub id: i64,
    pub subject: Subject,
    pub persona: PersonaRef,
    /// Among assignments of one kind the higher wins.
    pub precedence: i64,
    pub reason: String,
    pub by: String,
    pub at: Timestamp,
    /// From then on it does not count.
    pub until: Option<Timestamp>,
}

/// One row of the rules: the trigger language of chains over the device's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    pub when: String,
    pub persona: PersonaRef,
    /// The higher wins.
    pub priority: i64,
}

/// The rules in one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    /// For devices that nothing else speaks of.
    pub default: Option<PersonaRef>,
}

/// Something that would give the device a persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Candidate {
    pub persona: PersonaRef,
    pub because: Because,
    /// What is said of it: that it decided, or why it did not.
    pub verdict: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Because {
    Assignment {
        id: i64,
        subject: String,
        precedence: i64,
        by: String,
        reason: String,
    },
    Rule {
        name: String,
        when: String,
        priority: i64,
    },
    /// Learned from other devices.
    Classifier {
        model: String,
        confidence_percent: u32,
        /// Facts that spoke for it, strongest first.
        facts: Vec<String>,
    },
    Default,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Given {
    Persona {
        persona: PersonaRef,
    },
    /// Nothing speaks of this device.
    Nothing,
    /// Equals disagree: a person has to say.
    Conflict,
}

impl Choice {
    /// The classifier decided.
    pub fn is_proposed(&self) -> bool {
        let decides = |candidate: &Candidate| {
            matches!(candidate.because, Because::Classifier { .. })
                && candidate.verdict == "it decides"
        };
        self.candidates.iter().any(decides)
    }
}

/// The outcome with its reason and everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub given: Given,
    /// A sentence.
    pub reason: String,
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// Rules that could not be decided over these facts, each with why.
    pub undecided: Vec<String>,
}
