//! One machine of a simulated host, as the host sees it.

use std::time::Duration;

use tokio::time::Instant;

use super::super::{
    AttachedDisk, HvError, MachineUsage, MemoryUse, Power, SeenMachine, TemplateFiles,
};
use super::agent::SimGuest;
use super::faults::GuestFault;
use super::templates::Shape;
use super::world::SnapshotMachine;
use crate::vocab::machine::Tag;
use crate::vocab::{Deployment, MachineId};

/// Memory of a fork's process that never ran, MiB, and what is its own of that.
pub const NEVER_RUN_MIB: (u64, u64) = (25, 18);
/// The same for one that ran.
pub const HAS_RUN_MIB: (u64, u64) = (40, 33);

/// How a machine came to life, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    Booted,
    Template {
        files: TemplateFiles,
        captured: bool,
    },
    Fork {
        files: TemplateFiles,
        loaded: bool,
    },
}

pub struct SimMachine {
    pub name: String,
    pub tag: Option<Tag>,
    pub memory_mib: u64,
    /// Memory given since it was made.
    pub added_mib: u64,
    pub cpu_percent: Option<u32>,
    pub shape: Shape,
    pub life: Life,
    /// The generation id that its guest sees.
    pub generation: u64,
    pub power: Power,
    /// Since when its guest stands still; where that is so.
    pub paused_at: Option<Instant>,
    /// How often it went on.
    pub resumes: u32,
    pub attached: Vec<AttachedDisk>,
    /// Empty until it is loaded, for a fork.
    pub guest: SimGuest,
    pub faults: Vec<GuestFault>,
    pub calls: u32,
    pub started: Instant,
    pub boots_in: Duration,
}

impl SimMachine {
    /// A machine that runs from now on; a fork is paused.
    pub fn new(name: &str, tag: Option<Tag>, shape: Shape, life: Life, guest: SimGuest) -> Self {
        let now = Instant::now();
        let paused = matches!(life, Life::Fork { .. });
        Self {
            name: name.to_owned(),
            tag,
            memory_mib: shape.memory_mib,
            added_mib: 0,
            cpu_percent: None,
            shape,
            life,
            generation: guest.system.kernel.generation,
            power: if paused {
                Power::Paused
            } else {
                Power::Running
            },
            paused_at: paused.then_some(now),
            resumes: 0,
            attached: Vec::new(),
            guest,
            faults: Vec::new(),
            calls: 0,
            started: now,
            boots_in: Duration::ZERO,
        }
    }

    /// Whether it carries a tag, of the deployment where one is named.
    pub fn is_of(&self, deployment: Option<Deployment>) -> bool {
        let tag = self.tag.as_ref();
        tag.is_some_and(|tag| deployment.is_none_or(|deployment| tag.deployment == deployment))
    }

    pub fn not_ours(&self) -> HvError {
        HvError::Refused(format!("{} does not carry our tag", self.name))
    }

    pub fn seen(&self, id: MachineId) -> SeenMachine {
        SeenMachine {
            id,
            name: self.name.clone(),
            tag: self.tag.clone(),
            power: self.power,
            attached: self.attached.iter().map(|disk| disk.path.clone()).collect(),
        }
    }

    pub fn snapshot(&self) -> SnapshotMachine {
        SnapshotMachine {
            name: self.name.clone(),
            tag: self.tag.clone(),
            power: self.power,
            attached: self.attached.clone(),
            memory_mib: self.memory_mib,
        }
    }

    /// A fork that nothing was loaded into.
    pub fn is_empty(&self) -> bool {
        matches!(self.life, Life::Fork { loaded: false, .. })
    }

    pub fn has_fault(&self, fault: GuestFault) -> bool {
        self.faults.contains(&fault)
    }

    /// What the machine takes of the host's memory, MiB: all that it was promised while its guest may
    /// run, and what its process has while it is a fork that stands still.
    pub fn taken_mib(&self) -> u64 {
        match (self.power, &self.life) {
            (Power::Off, _) => 0,
            (Power::Paused, Life::Fork { .. }) => self.still_mib().0,
            _ => self.memory_mib + self.added_mib,
        }
    }

    fn still_mib(&self) -> (u64, u64) {
        if self.resumes == 0 {
            NEVER_RUN_MIB
        } else {
            HAS_RUN_MIB
        }
    }

    /// Plausible rather than true: booting, agent calls and shell steps take processor time.
    pub fn usage(&self) -> MachineUsage {
        let steps = self.guest.steps_taken as f64;
        MachineUsage {
            cpu_ms: 150.0 + 0.5 * f64::from(self.calls) + 0.2 * steps,
            rss_mib: (self.memory_mib as f64 * 0.25).min(60.0 + self.memory_mib as f64 * 0.02),
            touched_mib: self.guest.system.kernel.touched_mib() as f64,
            disk_read_bytes: 4 << 20,
            disk_written_bytes: (1 << 20) + self.guest.written,
            net_received_bytes: 0,
            net_sent_bytes: 0,
        }
    }

    pub fn memory_use(&self) -> MemoryUse {
        let (pss, private) = match self.life {
            Life::Fork { .. } => self.still_mib(),
            // About what a booted guest has touched.
            Life::Booted | Life::Template { .. } => {
                let touched = 60 + self.memory_mib / 8;
                (touched, touched - 6)
            }
        };
        MemoryUse {
            pss_mib: pss as f64,
            private_mib: private as f64,
        }
    }
}
