//! What only real VMs can show, with tiny guests in the lab.
//!
//! The rules that hold for every hypervisor are in `tests/hypervisor`; here is what belongs to
//! libvirt: tags of strangers, its death, its events, silent guests, the accelerator probe.

mod fork_measure;
mod fork_yard;
mod forks;
mod measure;
mod raw;
mod runner;
mod yard;

use std::time::{Duration, Instant};

use greenroom::hypervisor::libvirt::{AcceleratorChoice, Libvirt};
use greenroom::hypervisor::{
    AttachedDisk, DiskOrder, HvError, Hypervisor, MachineEvent, Nic, Power,
};
use greenroom::vocab::machine::Accelerator;
use greenroom::vocab::{Deployment, MachineId};
use nix::sys::signal::Signal;
use tokio::sync::{RwLock, broadcast};
use yard::{PING, Yard};

/// Held for reading by whoever needs a libvirtd that stays, for writing by whoever kills it.
pub static LIBVIRTD: RwLock<()> = RwLock::const_new(());

pub async fn heard(
    events: &mut broadcast::Receiver<MachineEvent>,
    wanted: impl Fn(&MachineEvent) -> bool,
) -> MachineEvent {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the event did not come")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_starts_answers_and_ends() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("life").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let mut events = libvirt.events();
    let mut spec = yard.spec().await;
    spec.nic = Some(Nic {
        network: "greenroom".to_owned(),
        mac: "52:54:00:aa:bb:01".to_owned(),
    });
    spec.size.network_kbytes_per_s = Some(5000);
    spec.cmdline = "cryptomgr.notests".to_owned();
    assert_eq!(libvirt.machine(spec.id).await.unwrap(), None);
    assert!(matches!(
        libvirt.agent(spec.id, PING, Duration::from_secs(1)).await,
        Err(HvError::NoSuchMachine(_))
    ));

    libvirt.start_machine(&spec).await.unwrap();
    libvirt.start_machine(&spec).await.unwrap();
    let mut other_tag = spec.clone();
    other_tag.tag.generation += 1;
    assert!(matches!(
        libvirt.start_machine(&other_tag).await,
        Err(HvError::Refused(_))
    ));

    yard.wait_for_agent(spec.id).await;
    let seen = libvirt.machine(spec.id).await.unwrap().unwrap();
    assert_eq!(
        (seen.tag.as_ref(), seen.power, seen.name.as_str()),
        (Some(&spec.tag), Power::Running, spec.name.as_str())
    );
    assert!(libvirt.machines().await.unwrap().contains(&seen));
    assert_eq!(
        yard.shell(spec.id, "ls /sys/class/net | grep -c eth0")
            .await,
        "1"
    );
    let usage = libvirt.usage(spec.id).await.unwrap();
    assert!(usage.cpu_ms > 100.0 && usage.rss_mib > 20.0, "{usage:?}");
    let console = libvirt.console_tail(spec.id, 1 << 20).await.unwrap();
    assert!(
        String::from_utf8_lossy(&console).contains("Linux version"),
        "{} bytes",
        console.len()
    );

    libvirt.destroy_machine(spec.id).await.unwrap();
    libvirt.destroy_machine(spec.id).await.unwrap();
    assert_eq!(libvirt.machine(spec.id).await.unwrap(), None);
    assert!(matches!(
        libvirt.usage(spec.id).await,
        Err(HvError::NoSuchMachine(_))
    ));
    assert_eq!(
        libvirt.console_tail(spec.id, 10).await.unwrap().len(),
        10,
        "the log outlives its machine"
    );

    heard(&mut events, |event| {
        *event == MachineEvent::Started(spec.id)
    })
    .await;
    heard(&mut events, |event| {
        *event == MachineEvent::AgentConnected(spec.id, true)
    })
    .await;
    heard(
        &mut events,
        |event| matches!(event, MachineEvent::Stopped(id, _) if *id == spec.id),
    )
    .await;
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_disk_belongs_to_one_machine_at_a_time() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("disks").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let disk = AttachedDisk {
        path: yard.disk("handoff.raw"),
        serial: "handoff".to_owned(),
    };
    libvirt
        .make_disk(&DiskOrder::Raw {
            path: disk.path.clone(),
            size_mib: 8,
        })
        .await
        .unwrap();
    let (first, second) = tokio::join!(yard.guest(), yard.guest());

    libvirt.attach_disk(first, &disk).await.unwrap();
    libvirt.attach_disk(first, &disk).await.unwrap();
    let by_serial = r#"for i in $(seq 100); do for b in /sys/block/vd*; do [ "$(cat $b/serial)" = handoff ] && cat $b/size && exit; done; sleep 0.1; done"#;
    assert_eq!(
        yard.shell(first, by_serial).await,
        "16384",
        "8 MiB in sectors of 512 bytes"
    );
    assert_eq!(
        libvirt.machine(first).await.unwrap().unwrap().attached,
        std::slice::from_ref(&disk.path)
    );

    assert!(matches!(
        libvirt.attach_disk(second, &disk).await,
        Err(HvError::Refused(_))
    ));
    libvirt.detach_disk(second, &disk).await.unwrap();
    libvirt.detach_disk(first, &disk).await.unwrap();
    libvirt.detach_disk(first, &disk).await.unwrap();
    assert_eq!(yard.shell(first, "ls -d /sys/block/vdb").await, "");

    libvirt.attach_disk(second, &disk).await.unwrap();
    libvirt.destroy_machine(second).await.unwrap();
    libvirt.detach_disk(second, &disk).await.unwrap();
    libvirt.attach_disk(first, &disk).await.unwrap();
    let root = AttachedDisk {
        path: yard.disk(&format!("{first}.qcow2")),
        serial: "root".to_owned(),
    };
    assert!(matches!(
        libvirt.detach_disk(first, &root).await,
        Err(HvError::Refused(_))
    ));
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_never_touched() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("strangers").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let stranger = MachineId::fresh();
    let connect = virt::connect::Connect::open(Some(&yard.settings.uri)).unwrap();
    let xml = format!(
        "<domain type='qemu'><name>stranger-{stranger}</name><uuid>{stranger}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>
         <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    );
    let domain = connect
        .create_domain_xml(&xml, virt::sys::VIR_DOMAIN_START_PAUSED)
        .unwrap();
    // The same software, another installation.
    let mut settings = yard.settings.clone();
    settings.deployment = Deployment::fresh();
    settings.accelerator = AcceleratorChoice::Tcg;
    let other = Libvirt::connect(settings.clone()).await.unwrap();
    let mut spec = yard.spec().await;
    spec.tag.deployment = settings.deployment;
    other.start_machine(&spec).await.unwrap();

    let disk = AttachedDisk {
        path: yard.disk("d.raw"),
        serial: "d".to_owned(),
    };
    libvirt
        .make_disk(&DiskOrder::Raw {
            path: disk.path.clone(),
            size_mib: 1,
        })
        .await
        .unwrap();
    for id in [stranger, spec.id] {
        assert!(matches!(
            libvirt.destroy_machine(id).await,
            Err(HvError::Refused(_))
        ));
        assert!(matches!(
            libvirt.attach_disk(id, &disk).await,
            Err(HvError::Refused(_))
        ));
        assert!(matches!(
            libvirt.detach_disk(id, &disk).await,
            Err(HvError::Refused(_))
        ));
        assert!(matches!(
            libvirt.agent(id, PING, Duration::from_secs(2)).await,
            Err(HvError::Refused(_))
        ));
    }
    assert!(matches!(
        libvirt.start_machine(&spec).await,
        Err(HvError::Refused(_))
    ));
    let listed = libvirt.machines().await.unwrap();
    let seen = |id| listed.iter().find(|machine| machine.id == id).unwrap();
    assert_eq!(
        (seen(stranger).tag.as_ref(), seen(stranger).power),
        (None, Power::Paused)
    );
    assert_eq!(seen(spec.id).tag.as_ref(), Some(&spec.tag));

    other.destroy_machine(spec.id).await.unwrap();
    domain.destroy().unwrap();
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_guest_slows_no_other_down() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("silent").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let (silent, lively) = tokio::join!(yard.guest(), yard.guest());
    let stop = r#"{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-c","kill -STOP $PPID"]}}"#;
    let _ = libvirt.agent(silent, stop, Duration::from_secs(5)).await;
    // The agent answers before the shell that stops it has run.
    while libvirt
        .agent(silent, PING, Duration::from_secs(2))
        .await
        .is_ok()
    {}
    let began = Instant::now();
    let calls = (0..20).map(|_| libvirt.agent(silent, PING, Duration::from_secs(3)));
    let waiting = futures::future::join_all(calls);
    let asking = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let asked = Instant::now();
            libvirt
                .agent(lively, PING, Duration::from_secs(5))
                .await
                .unwrap();
            libvirt.machine(lively).await.unwrap().unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (results, slowest) = tokio::join!(waiting, asking);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(HvError::AgentTimeout(..)))),
        "{results:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "each caller gives up at its own deadline: {:?}",
        began.elapsed()
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_libvirtd_is_survived() {
    let _dies = LIBVIRTD.write().await;
    let Some(yard) = Yard::new("death").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let guest = yard.guest().await;
    let mut events = libvirt.events();
    signal_libvirtd(Signal::SIGKILL);
    heard(&mut events, |event| *event == MachineEvent::Disconnected).await;
    let asked = Instant::now();
    assert!(matches!(
        libvirt.machines().await,
        Err(HvError::Unreachable(_))
    ));
    assert!(matches!(
        libvirt.start_machine(&yard.spec().await).await,
        Err(HvError::Unreachable(_))
    ));
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "an outage is said at once"
    );

    heard(&mut events, |event| *event == MachineEvent::Reconnected).await;
    assert_eq!(
        libvirt.machine(guest).await.unwrap().unwrap().power,
        Power::Running
    );
    yard.wait_for_agent(guest).await;
    libvirt.destroy_machine(guest).await.unwrap();
    // Subscriptions were renewed as well.
    heard(
        &mut events,
        |event| matches!(event, MachineEvent::Stopped(id, _) if *id == guest),
    )
    .await;
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_libvirtd_that_hangs_holds_nobody_up() {
    let _hangs = LIBVIRTD.write().await;
    let Some(yard) = Yard::new("hang").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let mut events = libvirt.events();
    signal_libvirtd(Signal::SIGSTOP);
    let goes_on = GoesOn;
    let began = Instant::now();
    let asked = libvirt.machines().await;
    assert!(
        asked.is_err() && began.elapsed() < Duration::from_secs(17),
        "{asked:?} after {:?}",
        began.elapsed()
    );
    heard(&mut events, |event| *event == MachineEvent::Disconnected).await;
    let began = Instant::now();
    assert!(matches!(
        libvirt.machines().await,
        Err(HvError::Unreachable(_))
    ));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    drop(goes_on);
    heard(&mut events, |event| *event == MachineEvent::Reconnected).await;
    libvirt.machines().await.unwrap();
    yard.clear().await;
}

/// Of the lab only: the file is in its own `/run`.
pub fn signal_libvirtd(signal: Signal) {
    let pid = std::fs::read_to_string("/run/libvirtd.pid")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Lets libvirtd go on, also when the test fails.
struct GoesOn;

impl Drop for GoesOn {
    fn drop(&mut self) {
        signal_libvirtd(Signal::SIGCONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accelerator_is_proved_once_per_boot() {
    let _stays = LIBVIRTD.read().await;
    let Some(settings) = Yard::settings("probe") else {
        return;
    };
    let yard = Yard::with(settings.clone()).await;
    let first = yard.libvirt.host().await.unwrap();
    eprintln!(
        "{}: {:?}, {}",
        first.version, first.accelerator, first.accelerator_reason
    );
    let began = Instant::now();
    let again = Libvirt::connect(settings.clone()).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "the verdict was kept"
    );
    let second = again.host().await.unwrap();
    assert_eq!(
        (second.accelerator, second.accelerator_reason),
        (first.accelerator, first.accelerator_reason)
    );
    let left = again.machines().await.unwrap();
    assert!(
        !left
            .iter()
            .any(|machine| machine.name.starts_with("gr-probe-")),
        "{left:?}"
    );
    let mut chosen = settings;
    chosen.accelerator = AcceleratorChoice::Tcg;
    let chosen = Libvirt::connect(chosen)
        .await
        .unwrap()
        .host()
        .await
        .unwrap();
    assert_eq!(chosen.accelerator, Accelerator::Tcg);
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_qemu_cannot_reach_are_said_clearly() {
    let _stays = LIBVIRTD.read().await;
    let Some(mut settings) = Yard::settings("reach") else {
        return;
    };
    settings.accelerator = AcceleratorChoice::Tcg;
    let images = &settings.folders.images[0];
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(images, std::fs::Permissions::from_mode(0o700)).unwrap();
    let Err(error) = Libvirt::connect(settings.clone()).await else {
        panic!("it should be refused")
    };
    assert!(
        error
            .to_string()
            .contains(&format!("chmod o+x {}", images.display())),
        "{error}"
    );
    std::fs::remove_dir_all(images.parent().unwrap()).unwrap();
}
