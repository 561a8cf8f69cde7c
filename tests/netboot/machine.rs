//! A real machine: a libvirt VM with an empty disk and a network boot ROM, and the real daemon with
//! its own dnsmasq on the lab's device network. From nothing to `discovered`, and from nothing to the
//! report on what its persona does on it, nothing faked between.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Far more than it takes: a machine of two busy cores emulates another.
const PATIENCE: Duration = Duration::from_secs(240);
/// Six machines of the chain, the image's way to the disk, and the first boot from there.
const WHOLE_WAY: Duration = Duration::from_secs(2400);
const NAME: &str = "test-netboot-1";
const MAC: &str = "52:54:00:7e:57:01";

struct Bench {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Bench {
    /// `approve` as in the settings; `images` besides `device`.
    fn open(approve: &str, images: &[&str]) -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("skipped, because it needs the lab; run `vagrant/lab test --test netboot`");
            return None;
        }
        let lab = PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab sets it"));
        for image in ["device"].iter().chain(images) {
            if !lab.join("images").join(image).join("current").exists() {
                eprintln!(
                    "skipped, because the image is not built; run `vagrant/lab images {image}`"
                );
                return None;
            }
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
                "state: {}\nboot:\n  enabled: true\n  interface: gr1\n  address: 192.168.91.1\n  port: 8481\n  dhcp: full\n  first: 192.168.91.10\n  last: 192.168.91.250\n  approve: {approve}\n  consoles: {}\n  telemetry: {{ every_s: 5 }}\n",
                folder.path().display(),
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
        String::from_utf8_lossy(
            &std::fs::read(self.path(&format!("{NAME}.console"))).unwrap_or_default(),
        )
        .into_owned()
    }

    fn until(&self, what: &str, done: impl FnMut(&Self) -> bool) {
        self.within(PATIENCE, what, done);
    }

    fn within(&self, patience: Duration, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > patience {
                let log = std::fs::read_to_string(self.path("serve.log")).unwrap_or_default();
                let log: Vec<&str> = log
                    .lines()
                    .filter(|line| !line.contains("greenroom::dnsmasq"))
                    .collect();
                panic!(
                    "{what}: not within {patience:?}\nconsole:\n{}\nlog:\n{}",
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

    /// Runs a command that has to succeed.
    fn says(&self, arguments: &[&str]) {
        run(&mut greenroom(self.folder.path(), arguments));
    }

    fn power_on(&self, memory_mib: u32) {
        let disk = self.path("disk.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&disk)
            .arg("9G"));
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o666)).unwrap();
        let xml = format!(
            "<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
             <sysinfo type='smbios'><system><entry name='serial'>TEST-{NAME}</entry></system></sysinfo>
             <os><type arch='x86_64' machine='q35'>hvm</type><smbios mode='sysinfo'/><bios useserial='yes'/></os>
             <features><acpi/></features><cpu mode='maximum'/><devices>
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda' bus='virtio'/><serial>TEST-DISK</serial><boot order='2'/></disk>
             <interface type='network'><source network='devices'/><mac address='{MAC}'/><model type='virtio'/><boot order='1'/></interface>
             <serial type='file'><source path='{}'/></serial><controller type='usb' model='none'/><memballoon model='none'/>
             </devices></domain>",
            disk.display(),
            self.path(&format!("{NAME}.console")).display()
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
    let _alone = crate::field::alone();
    let Some(bench) = Bench::open("operator", &[]) else {
        return;
    };
    let begun = Instant::now();
    bench.power_on(512);
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

/// The shipped chain, with the shipped web server persona that a rule on hardware gives: to the end, which
/// is the report on what the device itself says.
#[test]
#[ignore = "takes many minutes: `vagrant/lab test --test netboot -- --ignored machine`"]
fn a_bios_machine_with_an_empty_disk_becomes_its_persona_and_is_judged_by_what_it_reports() {
    let _alone = crate::field::alone();
    let Some(bench) = Bench::open("network", &["tiny", "toolbox"]) else {
        return;
    };
    let chains = Path::new(env!("CARGO_MANIFEST_DIR")).join("chains");
    let shipped = |file: &str| chains.join(file).display().to_string();
    let personas = [
        "personas/base.yaml",
        "personas/web-server.yaml",
        "personas/db-node.yaml",
    ]
    .map(shipped);
    let mut apply = vec!["persona", "apply", "--promote"];
    apply.extend(personas.iter().flat_map(|file| ["-f", file.as_str()]));
    bench.says(&apply);
    bench.says(&[
        "persona",
        "rules",
        "apply",
        &shipped("personas/rules/hardware.yaml"),
    ]);
    bench.says(&["chain", "apply", &shipped("onboard.yaml")]);
    let serial = format!("hardware.serial=TEST-{NAME}");
    let nics = format!(r#"hardware.nics=[{{"name":"eth0","mac":"{MAC}"}}]"#);
    bench.says(&[
        "device",
        "add",
        NAME,
        "--fact",
        &serial,
        "--fact",
        &nics,
        "--fact",
        "wishes={}",
    ]);
    let begun = Instant::now();
    bench.power_on(1536);
    let state = |bench: &Bench| -> Option<Value> {
        let run = bench.json(&["run", "list", "--device", NAME])?[0].clone();
        let word = run["state"].as_str()?;
        assert!(!["failed", "held", "aborted"].contains(&word), "{run:#}");
        Some(run)
    };
    for word in ["installing", "reporting"] {
        bench.within(WHOLE_WAY, word, |bench| {
            let _ = state(bench);
            bench.device(word).is_some()
        });
        eprintln!("power-on to {word}: {:.0?}", begun.elapsed());
    }
    let run = state(&bench).expect("its run");
    assert_eq!(run["state"], "waiting", "until it was watched: {run:#}");
    bench.within(WHOLE_WAY, "the report on it", |bench| {
        state(bench).is_some_and(|run| run["state"] == "succeeded")
    });
    eprintln!("power-on to the report on it: {:.0?}", begun.elapsed());
    let output = bench
        .json(&["run", "output", &run["id"].to_string()])
        .unwrap();
    let document = &output["document"];
    assert_eq!(document["persona"]["name"], "web-server");
    let performance = &document["performance"];
    let checks = performance["checks"].as_array().expect("checks");
    let check = |name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name}: {performance:#}"))
    };
    // How long an emulated machine takes to boot says nothing; what it is does.
    for name in [
        "host name",
        "unit ssh.service",
        "unit nftables.service",
        "unit nginx.service",
        "units that failed",
        "package nginx-light",
        "packet filter",
        "open port 80",
        "open port 443",
    ] {
        assert_eq!(check(name)["passed"], true, "{performance:#}");
    }
    let boot = check("boot, seconds");
    assert!(boot["seen"].as_f64().is_some_and(|s| s > 1.0), "{boot}");
    let telemetry = bench.json(&["device", "telemetry", NAME]).unwrap();
    let hostname = document["plan"]["hostname"].as_str().unwrap();
    assert_eq!(telemetry["latest"]["hostname"], hostname);
    let metrics: Vec<&str> = telemetry["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["metric"].as_str().unwrap())
        .collect();
    for metric in [
        "cpu",
        "memory",
        "disk_read",
        "net_out",
        "root",
        "failed_units",
    ] {
        assert!(metrics.contains(&metric), "{metrics:?}");
    }
    // Its console says whose it is, and `device show` has the end of it.
    bench.until("its console greets", |bench| {
        bench.console().contains(&format!("{hostname} login:"))
    });
    let shown = greenroom(bench.folder.path(), &["device", "show", NAME])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("console\n") && shown.contains(hostname),
        "{shown}"
    );
}
