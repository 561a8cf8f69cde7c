//! What each test starts from: a connection with folders and a deployment of its own, and guests
//! that boot the tiny image.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::libvirt::{
    AcceleratorChoice, Folders, Libvirt, LibvirtSettings, ProbeImage,
};
use greenroom::hypervisor::{DiskOrder, HvError, Hypervisor, MachineSpec, Start};
use greenroom::vocab::machine::{Owner, Size, Tag};
use greenroom::vocab::{Deployment, MachineId, RunId};

pub const PING: &str = r#"{"execute":"guest-ping"}"#;

pub struct Yard {
    pub libvirt: Arc<Libvirt>,
    pub settings: LibvirtSettings,
    pub root: PathBuf,
    serial: AtomicU32,
}

/// The URI of the lab's libvirt, or none (and a message) outside of the lab.
pub fn lab() -> Option<String> {
    if std::env::var_os("GREENROOM_LAB_READY").is_none() {
        eprintln!("skipped: needs the lab (vagrant/lab test, or GREENROOM_LAB_READY=1 within it)");
        return None;
    }
    Some(std::env::var("GREENROOM_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".to_owned()))
}

/// What guests boot: the tiny image, or for measurements another one (`GREENROOM_TEST_IMAGE_NAME`).
pub fn image_name() -> String {
    std::env::var("GREENROOM_TEST_IMAGE_NAME").unwrap_or_else(|_| "tiny".to_owned())
}

/// Where the image may be: kernel, initrd and disk.qcow2 in one folder.
fn image_folder() -> PathBuf {
    let name = image_name();
    let from = |variable: &str, rest: &str| {
        std::env::var_os(variable).map(|base| PathBuf::from(base).join(rest))
    };
    let candidates = [
        from("GREENROOM_TEST_IMAGE", ""),
        from("GREENROOM_STATE", &format!("images/{name}")),
        from("GREENROOM_CACHE", &format!("image-preview/{name}")),
    ];
    let found = candidates
        .into_iter()
        .flatten()
        .find(|folder| folder.join("kernel").exists());
    found.expect("no such image: name its folder in GREENROOM_TEST_IMAGE")
}

/// The same for each run of the same test.
fn deployment_of(test: &str) -> Deployment {
    let mut bytes = [0; 16];
    bytes[..test.len()].copy_from_slice(test.as_bytes());
    Deployment(uuid::Uuid::from_bytes(bytes))
}

impl Yard {
    pub async fn new(name: &str) -> Option<Self> {
        let mut settings = Self::settings(name)?;
        settings.accelerator = AcceleratorChoice::Tcg;
        Some(Self::with(settings).await)
    }

    pub async fn with(settings: LibvirtSettings) -> Self {
        let root = settings.folders.disks.parent().unwrap().to_owned();
        let libvirt = Libvirt::connect(settings.clone()).await.unwrap();
        let yard = Self {
            libvirt,
            settings,
            root,
            serial: AtomicU32::new(1),
        };
        yard.destroy_all().await;
        yard
    }

    /// Also what an earlier run of the same test left when it failed.
    async fn destroy_all(&self) {
        for machine in self.libvirt.machines().await.unwrap() {
            if machine
                .tag
                .is_some_and(|tag| tag.deployment == self.settings.deployment)
            {
                self.libvirt.destroy_machine(machine.id).await.unwrap();
            }
        }
    }

    /// Fresh folders with a copy of the image in them: libvirt changes the owner of what it uses.
    pub fn settings(name: &str) -> Option<LibvirtSettings> {
        let uri = lab()?;
        let state = PathBuf::from(
            std::env::var_os("GREENROOM_STATE").expect("GREENROOM_STATE is set in the lab"),
        );
        let root = state.join("libvirt-tests").join(name);
        let _ = std::fs::remove_dir_all(&root);
        let made = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let folders = Folders {
            disks: made("disks"),
            templates: made("templates"),
            consoles: made("consoles"),
            scratch: made("scratch"),
            images: vec![made("images")],
        };
        for part in ["kernel", "initrd", "disk.qcow2"] {
            std::fs::copy(image_folder().join(part), folders.images[0].join(part)).unwrap();
        }
        let mut settings = LibvirtSettings::new(uri, deployment_of(name), folders);
        settings.probe_image = Some(ProbeImage {
            kernel: settings.folders.images[0].join("kernel"),
            initrd: settings.folders.images[0].join("initrd"),
            cmdline: "quiet".to_owned(),
        });
        Some(settings)
    }

    pub fn image(&self, part: &str) -> PathBuf {
        self.settings.folders.images[0].join(part)
    }

    pub fn disk(&self, name: &str) -> PathBuf {
        self.settings.folders.disks.join(name)
    }

    pub fn tag(&self, serial: u32) -> Tag {
        Tag {
            deployment: self.settings.deployment,
            owner: Owner::Stage {
                run: RunId(1),
                stage: "try".to_owned(),
            },
            serial,
            generation: 4,
        }
    }

    /// A machine that boots the tiny image, with its overlay made.
    pub async fn spec(&self) -> MachineSpec {
        let spec = self.plain_spec();
        let order = DiskOrder::Overlay {
            path: spec.root_disk.clone(),
            base: self.image("disk.qcow2"),
            size_mib: spec.size.disk_mib,
        };
        self.libvirt.make_disk(&order).await.unwrap();
        spec
    }

    /// The same without its disk.
    pub fn plain_spec(&self) -> MachineSpec {
        let id = MachineId::fresh();
        let root_disk = self.disk(&format!("{id}.qcow2"));
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (vcpus, memory_mib, disk_mib, cmdline) = match image_name().as_str() {
            "toolbox" => (
                2,
                1024,
                4096,
                "root=/dev/vda rw quiet cryptomgr.notests net.ifnames=0",
            ),
            _ => (1, 256, 256, "quiet cryptomgr.notests"),
        };
        MachineSpec {
            id,
            // Unique among all tests of the host.
            name: format!("gr-1-try-{}", &id.to_string()[24..]),
            tag: self.tag(serial),
            size: Size {
                vcpus,
                memory_mib,
                disk_mib,
                network_kbytes_per_s: None,
            },
            kernel: self.image("kernel"),
            initrd: self.image("initrd"),
            cmdline: cmdline.to_owned(),
            root_disk,
            nic: None,
            start: Start::Boot,
            growth_mib: 0,
        }
    }

    /// Started, and its agent has answered.
    pub async fn guest(&self) -> MachineId {
        let spec = self.spec().await;
        self.libvirt.start_machine(&spec).await.unwrap();
        self.wait_for_agent(spec.id).await;
        spec.id
    }

    /// The same, as fast as the program itself notices it.
    pub async fn wait_until_up(&self, id: MachineId) {
        let guest = Guest {
            hypervisor: &*self.libvirt,
            machine: id,
        };
        guest.wait_until_up(Duration::from_secs(120)).await.unwrap();
    }

    pub async fn wait_for_agent(&self, id: MachineId) {
        let began = Instant::now();
        loop {
            match self.libvirt.agent(id, PING, Duration::from_secs(2)).await {
                Ok(_) => return,
                Err(error)
                    if error.is_transient() && began.elapsed() < Duration::from_secs(120) =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("no agent after {:?}: {error}", began.elapsed()),
            }
        }
    }

    /// Runs a shell line in the guest and gives what it printed.
    pub async fn shell(&self, id: MachineId, line: &str) -> String {
        let ask = |command: serde_json::Value| async move {
            let reply = self
                .libvirt
                .agent(id, &command.to_string(), Duration::from_secs(20))
                .await?;
            Ok::<serde_json::Value, HvError>(
                serde_json::from_str::<serde_json::Value>(&reply).unwrap()["return"].clone(),
            )
        };
        let started = ask(serde_json::json!({"execute": "guest-exec", "arguments":
            {"path": "/bin/sh", "arg": ["-c", line], "capture-output": true}}));
        let pid = started.await.unwrap()["pid"].clone();
        loop {
            let status =
                ask(serde_json::json!({"execute": "guest-exec-status", "arguments": {"pid": pid}}))
                    .await
                    .unwrap();
            if status["exited"] == true {
                use base64::Engine as _;
                let text = status["out-data"].as_str().unwrap_or_default();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .unwrap();
                return String::from_utf8(bytes).unwrap().trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Destroys what is left of this test and removes its folders.
    pub async fn clear(self) {
        self.destroy_all().await;
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}
