//! The simulation's own promises about forks: chance comes from the seed, time stands still with the
//! guest, room is counted, and what can go wrong with a template can be ordered.

use std::sync::Arc;
use std::time::Duration;

use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::simulated::{
    Chaos, Damage, Fault, GuestFault, Latencies, Operation, SimSettings, Simulated,
};
use greenroom::hypervisor::{AttachedDisk, DiskOrder, HvError, Nic, Power, Share};
use tokio::time::{Instant, sleep};

use crate::faults::reachable;
use crate::fixture::{Fixture, Template, follow, said, script};

const UUID: &[&str] = &["cat", "/proc/sys/kernel/random/uuid"];
const MOMENT: Duration = Duration::from_millis(200);

async fn seeded(seed: u64) -> (Fixture, Arc<Simulated>, Template) {
    let chaos = Chaos {
        seed,
        ..Chaos::default()
    };
    let (f, simulated) = reachable(SimSettings {
        chaos,
        ..SimSettings::default()
    });
    let template = f.fresh_template().await;
    (f, simulated, template)
}

fn refused<T: std::fmt::Debug>(result: Result<T, HvError>) {
    assert!(matches!(result, Err(HvError::Refused(_))), "{result:?}");
}

#[tokio::test]
async fn forks_with_one_generation_id_draw_the_same_numbers() {
    let (f, simulated, template) = seeded(1).await;
    simulated.world().share_generation_ids(true);
    let mut draws = Vec::new();
    for _ in 0..2 {
        let fork = f.fork(&template.files).await;
        assert!(!said(&fork, &["dmesg"]).await.contains("reseeded"));
        draws.push(said(&fork, UUID).await);
    }
    assert_eq!(draws[0], draws[1]);
    simulated.world().share_generation_ids(false);
    let fork = f.fork(&template.files).await;
    assert_ne!(said(&fork, UUID).await, draws[0]);
}

#[tokio::test]
async fn numbers_are_the_same_for_the_same_seed() {
    let draws = async |seed| {
        let (f, _, template) = seeded(seed).await;
        let mut draws = Vec::new();
        for _ in 0..2 {
            let fork = f.fork(&template.files).await;
            draws.push(said(&fork, UUID).await);
            draws.push(said(&fork, UUID).await);
        }
        draws
    };
    let first = draws(1).await;
    assert_eq!(first, draws(1).await);
    assert_ne!(first, draws(2).await);
}

async fn identity(guest: &Guest<'_>, words: [&str; 3]) -> (i32, String) {
    // Its text does not matter: it is known by its first line.
    let text = "# greenroom-identity 1\nexit 9\n";
    let argv = [&["sh", "-c", text, "identity"][..], &words].concat();
    let done = guest.run(&argv, b"", MOMENT).await.unwrap();
    (done.exit_code, String::from_utf8(done.out).unwrap())
}

#[tokio::test]
async fn the_identity_transaction_is_done() {
    let settings = SimSettings {
        files: [("/etc/ssh/ssh_host_ed25519_key.pub".into(), "old".into())].into(),
        ..SimSettings::default()
    };
    let (f, _) = reachable(settings);
    let template = f.fresh_template().await;
    let guest = f.loaded(&template.files).await;
    let nic = Nic {
        network: "greenroom".into(),
        mac: "52:54:00:00:00:07".into(),
    };
    f.hypervisor.attach_nic(guest.machine, &nic).await.unwrap();
    f.hypervisor.resume(guest.machine).await.unwrap();
    let id = "00112233445566778899aabbccddeeff";
    let (code, out) = identity(&guest, ["shell-1", id, "1900000000"]).await;
    assert_eq!(code, 0);
    let value = |name: &str| {
        let found = out.lines().filter_map(|line| line.split_once('='));
        let mut found = found.filter(|(seen, _)| *seen == name);
        let value = found.next().expect(name).1.to_owned();
        assert_eq!(found.next(), None, "{name} twice");
        value
    };
    assert_eq!(
        [value("host_name"), value("machine_id"), value("reseeded")],
        ["shell-1", id, "yes"]
    );
    assert_eq!([value("vcpus"), value("mac")], ["1", &nic.mac]);
    assert!(value("memory_mib").parse::<u64>().unwrap() > 200);
    assert!(value("draw").parse::<uuid::Uuid>().is_ok());
    assert_eq!(said(&guest, &["hostname"]).await, "shell-1\n");
    assert_eq!(
        said(&guest, &["cat", "/etc/machine-id"]).await,
        format!("{id}\n")
    );
    let clock: u64 = said(&guest, &["date", "+%s"]).await.trim().parse().unwrap();
    assert!((1_900_000_000..1_900_000_100).contains(&clock), "{clock}");
    // A key that is nobody else's, each time.
    let key = value("key");
    let (_, again) = identity(&guest, ["shell-1", id, ""]).await;
    assert!(key != "old" && !again.contains(&key), "{again}");
    assert_ne!(identity(&guest, ["shell-1", "short", ""]).await.0, 0);
    assert_ne!(identity(&guest, ["shell-1", id, "1.5"]).await.0, 0);
}

#[tokio::test]
async fn a_guests_time_stands_still_with_it() {
    let (f, _, template) = seeded(1).await;
    let clock = async |guest: &Guest<'_>| {
        let text = said(guest, &["date", "+%s"]).await;
        text.trim().parse::<u64>().unwrap()
    };
    let still = Duration::from_secs(2);
    let awake = f.fresh().await;
    sleep(still).await;
    // A fork begins when its template was captured.
    let began = Instant::now();
    let fork = f.fork(&template.files).await;
    let (behind, ahead) = (clock(&fork).await, clock(&awake).await);
    let ran = began.elapsed().as_secs() + 1;
    assert!(behind + 2 <= ahead + ran, "{behind} {ahead}");

    let set = Instant::now();
    said(&fork, &["date", "-s", "@1900000000"]).await;
    let job = script("sleep 1\necho done");
    fork.start_job(&job).await.unwrap();
    f.hypervisor.pause(fork.machine).await.unwrap();
    let early = set.elapsed();
    sleep(still).await;
    let resumed = Instant::now();
    f.hypervisor.resume(fork.machine).await.unwrap();
    let now = clock(&fork).await;
    let ran = early + resumed.elapsed();
    assert!(
        now >= 1_900_000_000 && now <= 1_900_000_000 + ran.as_secs() + 1,
        "{now} {ran:?}"
    );
    // What slept sleeps on for as long as it still had to.
    assert_eq!(follow(&fork, job.attempt).await.unwrap().out, "done\n");
    assert!(early + resumed.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_ordered_to_fail_fails_once() {
    let (f, simulated) = reachable(SimSettings::default());
    let (world, hypervisor) = (simulated.world(), &f.hypervisor);
    let (spec, files) = f.template_spec().await;
    hypervisor.start_machine(&spec).await.unwrap();
    world.inject(Fault::CaptureFails(HvError::DiskFull("the state".into())));
    let full = hypervisor.capture(spec.id, &files).await;
    assert!(matches!(full, Err(HvError::DiskFull(_))), "{full:?}");
    refused(hypervisor.seal_template(&files).await);
    hypervisor.capture(spec.id, &files).await.unwrap();
    // Neither sealed while somebody has it, nor changed once it is captured.
    refused(hypervisor.seal_template(&files).await);
    refused(hypervisor.resume(spec.id).await);
    hypervisor.destroy_machine(spec.id).await.unwrap();
    // Nothing is forked from what anybody might still write.
    let early = f.fork_spec(&files).await;
    refused(hypervisor.start_machine(&early).await);
    hypervisor.seal_template(&files).await.unwrap();
    refused(hypervisor.start_machine(&spec).await);

    let words = || HvError::Host("as ordered".into());
    hypervisor.start_machine(&early).await.unwrap();
    world.inject(Fault::LoadFails(words()));
    assert!(hypervisor.load_fork(early.id, &files).await.is_err());
    refused(hypervisor.resume(early.id).await);
    hypervisor.load_fork(early.id, &files).await.unwrap();
    world.inject(Fault::ResumeFails(words()));
    assert!(hypervisor.resume(early.id).await.is_err());
    hypervisor.resume(early.id).await.unwrap();
    world.inject(Fault::PauseFails(words()));
    assert!(hypervisor.pause(early.id).await.is_err());
    let seen = hypervisor.machine(early.id).await.unwrap().unwrap();
    assert_eq!(seen.power, Power::Running);
    hypervisor.pause(early.id).await.unwrap();
}

#[tokio::test]
async fn a_guest_may_not_come_back() {
    let (f, simulated, template) = seeded(1).await;
    for after in [0, 1] {
        let fault = GuestFault::SilentOnceResumed { after };
        simulated.world().inject(Fault::Guest(fault));
        let guest = f.loaded(&template.files).await;
        for resume in 0..2 {
            f.hypervisor.resume(guest.machine).await.unwrap();
            let up = guest.wait_until_up(MOMENT).await;
            assert_eq!(up.is_ok(), resume < after, "{after} {resume}: {up:?}");
            f.hypervisor.pause(guest.machine).await.unwrap();
        }
    }
    // One with another memory than it had does not even begin.
    simulated
        .world()
        .damage_template(&template.files.folder, Damage::Changed);
    let guest = f.loaded(&template.files).await;
    f.hypervisor.resume(guest.machine).await.unwrap();
    let up = guest.wait_until_up(MOMENT).await;
    assert!(matches!(up, Err(HvError::AgentTimeout(..))), "{up:?}");
}

#[tokio::test]
async fn a_fork_must_fit_its_template() {
    let (f, _, template) = seeded(1).await;
    let (hypervisor, files) = (&f.hypervisor, &template.files);
    let mut spec = f.fork_spec(files).await;
    spec.growth_mib = 0;
    hypervisor.start_machine(&spec).await.unwrap();
    assert!(hypervisor.load_fork(spec.id, files).await.is_err());

    let mut bare = f.fork_spec(files).await;
    let order = DiskOrder::Overlay {
        path: "/disks/of-the-image".into(),
        base: f.base_disk.clone(),
        size_mib: 256,
    };
    hypervisor.make_disk(&order).await.unwrap();
    bare.root_disk = order.path().to_owned();
    refused(hypervisor.start_machine(&bare).await);

    // Before it is loaded nothing can be added to it: its devices must be its template's.
    let spec = f.fork_spec(files).await;
    hypervisor.start_machine(&spec).await.unwrap();
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    let share = Share {
        cpu_percent: Some(50),
        added_memory_mib: 64,
    };
    let nic = Nic {
        network: "greenroom".into(),
        mac: "52:54:00:00:00:07".into(),
    };
    refused(hypervisor.attach_disk(spec.id, &disk).await);
    refused(hypervisor.resize(spec.id, share).await);
    refused(hypervisor.attach_nic(spec.id, &nic).await);
    let other = f.fresh_template().await;
    refused(hypervisor.load_fork(spec.id, &other.files).await);
}

#[tokio::test]
async fn a_lost_reply_of_a_fork_has_its_effect() {
    let (f, simulated) = reachable(SimSettings::default());
    let (world, hypervisor) = (simulated.world(), &f.hypervisor);
    let lost = |result: Result<(), HvError>| {
        assert!(matches!(result, Err(HvError::Unreachable(_))), "{result:?}");
    };
    let lose = |operation| world.inject(Fault::LostReply(operation));
    let (spec, files) = f.template_spec().await;
    hypervisor.start_machine(&spec).await.unwrap();
    lose(Operation::Capture);
    lost(hypervisor.capture(spec.id, &files).await);
    hypervisor.destroy_machine(spec.id).await.unwrap();
    lose(Operation::Seal);
    lost(hypervisor.seal_template(&files).await.map(drop));
    let sealed = hypervisor.inspect_template(&files, true).await.unwrap();
    assert_eq!(hypervisor.seal_template(&files).await.unwrap(), sealed);

    let fork = f.fork_spec(&files).await;
    let power = async || hypervisor.machine(fork.id).await.unwrap().unwrap().power;
    hypervisor.start_machine(&fork).await.unwrap();
    lose(Operation::Load);
    lost(hypervisor.load_fork(fork.id, &files).await);
    lose(Operation::Resume);
    lost(hypervisor.resume(fork.id).await);
    assert_eq!(power().await, Power::Running);
    lose(Operation::Pause);
    lost(hypervisor.pause(fork.id).await);
    assert_eq!(power().await, Power::Paused);
    lose(Operation::Resize);
    let share = Share {
        cpu_percent: Some(70),
        added_memory_mib: 0,
    };
    lost(hypervisor.resize(fork.id, share).await);
    assert_eq!(world.cpu_percent(fork.id), Some(70));
    let nic = Nic {
        network: "greenroom".into(),
        mac: "52:54:00:00:00:07".into(),
    };
    lose(Operation::AttachNic);
    lost(hypervisor.attach_nic(fork.id, &nic).await);
    hypervisor.resume(fork.id).await.unwrap();
    let address = ["cat", "/sys/class/net/eth0/address"];
    assert_eq!(said(&f.guest(fork.id), &address).await.trim(), nic.mac);
    lose(Operation::RemoveTemplate);
    lost(hypervisor.remove_template(&files).await);
    assert!(hypervisor.templates().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_fork_takes_room_when_it_runs() {
    let (f, _, template) = seeded(1).await;
    let free = async || f.hypervisor.host().await.unwrap().free_memory_mib;
    let all = free().await;
    let fork = f.loaded(&template.files).await;
    let still = all - free().await;
    assert!((1..100).contains(&still), "{still}");
    f.hypervisor.resume(fork.machine).await.unwrap();
    assert_eq!(all - free().await, 256);
    let share = Share {
        cpu_percent: None,
        added_memory_mib: 63,
    };
    f.hypervisor.resize(fork.machine, share).await.unwrap();
    assert_eq!(all - free().await, 256 + 64);
    f.hypervisor.pause(fork.machine).await.unwrap();
    let warmed = all - free().await;
    assert!((still + 1..100).contains(&warmed), "{warmed}");
    let uses = f.hypervisor.memory_of(&[fork.machine]).await.unwrap();
    assert_eq!(uses[&fork.machine].pss_mib, warmed as f64);
    f.hypervisor.destroy_machine(fork.machine).await.unwrap();
    assert_eq!(free().await, all);
}

#[tokio::test]
async fn tools_are_there_for_short_commands() {
    let settings = SimSettings {
        tools: ["ansible".to_owned()].into(),
        ..SimSettings::default()
    };
    let (f, _) = reachable(settings);
    let guest = f.fresh().await;
    let code = async |argv: &[&str]| guest.run(argv, b"", MOMENT).await.unwrap().exit_code;
    assert_eq!(code(&["/usr/bin/ansible", "--version"]).await, 0);
    assert_eq!(code(&["sh", "-c", "ansible --version && echo"]).await, 0);
    assert_eq!(code(&["python3", "-c", "pass"]).await, 127);
    // A job that does nothing would look as if it had done its work.
    let job = script("ansible site.yml");
    guest.start_job(&job).await.unwrap();
    assert_eq!(follow(&guest, job.attempt).await.unwrap().code, 127);
}

#[tokio::test]
async fn each_step_of_a_fork_takes_its_time() {
    let unit = Duration::from_millis(20);
    let latencies = Latencies {
        create_fork: unit,
        load: 2 * unit,
        resume: 3 * unit,
        wake: 4 * unit,
        pause: 5 * unit,
        capture: 6 * unit,
        ..Latencies::default()
    };
    let (f, _) = reachable(SimSettings {
        latencies,
        ..SimSettings::default()
    });
    let began = Instant::now();
    let template = f.fresh_template().await;
    assert!(began.elapsed() >= 6 * unit);
    let began = Instant::now();
    let guest = f.loaded(&template.files).await;
    assert!(began.elapsed() >= 3 * unit);
    f.hypervisor.resume(guest.machine).await.unwrap();
    assert!(began.elapsed() >= 6 * unit);
    guest.wait_until_up(Duration::from_secs(60)).await.unwrap();
    assert!(began.elapsed() >= 10 * unit);
    let began = Instant::now();
    f.hypervisor.pause(guest.machine).await.unwrap();
    assert!(began.elapsed() >= 5 * unit);
}

#[tokio::test]
async fn a_host_may_get_another_qemu_and_bad_luck() {
    let (f, simulated, template) = seeded(3).await;
    let world = simulated.world();
    let before = f.hypervisor.host().await.unwrap().version;
    world.set_version("simulated, QEMU 10.0.3");
    let after = f.hypervisor.host().await.unwrap().version;
    assert!(before != after && after == "simulated, QEMU 10.0.3");

    let certain = |chaos: Chaos| world.chaos(Chaos { seed: 3, ..chaos });
    certain(Chaos {
        load_fails: 1.0,
        ..Chaos::default()
    });
    let spec = f.fork_spec(&template.files).await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    let loaded = f.hypervisor.load_fork(spec.id, &template.files).await;
    assert!(matches!(loaded, Err(HvError::Host(_))), "{loaded:?}");
    certain(Chaos {
        template_damaged: 1.0,
        ..Chaos::default()
    });
    let loaded = f.hypervisor.load_fork(spec.id, &template.files).await;
    assert!(loaded.is_err());
    world.calm();
    let seen = f.hypervisor.inspect_template(&template.files, true).await;
    assert_ne!(seen.unwrap(), template.seal);
}
