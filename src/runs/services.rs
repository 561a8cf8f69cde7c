//! What the runs need from the rest of the program.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::capacity::Capacity;
use crate::clock::Clock;
use crate::fault::Faults;
use crate::foresight::Foresight;
use crate::hypervisor::Hypervisor;
use crate::pool::Pool;
use crate::store::Store;
use crate::store::artefacts::Artefacts;
use crate::store::events::Event;
use crate::store::logs::Piece;
use crate::vocab::machine::Machine;
use crate::vocab::run::Attempt;
use crate::vocab::{Deployment, RunId, Timestamp};

/// Shared by all runs; cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub store: Store,
    pub artefacts: Artefacts,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub clock: Arc<dyn Clock>,
    pub capacity: Arc<Capacity>,
    /// Machines that wait before they are asked for; none where the pool is switched off.
    pub pool: Option<Arc<Pool>>,
    /// What stages will need, and what they used.
    pub foresight: Arc<Foresight>,
    pub settings: Arc<RunSettings>,
    pub deployment: Deployment,
    /// What happens, as it happens, for whoever watches. Slow watchers lose items and re-read.
    pub live: broadcast::Sender<Live>,
    pub faults: Faults,
}

#[derive(Debug, Clone)]
pub enum Live {
    Event(Event),
    Log(RunId, Piece),
}

#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Folder of overlays and handoff disks.
    pub disks: PathBuf,
    /// libvirt network that stages with `network: true` join.
    pub network: String,
    /// From the create call until the guest agent has to have answered.
    pub boot_deadline: Duration,
    /// A guest whose agent says nothing for so long is lost.
    pub silence: Duration,
    /// How long an action waits for a host that cannot be reached before it fails.
    pub patience: Duration,
    /// Bytes kept of each stream of a stage's log.
    pub log_cap: u64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            disks: PathBuf::from("/var/lib/greenroom/vm"),
            network: "default".into(),
            boot_deadline: Duration::from_secs(300),
            silence: Duration::from_secs(60),
            patience: Duration::from_secs(900),
            log_cap: 8 << 20,
        }
    }
}

impl RunSettings {
    /// Disk of a machine. The file's name says whose it is, so that an orphan can be recognised.
    pub fn machine_disk(&self, machine: &Machine) -> PathBuf {
        self.disks.join(format!("machine-{}.qcow2", machine.id))
    }

    pub fn handoff_disk(&self, run: RunId) -> PathBuf {
        self.disks.join(format!("run-{run}.handoff.raw"))
    }

    /// Copy of the handoff disk from before a stage.
    pub fn checkpoint(&self, run: RunId, stage_index: usize) -> PathBuf {
        self.disks
            .join(format!("run-{run}.before-{stage_index}.raw"))
    }
}

/// Serial under which guests see the handoff disk.
pub const HANDOFF_SERIAL: &str = "handoff";

impl Services {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the work of an attempt that starts now has to have ended.
    pub fn work_deadline(&self, attempt: &Attempt, allowed: Duration) -> Timestamp {
        attempt
            .deadline
            .unwrap_or_else(|| self.now().after(allowed))
    }
}
