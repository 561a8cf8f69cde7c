//! The pool on the wire: classes, templates and shells. Claims are in `claims`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClaimView, Time};
use crate::vocab::Digest;
use crate::vocab::pool::{Seal, SealedFile, Shell, Target, Template};

/// A class as people name it: whole (`tiny:1x128+net`), or an image and what differs from 1 vCPU, the
/// image's smallest memory, no network card and the trust domain `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichClass {
    /// A class, or the name of an image. The fields below are for the latter.
    pub of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
}

/// Begins a template, unless there is one that is not out of date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildTemplate {
    pub class: WhichClass,
    /// Although there is one.
    #[serde(default)]
    pub force: bool,
}

/// Sets what is wanted of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    pub class: WhichClass,
    /// None lets the class go.
    pub target: Option<TargetView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetView {
    /// Hot shells to keep.
    pub hot: u32,
    /// `warm` keeps a template, `cool` keeps none.
    pub floor: String,
}

impl TargetView {
    pub fn of(target: &Target) -> Self {
        Self {
            hot: target.hot,
            floor: target.floor.to_string(),
        }
    }
}

/// How long a part of something took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseView {
    pub phase: String,
    pub ms: f64,
}

impl PhaseView {
    pub fn list(phases: &[(String, f64)]) -> Vec<Self> {
        let view = |(phase, ms): &(String, f64)| Self {
            phase: phase.clone(),
            ms: *ms,
        };
        phases.iter().map(view).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateView {
    pub id: String,
    pub class: String,
    /// Counts the templates of the class, from 1.
    pub generation: i64,
    /// `building`, `ready`, `draining`, `failed` or `gone`.
    pub state: String,
    /// Digest over `inputs`; another key means that it is out of date.
    pub key: Digest,
    pub inputs: Vec<KeyInput>,
    /// The files as they were made read-only; none before.
    pub seal: Option<SealView>,
    /// Why it is draining or failed.
    pub reason: Option<String>,
    pub made_at: Time,
    pub ready_at: Option<Time>,
    /// In order; the one under way is not among them.
    pub phases: Vec<PhaseView>,
}

/// Something of which the template's key is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyInput {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealView {
    pub memory: SealedFileView,
    pub state: SealedFileView,
    pub disk: SealedFileView,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedFileView {
    pub size_bytes: u64,
    pub stamp: String,
    pub digest: Option<Digest>,
}

impl SealedFileView {
    fn of(file: &SealedFile) -> Self {
        Self {
            size_bytes: file.size_bytes,
            stamp: file.stamp.clone(),
            digest: file.digest,
        }
    }
}

impl SealView {
    fn of(seal: &Seal) -> Self {
        Self {
            memory: SealedFileView::of(&seal.memory),
            state: SealedFileView::of(&seal.state),
            disk: SealedFileView::of(&seal.disk),
        }
    }
}

impl TemplateView {
    pub fn of(template: &Template) -> Self {
        let input = |(name, value): &(String, String)| KeyInput {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            id: template.id.to_string(),
            class: template.class.to_string(),
            generation: template.generation,
            state: template.state.to_string(),
            key: template.key,
            inputs: template.inputs.iter().map(input).collect(),
            seal: template.seal.as_ref().map(SealView::of),
            reason: template.reason.clone(),
            made_at: Time::of(template.made_at),
            ready_at: template.ready_at.map(Time::of),
            phases: PhaseView::list(&template.phases),
        }
    }
}

/// A template with everything that was forked from it and is not gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateDetail {
    #[serde(flatten)]
    pub template: TemplateView,
    pub shells: Vec<ShellView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellView {
    /// UUID of its libvirt domain.
    pub id: String,
    /// As in `virsh list`.
    pub name: String,
    pub class: String,
    pub template: String,
    /// `standby` (forked and empty), `filling`, `ready`, `claimed`, `releasing` or `gone`.
    pub state: String,
    /// What its guest said of itself after it got its identity.
    pub identity: Option<IdentityView>,
    pub made_at: Time,
    pub ready_at: Option<Time>,
    /// Proportional set size when last measured, MiB.
    pub pss_mib: Option<f64>,
    /// Key of the claim that has it.
    pub claim: Option<String>,
    pub reason: Option<String>,
    pub phases: Vec<PhaseView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityView {
    pub host_name: String,
    pub machine_id: String,
    pub mac: Option<String>,
    /// The guest's kernel said that it drew new randomness because of the fork.
    pub reseeded: bool,
}

impl ShellView {
    pub fn of(shell: &Shell) -> Self {
        Self {
            id: shell.id.to_string(),
            name: shell.name.clone(),
            class: shell.class.to_string(),
            template: shell.template.to_string(),
            state: shell.state.to_string(),
            identity: shell.identity.as_ref().map(|identity| IdentityView {
                host_name: identity.host_name.clone(),
                machine_id: identity.machine_id.clone(),
                mac: identity.mac.clone(),
                reseeded: identity.reseeded,
            }),
            made_at: Time::of(shell.made_at),
            ready_at: shell.ready_at.map(Time::of),
            pss_mib: shell.pss_mib,
            claim: shell.claim.clone(),
            reason: shell.reason.clone(),
            phases: PhaseView::list(&shell.phases),
        }
    }
}

/// One class as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolView {
    pub class: String,
    /// None for a class that is here by use only.
    pub target: Option<TargetView>,
    /// `hot`, `warm`, `cool` or `cold`: the best that a claim would get now.
    pub tier: String,
    /// Why it is not what the target says, where it is not.
    pub shortfall: Option<String>,
    pub template: Option<TemplateView>,
    pub ready: u32,
    pub filling: u32,
    pub claimed: u32,
    /// Claims of the last 24 hours by the tier that served them.
    pub served: BTreeMap<String, u64>,
    /// Mean of the shells that wait, MiB.
    pub pss_mib: Option<f64>,
    /// Failures in a row, and until when filling pauses because of them.
    pub failures: u32,
    pub pauses_until: Option<Time>,
}

/// A class with its shells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolDetail {
    #[serde(flatten)]
    pub pool: PoolView,
    /// Those that are not gone, oldest first.
    pub shells: Vec<ShellView>,
    /// Why the forecast wants as many as it does; none where the number is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The whole pool as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolStatusView {
    pub now: Time,
    pub pools: Vec<PoolView>,
    /// What all shells together may take of the host's memory, MiB; 0 when the pool is switched off.
    pub budget_mib: u64,
    pub used_mib: f64,
    /// Whether this host forks, and how that was found out.
    pub forks: bool,
    pub forks_reason: String,
    /// The last claims, newest first.
    pub recent: Vec<ClaimView>,
}

/// The pool in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolBrief {
    /// 0 when the pool is switched off.
    pub budget_mib: u64,
    pub used_mib: f64,
    pub forks: bool,
    pub forks_reason: String,
    pub ready: u32,
    pub filling: u32,
    pub claimed: u32,
}
