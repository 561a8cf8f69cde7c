//! Personas: versioned templates of what a device is to become.
//!
//! A persona is written as a layer over its parent; what it means, with everything inherited and all
//! defaults in place, is its [`Document`]. A version is immutable. Who gets which persona is decided
//! by [`Assignment`]s, then by rules, then by a default.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::device::is_plain_name;
use super::{Digest, Timestamp};

mod assignment;
mod document;

pub use assignment::{Assignment, Because, Candidate, Choice, Given, Rule, RuleSet, Subject};
pub use document::{
    Addressing, Allow, Application, Bond, Document, Expected, Firewall, Interface, Network, Os,
    Partition, Preferences, Range, Resources, Secret, Security, Ssh, User,
};

/// `name`, or `name@version` where one version is meant for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonaRef {
    pub name: String,
    pub version: Option<i64>,
}

impl PersonaRef {
    pub fn exact(name: &str, version: i64) -> Self {
        Self {
            name: name.to_owned(),
            version: Some(version),
        }
    }
}

impl fmt::Display for PersonaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a persona: a name such as `web-server`, or `web-server@3` for one version")]
pub struct NotAPersona(String);

impl FromStr for PersonaRef {
    type Err = NotAPersona;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAPersona(text.chars().take(80).collect());
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => {
                let number: i64 = version.parse().map_err(|_| wrong())?;
                if number < 1 || !version.bytes().all(|digit| digit.is_ascii_digit()) {
                    return Err(wrong());
                }
                (name, Some(number))
            }
        };
        if !is_plain_name(name) {
            return Err(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            version,
        })
    }
}

impl schemars::JsonSchema for PersonaRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PersonaRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "NAME, or NAME@VERSION for one version.",
        })
    }
}

impl Serialize for PersonaRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PersonaRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What compilation made of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    pub name: String,
    pub description: String,
    /// The versions it inherits from, nearest first, each pinned.
    pub lineage: Vec<PersonaRef>,
    /// What was written in it and in its ancestors, merged, without defaults: what a child builds on.
    pub layer: Value,
    /// For each place of `layer`, such as `network.interfaces[uplink].vlan`, the persona that wrote it.
    pub origins: BTreeMap<String, String>,
    pub document: Document,
    /// Of the document: two versions with one digest make the same of a device.
    pub digest: Digest,
}

/// One immutable version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonaVersion {
    pub version: i64,
    pub compiled: Compiled,
    /// The text as it was applied, comments included.
    pub source: String,
    /// What the check had to say although nothing was wrong.
    pub warnings: Vec<String>,
    pub applied_at: Timestamp,
    pub applied_by: String,
    pub reason: String,
}

impl PersonaVersion {
    pub fn name(&self) -> &str {
        &self.compiled.name
    }

    pub fn exact(&self) -> PersonaRef {
        PersonaRef::exact(self.name(), self.version)
    }
}

/// A persona with its newest version, and the one that devices get.
#[derive(Debug, Clone, PartialEq)]
pub struct PersonaHead {
    pub newest: PersonaVersion,
    /// None: all versions are drafts.
    pub current: Option<i64>,
}

/// Something that was done with a persona, for its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonaMove {
    pub name: String,
    pub version: i64,
    /// `applied`, `promoted` or `rolled back`.
    pub what: String,
    /// What was current before.
    pub previous: Option<i64>,
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
}

/// The persona that a run pins: part of its plan, and `persona` in the run's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinnedPersona {
    pub name: String,
    pub version: i64,
    pub digest: Digest,
    /// Why this one.
    pub reason: String,
}
