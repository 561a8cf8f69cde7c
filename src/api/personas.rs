//! Personas on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Time;
use crate::vocab::Digest;
use crate::vocab::persona::{Candidate, PersonaRef};

/// Files to be compiled together; a child may come before its parent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyPersonas {
    pub files: Vec<PersonaFile>,
    #[serde(default)]
    pub reason: String,
    /// Who wants it, where the caller is on the same host and speaks for somebody; on the network it is
    /// the caller.
    #[serde(default)]
    pub by: String,
    /// Make the new versions the ones that devices get, instead of drafts.
    #[serde(default)]
    pub promote: bool,
    /// Say what would be done, faults included, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonaFile {
    /// What the caller calls it; in reports only.
    #[serde(default)]
    pub file: String,
    /// The file's text.
    pub source: String,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppliedPersona {
    pub file: String,
    pub name: String,
    pub ok: bool,
    /// The version that the file is, or would be.
    pub version: Option<i64>,
    pub digest: Option<Digest>,
    /// False: the newest version meant the same already.
    pub is_new: bool,
    /// Whether devices get it.
    pub is_current: bool,
    /// The parent's version that it builds on.
    pub parent: Option<PersonaRef>,
    /// What it changes in meaning, as a unified difference of YAML.
    pub difference: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<PersonaFault>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<PersonaFault>,
}

/// One mistake with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaFault {
    /// From 1; columns in characters.
    pub line: usize,
    pub column: usize,
    /// The offending bytes of the text: the first, and one past the last.
    pub start: usize,
    pub end: usize,
    pub path: String,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaSummary {
    pub name: String,
    /// The newest.
    pub version: i64,
    /// The one that devices get; none: all are drafts.
    pub current: Option<i64>,
    pub description: String,
    pub variant: String,
    pub profile: String,
    pub applications: Vec<String>,
    pub parent: Option<PersonaRef>,
    pub labels: std::collections::BTreeMap<String, String>,
    pub digest: Digest,
    pub applied_at: Time,
    pub applied_by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaView {
    pub name: String,
    pub version: i64,
    pub is_current: bool,
    pub description: String,
    /// What it builds on, nearest first.
    pub lineage: Vec<PersonaRef>,
    pub digest: Digest,
    pub applied_at: Time,
    pub applied_by: String,
    pub reason: String,
    pub warnings: Vec<String>,
    /// The text as it was applied.
    pub source: String,
    /// What it means: all facets, with what is inherited and all defaults.
    pub document: Value,
    /// Who wrote which value.
    pub origins: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaHistory {
    pub name: String,
    pub current: Option<i64>,
    /// Newest first.
    pub versions: Vec<PersonaVersionView>,
    /// Newest first.
    pub moves: Vec<PersonaMoveView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaVersionView {
    pub version: i64,
    /// `draft`, `current` or `former`.
    pub state: String,
    pub digest: Digest,
    pub parent: Option<PersonaRef>,
    pub applied_at: Time,
    pub applied_by: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaMoveView {
    pub version: i64,
    /// `applied`, `promoted`, `rolled back`.
    pub what: String,
    pub previous: Option<i64>,
    pub at: Time,
    pub by: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaDifference {
    pub from: PersonaRef,
    pub to: PersonaRef,
    /// Of the texts, unified; empty where they are the same.
    pub source: String,
    /// Of what they mean.
    pub compiled: String,
}

/// For promotion and rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovePersona {
    /// Promotion: the newest when left out. Rollback: the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub by: String,
}

/// One persona, or a text that is not stored, on a device that is known or described.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewPersona {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<PersonaRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaPreview {
    pub persona: String,
    pub device: String,
    pub hostname: String,
    /// Whether nothing speaks against giving it to this device.
    pub fits: bool,
    /// What does.
    pub problems: Vec<String>,
    /// What the facts do not say.
    pub unknown: Vec<String>,
    pub files: Vec<RenderedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenderedFile {
    /// Absolute on the device; else for the installation only.
    pub path: String,
    pub mode: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignPersona {
    /// `device`, `user`, `role` or `group`.
    pub kind: String,
    pub name: String,
    pub persona: PersonaRef,
    #[serde(default)]
    pub precedence: i64,
    pub reason: String,
    #[serde(default)]
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndAssignment {
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentView {
    pub id: i64,
    pub kind: String,
    pub name: String,
    pub persona: PersonaRef,
    pub precedence: i64,
    pub reason: String,
    pub by: String,
    pub at: Time,
    pub until: Option<Time>,
    /// Its time is over.
    pub is_over: bool,
}

/// Why a device gets what it gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaWhy {
    pub device: String,
    /// `persona`, `nothing` or `conflict`.
    pub outcome: String,
    /// The version that a run would pin now.
    pub persona: Option<PersonaRef>,
    pub reason: String,
    /// Why there is no version although a persona was chosen.
    pub trouble: Option<String>,
    /// All that speaks of the device, best first.
    pub candidates: Vec<Candidate>,
    /// Rules that could not be decided over its facts.
    pub undecided: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRules {
    pub source: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RulesView {
    pub version: i64,
    pub rules: Vec<RuleView>,
    pub default: Option<PersonaRef>,
    pub source: String,
    pub applied_at: Time,
    pub applied_by: String,
    pub reason: String,
    /// After an application: whether it changed anything.
    #[serde(default)]
    pub is_new: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<PersonaFault>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleView {
    pub name: String,
    pub when: String,
    pub persona: PersonaRef,
    pub priority: i64,
}

/// The persona that a run pinned, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PersonaOfRun {
    pub name: String,
    pub version: i64,
    pub digest: Digest,
    pub reason: String,
}
