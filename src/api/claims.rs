//! Claims on the wire: taking a machine of the pool, using it, and giving it back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PhaseView, Time};
use crate::vocab::pool::Claim;

/// How long a claim lasts when nothing else is said, and at most. Seconds.
pub const DEFAULT_TTL_S: u64 = 3600;
pub const MOST_TTL_S: u64 = 24 * 3600;
/// How long a command may take when nothing else is said, and at most. Seconds.
pub const DEFAULT_EXEC_S: u64 = 60;
pub const MOST_EXEC_S: u64 = 3600;

/// Takes a machine, and may run a command in it with the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeClaim {
    pub image: String,
    /// 1 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// The image's smallest when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    #[serde(default)]
    pub network: bool,
    /// Asked again with the same key, the same machine is given. Made up when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// On whose behalf; decides the trust domain. None: the client to which the caller is bound, or
    /// `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Who asks, for people; the caller's name when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Seconds after which the machine is taken away; an hour when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// The claim ends with the command unless `keep` is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecOrder>,
    /// The machine outlives the command.
    #[serde(default)]
    pub keep: bool,
}

/// A command for the guest's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOrder {
    /// Program and arguments, with no shell in between.
    pub argv: Vec<String>,
    /// At most 48 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdin: String,
    /// Seconds; a minute when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
}

/// What came of asking for a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TakenView {
    /// None where the pool has nothing for it; `reason` says why, and nothing is taken.
    pub claim: Option<ClaimView>,
    /// The tier that served it, or that the class has.
    pub tier: String,
    pub reason: String,
    /// What came of the command, where one was given and there was a machine.
    pub exec: Option<ExecView>,
    /// From the request's arrival to the answer, in order: waiting for room on the host, the claim's
    /// own phases, the command.
    pub phases: Vec<PhaseView>,
    /// The sum of it, measured, milliseconds.
    pub total_ms: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecView {
    /// 128 + n when killed by signal n, as a shell says it. None when its end was not seen.
    pub exit_code: Option<i32>,
    /// Standard output; what is not UTF-8 is replaced.
    pub out: String,
    /// The bytes, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_base64: Option<String>,
    pub err: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub err_base64: Option<String>,
    /// Why its end was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimView {
    pub key: String,
    pub owner: String,
    /// On whose behalf.
    #[serde(default)]
    pub client: String,
    /// UUID of the machine's libvirt domain.
    pub machine: String,
    /// As in `virsh list`; none where it was not looked up.
    pub name: Option<String>,
    pub class: String,
    pub engine: String,
    pub tier: String,
    /// Why this engine.
    pub reason: String,
    pub made_at: Time,
    /// The machine is taken away then; none for a claim that ends with its owner.
    pub until: Option<Time>,
    pub released_at: Option<Time>,
    /// What the guest really has, where it was asked.
    pub achieved: Option<AchievedView>,
    /// Where that is less than was wanted: how, in words.
    pub shortfall: Option<String>,
    pub phases: Vec<PhaseView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AchievedView {
    pub vcpus: u32,
    pub memory_mib: u64,
}

impl ClaimView {
    pub fn of(claim: &Claim, name: Option<String>) -> Self {
        Self {
            key: claim.key.clone(),
            owner: claim.owner.clone(),
            client: claim.client.clone(),
            machine: claim.shell.to_string(),
            name,
            class: claim.class.to_string(),
            engine: claim.engine.to_string(),
            tier: claim.tier.to_string(),
            reason: claim.reason.clone(),
            made_at: Time::of(claim.made_at),
            until: claim.until.map(Time::of),
            released_at: claim.released_at.map(Time::of),
            achieved: claim.achieved.map(|achieved| AchievedView {
                vcpus: achieved.vcpus,
                memory_mib: achieved.memory_mib,
            }),
            shortfall: claim.shortfall.clone(),
            phases: PhaseView::list(&claim.phases),
        }
    }
}
