//! Real machines behind emulated BMCs: sushy-tools' emulator (Redfish over TLS) and virtualbmc (IPMI, by the
//! real `ipmitool`), both on the lab's libvirtd, the real daemon in front of them. What they did is asked
//! of libvirt.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Far more than it takes: a machine of two busy cores emulates another.
const PATIENCE: Duration = Duration::from_secs(240);

/// A daemon, and one virtual machine that is its device.
struct Bench {
    folder: tempfile::TempDir,
    daemon: Child,
    vm: &'static str,
    /// Where the lab's BMCs say how they are reached.
    bmc: PathBuf,
}

impl Bench {
    /// None: there is no lab. `boot`: the section of the configuration.
    fn open(vm: &'static str, boot: &str) -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("skipped, because it needs the lab; run `vagrant/lab test --test power`");
            return None;
        }
        let bmc = PathBuf::from(std::env::var_os("GREENROOM_BMC").expect("the lab sets it"));
        if !bmc.join("url").exists() {
            eprintln!("skipped, because the emulated BMCs are not up; run `vagrant/lab bmc up`");
            return None;
        }
        let lab = PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab sets it"));
        let folder = tempfile::Builder::new()
            .prefix("power-")
            .tempdir_in(&lab)
            .unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::os::unix::fs::symlink(lab.join("images"), folder.path().join("images")).unwrap();
        let config = format!("state: {}\n{boot}", folder.path().display());
        std::fs::write(folder.path().join("greenroom.yaml"), config).unwrap();
        let daemon = serve(folder.path());
        let bench = Self {
            folder,
            daemon,
            vm,
            bmc,
        };
        bench.until("the daemon answers", |bench| {
            bench.json(&["status"]).is_some()
        });
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.bmc.join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        greenroom(self.folder.path(), arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = self.run(&all);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn must(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{arguments:?}: {err}{}",
            String::from_utf8_lossy(out)
        );
        serde_json::from_slice(out).unwrap_or(Value::Null)
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > PATIENCE {
                let read = |name| std::fs::read(self.path(name)).unwrap_or_default();
                panic!(
                    "{what}: not within {PATIENCE:?}\nconsole:\n{}\nlog:\n{}",
                    String::from_utf8_lossy(&read("console")),
                    String::from_utf8_lossy(&read("serve.log"))
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Defines the machine, switched off; it boots from its empty disk and from nothing else, until it is
    /// told otherwise.
    fn define(&self, memory_mib: u32, network: &str, mac: &str) {
        let disk = self.path("disk.qcow2");
        must(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&disk)
                .arg("1G"),
        );
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o666)).unwrap();
        let xml = format!(
            "<domain type='qemu'><name>{vm}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
             <sysinfo type='smbios'><system><entry name='serial'>TEST-{vm}</entry></system></sysinfo>
             <os><type arch='x86_64' machine='q35'>hvm</type><smbios mode='sysinfo'/><bios useserial='yes'/></os>
             <features><acpi/></features><cpu mode='maximum'/><devices>
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/><serial>TEST-{vm}</serial><boot order='1'/></disk>
             <interface type='network'><source network='{network}'/><mac address='{mac}'/><model type='virtio'/></interface>
             <serial type='file'><source path='{console}'/></serial><controller type='usb' model='none'/><memballoon model='none'/>
             </devices></domain>",
            vm = self.vm,
            disk = disk.display(),
            console = self.path("console").display()
        );
        let file = self.path("device.xml");
        std::fs::write(&file, xml).unwrap();
        must(virsh().arg("define").arg(file));
    }

    /// Makes the machine's device known, with the lab's Redfish BMC and this password and certificate.
    fn use_redfish(&self, password_file: &Path, fingerprint: &str) {
        let (url, user) = (self.said("url"), self.said("user"));
        let file = password_file.display().to_string();
        self.must(&[
            "device",
            "bmc",
            "set",
            self.vm,
            "--redfish",
            &url,
            "--system",
            self.vm,
            "--user",
            &user,
            "--password-file",
            &file,
            "--fingerprint",
            fingerprint,
        ]);
    }

    fn is_on(&self) -> bool {
        must(virsh().args(["domstate", self.vm])).trim() == "running"
    }

    /// What libvirt would start it with: whether the network comes first.
    fn network_is_first(&self) -> bool {
        let xml = must(virsh().args(["dumpxml", "--inactive", self.vm]));
        let card = xml
            .split("<interface")
            .nth(1)
            .unwrap()
            .split("</interface>")
            .next()
            .unwrap();
        card.contains("<boot order='1'/>") || xml.contains("<boot dev='network'/>")
    }

    /// The process's number in libvirt: another one after a cold start.
    fn start_number(&self) -> String {
        must(virsh().args(["domid", self.vm]))
    }

    fn boot(&self) -> Value {
        let all = self.must(&["device", "watch", "--once"]);
        let own = all
            .as_array()
            .unwrap()
            .iter()
            .find(|view| view["device"] == self.vm);
        own.cloned().unwrap_or(Value::Null)
    }

    fn restart_daemon_hard(&mut self) {
        kill(
            Pid::from_raw(self.daemon.id().cast_signed()),
            Signal::SIGKILL,
        )
        .unwrap();
        self.daemon.wait().unwrap();
        self.daemon = serve(self.folder.path());
        self.until("the daemon answers again", |bench| {
            bench.json(&["status"]).is_some()
        });
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = virsh().args(["destroy", self.vm]).output();
        let _ = virsh().args(["undefine", self.vm]).output();
        let _ = kill(
            Pid::from_raw(self.daemon.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.daemon.wait();
    }
}

fn serve(state: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(state.join("serve.log"))
        .unwrap();
    greenroom(state, &["serve", "-v"])
        .env("GREENROOM_ACCELERATOR", "tcg")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
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

fn virsh() -> Command {
    let mut command = Command::new("virsh");
    command.args(["-q", "-c", "qemu:///system"]);
    command
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_machine_is_switched_by_redfish() {
    let Some(bench) = Bench::open("test-power-1", "") else {
        return;
    };
    let begun = Instant::now();
    bench.define(64, "greenroom", "52:54:00:70:77:01");
    let (vm, fingerprint) = (bench.vm, bench.said("fingerprint"));
    bench.must(&["device", "add", vm]);
    let right = bench.bmc.join("password");
    // Another certificate than the one that a person has seen gets no password.
    bench.use_redfish(&right, &"0".repeat(64));
    let said = bench.fails(&["device", "power", vm]);
    assert!(said.contains(&fingerprint), "{said}");
    // The real emulator refuses the login twice, and is not asked a third time.
    let wrong = bench.path("wrong");
    std::fs::write(&wrong, "hunter-two\n").unwrap();
    bench.use_redfish(&wrong, &fingerprint);
    for _ in 0..2 {
        let said = bench.fails(&["device", "bmc", "test", vm]);
        assert!(
            said.contains("refused the login") && !said.contains("hunter"),
            "{said}"
        );
    }
    assert!(
        bench
            .fails(&["device", "power", vm, "on"])
            .contains("bmc unlock")
    );
    assert_eq!(bench.must(&["device", "bmc", "show", vm])["locked"], true);
    assert!(!bench.is_on());
    bench.use_redfish(&right, &fingerprint);
    let tested = bench.must(&["device", "bmc", "test", vm]);
    assert!(
        tested["product"].as_str().unwrap().contains("Redfish"),
        "{tested}"
    );
    assert!(
        tested["boot_targets"]
            .as_array()
            .unwrap()
            .contains(&"pxe".into()),
        "{tested}"
    );
    assert_eq!(bench.must(&["device", "power", vm])["state"], "off");
    bench.must(&["device", "power", vm, "on"]);
    assert!(bench.is_on());
    assert!(!bench.network_is_first());
    let set = bench.must(&["device", "power", vm, "boot-once", "network"]);
    // This emulator keeps an override until it is changed, and that is said.
    assert_eq!(set["boot"], "pxe until changed");
    assert!(bench.network_is_first());
    let before = bench.start_number();
    bench.must(&["device", "power", vm, "cycle"]);
    assert!(bench.is_on() && bench.start_number() != before);
    bench.must(&["device", "power", vm, "boot-once", "disk"]);
    assert!(!bench.network_is_first());
    bench.must(&["device", "power", vm, "off", "--force"]);
    assert!(!bench.is_on());
    // Who did it is in the log of calls, and the password nowhere.
    let audit = bench.must(&["audit", "list"]).to_string();
    assert!(
        audit.contains("power_change") && audit.contains("bmc_set"),
        "{audit}"
    );
    let password = std::fs::read_to_string(&right).unwrap();
    let log = std::fs::read_to_string(bench.path("serve.log")).unwrap();
    assert!(!audit.contains(&password) && !log.contains(&password));
    eprintln!("by Redfish: {:.1?}", begun.elapsed());
}

/// A BMC of virtualbmc, for as long as the test takes.
struct Ipmi<'a>(&'a Bench);

impl Ipmi<'_> {
    fn vbmc(&self, arguments: &[&str]) -> Output {
        Command::new(self.0.bmc.join("bin/vbmc"))
            .args(arguments)
            .env("VIRTUALBMC_CONFIG", self.0.bmc.join("virtualbmc.conf"))
            .output()
            .unwrap()
    }

    fn start(&self, port: u16) {
        let (user, password) = (self.0.said("user"), self.0.said("password"));
        let port = port.to_string();
        let _ = self.vbmc(&["delete", self.0.vm]);
        for arguments in [
            vec![
                "add",
                self.0.vm,
                "--address",
                "127.0.0.1",
                "--port",
                &port,
                "--username",
                &user,
                "--password",
                &password,
                "--libvirt-uri",
                "qemu:///system",
            ],
            vec!["start", self.0.vm],
        ] {
            let output = self.vbmc(&arguments);
            assert!(
                output.status.success(),
                "vbmc {}: {}",
                arguments[0],
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

impl Drop for Ipmi<'_> {
    fn drop(&mut self) {
        let _ = self.vbmc(&["delete", self.0.vm]);
    }
}

#[test]
fn a_machine_is_switched_by_ipmi() {
    let Some(bench) = Bench::open("test-power-2", "") else {
        return;
    };
    let begun = Instant::now();
    bench.define(64, "greenroom", "52:54:00:70:77:02");
    let ipmi = Ipmi(&bench);
    ipmi.start(6242);
    let (vm, user) = (bench.vm, bench.said("user"));
    bench.must(&["device", "add", vm]);
    let set = |password: &Path, cipher: &str| {
        let file = password.display().to_string();
        bench.must(&[
            "device",
            "bmc",
            "set",
            vm,
            "--ipmi",
            "127.0.0.1",
            "--port",
            "6242",
            "--user",
            &user,
            "--password-file",
            &file,
            "--cipher",
            cipher,
        ]);
    };
    let right = bench.bmc.join("password");
    // virtualbmc knows the old cipher suite only, and what to do then is said.
    set(&right, "17");
    let said = bench.fails(&["device", "power", vm]);
    assert!(said.contains("--cipher 3"), "{said}");
    let wrong = bench.path("wrong");
    std::fs::write(&wrong, "hunter-two\n").unwrap();
    set(&wrong, "3");
    let said = bench.fails(&["device", "power", vm]);
    assert!(said.contains("refused the login"), "{said}");
    set(&right, "3");
    assert_eq!(bench.must(&["device", "power", vm])["state"], "off");
    let boot = bench.must(&["device", "power", vm, "boot-once", "network"]);
    assert_eq!(boot["boot"], "pxe once");
    assert!(bench.network_is_first());
    bench.must(&["device", "power", vm, "on"]);
    assert!(bench.is_on());
    bench.must(&["device", "power", vm, "off", "--force"]);
    assert!(!bench.is_on());
    eprintln!("by IPMI: {:.1?}", begun.elapsed());
}

#[test]
fn a_device_is_provisioned_anew_without_a_hand_on_its_button() {
    // A port of its own: the lab's own daemon may have 8480. There is one dnsmasq on an interface.
    let boot = "boot:\n  enabled: true\n  interface: gr1\n  address: 192.168.91.1\n  port: 8482\n  dhcp: full\n  first: 192.168.91.10\n  last: 192.168.91.250\n  approve: operator\n";
    let Some(mut bench) = Bench::open("test-power-3", boot) else {
        return;
    };
    if !bench.path("images/device/current").exists() {
        eprintln!("skipped, because the image is not built; run `vagrant/lab images device`");
        return;
    }
    let begun = Instant::now();
    let mac = "52:54:00:70:77:03";
    bench.define(512, "devices", mac);
    let vm = bench.vm;
    let hardware = format!(
        "hardware={{\"serial\": \"TEST-{vm}\", \"nics\": [{{\"mac\": \"{mac}\"}}], \"disks\": [{{\"serial\": \"TEST-{vm}\"}}]}}"
    );
    bench.must(&["device", "add", vm, "--fact", &hardware]);
    bench.use_redfish(&bench.bmc.join("password"), &bench.said("fingerprint"));
    // It comes for the first time.
    bench.must(&["device", "power", vm, "boot-once", "network"]);
    bench.must(&["device", "power", vm, "on"]);
    bench.until("it is discovered", |bench| {
        bench.boot()["state"] == "discovered"
    });
    let first = begun.elapsed();
    // As after an installation: its disk comes first, and it would never ask the network again.
    bench.must(&["device", "power", vm, "boot-once", "disk"]);
    assert!(!bench.network_is_first());
    let before = bench.start_number();
    let again = Instant::now();
    let view = bench.must(&["device", "reprovision", vm]);
    assert!(view["next"].as_str().unwrap().contains("BMC"), "{view}");
    // In the middle of it the daemon is killed; it goes on by its row.
    bench.until("its next boot is set", |bench| bench.network_is_first());
    bench.restart_daemon_hard();
    bench.until("it was started anew", |bench| {
        bench.is_on() && bench.start_number() != before
    });
    bench.until("its ramdisk has registered", |bench| {
        let events = bench.must(&["device", "watch", "--once"]);
        events.to_string().contains("\"discovered\"") && bench.boot()["since"] != view["since"]
    });
    eprintln!(
        "first boot {first:.1?}, reprovision {:.1?}",
        again.elapsed()
    );
    bench.until("it was told", |bench| {
        bench
            .run(&["device", "show", vm])
            .stdout
            .windows(21)
            .any(|text| text == b"came from the network")
    });
    let shown = bench.run(&["device", "show", vm]);
    let shown = String::from_utf8_lossy(&shown.stdout);
    for told in [
        "boots next from pxe",
        "it is off",
        "it is on; its ramdisk is awaited",
        "it came from the network",
    ] {
        assert!(shown.contains(told), "{told:?} is missing in\n{shown}");
    }
}
