//! A real machine: a libvirt VM with an empty disk and a network boot ROM, and the real daemon with
//! its own dnsmasq on the lab's device network. From nothing to `discovered`, nothing faked between.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Far more than it takes: a machine of two busy cores emulates another.
const PATIENCE: Duration = Duration::from_secs(240);
const NAME: &str = "test-netboot-1";
const MAC: &str = "52:54:00:7e:57:01";

struct Bench {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Bench {
    fn open() -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("skipped, because it needs the lab; run `vagrant/lab test --test netboot`");
            return None;
        }
        let lab = PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab sets it"));
        if !lab.join("images/device/current").exists() {
            eprintln!("skipped, because the image is not built; run `vagrant/lab images device`");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("netboot-")
            .tempdir_in(&lab)
            .unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink(lab.join("images"), folder.path().join("images")).unwrap();
        let config = folder.path().join("greenroom.yaml");
        // A port of its own: the lab's own daemon may have 8480. There is one dnsmasq on an interface.
        std::fs::write(
            &config,
            format!(
                "state: {}\nboot:\n  enabled: true\n  interface: gr1\n  address: 192.168.91.1\n  port: 8481\n  dhcp: full\n  first: 192.168.91.10\n  last: 192.168.91.250\n  approve: operator\n",
                folder.path().display()
            ),
        )
        .unwrap();
        let log = std::fs::File::create(folder.path().join("serve.log")).unwrap();
        let daemon = greenroom(folder.path(), &["serve", "-v"])
            .env("GREENROOM_ACCELERATOR", "tcg")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let bench = Self { folder, daemon };
        bench.until("the daemon answers", |bench| {
            bench.json(&["status"]).is_some()
        });
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn json(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = greenroom(self.folder.path(), &all).output().unwrap();
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("console")).unwrap_or_default())
            .into_owned()
    }

    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.path("serve.log")).unwrap_or_default();
                let log: Vec<&str> = log
                    .lines()
                    .filter(|line| !line.contains("greenroom::dnsmasq"))
                    .collect();
                panic!(
                    "{what}: not within {PATIENCE:?}\nconsole:\n{}\nlog:\n{}",
                    self.console(),
                    log.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn device(&self, state: &str) -> Option<Value> {
        let all = self.json(&["device", "watch", "--once"])?;
        let found = all
            .as_array()?
            .iter()
            .find(|view| view["state"] == state && view["macs"][0] == MAC)?;
        Some(found.clone())
    }

    fn power_on(&self) {
        let disk = self.path("disk.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&disk)
            .arg("9G"));
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o666)).unwrap();
        let xml = format!(
            "<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
             <sysinfo type='smbios'><system><entry name='serial'>TEST-{NAME}</entry></system></sysinfo>
             <os><type arch='x86_64' machine='q35'>hvm</type><smbios mode='sysinfo'/><bios useserial='yes'/></os>
             <features><acpi/></features><cpu mode='maximum'/><devices>
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda' bus='virtio'/><serial>TEST-DISK</serial><boot order='2'/></disk>
             <interface type='network'><source network='devices'/><mac address='{MAC}'/><model type='virtio'/><boot order='1'/></interface>
             <serial type='file'><source path='{}'/></serial><controller type='usb' model='none'/><memballoon model='none'/>
             </devices></domain>",
            disk.display(),
            self.path("console").display()
        );
        let file = self.path("device.xml");
        std::fs::write(&file, xml).unwrap();
        run(Command::new("virsh")
            .args(["-q", "-c", "qemu:///system", "create"])
            .arg(file));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("virsh")
            .args(["-q", "-c", "qemu:///system", "destroy", NAME])
            .output();
        let _ = kill(
            Pid::from_raw(self.daemon.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.daemon.wait();
    }
}

fn greenroom(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command
        .args(arguments)
        .arg("--config")
        .arg(state.join("greenroom.yaml"))
        .env_remove("GREENROOM_STATE")
        .env_remove("GREENROOM_SOCKET");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_bios_machine_with_an_empty_disk_becomes_known() {
    let Some(bench) = Bench::open() else { return };
    let begun = Instant::now();
    bench.power_on();
    bench.until("dnsmasq hears it", |bench| {
        bench.device("seen").is_some()
            || bench.device("registered").is_some()
            || bench.device("discovered").is_some()
    });
    let seen = begun.elapsed();
    bench.until("its ramdisk runs", |bench| {
        bench.console().contains("greenroom: ramdisk up")
    });
    let up = begun.elapsed();
    bench.until("it is discovered", |bench| {
        bench.device("discovered").is_some()
    });
    let discovered = begun.elapsed();
    eprintln!("power-on to seen {seen:.1?}, to ramdisk {up:.1?}, to discovered {discovered:.1?}");
    let name = format!("device-{}", MAC.replace(':', ""));
    let device = bench.json(&["device", "show", &name]).expect("the device");
    let hardware = &device["facts"]["hardware"];
    assert_eq!(hardware["firmware"], "bios");
    assert_eq!(hardware["serial"], format!("TEST-{NAME}"));
    assert_eq!(hardware["disks"][0]["size_gib"], 9);
    assert_eq!(hardware["nics"][0]["mac"], MAC);
    // Nobody has approved it: it waits, and says for what.
    let view = bench.device("discovered").unwrap();
    assert_eq!(view["trust"], "discovery");
    assert!(view["next"].as_str().unwrap().contains("approve"), "{view}");
    bench.until("it was told to wait", |bench| {
        bench.console().contains("has to approve")
    });
    let explained = bench
        .json(&["boot", "explain", "--mac", MAC, "--arch", "0"])
        .unwrap();
    assert_eq!(explained[0]["answer"], "file undionly.kpxe by TFTP");
}
