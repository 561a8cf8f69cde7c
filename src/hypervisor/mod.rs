//! What makes machines real: libvirt, or a simulation that obeys the same rules.
//!
//! [`Hypervisor`] says in our words what we ask of a host. [`libvirt`] does it for real;
//! [`simulated`] does it in memory, for tests and for trying chains without any VM. One behaviour
//! suite (`tests/hypervisor`) runs against both, so that they cannot drift apart.
//!
//! Every operation may run twice: starting a machine that runs, destroying one that is gone,
//! attaching a disk that is attached are successes. The guest's agent is untrusted input: each
//! call has a deadline and a size cap. Typed guest commands are in [`guest`], over the one raw
//! carrier [`Hypervisor::agent`], so that they work wherever libvirt reaches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::vocab::MachineId;
use crate::vocab::machine::{Accelerator, Size, Tag};
use crate::vocab::pool::Seal;

pub mod guest;
pub mod libvirt;
pub mod simulated;

#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Version and size of the host. Also serves as the question whether it can be reached.
    async fn host(&self) -> Result<HostFacts, HvError>;

    /// Makes a disk as ordered. A finished one that is already there is a success; the leftovers of
    /// an interrupted try are replaced.
    async fn make_disk(&self, order: &DiskOrder) -> Result<(), HvError>;

    /// Removes a disk of ours. An absent one is a success.
    async fn remove_disk(&self, path: &Path) -> Result<(), HvError>;

    /// All files in the folders where our disks live. Complete, or an error.
    async fn disks(&self) -> Result<Vec<PathBuf>, HvError>;

    /// Starts a machine as a transient domain that carries the tag. When a domain with this id and
    /// the same tag is there already, that is a success; with another tag it is
    /// [`HvError::Refused`].
    async fn start_machine(&self, spec: &MachineSpec) -> Result<(), HvError>;

    /// Ends a machine at once and returns when its process is gone. An absent one is a success; one
    /// without our tag is [`HvError::Refused`].
    async fn destroy_machine(&self, id: MachineId) -> Result<(), HvError>;

    /// All machines of the host, ours and others'. Complete, or an error.
    async fn machines(&self) -> Result<Vec<SeenMachine>, HvError>;

    /// One machine, or `None` when the host says that it has none of that id.
    async fn machine(&self, id: MachineId) -> Result<Option<SeenMachine>, HvError>;

    /// Attaches a raw disk of ours under a serial by which the guest finds it. Refused while
    /// another machine has it.
    async fn attach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError>;

    /// Detaches and returns when the guest has let go. Not attached, or no machine, is a success.
    async fn detach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError>;

    /// Adds a network card to a running or paused machine. One with this MAC address that is there
    /// already is a success.
    async fn attach_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError>;

    /// Stops the guest's instructions; its memory stays. Paused already is a success.
    async fn pause(&self, id: MachineId) -> Result<(), HvError>;

    /// Lets the guest go on. Running already is a success; a fork that nothing was loaded into is
    /// [`HvError::Refused`].
    async fn resume(&self, id: MachineId) -> Result<(), HvError>;

    /// Gives a machine its share of the host, paused or running; a fork that has none yet stands back
    /// where processors are short. Memory only grows, and what the
    /// guest makes of it, it says itself; to ask for what was given is a success.
    async fn resize(&self, id: MachineId, share: Share) -> Result<(), HvError>;

    /// Pauses a machine that was started with [`Start::Template`] and writes its device state to
    /// `files.state`. Its memory and disk are complete when it was destroyed after this.
    async fn capture(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError>;

    /// Loads a template's device state into a machine that was started with [`Start::Fork`]. It is
    /// paused after, at the point at which the template was captured. Loaded already is a success.
    async fn load_fork(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError>;

    /// Makes a template's files read-only for everybody, whoever owned them, and durable. Sealed
    /// already is a success.
    async fn seal_template(&self, files: &TemplateFiles) -> Result<Seal, HvError>;

    /// What the files are like now: sizes and stamps, which takes a moment, or digests as well, which
    /// reads them. [`HvError::Refused`] names a file that is missing or that is not read-only.
    async fn inspect_template(
        &self,
        files: &TemplateFiles,
        thorough: bool,
    ) -> Result<Seal, HvError>;

    /// Removes a template's files and their folder. Absent ones are a success.
    async fn remove_template(&self, files: &TemplateFiles) -> Result<(), HvError>;

    /// The folders of all templates. Complete, or an error.
    async fn templates(&self) -> Result<Vec<PathBuf>, HvError>;

    /// Memory of the processes of machines, from the host's side: proportional set size, so that the
    /// sum over machines that share pages is what they take. Machines that are gone are left out.
    async fn memory_of(&self, ids: &[MachineId])
    -> Result<BTreeMap<MachineId, MemoryUse>, HvError>;

    /// One guest agent command and its reply, both JSON as in QEMU's guest agent protocol; the
    /// reply is the text of the object with `return` (errors become [`HvError::Agent`]), at most
    /// [`AGENT_REPLY_CAP`] bytes.
    async fn agent(
        &self,
        id: MachineId,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HvError>;

    /// Waits until the guest has rung its bell (a port named [`BELL`], to which it writes a byte when
    /// something is worth a look) since `heard`, and at most so long. Returns how much was heard by
    /// then. A hint only, and the guest's word: it may ring for nothing, or never.
    async fn wait_for_bell(&self, id: MachineId, heard: u64, at_most: Duration) -> u64 {
        let _ = id;
        tokio::time::sleep(at_most).await;
        heard
    }

    /// Says a line to the guest's job runner (at a port named [`RUNNER`]; see [`guest::runner`]) and
    /// returns what it says next, none when there is no runner or it says nothing within that time. From
    /// then on we listen to it, until [`Hypervisor::leave_runner`].
    async fn ask_runner(&self, id: MachineId, line: &[u8], within: Duration) -> Option<Vec<u8>> {
        let _ = (id, line, within);
        None
    }

    /// Whether we listen to the guest's runner.
    fn hears_runner(&self, id: MachineId) -> bool {
        let _ = id;
        false
    }

    /// The next line that the guest's runner says. Never ends when it says no more, or when we do not
    /// listen. May be dropped at any time; nothing is lost.
    async fn hear_runner(&self, id: MachineId) -> Vec<u8> {
        let _ = id;
        std::future::pending().await
    }

    /// Listens to the guest's runner no more.
    fn leave_runner(&self, id: MachineId) {
        let _ = id;
    }

    /// Use since the machine started, from the host's side, not from the guest's word.
    async fn usage(&self, id: MachineId) -> Result<MachineUsage, HvError>;

    /// The same of several machines in one look at the host. Machines that are gone are left out, and so
    /// are those of which the host cannot say anything at once: it waits for none of them.
    async fn usage_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MachineUsage>, HvError>;

    /// Tail of the machine's serial console, at most `max_bytes`, control characters included.
    async fn console_tail(&self, id: MachineId, max_bytes: usize) -> Result<Vec<u8>, HvError>;

    /// Machines that started, stopped or crashed, as the host reports them. Hints only: whoever
    /// needs certainty asks [`Hypervisor::machine`].
    fn events(&self) -> broadcast::Receiver<MachineEvent>;
}

/// Name of the virtio-serial port that serves as a guest's bell.
pub const BELL: &str = "dev.greenroom.bell";

/// Name of the virtio-serial port at which a guest's job runner listens.
pub const RUNNER: &str = "dev.greenroom.runner";

/// The largest agent reply that is accepted: 4 MiB (libvirt's own cap is 10 MiB).
pub const AGENT_REPLY_CAP: usize = 4 << 20;

/// The largest single payload that is put into an agent message. A 1 MiB write was measured to hang
/// QEMU's agent for good; 48 KiB stays below 64 KiB after base64.
pub const AGENT_CHUNK: usize = 48 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Such as `libvirt 11.3.0, QEMU 10.0.2`, or `simulated`.
    pub version: String,
    /// What machines are made of here besides their size: changes with the devices and the CPU that
    /// guests see, so that a captured machine fits another only where it is equal.
    pub devices: String,
    pub host_name: String,
    pub cpus: u32,
    pub memory_mib: u64,
    /// Free memory right now.
    pub free_memory_mib: u64,
    pub accelerator: Accelerator,
    /// How the accelerator was found out, for people.
    pub accelerator_reason: String,
}

/// A disk to be made. Formats are stated, never guessed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DiskOrder {
    /// qcow2 whose backing file is the qcow2 `base`, at least `size_mib` large.
    Overlay {
        path: PathBuf,
        base: PathBuf,
        size_mib: u64,
    },
    /// Independent qcow2 with the contents of the qcow2 `base`.
    Copy {
        path: PathBuf,
        base: PathBuf,
        size_mib: u64,
    },
    /// Empty sparse raw disk of exactly `size_mib`.
    Raw { path: PathBuf, size_mib: u64 },
    /// Raw copy of the raw disk `from`, sparse, sharing blocks where the file system can. Replaces
    /// what is at `path`, all or nothing.
    Duplicate { path: PathBuf, from: PathBuf },
}

impl DiskOrder {
    pub fn path(&self) -> &Path {
        match self {
            Self::Overlay { path, .. }
            | Self::Copy { path, .. }
            | Self::Raw { path, .. }
            | Self::Duplicate { path, .. } => path,
        }
    }
}

/// A raw disk that is attached to a running machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedDisk {
    pub path: PathBuf,
    /// Serial number the guest sees, such as `handoff`; letters, digits and `-`.
    pub serial: String,
}

/// Everything that a domain is made from: a closed model, with no field for raw XML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    pub id: MachineId,
    pub name: String,
    pub tag: Tag,
    pub size: Size,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// The image's kernel command line; the console setting is added by the hypervisor.
    pub cmdline: String,
    /// qcow2.
    pub root_disk: PathBuf,
    /// libvirt network to join, with a MAC address of ours.
    pub nic: Option<Nic>,
    pub start: Start,
    /// Memory that can be added while the machine exists, MiB; 0 for none. A fork has what its
    /// template has.
    pub growth_mib: u64,
}

/// How a machine comes to life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "snake_case")]
pub enum Start {
    /// Boots its kernel.
    Boot,
    /// Boots its kernel, with its memory in the template's file, so that it can be captured. The
    /// root disk is the template's.
    Template { files: TemplateFiles },
    /// Goes on from a template: paused, and empty until [`Hypervisor::load_fork`]. All that it writes
    /// to memory is its own. The root disk is an overlay on the template's.
    Fork { files: TemplateFiles },
}

/// A template's files, in a folder of their own below [`Hypervisor`]'s folder for templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFiles {
    pub folder: PathBuf,
}

impl TemplateFiles {
    /// The guest's memory, as large as the guest's.
    pub fn memory(&self) -> PathBuf {
        self.folder.join("memory")
    }

    /// QEMU's migration stream without memory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// qcow2 on the image's base disk.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.qcow2")
    }
}

/// A machine's share of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Processor time, percent of one host CPU; none means no limit.
    pub cpu_percent: Option<u32>,
    /// Memory beyond what the machine was made with, MiB; rounded up to what the host can add.
    pub added_memory_mib: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Proportional set size, MiB.
    pub pss_mib: f64,
    /// Pages that nobody else has, MiB.
    pub private_mib: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub network: String,
    pub mac: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SeenMachine {
    pub id: MachineId,
    pub name: String,
    /// Our tag, where there is a well-formed one.
    pub tag: Option<Tag>,
    pub power: Power,
    /// Raw disks attached with [`Hypervisor::attach_disk`].
    pub attached: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Running,
    Paused,
    /// Stopped, crashed or shut down, and still listed.
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineUsage {
    pub cpu_ms: f64,
    /// Resident memory of the VM's process.
    pub rss_mib: f64,
    /// Guest memory that was ever touched, MiB, with what its template had touched for a fork. Neither
    /// the process's own memory (60–110 MiB under emulation) nor what the guest says of itself. 0 where
    /// it is not known.
    pub touched_mib: f64,
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    pub net_received_bytes: u64,
    pub net_sent_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEvent {
    Started(MachineId),
    /// Stopped for whatever reason, in the host's words.
    Stopped(MachineId, String),
    /// The guest agent's channel was opened (`true`) or closed by the guest.
    AgentConnected(MachineId, bool),
    /// The connection to the host was lost or restored; machines may have changed meanwhile.
    Disconnected,
    Reconnected,
}

/// What a host may answer instead of doing it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HvError {
    /// The host cannot be reached; nothing is known about its machines.
    #[error("libvirt cannot be reached: {0}")]
    Unreachable(String),
    #[error("no machine {0} on the host")]
    NoSuchMachine(MachineId),
    /// The guest agent is not connected (yet). Also said briefly after a resume.
    #[error("the guest agent of {0} is not connected")]
    AgentAbsent(MachineId),
    #[error("the guest agent of {0} did not answer within {1:?}")]
    AgentTimeout(MachineId, Duration),
    /// The agent's own refusal, or a reply that breaks the protocol or its cap.
    #[error("guest agent: {0}")]
    Agent(String),
    #[error("no space left for {0}")]
    DiskFull(String),
    #[error("not enough memory on the host: {0}")]
    NoMemory(String),
    /// The request itself was refused; trying the same again will not help.
    #[error("{0}")]
    Refused(String),
    /// Anything else the host said.
    #[error("{0}")]
    Host(String),
}

impl HvError {
    /// Trying again a little later may help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::AgentAbsent(_) | Self::AgentTimeout(..)
        )
    }
}
