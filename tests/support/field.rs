//! Real machines on the lab's device network, with a real daemon and its own dnsmasq before them: what
//! tests of harm and the measurement of onboarding share. Nothing between a machine's first packet and
//! its first boot from its own disk is made up.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom::api::Client;
use greenroom::api::boot::BootEventView;
use greenroom::vocab::Digest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The lab's address on that network; the daemon's port there is not that of the lab's own daemon.
pub const HOST: &str = "192.168.91.1";
const PORT: u16 = 8481;

/// There is one dnsmasq on the lab's device network: who opens a daemon there holds this meanwhile.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Field {
    pub folder: tempfile::TempDir,
    daemon: Option<Child>,
    machines: Vec<String>,
}

/// A blank machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    pub mac: String,
    pub disk: PathBuf,
    pub console: PathBuf,
}

impl Machine {
    /// What Greenroom calls it when nobody has declared it.
    pub fn device(&self) -> String {
        format!("device-{}", self.mac.replace(':', ""))
    }

    /// What it wrote so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }
}

/// How a machine starts: from the network, or from files of ours.
pub enum Start<'a> {
    Network,
    /// The same with UEFI (OVMF) instead of a BIOS.
    NetworkUefi,
    Files {
        kernel: &'a Path,
        initrd: &'a Path,
        cmdline: &'a str,
    },
}

impl Field {
    /// None outside of the lab, with the reason.
    pub fn open(approve: &str) -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("skipped, because it needs the lab; run it through `vagrant/lab`");
            return None;
        }
        let lab = PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab sets it"));
        for image in ["device", "tiny"] {
            if !lab.join("images").join(image).join("current").exists() {
                eprintln!(
                    "skipped, because an image is not built; run `vagrant/lab images {image}`"
                );
                return None;
            }
        }
        let folder = tempfile::Builder::new()
            .prefix("field-")
            .tempdir_in(&lab)
            .expect("a folder");
        mode(folder.path(), 0o711);
        for image in ["device", "tiny", "toolbox"] {
            adopt(&lab.join("images"), &folder.path().join("images"), image);
        }
        let config = format!(
            "state: {}\nboot:\n  enabled: true\n  interface: gr1\n  address: {HOST}\n  port: {PORT}\n  dhcp: full\n  first: 192.168.91.10\n  last: 192.168.91.250\n  approve: {approve}\n  streams: 8\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("greenroom.yaml"), config).expect("a file");
        let mut field = Self {
            folder,
            daemon: None,
            machines: Vec::new(),
        };
        field.start_daemon();
        Some(field)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn start_daemon(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("serve.log"))
            .expect("a log");
        let child = self
            .greenroom(&["serve", "-v"])
            .env("GREENROOM_ACCELERATOR", "tcg")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon");
        self.daemon = Some(child);
        self.until("the daemon answers", Duration::from_secs(90), |field| {
            field.json(&["status"]).is_some()
        });
    }

    /// Kills it as a power cut would.
    pub fn kill_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    pub fn greenroom(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("greenroom.yaml"))
            .env_remove("GREENROOM_STATE")
            .env_remove("GREENROOM_SOCKET");
        command
    }

    /// Its answer; none where it fails.
    pub fn json(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = self.greenroom(&all).output().expect("greenroom runs");
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// What must succeed.
    pub fn must(&self, arguments: &[&str]) {
        run(&mut self.greenroom(arguments));
    }

    /// A chain for every machine for which nobody has wishes: one stage fills `mib` of a kept disk of `size_mib` with
    /// what cannot be packed.
    pub fn apply_quick_chain(&self, size_mib: u32, mib: u32) {
        let text = format!(
            "chain: quick\nwhen: \"device.hardware.arch | default('') == 'x86_64' and device.wishes is not defined\"\nhandoff_disk:\n  size: {size_mib} MiB\n  keep: true\nstages:\n  - name: fill\n    kind: configuration\n    image: tiny\n    handoff_disk: true\n    run: |\n      #!/bin/sh\n      set -eu\n      dd if=/dev/urandom of=\"$GREENROOM_HANDOFF_DISK\" bs=1M count={mib} conv=fsync\n      echo '{{}}' > \"$GREENROOM_OUTPUT\"\n    output: {{ format: json }}\n"
        );
        let file = self.path("quick.yaml");
        std::fs::write(&file, text).expect("a file");
        self.must(&["chain", "apply", &file.display().to_string()]);
    }

    /// Everything that was noticed of a device or an address, oldest first.
    pub fn events(&self, subject: &str) -> Vec<BootEventView> {
        let client = Client::new(&self.path("greenroom.sock")).expect("a client");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(client.boot_events(Some(subject), 0))
            .unwrap_or_default()
    }

    pub fn has_event(&self, subject: &str, kind: &str) -> bool {
        self.events(subject).iter().any(|event| event.kind == kind)
    }

    /// Where each device stands.
    pub fn states(&self) -> BTreeMap<String, String> {
        let all = self.json(&["device", "watch", "--once"]);
        let all = all.as_ref().and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .filter_map(|view| {
                let word = |key: &str| view[key].as_str().map(str::to_owned);
                Some((word("device")?, word("state")?))
            })
            .collect()
    }

    pub fn state(&self, name: &str) -> String {
        let state = self.states().remove(name);
        state.unwrap_or_else(|| "absent".to_owned())
    }

    pub fn until(&self, what: &str, patience: Duration, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > patience {
                panic!(
                    "{what}: not within {patience:?}\nlog:\n{}",
                    self.log_without_dnsmasq()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    fn log_without_dnsmasq(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("greenroom::dnsmasq"))
            .collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// A machine with an empty disk, off. `n` makes its name, its address and its serial.
    pub fn add(&mut self, n: u8, memory_mib: u32, start: &Start<'_>) -> Machine {
        let machine = Machine {
            name: format!("field-{n}"),
            mac: format!("52:54:00:7e:58:{n:02x}"),
            disk: self.path(&format!("field-{n}.qcow2")),
            console: self.path(&format!("field-{n}.console")),
        };
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&machine.disk)
            .arg("9G"));
        mode(&machine.disk, 0o666);
        self.define(&machine, &machine.mac, memory_mib, start);
        self.machines.push(machine.name.clone());
        machine
    }

    /// Defines it (again), with this address on its card.
    pub fn define(&self, machine: &Machine, mac: &str, memory_mib: u32, start: &Start<'_>) {
        let (boot, order) = match start {
            Start::Network => (String::new(), "<boot order='1'/>"),
            Start::NetworkUefi => (
                format!(
                    "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{}</nvram>",
                    self.path(&format!("{}.nvram", machine.name)).display()
                ),
                "<boot order='1'/>",
            ),
            Start::Files {
                kernel,
                initrd,
                cmdline,
            } => (
                format!(
                    "<kernel>{}</kernel><initrd>{}</initrd><cmdline>{cmdline}</cmdline>",
                    kernel.display(),
                    initrd.display()
                ),
                "",
            ),
        };
        let disk_order = if order.is_empty() {
            ""
        } else {
            "<boot order='2'/>"
        };
        let name = &machine.name;
        // libvirt defines a name anew only under the same UUID.
        let digest = Digest::of(name.as_bytes()).to_string();
        let uuid = format!(
            "{}-{}-4{}-8{}-{}",
            &digest[..8],
            &digest[8..12],
            &digest[12..15],
            &digest[15..18],
            &digest[18..30]
        );
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
             <sysinfo type='smbios'><system><entry name='serial'>TEST-{name}</entry></system></sysinfo>
             <os><type arch='x86_64' machine='q35'>hvm</type>{boot}<smbios mode='sysinfo'/><bios useserial='yes' rebootTimeout='0'/></os>
             <features><acpi/></features><cpu mode='maximum'/><on_reboot>restart</on_reboot><devices>
             <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/><source file='{}'/><target dev='vda' bus='virtio'/><serial>DISK-{name}</serial>{disk_order}</disk>
             <interface type='network'><source network='devices'/><mac address='{mac}'/><model type='virtio'/>{order}</interface>
             <serial type='file'><source path='{}' append='on'/></serial><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
             <controller type='usb' model='none'/><memballoon model='none'/>
             </devices></domain>",
            machine.disk.display(),
            machine.console.display()
        );
        let file = self.path(&format!("{name}.xml"));
        std::fs::write(&file, xml).expect("a file");
        run(virsh().arg("define").arg(file));
    }

    pub fn power_on(&self, machine: &Machine) {
        run(virsh().args(["start", &machine.name]));
    }

    /// As when the plug is pulled.
    pub fn power_off(&self, machine: &Machine) {
        run(virsh().args(["destroy", &machine.name]));
    }

    pub fn power_off_if_on(&self, machine: &Machine) {
        if self.is_on(machine) {
            self.power_off(machine);
        }
    }

    /// With its disk; what it said stays.
    pub fn remove(&mut self, machine: &Machine) {
        self.power_off_if_on(machine);
        run(virsh().args(["undefine", "--nvram", &machine.name]));
        self.machines.retain(|name| *name != machine.name);
        std::fs::remove_file(&machine.disk).expect("its disk");
    }

    pub fn is_on(&self, machine: &Machine) -> bool {
        let output = virsh().args(["domstate", &machine.name]).output();
        output.is_ok_and(|output| output.stdout.starts_with(b"running"))
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        for name in &self.machines {
            let _ = virsh().args(["destroy", name]).output();
            let _ = virsh().args(["undefine", "--nvram", name]).output();
        }
        if let Some(mut child) = self.daemon.take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// An image of the lab as one of a state of its own: the same files under other names, because a host
/// opens only what is in its own state.
fn adopt(from: &Path, to: &Path, image: &str) {
    let Ok(digest) = std::fs::read_to_string(from.join(image).join("current")) else {
        return;
    };
    let (old, new) = (from.join(image), to.join(image));
    let (files, home) = (old.join(digest.trim()), new.join(digest.trim()));
    std::fs::create_dir_all(&home).expect("a folder");
    for entry in std::fs::read_dir(&files).expect("an image") {
        let name = entry.expect("a file").file_name();
        if name == "manifest.json" {
            let text = std::fs::read_to_string(files.join(&name)).expect("a manifest");
            let text = text.replace(&from.display().to_string(), &to.display().to_string());
            std::fs::write(home.join(&name), text).expect("a file");
        } else {
            std::fs::hard_link(files.join(&name), home.join(&name)).expect("a link");
        }
    }
    for folder in [to, &new, &home] {
        mode(folder, 0o711);
    }
    std::fs::write(new.join("current"), digest).expect("a name");
}

fn virsh() -> Command {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", "qemu:///system"]);
    command
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our own file");
}

pub fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
