//! Machines: starting, listing, destroying, looking at them from outside.

use std::time::{Duration, Instant};

use greenroom::hypervisor::{AttachedDisk, HvError, MachineEvent, Power};
use greenroom::vocab::MachineId;
use tokio::time::timeout;

use crate::fixture::{Fixture, done, script};

const PING: &str = r#"{"execute":"guest-ping"}"#;

pub async fn the_host_says_what_it_is(f: &Fixture) {
    let host = f.hypervisor.host().await.unwrap();
    assert!(!host.version.is_empty() && !host.accelerator_reason.is_empty());
    assert!(host.cpus > 0 && host.memory_mib > 0 && host.free_memory_mib > 0);
}

pub async fn starting_twice_starts_once(f: &Fixture) {
    let spec = f.spec().await;
    assert_eq!(f.hypervisor.machine(spec.id).await.unwrap(), None);
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.hypervisor.start_machine(&spec).await.unwrap();
    let seen = f.hypervisor.machine(spec.id).await.unwrap().unwrap();
    assert_eq!(
        (&seen.name, seen.tag.as_ref(), seen.power),
        (&spec.name, Some(&spec.tag), Power::Running)
    );
    assert!(seen.attached.is_empty());
    let listed = f.hypervisor.machines().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .filter(|machine| machine.id == spec.id)
            .collect::<Vec<_>>(),
        [&seen]
    );
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
}

pub async fn an_id_with_another_tag_is_refused(f: &Fixture) {
    let spec = f.spec().await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    let mut other = spec.clone();
    other.tag.generation += 1;
    assert!(matches!(
        f.hypervisor.start_machine(&other).await,
        Err(HvError::Refused(_))
    ));
    assert_eq!(
        f.hypervisor.machine(spec.id).await.unwrap().unwrap().tag,
        Some(spec.tag)
    );
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
}

pub async fn destroying_twice_is_fine(f: &Fixture) {
    let spec = f.spec().await;
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    assert_eq!(f.hypervisor.machine(spec.id).await.unwrap(), None);
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
    let gone = f
        .hypervisor
        .agent(spec.id, PING, Duration::from_secs(2))
        .await;
    assert!(
        matches!(gone, Err(HvError::NoSuchMachine(id)) if id == spec.id),
        "{gone:?}"
    );
    assert!(matches!(
        f.hypervisor.usage(spec.id).await,
        Err(HvError::NoSuchMachine(_))
    ));
    // Its id may be used again.
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
}

pub async fn strangers_stay_untouched(f: &Fixture) {
    let stranger = f.backdoor.add_stranger().await;
    let before = f.hypervisor.machine(stranger).await.unwrap().unwrap();
    assert_eq!(before.tag, None);
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    let refused = |result: Result<(), HvError>| {
        assert!(matches!(result, Err(HvError::Refused(_))), "{result:?}")
    };
    refused(f.hypervisor.destroy_machine(stranger).await);
    refused(f.hypervisor.attach_disk(stranger, &disk).await);
    refused(f.hypervisor.detach_disk(stranger, &disk).await);
    refused(
        f.hypervisor
            .agent(stranger, PING, Duration::from_secs(2))
            .await
            .map(|_| ()),
    );
    let mut usurper = f.spec().await;
    usurper.id = stranger;
    refused(f.hypervisor.start_machine(&usurper).await);
    assert_eq!(f.hypervisor.machine(stranger).await.unwrap(), Some(before));
    f.backdoor.remove_stranger(stranger).await;
}

pub async fn events_tell_of_a_life(f: &Fixture) {
    let mut events = f.hypervisor.events();
    let id = f.fresh().await.machine;
    f.hypervisor.destroy_machine(id).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        match timeout(Duration::from_secs(30), events.recv())
            .await
            .expect("an event is missing")
            .unwrap()
        {
            MachineEvent::Started(seen) if seen == id => told.push("started"),
            MachineEvent::AgentConnected(seen, true) if seen == id => told.push("agent"),
            MachineEvent::Stopped(seen, _) if seen == id => told.push("stopped"),
            _ => {}
        }
    }
    assert_eq!(told, ["started", "agent", "stopped"]);
}

pub async fn use_grows_and_the_console_speaks(f: &Fixture) {
    let guest = f.shared().await;
    let before = f.hypervisor.usage(guest.machine).await.unwrap();
    assert!(before.cpu_ms > 0.0 && before.rss_mib > 1.0, "{before:?}");
    let busy = script("n=0\nwhile [ $n -lt 2000 ]; do n=$((n + 1)); done\n");
    assert_eq!(done(&guest, &busy).await.code, 0);
    let after = f.hypervisor.usage(guest.machine).await.unwrap();
    assert!(after.cpu_ms > before.cpu_ms + 1.0, "{before:?} {after:?}");

    let console = f
        .hypervisor
        .console_tail(guest.machine, 1 << 20)
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&console).contains("Linux version"),
        "{} bytes",
        console.len()
    );
    assert_eq!(
        f.hypervisor
            .console_tail(guest.machine, 10)
            .await
            .unwrap()
            .len(),
        10
    );
    let none = f.hypervisor.console_tail(MachineId::fresh(), 10).await;
    assert!(matches!(none, Err(HvError::NoSuchMachine(_))));
}

pub async fn several_are_looked_at_in_one_look(f: &Fixture) {
    let (guest, other) = (f.shared().await, f.fresh().await);
    let gone = MachineId::fresh();
    let ids = [guest.machine, other.machine, gone];
    let before = f.hypervisor.usage_of(&ids).await.unwrap();
    assert_eq!(before.len(), 2, "{before:?}");
    let busy = script("n=0\nwhile [ $n -lt 2000 ]; do n=$((n + 1)); done\n");
    assert_eq!(done(&guest, &busy).await.code, 0);
    let after = f.hypervisor.usage_of(&ids).await.unwrap();
    let (then, now) = (before[&guest.machine], after[&guest.machine]);
    assert!(now.cpu_ms > then.cpu_ms + 1.0, "{then:?} {now:?}");
    // Of its 256 MiB the guest's kernel has touched some, and never more than there are.
    for (id, usage) in &after {
        assert!(
            (20.0..=256.0).contains(&usage.touched_mib),
            "{id}: {usage:?}"
        );
    }
    assert!(now.touched_mib >= then.touched_mib, "{then:?} {now:?}");
    f.hypervisor.destroy_machine(other.machine).await.unwrap();
    let left = f.hypervisor.usage_of(&ids).await.unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [guest.machine]);
    assert!(f.hypervisor.usage_of(&[]).await.unwrap().is_empty());
}

pub async fn a_call_to_a_stopped_guest_ends_in_time(f: &Fixture) {
    let guest = f.fresh().await;
    f.backdoor.pause(guest.machine).await;
    let began = Instant::now();
    let silent = f
        .hypervisor
        .agent(guest.machine, PING, Duration::from_secs(2))
        .await;
    assert!(
        silent.as_ref().is_err_and(HvError::is_transient),
        "{silent:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        f.hypervisor
            .machine(guest.machine)
            .await
            .unwrap()
            .unwrap()
            .power,
        Power::Paused
    );
    f.hypervisor.destroy_machine(guest.machine).await.unwrap();
}

pub async fn waiting_for_a_machine_that_goes_ends_early(f: &Fixture) {
    let spec = f.spec().await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.backdoor.pause(spec.id).await;
    let guest = f.guest(spec.id);
    let began = Instant::now();
    let (waited, ()) = tokio::join!(guest.wait_until_up(Duration::from_secs(100)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        f.hypervisor.destroy_machine(spec.id).await.unwrap();
    });
    assert!(
        matches!(waited, Err(HvError::NoSuchMachine(_))),
        "{waited:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

pub async fn waiting_ends_at_the_deadline(f: &Fixture) {
    let spec = f.spec().await;
    f.hypervisor.start_machine(&spec).await.unwrap();
    f.backdoor.pause(spec.id).await;
    let began = Instant::now();
    let waited = f
        .guest(spec.id)
        .wait_until_up(Duration::from_millis(700))
        .await;
    assert!(
        matches!(waited, Err(HvError::AgentTimeout(..))),
        "{waited:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    f.hypervisor.destroy_machine(spec.id).await.unwrap();
}
