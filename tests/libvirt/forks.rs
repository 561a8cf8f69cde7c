//! Templates and forks with real guests: what siblings share, what is their own, what is refused.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use greenroom::hypervisor::{
    DiskOrder, HvError, Hypervisor, MachineEvent, Nic, Power, Share, Start,
};
use greenroom::vocab::MachineId;
use nix::sys::signal::Signal;

use crate::fork_yard::GROWTH_MIB;
use crate::yard::{PING, Yard};
use crate::{LIBVIRTD, heard, signal_libvirtd};

fn refusal<T: std::fmt::Debug>(result: Result<T, HvError>) -> String {
    match result {
        Err(HvError::Refused(why)) => why,
        other => panic!("it should be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn siblings_start_alike_and_go_their_own_ways() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("siblings").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let (spec, files) = yard.template_machine().await;
    libvirt.start_machine(&spec).await.unwrap();
    yard.shell(spec.id, "mkdir -p /tmp; echo nonce-71 > /tmp/nonce")
        .await;
    let why = refusal(libvirt.seal_template(&files).await);
    assert!(why.contains("destroy it before"), "{why}");
    libvirt.capture(spec.id, &files).await.unwrap();
    libvirt.capture(spec.id, &files).await.unwrap();
    let why = refusal(libvirt.resume(spec.id).await);
    assert!(why.contains("captured"), "{why}");
    let template = yard.seal(spec, files).await;
    assert_eq!(
        libvirt.seal_template(&template.files).await.unwrap(),
        template.seal
    );

    let (first, second) = tokio::join!(yard.fork(&template), yard.fork(&template));
    assert_eq!(yard.shell(first, "cat /tmp/nonce").await, "nonce-71");
    assert_eq!(yard.shell(second, "cat /tmp/nonce").await, "nonce-71");

    yard.shell(
        first,
        "echo mine > /tmp/nonce; dd if=/dev/urandom of=/tmp/much bs=1M count=16; sync",
    )
    .await;
    assert_eq!(
        yard.shell(second, "cat /tmp/nonce; ls /tmp/much").await,
        "nonce-71"
    );
    let draws = |id| yard.shell(id, "cat /proc/sys/kernel/random/uuid");
    assert_ne!(draws(first).await, draws(second).await);
    for id in [first, second] {
        let said = yard
            .shell(
                id,
                "dmesg | grep 'crng reseeded due to virtual machine fork'",
            )
            .await;
        assert!(!said.is_empty(), "the kernel of {id} did not reseed");
    }

    // A third is as the template was, whatever the others did meanwhile.
    let third = yard.fork(&template).await;
    assert_eq!(
        yard.shell(third, "cat /tmp/nonce; ls /tmp/much").await,
        "nonce-71"
    );
    libvirt.destroy_machine(first).await.unwrap();
    assert_eq!(yard.shell(second, "cat /tmp/nonce").await, "nonce-71");

    assert_eq!(
        libvirt
            .inspect_template(&template.files, true)
            .await
            .unwrap(),
        template.seal,
        "nobody wrote to the template"
    );
    for path in [
        template.files.memory(),
        template.files.state(),
        template.files.disk(),
    ] {
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!(
            found.permissions().mode() & 0o7777,
            0o444,
            "{}",
            path.display()
        );
    }
    assert_eq!(std::fs::metadata(template.files.memory()).unwrap().uid(), 0);

    let memory = libvirt.memory_of(&[first, second, third]).await.unwrap();
    assert!(!memory.contains_key(&first), "it is gone");
    assert_eq!(memory.len(), 2);
    for (id, used) in &memory {
        assert!(
            used.private_mib > 5.0 && used.pss_mib > used.private_mib,
            "{id}: {used:?}"
        );
    }
    assert_eq!(
        libvirt.templates().await.unwrap(),
        std::slice::from_ref(&template.files.folder)
    );
    libvirt.remove_template(&template.files).await.unwrap();
    libvirt.remove_template(&template.files).await.unwrap();
    assert_eq!(
        yard.shell(second, "cat /tmp/nonce").await,
        "nonce-71",
        "forks outlive the files"
    );
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_paused_sized_and_given_a_card() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("sizes").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let template = yard.template().await;
    let spec = yard.fork_spec(&template).await;
    libvirt.start_machine(&spec).await.unwrap();
    libvirt.start_machine(&spec).await.unwrap();
    let mut other_tag = spec.clone();
    other_tag.tag.generation += 1;
    refusal(libvirt.start_machine(&other_tag).await);

    let seen = libvirt.machine(spec.id).await.unwrap().unwrap();
    assert_eq!(seen.power, Power::Paused);
    let why = refusal(libvirt.resume(spec.id).await);
    assert!(why.contains("nothing was loaded"), "{why}");
    let more = |added_memory_mib| Share {
        cpu_percent: Some(50),
        added_memory_mib,
    };
    refusal(libvirt.resize(spec.id, more(128)).await);
    libvirt.load_fork(spec.id, &template.files).await.unwrap();
    libvirt.load_fork(spec.id, &template.files).await.unwrap();

    // Before the first instruction.
    let nic = Nic {
        network: "greenroom".to_owned(),
        mac: "52:54:00:aa:cc:01".to_owned(),
    };
    libvirt.attach_nic(spec.id, &nic).await.unwrap();
    libvirt.attach_nic(spec.id, &nic).await.unwrap();
    let elsewhere = Nic {
        network: "default".to_owned(),
        ..nic.clone()
    };
    refusal(libvirt.attach_nic(spec.id, &elsewhere).await);
    libvirt.resize(spec.id, more(100)).await.unwrap();
    libvirt.resume(spec.id).await.unwrap();
    libvirt.resume(spec.id).await.unwrap();
    yard.wait_for_agent(spec.id).await;
    let card = "for i in $(seq 100); do cat /sys/class/net/eth0/address && break; sleep 0.1; done 2>/dev/null";
    assert_eq!(yard.shell(spec.id, card).await, nic.mac);

    let total = "awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo";
    let at_least = |mib: u64| {
        format!(
            "for i in $(seq 200); do [ $({total}) -ge {mib} ] && break; sleep 0.1; done; {total}"
        )
    };
    let mib = async |line: &str| -> u64 { yard.shell(spec.id, line).await.parse().unwrap() };
    let plain = yard.fork(&template).await;
    let plain: u64 = yard.shell(plain, total).await.parse().unwrap();
    let before = mib(&at_least(plain + 96)).await;
    assert!(
        (plain + 96..=plain + 104).contains(&before),
        "{plain}, {before}"
    );
    assert!(
        plain > 190,
        "the growth that is not there yet takes nothing: {plain}"
    );
    libvirt.resize(spec.id, more(300)).await.unwrap();
    libvirt.resize(spec.id, more(100)).await.unwrap();
    let after = mib(&at_least(before + 190)).await;
    assert!(
        (before + 190..=before + 210).contains(&after),
        "{before}, {after}"
    );
    let why = refusal(libvirt.resize(spec.id, more(GROWTH_MIB + 1)).await);
    assert!(why.contains("cannot be added"), "{why}");

    let connect = virt::connect::Connect::open(Some(&yard.settings.uri)).unwrap();
    let domain = connect.lookup_domain_by_uuid(spec.id.0).unwrap();
    let quota = || domain.scheduler_parameters().unwrap().global_bw;
    assert_eq!(
        (quota().quota, quota().period),
        (Some(50_000), Some(100_000))
    );
    let free = Share {
        cpu_percent: None,
        added_memory_mib: 0,
    };
    libvirt.resize(spec.id, free).await.unwrap();
    libvirt.resize(spec.id, free).await.unwrap();
    assert!(quota().quota.unwrap_or(0) <= 0, "{:?}", quota());

    // Until it is given a share, even one without a limit, a fork steps back behind the others.
    let waiting = yard.fork_spec(&template).await;
    libvirt.start_machine(&waiting).await.unwrap();
    let weight = |id: MachineId| {
        let domain = connect.lookup_domain_by_uuid(id.0).unwrap();
        domain.scheduler_parameters().unwrap().cpu_shares.unwrap()
    };
    let light = weight(waiting.id);
    libvirt
        .load_fork(waiting.id, &template.files)
        .await
        .unwrap();
    libvirt.resize(waiting.id, free).await.unwrap();
    assert_eq!(weight(waiting.id), weight(spec.id));
    assert!(light * 10 < weight(spec.id), "{light} {}", weight(spec.id));

    libvirt.pause(spec.id).await.unwrap();
    libvirt.pause(spec.id).await.unwrap();
    assert_eq!(
        libvirt.machine(spec.id).await.unwrap().unwrap().power,
        Power::Paused
    );
    assert!(
        libvirt
            .agent(spec.id, PING, Duration::from_secs(2))
            .await
            .is_err()
    );
    libvirt.resume(spec.id).await.unwrap();
    yard.wait_for_agent(spec.id).await;
    let nobody = MachineId::fresh();
    for result in [
        libvirt.pause(nobody).await,
        libvirt.resume(nobody).await,
        libvirt.resize(nobody, free).await,
        libvirt.attach_nic(nobody, &nic).await,
        libvirt.load_fork(nobody, &template.files).await,
        libvirt.capture(nobody, &template.files).await,
    ] {
        assert!(
            matches!(result, Err(HvError::NoSuchMachine(_))),
            "{result:?}"
        );
    }
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_forked_is_refused_by_its_name() {
    let _stays = LIBVIRTD.read().await;
    let Some(yard) = Yard::new("spoiled").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let template = yard.template().await;
    let files = &template.files;
    let spec = yard.fork_spec(&template).await;

    let mut larger = spec.clone();
    larger.size.memory_mib += 64;
    let why = refusal(libvirt.start_machine(&larger).await);
    assert!(why.contains("/memory has"), "{why}");
    let mut with_card = spec.clone();
    with_card.nic = Some(Nic {
        network: "greenroom".to_owned(),
        mac: "52:54:00:aa:cc:02".to_owned(),
    });
    refusal(libvirt.start_machine(&with_card).await);
    let mut again = template.spec.clone();
    again.id = MachineId::fresh();
    again.name.push_str("-2");
    let why = refusal(libvirt.start_machine(&again).await);
    assert!(why.contains("sealed"), "{why}");

    // A machine that boots is neither captured nor loaded.
    let plain = yard.guest().await;
    refusal(libvirt.capture(plain, files).await);
    refusal(libvirt.load_fork(plain, files).await);

    // A state that is cut short is noticed when it is loaded, and the fork never runs.
    let whole = std::fs::read(files.state()).unwrap();
    replace(&files.state(), &whole[..whole.len() / 2]);
    assert_ne!(
        libvirt.inspect_template(files, false).await.unwrap().state,
        template.seal.state
    );
    libvirt.start_machine(&spec).await.unwrap();
    let error = libvirt.load_fork(spec.id, files).await.unwrap_err();
    assert!(
        error.to_string().contains("/state cannot be loaded"),
        "{error}"
    );
    assert!(libvirt.load_fork(spec.id, files).await.is_err());
    assert!(libvirt.resume(spec.id).await.is_err());
    libvirt.destroy_machine(spec.id).await.unwrap();
    replace(&files.state(), &whole);
    yard.fork(&template).await;

    for path in [files.state(), files.memory(), files.disk()] {
        std::fs::remove_file(&path).unwrap();
        let mut spec = spec.clone();
        spec.id = MachineId::fresh();
        let why = refusal(libvirt.start_machine(&spec).await);
        assert!(
            why.contains(&format!("{} is missing", path.display())),
            "{why}"
        );
        assert_eq!(refusal(libvirt.inspect_template(files, false).await), why);
        replace(&path, b"");
    }
    let overlay = DiskOrder::Overlay {
        path: yard.disk("on-nothing.qcow2"),
        base: yard.settings.folders.templates.join("7/8/disk.qcow2"),
        size_mib: 256,
    };
    refusal(libvirt.make_disk(&overlay).await);
    yard.clear().await;
}

fn replace(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_death_of_libvirtd_a_loaded_fork_is_told_from_an_empty_one() {
    let _dies = LIBVIRTD.write().await;
    let Some(yard) = Yard::new("half-forks").await else {
        return;
    };
    let template = yard.template().await;
    let empty = yard.fork_spec(&template).await;
    yard.libvirt.start_machine(&empty).await.unwrap();
    let loaded = yard.loaded_fork(&template).await;
    let mut events = yard.libvirt.events();
    signal_libvirtd(Signal::SIGKILL);
    heard(&mut events, |event| *event == MachineEvent::Disconnected).await;
    heard(&mut events, |event| *event == MachineEvent::Reconnected).await;

    // A program that was restarted as well knows nothing of either.
    let libvirt = greenroom::hypervisor::libvirt::Libvirt::connect(yard.settings.clone())
        .await
        .unwrap();
    for id in [empty.id, loaded] {
        let seen = libvirt.machine(id).await.unwrap().unwrap();
        assert_eq!(seen.power, Power::Paused);
    }
    let why = refusal(libvirt.resume(empty.id).await);
    assert!(why.contains("nothing was loaded"), "{why}");
    libvirt.load_fork(loaded, &template.files).await.unwrap();
    libvirt.load_fork(empty.id, &template.files).await.unwrap();
    for id in [empty.id, loaded] {
        libvirt.resume(id).await.unwrap();
        yard.wait_for_agent(id).await;
        assert_eq!(
            libvirt.machine(id).await.unwrap().unwrap().power,
            Power::Running
        );
    }
    assert!(matches!(empty.start, Start::Fork { .. }));
    yard.clear().await;
}
