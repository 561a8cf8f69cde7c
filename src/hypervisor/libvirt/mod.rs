//! Machines for real: libvirt with QEMU on this host.
//!
//! ```text
//!                       ┌ bridge: a named thread per call, bounded, with a deadline
//! Hypervisor ─▶ Libvirt ┤ control link ──▶ machines, devices, nics (ask, create, destroy, attach)
//!                       │              ──▶ forks, share ──▶ monitor (capture, load, pause, resize)
//!                       │ guest links  ──▶ guests                  (agent, detach: a guest may hang)
//!                       │ disks ──▶ qcow2, qemu-img, cp            consoles, templates ──▶ files
//!                       │ runners ──▶ a socket per machine, without libvirt
//!                       └ events ◀── libvirt's event loop
//! ```
//!
//! What is sent to libvirt is built in [`domain_xml`], with [`qemu_args`] for what libvirt has no words
//! for, and checked again in [`xml_audit`] and [`args_audit`]; what it says is read in [`read_xml`];
//! its errors become ours in [`errors`]. The files of machines are local, so only a libvirt of this
//! host can be used. To find out how it behaves for real, run `tests/libvirt` in the lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::time::Instant;

use self::bridge::Bridge;
use self::connection::{Call, Keeper, Link};
use self::disks::Disks;
use self::guests::Guests;
use self::probe::Verdict;
use self::reach::QemuUser;
use self::runners::Runners;
use self::seen::Seen;
use self::templates::Look;
use self::turns::Turns;
use super::{
    AttachedDisk, DiskOrder, HostFacts, HvError, Hypervisor, MachineEvent, MachineSpec,
    MachineUsage, MemoryUse, Nic, SeenMachine, Share, TemplateFiles,
};
use crate::vocab::MachineId;
use crate::vocab::pool::Seal;

mod args_audit;
mod bridge;
mod connection;
mod consoles;
mod devices;
mod disks;
mod domain_xml;
mod errors;
mod events;
mod ffi;
mod forks;
mod guests;
mod machines;
mod memory;
mod monitor;
mod nics;
mod probe;
mod qcow2;
mod qemu_args;
mod reach;
mod read_xml;
mod runners;
mod seen;
mod settings;
mod share;
mod start;
mod templates;
mod turns;
mod usage;
mod xml_audit;

pub use self::probe::NO_PROBE_IMAGE;
pub use self::settings::{AcceleratorChoice, Folders, LibvirtSettings, NetworkLimit, ProbeImage};

/// 0.1–2.5 s normally; the longest is the first one after libvirtd started.
const CREATE: Call = Call::change("create", Duration::from_secs(90));
/// libvirt gives a process 40 s to die of SIGKILL.
const DESTROY: Call = Call::change("destroy", Duration::from_secs(60));

/// The libvirt of this host.
pub struct Libvirt {
    settings: LibvirtSettings,
    control: Arc<Link>,
    /// For looks at machines, which may be held up by one of them.
    looks: Arc<Link>,
    guests: Guests,
    disks: Disks,
    /// Forks that this program loaded, so that QEMU need not be asked again.
    loaded: Seen,
    runners: Runners,
    channel: broadcast::Sender<MachineEvent>,
    changes: Turns<MachineId>,
    disk_turns: Turns<PathBuf>,
    qemu_user: Option<QemuUser>,
    verdict: OnceLock<Verdict>,
    _keepers: Vec<Keeper>,
}

impl Libvirt {
    /// Connects, checks that QEMU can reach our folders, and finds the accelerator, which takes up to
    /// 20 s the first time after a boot. Errors: [`HvError::Unreachable`] when libvirt did not answer
    /// within `connect_patience`, [`HvError::Refused`] when the settings cannot work.
    pub async fn connect(settings: LibvirtSettings) -> Result<Arc<Self>, HvError> {
        let folders = &settings.folders;
        for folder in [
            &folders.disks,
            &folders.templates,
            &folders.consoles,
            &folders.scratch,
        ]
        .into_iter()
        .chain(&folders.images)
        {
            if !folder.is_absolute() || !folder.is_dir() {
                return Err(HvError::Refused(format!(
                    "{} must be an absolute path to a folder",
                    folder.display()
                )));
            }
        }
        let (channel, _) = broadcast::channel(events::CHANNEL_SIZE);
        let bridge = Bridge::default();
        let (control, keeper) = open_patiently(&settings, &bridge, &channel).await?;
        let (looks, looks_keeper) = Link::open(&settings.uri, bridge.clone(), None).await?;
        let mut keepers = vec![keeper, looks_keeper];
        let mut guest_links = Vec::new();
        for _ in 0..guests::GUEST_LINKS {
            let (link, keeper) = Link::open(&settings.uri, bridge.clone(), None).await?;
            guest_links.push(link);
            keepers.push(keeper);
        }
        let (capabilities, qemu_version) = control
            .call(Call::read("capabilities"), |connect| {
                let asked = connect
                    .capabilities()
                    .and_then(|found| Ok((found, connect.hyp_version()?)));
                asked.map_err(|error| errors::of(&error))
            })
            .await?;
        let libvirt = Arc::new(Self {
            guests: Guests::new(guest_links, settings.deployment),
            disks: Disks::new(settings.folders.clone(), settings.qemu_img.clone()),
            qemu_user: read_xml::read_qemu_user(&capabilities)
                .map(|(uid, gid)| QemuUser { uid, gid }),
            loaded: Seen::default(),
            runners: Runners::default(),
            settings,
            control,
            looks,
            channel,
            changes: Turns::default(),
            disk_turns: Turns::default(),
            verdict: OnceLock::new(),
            _keepers: keepers,
        });
        let folders = &libvirt.settings.folders;
        let some_file = |folder: &PathBuf| folder.join("file");
        libvirt
            .check_reach(
                [&folders.disks, &folders.consoles, &folders.templates]
                    .into_iter()
                    .chain(&folders.images)
                    .map(some_file),
            )
            .await?;
        let verdict = libvirt.decide_accelerator(qemu_version).await?;
        libvirt.verdict.set(verdict).expect("decided once");
        Ok(libvirt)
    }

    fn verdict(&self) -> &Verdict {
        self.verdict.get().expect("decided before anybody can ask")
    }

    async fn check_reach(&self, paths: impl IntoIterator<Item = PathBuf>) -> Result<(), HvError> {
        let Some(user) = self.qemu_user else {
            return Ok(());
        };
        let paths = paths.into_iter().collect();
        let checked = tokio::task::spawn_blocking(move || user.check_reach(paths)).await;
        checked.map_err(|error| HvError::Host(error.to_string()))?
    }

    async fn destroy(&self, id: MachineId) -> Result<(), HvError> {
        let deployment = self.settings.deployment;
        self.control
            .call(DESTROY, move |connect| {
                machines::destroy(connect, id, deployment)
            })
            .await
    }
}

/// A libvirtd that is being restarted is back within a second or two.
async fn open_patiently(
    settings: &LibvirtSettings,
    bridge: &Bridge,
    channel: &broadcast::Sender<MachineEvent>,
) -> Result<(Arc<Link>, Keeper), HvError> {
    let began = Instant::now();
    loop {
        match Link::open(&settings.uri, bridge.clone(), Some(channel.clone())).await {
            Err(HvError::Unreachable(_)) if began.elapsed() < settings.connect_patience => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => return other,
        }
    }
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn host(&self) -> Result<HostFacts, HvError> {
        let asked = self.control.call(Call::read("host"), |connect| {
            let ask = || {
                Ok((
                    connect.lib_version()?,
                    connect.hyp_version()?,
                    connect.hostname()?,
                    connect.node_info()?,
                ))
            };
            ask().map_err(|error: virt::error::Error| errors::of(&error))
        });
        let (libvirt, qemu, host_name, node) = asked.await?;
        Ok(HostFacts {
            devices: self.devices(),
            version: format!("libvirt {}, QEMU {}", dotted(libvirt), dotted(qemu)),
            host_name,
            cpus: node.cpus,
            memory_mib: (node.memory / 1024).max(meminfo_mib("MemTotal")),
            free_memory_mib: meminfo_mib("MemAvailable"),
            accelerator: self.verdict().accelerator,
            accelerator_reason: self.verdict().reason.clone(),
        })
    }

    async fn make_disk(&self, order: &DiskOrder) -> Result<(), HvError> {
        self.disks.make(order).await
    }

    async fn remove_disk(&self, path: &Path) -> Result<(), HvError> {
        self.disks.remove(path).await
    }

    async fn disks(&self) -> Result<Vec<PathBuf>, HvError> {
        self.disks.list().await
    }

    async fn start_machine(&self, spec: &MachineSpec) -> Result<(), HvError> {
        self.start(spec).await
    }

    async fn destroy_machine(&self, id: MachineId) -> Result<(), HvError> {
        // Not in turn with other changes: ending a machine is how a hanging change ends.
        self.destroy(id).await?;
        self.runners.leave(id);
        consoles::forget_ports(&self.settings.folders.consoles, id);
        Ok(())
    }

    async fn machines(&self) -> Result<Vec<SeenMachine>, HvError> {
        self.control
            .call(Call::read("machines"), machines::list)
            .await
    }

    async fn machine(&self, id: MachineId) -> Result<Option<SeenMachine>, HvError> {
        self.control
            .call(Call::read("machine"), move |connect| {
                machines::see(connect, id)
            })
            .await
    }

    async fn attach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.attach(id, disk).await
    }

    async fn detach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.detach(id, disk).await
    }

    async fn attach_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError> {
        self.add_nic(id, nic).await
    }

    async fn pause(&self, id: MachineId) -> Result<(), HvError> {
        self.pause_machine(id).await
    }

    async fn resume(&self, id: MachineId) -> Result<(), HvError> {
        self.resume_machine(id).await
    }

    async fn resize(&self, id: MachineId, share: Share) -> Result<(), HvError> {
        self.give_share(id, share).await
    }

    async fn capture(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.capture_template(id, files).await
    }

    async fn load_fork(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.load(id, files).await
    }

    async fn seal_template(&self, files: &TemplateFiles) -> Result<Seal, HvError> {
        self.seal(files).await
    }

    async fn inspect_template(
        &self,
        files: &TemplateFiles,
        thorough: bool,
    ) -> Result<Seal, HvError> {
        let look = if thorough {
            Look::Thorough
        } else {
            Look::Quick
        };
        self.with_files(files, move |files| templates::inspect(files, look))
            .await
    }

    async fn remove_template(&self, files: &TemplateFiles) -> Result<(), HvError> {
        self.with_files(files, templates::remove_all).await
    }

    async fn templates(&self) -> Result<Vec<PathBuf>, HvError> {
        let folders = self.settings.folders.clone();
        disks::blocking(move || templates::list(&folders)).await
    }

    async fn memory_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MemoryUse>, HvError> {
        let ids = ids.to_vec();
        disks::blocking(move || memory::of_machines(&ids)).await
    }

    async fn agent(
        &self,
        id: MachineId,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HvError> {
        self.guests.agent(id, command, deadline).await
    }

    async fn usage(&self, id: MachineId) -> Result<MachineUsage, HvError> {
        self.control
            .call(Call::read("usage"), move |connect| usage::of(connect, id))
            .await
    }

    async fn usage_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MachineUsage>, HvError> {
        let ids = ids.to_vec();
        self.looks
            .call(usage::LOOK, move |connect| usage::of_all(connect, &ids))
            .await
    }

    async fn wait_for_bell(&self, id: MachineId, heard: u64, at_most: Duration) -> u64 {
        let began = Instant::now();
        let folder = &self.settings.folders.consoles;
        loop {
            let rings = consoles::rings(folder, id);
            let left = at_most.saturating_sub(began.elapsed());
            if rings != heard || left.is_zero() {
                return rings;
            }
            // A file's size costs a microsecond to ask.
            tokio::time::sleep(left.min(Duration::from_millis(2))).await;
        }
    }

    async fn ask_runner(&self, id: MachineId, line: &[u8], within: Duration) -> Option<Vec<u8>> {
        let console = consoles::path_of(&self.settings.folders.consoles, id);
        let socket = consoles::runner_of(&console)?;
        self.runners.ask(id, &socket, line, within).await
    }

    fn hears_runner(&self, id: MachineId) -> bool {
        self.runners.hears(id)
    }

    async fn hear_runner(&self, id: MachineId) -> Vec<u8> {
        self.runners.hear(id).await
    }

    fn leave_runner(&self, id: MachineId) {
        self.runners.leave(id);
    }

    async fn console_tail(&self, id: MachineId, max_bytes: usize) -> Result<Vec<u8>, HvError> {
        let path = consoles::path_of(&self.settings.folders.consoles, id);
        consoles::tail(&path, max_bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => HvError::NoSuchMachine(id),
            _ => disks::io_error(&path, &error),
        })
    }

    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.channel.subscribe()
    }
}

/// libvirt writes versions as major × 1,000,000 + minor × 1,000 + release.
fn dotted(version: u32) -> String {
    format!(
        "{}.{}.{}",
        version / 1_000_000,
        version / 1_000 % 1_000,
        version % 1_000
    )
}

/// A line of this host's /proc/meminfo in MiB. libvirt's own "free memory" leaves out the page cache,
/// and would refuse machines on every host that has read a few files; its node's size leaves out
/// memory that was plugged in later.
fn meminfo_mib(name: &str) -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
