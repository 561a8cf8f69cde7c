//! Forks: a common past, futures of their own, and what is asked of a machine that stands still.

use std::time::Duration;

use greenroom::hypervisor::guest::{Content, Guest, Job};
use greenroom::hypervisor::{AttachedDisk, HvError, Nic, Power, Share};
use greenroom::vocab::MachineId;

use crate::fixture::{Fixture, GROWTH_MIB, done, follow, said, script};

const PING: &str = r#"{"execute":"guest-ping"}"#;

fn refused(result: Result<(), HvError>) {
    assert!(matches!(result, Err(HvError::Refused(_))), "{result:?}");
}

async fn power(f: &Fixture, id: MachineId) -> Power {
    f.hypervisor.machine(id).await.unwrap().unwrap().power
}

async fn destroy(f: &Fixture, guests: &[Guest<'_>]) {
    for guest in guests {
        f.hypervisor.destroy_machine(guest.machine).await.unwrap();
    }
}

pub async fn forks_share_a_past_and_no_future(f: &Fixture) {
    let template = f.template().await;
    let (one, two) = (f.fork(&template.files).await, f.fork(&template.files).await);
    for (guest, text) in [(&one, "one"), (&two, "two")] {
        assert_eq!(said(guest, &["cat", "/tmp/past"]).await, "the past");
        let own = format!("/tmp/of-{text}");
        guest.write_file(&own, text.as_bytes()).await.unwrap();
        guest
            .write_file("/tmp/past", text.as_bytes())
            .await
            .unwrap();
    }
    let absent = one.read_file("/tmp/of-two", 100).await.unwrap();
    assert_eq!(absent, Content::Missing);
    assert_eq!(said(&one, &["cat", "/tmp/past"]).await, "one");
    assert_eq!(said(&two, &["cat", "/tmp/past"]).await, "two");
    // What ran in the template runs in both, and ends in each as that one says.
    for (guest, text) in [(&one, "one"), (&two, "two")] {
        guest.write_file("/tmp/end", text.as_bytes()).await.unwrap();
        let done = follow(guest, template.waiting).await.unwrap();
        assert_eq!((done.code, done.out.as_str()), (0, text), "{done:?}");
    }
    // A third one knows of neither.
    let three = f.fork(&template.files).await;
    assert_eq!(said(&three, &["cat", "/tmp/past"]).await, "the past");
    destroy(f, &[one, two, three]).await;
}

pub async fn forks_draw_different_numbers(f: &Fixture) {
    let files = &f.template().await.files;
    let mut draws = Vec::new();
    for _ in 0..3 {
        let guest = f.fork(files).await;
        // The kernel says so a moment after the guest goes on.
        let mut tries = 0;
        while !said(&guest, &["dmesg"]).await.contains("crng reseeded") {
            tries += 1;
            assert!(tries < 100, "no reseed: is there a generation id?");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        draws.push(said(&guest, &["cat", "/proc/sys/kernel/random/uuid"]).await);
        destroy(f, &[guest]).await;
    }
    assert!(draws.iter().all(|draw| draw.len() == 37), "{draws:?}");
    draws.sort();
    draws.dedup();
    assert_eq!(draws.len(), 3, "{draws:?}");
}

pub async fn a_fork_stands_still_until_it_goes_on(f: &Fixture) {
    let files = &f.template().await.files;
    let spec = f.fork_spec(files).await;
    let (hypervisor, id) = (&f.hypervisor, spec.id);
    hypervisor.start_machine(&spec).await.unwrap();
    hypervisor.start_machine(&spec).await.unwrap();
    let silent = async || {
        assert_eq!(power(f, id).await, Power::Paused);
        let answer = hypervisor.agent(id, PING, Duration::from_secs(1)).await;
        let error = answer.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    };
    silent().await;
    refused(hypervisor.resume(id).await);
    silent().await;
    for _ in 0..2 {
        hypervisor.load_fork(id, files).await.unwrap();
        silent().await;
    }
    let guest = f.guest(id);
    for _ in 0..2 {
        for _ in 0..2 {
            hypervisor.resume(id).await.unwrap();
            assert_eq!(power(f, id).await, Power::Running);
        }
        guest.wait_until_up(f.boot_deadline).await.unwrap();
        // Asked late, it changes nothing.
        hypervisor.load_fork(id, files).await.unwrap();
        hypervisor.start_machine(&spec).await.unwrap();
        assert_eq!(said(&guest, &["echo", "here"]).await, "here\n");
        for _ in 0..2 {
            hypervisor.pause(id).await.unwrap();
            silent().await;
        }
    }
    destroy(f, &[guest]).await;
}

pub async fn a_fork_with_another_tag_is_refused(f: &Fixture) {
    let files = &f.template().await.files;
    let spec = f.fork_spec(files).await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    let mut other = spec.clone();
    other.tag.generation += 1;
    refused(f.hypervisor.start_machine(&other).await);
    let seen = f.hypervisor.machine(spec.id).await.unwrap().unwrap();
    assert_eq!(seen.tag.as_ref(), Some(&spec.tag));
    // It goes although nothing was loaded into it.
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    assert_eq!(f.hypervisor.machine(spec.id).await.unwrap(), None);
}

pub async fn what_forks_do_leaves_their_template_as_it_was(f: &Fixture) {
    let template = f.template().await;
    let files = &template.files;
    let guest = f.fork(files).await;
    let busy = script("head -c 4000000 /dev/zero > /tmp/much\nsync\n");
    assert_eq!(done(&guest, &busy).await.code, 0);
    destroy(f, &[guest]).await;
    let now = f.hypervisor.inspect_template(files, true).await.unwrap();
    assert_eq!(now, template.seal);
    let again = f.fork(files).await;
    assert_eq!(said(&again, &["cat", "/tmp/past"]).await, "the past");
    destroy(f, &[again]).await;
}

/// `MemTotal` of a guest, KiB.
async fn mem_total_kib(guest: &Guest<'_>) -> u64 {
    let text = said(guest, &["cat", "/proc/meminfo"]).await;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// Waits until the guest has made all of an addition its own, and returns what it has then, KiB.
async fn grown(guest: &Guest<'_>, to_kib: u64) -> u64 {
    for _ in 0..300 {
        let now = mem_total_kib(guest).await;
        if now >= to_kib {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = mem_total_kib(guest).await;
    panic!("the guest has {now} KiB instead of {to_kib}");
}

pub async fn memory_grows_as_asked(f: &Fixture) {
    let guest = f.fork(&f.template().await.files).await;
    let before = mem_total_kib(&guest).await;
    let share = |added_memory_mib| Share {
        cpu_percent: None,
        added_memory_mib,
    };
    f.hypervisor.pause(guest.machine).await.unwrap();
    for _ in 0..2 {
        f.hypervisor.resize(guest.machine, share(64)).await.unwrap();
    }
    f.hypervisor.resume(guest.machine).await.unwrap();
    let larger = grown(&guest, before + (64 << 10)).await;
    // Asked again it is not added again, and it grows while it runs.
    f.hypervisor.resize(guest.machine, share(64)).await.unwrap();
    assert_eq!(mem_total_kib(&guest).await, larger);
    f.hypervisor
        .resize(guest.machine, share(GROWTH_MIB))
        .await
        .unwrap();
    let largest = grown(&guest, before + (GROWTH_MIB << 10)).await;
    let more = f
        .hypervisor
        .resize(guest.machine, share(GROWTH_MIB + 64))
        .await;
    assert!(more.is_err());
    assert_eq!(mem_total_kib(&guest).await, largest);
    destroy(f, &[guest]).await;
}

pub async fn processor_time_is_shared_out(f: &Fixture) {
    let guest = f.loaded(&f.template().await.files).await;
    let share = |cpu_percent| Share {
        cpu_percent,
        added_memory_mib: 0,
    };
    for percent in [Some(50), Some(50), None, Some(100)] {
        f.hypervisor
            .resize(guest.machine, share(percent))
            .await
            .unwrap();
    }
    f.hypervisor.resume(guest.machine).await.unwrap();
    guest.wait_until_up(f.boot_deadline).await.unwrap();
    f.hypervisor
        .resize(guest.machine, share(None))
        .await
        .unwrap();
    assert_eq!(said(&guest, &["echo", "here"]).await, "here\n");
    destroy(f, &[guest]).await;
}

/// Waits until the guest shows the MAC address for a card.
async fn shows(guest: &Guest<'_>, card: &str, mac: &str) {
    let path = format!("/sys/class/net/{card}/address");
    let mut seen = None;
    for _ in 0..300 {
        let done = guest
            .run(&["cat", &path], b"", Duration::from_secs(60))
            .await
            .unwrap();
        seen = Some(String::from_utf8(done.out).unwrap());
        if seen.as_deref().map(str::trim) == Some(mac) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{card} has {seen:?} instead of {mac}");
}

pub async fn a_fork_gets_network_cards_of_its_own(f: &Fixture) {
    let guest = f.loaded(&f.template().await.files).await;
    let card = |n: u32| Nic {
        network: "greenroom".into(),
        mac: format!("52:54:00:67:{:02x}:{n:02x}", f.next() % 256),
    };
    let (first, second) = (card(1), card(2));
    for _ in 0..2 {
        f.hypervisor
            .attach_nic(guest.machine, &first)
            .await
            .unwrap();
    }
    f.hypervisor.resume(guest.machine).await.unwrap();
    guest.wait_until_up(f.boot_deadline).await.unwrap();
    shows(&guest, "eth0", &first.mac).await;
    for _ in 0..2 {
        f.hypervisor
            .attach_nic(guest.machine, &second)
            .await
            .unwrap();
    }
    shows(&guest, "eth1", &second.mac).await;
    destroy(f, &[guest]).await;
}

pub async fn disks_travel_between_forks(f: &Fixture) {
    let files = &f.template().await.files;
    let (writer, reader) = (f.loaded(files).await, f.fork(files).await);
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    let on_disk = |text: &str| Job {
        disk_serial: Some("handoff".into()),
        ..script(text)
    };
    // Attached while it stands still, detached while it runs.
    f.hypervisor
        .attach_disk(writer.machine, &disk)
        .await
        .unwrap();
    f.hypervisor.resume(writer.machine).await.unwrap();
    writer.wait_until_up(f.boot_deadline).await.unwrap();
    let wrote = done(
        &writer,
        &on_disk("printf %s carried > \"$GREENROOM_HANDOFF_DISK\""),
    )
    .await;
    assert_eq!(wrote.code, 0, "{wrote:?}");
    refused(f.hypervisor.attach_disk(reader.machine, &disk).await);
    for _ in 0..2 {
        f.hypervisor
            .detach_disk(writer.machine, &disk)
            .await
            .unwrap();
    }
    f.hypervisor
        .attach_disk(reader.machine, &disk)
        .await
        .unwrap();
    let read = done(&reader, &on_disk("head -c 7 \"$GREENROOM_HANDOFF_DISK\"")).await;
    assert_eq!(read.out, "carried", "{read:?}");
    f.hypervisor
        .detach_disk(reader.machine, &disk)
        .await
        .unwrap();
    destroy(f, &[writer, reader]).await;
}

pub async fn the_memory_of_forks_is_counted(f: &Fixture) {
    let files = &f.template().await.files;
    let (still, ran) = (f.loaded(files).await, f.fork(files).await);
    assert_eq!(said(&ran, &["echo", "here"]).await, "here\n");
    f.hypervisor.pause(ran.machine).await.unwrap();
    let gone = MachineId::fresh();
    let ids = [still.machine, gone, ran.machine];
    let uses = f.hypervisor.memory_of(&ids).await.unwrap();
    assert_eq!(uses.len(), 2, "{uses:?}");
    for used in uses.values() {
        assert!(
            used.private_mib > 1.0 && used.pss_mib >= used.private_mib,
            "{used:?}"
        );
    }
    let (still_used, ran_used) = (uses[&still.machine], uses[&ran.machine]);
    assert!(
        ran_used.private_mib > still_used.private_mib,
        "{still_used:?} {ran_used:?}"
    );
    destroy(f, &[still, ran]).await;
    assert!(f.hypervisor.memory_of(&ids).await.unwrap().is_empty());
    assert!(f.hypervisor.memory_of(&[]).await.unwrap().is_empty());
}

pub async fn only_machines_of_ours_are_changed(f: &Fixture) {
    let files = &f.template().await.files;
    let share = Share {
        cpu_percent: None,
        added_memory_mib: 0,
    };
    let nic = Nic {
        network: "greenroom".into(),
        mac: "52:54:00:67:00:00".into(),
    };
    let all = async |id| {
        [
            f.hypervisor.pause(id).await,
            f.hypervisor.resume(id).await,
            f.hypervisor.resize(id, share).await,
            f.hypervisor.attach_nic(id, &nic).await,
            f.hypervisor.capture(id, files).await,
            f.hypervisor.load_fork(id, files).await,
        ]
    };
    let stranger = f.backdoor.add_stranger().await;
    let before = f.hypervisor.machine(stranger).await.unwrap();
    for result in all(stranger).await {
        refused(result);
    }
    assert_eq!(f.hypervisor.machine(stranger).await.unwrap(), before);
    f.backdoor.remove_stranger(stranger).await;

    for result in all(MachineId::fresh()).await {
        assert!(
            matches!(result, Err(HvError::NoSuchMachine(_))),
            "{result:?}"
        );
    }
    // And no machine that was started for something else.
    refused(
        f.hypervisor
            .load_fork(f.shared().await.machine, files)
            .await,
    );
}
