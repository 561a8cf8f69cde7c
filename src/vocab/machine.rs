//! A virtual provisioning machine (VPM): the VM in which one stage runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Deployment, MachineId, RunId, Timestamp};

/// What each domain of ours carries in its libvirt metadata. A domain without it is read-only to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    pub deployment: Deployment,
    #[serde(flatten)]
    pub owner: Owner,
    /// Counts the machines made for the owner, from 1.
    pub serial: u32,
    /// The owner's generation when the machine was made; a later generation disowns it.
    pub generation: i64,
}

/// Whose a machine is. What a shell serves after it was claimed stands in the database, not here: a
/// domain's tag never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Owner {
    Stage {
        run: RunId,
        stage: String,
    },
    /// A shell of the pool, made from a template of this image.
    Shell {
        shell: String,
    },
    /// The machine from which a template of this image is captured.
    Template {
        template: String,
    },
}

impl Tag {
    /// The run that the machine was made for; none for what belongs to the pool.
    pub fn run(&self) -> Option<RunId> {
        match &self.owner {
            Owner::Stage { run, .. } => Some(*run),
            Owner::Shell { .. } | Owner::Template { .. } => None,
        }
    }

    /// The stage that the machine was made for.
    pub fn stage(&self) -> Option<&str> {
        match &self.owner {
            Owner::Stage { stage, .. } => Some(stage),
            Owner::Shell { .. } | Owner::Template { .. } => None,
        }
    }
}

/// How a VM is obtained.
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
pub enum EngineKind {
    /// A shell that was forked, warmed and paused ahead of need, and goes on.
    Resume,
    /// A fork of a template, made on demand.
    Fork,
    /// Linked qcow2 overlay on the base image, cold boot.
    Clone,
    /// Full copy of the base image, cold boot. Survives the loss of the base.
    Copy,
}

impl EngineKind {
    pub const ALL: [EngineKind; 4] = [Self::Resume, Self::Fork, Self::Clone, Self::Copy];

    pub fn word(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Fork => "fork",
            Self::Clone => "clone",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation; libvirt domain type `kvm`.
    Kvm,
    /// QEMU's emulator; libvirt domain type `qemu`. Works everywhere and is no security boundary.
    Tcg,
}

/// Sizes of one machine, decided before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Size {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_mib: u64,
    /// Limit in each direction, kilobytes (1000) a second; none means unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_kbytes_per_s: Option<u64>,
}

/// The life of a machine: `Making → Up → Releasing → Gone`, or `Up → Kept → Releasing → Gone` when a
/// failed one is held for inspection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MachineState {
    /// Disk, domain and boot are under way.
    Making,
    /// The guest agent has answered.
    Up,
    /// Kept for inspection until the given time.
    Kept { until: Timestamp },
    /// To be destroyed; nothing of it may be used any more.
    Releasing,
    /// Domain, disk and files are gone.
    Gone,
}

impl MachineState {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Up => "up",
            Self::Kept { .. } => "kept",
            Self::Releasing => "releasing",
            Self::Gone => "gone",
        }
    }

    /// It can still be given work.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Making | Self::Up)
    }

    /// It occupies memory and disk of the host.
    pub fn holds_capacity(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// How long each phase of making or ending a machine took, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MachinePhases {
    /// Waiting for room on the host.
    #[serde(default)]
    pub admit_ms: f64,
    /// Finding and taking a shell of the pool, its row written.
    #[serde(default)]
    pub claim_ms: f64,
    /// Giving a shell its size, and seeing in the guest that it arrived.
    #[serde(default)]
    pub resize_ms: f64,
    /// Making the overlay or copy.
    #[serde(default)]
    pub disk_ms: f64,
    /// libvirt's create call.
    #[serde(default)]
    pub define_ms: f64,
    /// From the create call's return, or the resume, until the guest agent answered.
    #[serde(default)]
    pub boot_ms: f64,
    /// Destroying the domain and removing its files.
    #[serde(default)]
    pub teardown_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub id: MachineId,
    /// The pool's shell that serves as this machine; none while there is none, and for a machine that
    /// was made for its stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<MachineId>,
    /// Readable in `virsh list`: `gr-<run>-<stage>-<serial>-<deployment>`. libvirt wants names that are
    /// unique on the host, and each installation on it has a run 1.
    pub name: String,
    pub tag: Tag,
    pub stage_index: usize,
    pub engine: EngineKind,
    /// Why this engine.
    pub engine_reason: String,
    pub size: Size,
    #[serde(flatten)]
    pub state: MachineState,
    pub phases: MachinePhases,
    pub made_at: Timestamp,
    pub up_at: Option<Timestamp>,
    pub gone_at: Option<Timestamp>,
}

impl Machine {
    /// The libvirt domain in which the work runs.
    pub fn domain(&self) -> MachineId {
        self.shell.unwrap_or(self.id)
    }
}
