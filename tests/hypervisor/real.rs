//! The fixture of the lab's libvirt.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use async_trait::async_trait;
use greenroom::hypervisor::TemplateFiles;
use greenroom::hypervisor::libvirt::{AcceleratorChoice, Folders, Libvirt, LibvirtSettings};
use greenroom::hypervisor::simulated::Damage;
use greenroom::vocab::{Deployment, MachineId};
use virt::connect::Connect;
use virt::domain::Domain;

use crate::fixture::{Backdoor, Fixture};

/// `None`, and a message, outside of the lab.
pub async fn libvirt(name: &str) -> Option<Fixture> {
    if std::env::var_os("GREENROOM_LAB_READY").is_none() {
        eprintln!("skipped: needs real virtual machines; run: vagrant/lab test --test hypervisor");
        return None;
    }
    let state = std::env::var_os("GREENROOM_STATE").expect("GREENROOM_STATE is set in the lab");
    let root = PathBuf::from(state).join("hypervisor-tests").join(name);
    let _ = std::fs::remove_dir_all(&root);
    let folder = |name: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let folders = Folders {
        disks: folder("disks"),
        templates: folder("templates"),
        consoles: folder("consoles"),
        scratch: folder("scratch"),
        images: vec![folder("image")],
    };
    // A copy, because libvirt changes the owner of what it uses.
    let image = image();
    for part in ["kernel", "initrd", "disk.qcow2"] {
        std::fs::copy(image.join(part), root.join("image").join(part)).unwrap();
    }
    let uri = std::env::var("GREENROOM_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".into());
    // The same in each run, so that a run clears what an aborted one left.
    let mut bytes = *b"behaviour suite\0";
    bytes[15] = name.len() as u8;
    let deployment = Deployment(uuid::Uuid::from_bytes(bytes));
    let mut settings = LibvirtSettings::new(&uri, deployment, folders.clone());
    settings.accelerator = AcceleratorChoice::Tcg;
    let libvirt = Libvirt::connect(settings).await.unwrap();
    let backdoor = Box::new(LibvirtBackdoor {
        uri,
        root: root.clone(),
    });
    let fixture = Fixture::new(
        libvirt,
        deployment,
        root.join("image"),
        folders.disks,
        folders.templates,
        backdoor,
    );
    for machine in fixture.hypervisor.machines().await.unwrap() {
        if machine.tag.is_some_and(|tag| tag.deployment == deployment) {
            fixture
                .hypervisor
                .destroy_machine(machine.id)
                .await
                .unwrap();
        }
    }
    Some(fixture)
}

/// Folder with kernel, initrd and disk.qcow2 of the tiny image.
fn image() -> PathBuf {
    let from =
        |variable: &str, rest: &str| Some(PathBuf::from(std::env::var_os(variable)?).join(rest));
    let places = [
        from("GREENROOM_TEST_IMAGE", ""),
        from("GREENROOM_STATE", "images/tiny"),
        from("GREENROOM_CACHE", "image-preview/tiny"),
    ];
    let found = places
        .into_iter()
        .flatten()
        .find(|folder| folder.join("kernel").exists());
    found.expect("no tiny image: name its folder in GREENROOM_TEST_IMAGE")
}

struct LibvirtBackdoor {
    uri: String,
    root: PathBuf,
}

impl LibvirtBackdoor {
    fn connect(&self) -> Connect {
        Connect::open(Some(&self.uri)).unwrap()
    }

    fn domain(&self, id: MachineId) -> Domain {
        self.connect()
            .lookup_domain_by_uuid_string(&id.to_string())
            .unwrap()
    }
}

#[async_trait]
impl Backdoor for LibvirtBackdoor {
    async fn add_stranger(&self) -> MachineId {
        let id = MachineId::fresh();
        let xml = format!(
            "<domain type='qemu'><name>stranger-{id}</name><uuid>{id}</uuid><memory unit='MiB'>16</memory>\
             <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
        );
        self.connect()
            .create_domain_xml(&xml, virt::sys::VIR_DOMAIN_START_PAUSED)
            .unwrap();
        id
    }
    async fn remove_stranger(&self, id: MachineId) {
        self.domain(id).destroy().unwrap();
    }
    async fn pause(&self, id: MachineId) {
        self.domain(id).suspend().unwrap();
    }
    async fn damage(&self, files: &TemplateFiles, damage: Damage) {
        let path = files.memory();
        let opened = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        match damage {
            Damage::Missing => std::fs::remove_file(&path).unwrap(),
            Damage::Truncated => opened().set_len(64 << 20).unwrap(),
            Damage::Changed => opened().write_all_at(b"changed", 100 << 20).unwrap(),
        }
    }
    async fn clear(&self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}
