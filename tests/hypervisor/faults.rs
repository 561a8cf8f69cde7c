//! The simulation's own promises: faults come as ordered, crashes of the daemon leave the host as it
//! is, strangers stay, and time costs nothing.

use std::time::{Duration, Instant};

use greenroom::hypervisor::guest::{Guest, LogOffsets};
use greenroom::hypervisor::simulated::{
    Chaos, Damage, Fault, GuestFault, Latencies, Operation, SimSettings, Simulated,
};
use greenroom::hypervisor::{DiskOrder, HvError, Hypervisor, TemplateFiles};

use crate::fixture::{Fixture, done, follow, script, simulated};

use std::sync::Arc;

use greenroom::vocab::Deployment;

/// A fixture whose world the test can reach.
pub fn reachable(settings: SimSettings) -> (Fixture, Arc<Simulated>) {
    struct Nothing;
    #[async_trait::async_trait]
    impl crate::fixture::Backdoor for Nothing {
        async fn add_stranger(&self) -> greenroom::vocab::MachineId {
            unreachable!()
        }
        async fn remove_stranger(&self, _: greenroom::vocab::MachineId) {}
        async fn pause(&self, _: greenroom::vocab::MachineId) {}
        async fn damage(&self, _: &TemplateFiles, _: Damage) {}
        async fn clear(&self) {}
    }
    let simulated = Simulated::new(settings);
    let fixture = Fixture::new(
        simulated.clone(),
        Deployment::fresh(),
        "/images".into(),
        "/disks".into(),
        "/templates".into(),
        Box::new(Nothing),
    );
    (fixture, simulated)
}

#[tokio::test]
async fn a_host_survives_the_daemon() {
    let (f, simulated) = reachable(SimSettings::default());
    let guest = f.fresh().await;
    let job = script("sleep 0.2\necho done");
    guest.start_job(&job).await.unwrap();
    let (world, id) = (simulated.world().clone(), guest.machine);
    drop((f, simulated));
    let again = Simulated::on(world);
    let guest = Guest {
        hypervisor: &*again,
        machine: id,
    };
    assert_eq!(follow(&guest, job.attempt).await.unwrap().out, "done\n");
}

#[test]
fn a_job_goes_on_when_the_runtime_is_gone() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (f, simulated) = reachable(SimSettings::default());
    let job = script("sleep 0.2\necho done");
    let first = runtime();
    let id = first.block_on(async {
        let guest = f.fresh().await;
        guest.start_job(&job).await.unwrap();
        guest.machine
    });
    drop(first);
    let again = Simulated::on(simulated.world().clone());
    let guest = Guest {
        hypervisor: &*again,
        machine: id,
    };
    assert_eq!(
        runtime()
            .block_on(follow(&guest, job.attempt))
            .unwrap()
            .code,
        0
    );
}

#[tokio::test]
async fn ordered_faults_come_once() {
    let (f, simulated) = reachable(SimSettings::default());
    let world = simulated.world();
    let spec = f.spec().await;
    world.inject(Fault::StartFails(HvError::NoMemory("as ordered".into())));
    assert!(matches!(
        f.hypervisor.start_machine(&spec).await,
        Err(HvError::NoMemory(_))
    ));
    assert_eq!(f.hypervisor.machine(spec.id).await.unwrap(), None);
    f.hypervisor.start_machine(&spec).await.unwrap();

    world.inject(Fault::ListingsFail(2));
    assert!(f.hypervisor.machines().await.is_err());
    assert!(f.hypervisor.disks().await.is_err());
    assert_eq!(f.hypervisor.machines().await.unwrap().len(), 1);

    world.inject(Fault::UnreachableFor(1));
    assert!(matches!(
        f.hypervisor.machine(spec.id).await,
        Err(HvError::Unreachable(_))
    ));
    assert!(f.hypervisor.machine(spec.id).await.unwrap().is_some());

    world.inject(Fault::DiskFails(HvError::DiskFull("/disks".into())));
    let order = DiskOrder::Raw {
        path: "/disks/x".into(),
        size_mib: 1,
    };
    assert!(matches!(
        f.hypervisor.make_disk(&order).await,
        Err(HvError::DiskFull(_))
    ));
    f.hypervisor.make_disk(&order).await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_has_its_effect() {
    let (f, simulated) = reachable(SimSettings::default());
    let world = simulated.world();
    let spec = f.spec().await;
    world.inject(Fault::LostReply(Operation::Start));
    assert!(matches!(
        f.hypervisor.start_machine(&spec).await,
        Err(HvError::Unreachable(_))
    ));
    assert!(f.hypervisor.machine(spec.id).await.unwrap().is_some());
    let guest = f.guest(spec.id);
    // The launcher runs; its caller does not know, and starts it again.
    let job = script("echo once >> /tmp/count; cat /tmp/count");
    world.inject(Fault::LostReply(Operation::Agent));
    assert!(matches!(
        guest.start_job(&job).await,
        Err(HvError::Unreachable(_))
    ));
    assert_eq!(done(&guest, &job).await.out, "once\n");
    world.inject(Fault::LostReply(Operation::Destroy));
    assert!(f.hypervisor.destroy_machine(spec.id).await.is_err());
    assert_eq!(f.hypervisor.machine(spec.id).await.unwrap(), None);
}

#[tokio::test]
async fn following_loses_and_repeats_nothing_when_replies_are_lost() {
    let text =
        "n=0\nwhile [ $n -lt 60 ]; do n=$((n + 1)); echo line $n; sleep 0.02; done\nexit 6\n";
    let expected: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    let (f, simulated) = reachable(SimSettings::default());
    let guest = f.fresh().await;
    let job = script(text);
    guest.start_job(&job).await.unwrap();
    simulated.world().chaos(Chaos {
        seed: 7,
        lost_reply: 0.2,
        unreachable: 0.1,
        ..Chaos::default()
    });
    let done = follow(&guest, job.attempt).await.unwrap();
    assert_eq!((done.code, done.out), (6, expected));
}

#[tokio::test]
async fn following_survives_restarts_of_agent_and_connection() {
    let (f, simulated) = reachable(SimSettings::default());
    let guest = f.fresh().await;
    let job = script("echo a\nsleep 1\necho b\nsleep 1\necho c\n");
    guest.start_job(&job).await.unwrap();
    let world = simulated.world();
    let (done, ()) = tokio::join!(follow(&guest, job.attempt), async {
        for round in 0..6 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            world.restart_agent(guest.machine);
            world.set_reachable(round % 2 == 1);
        }
    });
    assert_eq!(done.unwrap().out, "a\nb\nc\n");
}

#[tokio::test]
async fn guests_fail_as_ordered() {
    let (f, simulated) = reachable(SimSettings::default());
    let world = simulated.world();
    let start = async |fault| {
        world.inject(Fault::Guest(fault));
        let spec = f.spec().await;
        f.hypervisor.start_machine(&spec).await.unwrap();
        f.guest(spec.id)
    };
    let minute = Duration::from_secs(60);
    let moment = Duration::from_millis(200);
    let never = start(GuestFault::BootNeverFinishes).await;
    assert!(matches!(
        never.wait_until_up(moment).await,
        Err(HvError::AgentTimeout(..))
    ));

    let brief = start(GuestFault::AgentAbsent { after: 1, calls: 5 }).await;
    brief.wait_until_up(minute).await.unwrap();
    assert_eq!(done(&brief, &script("echo fine")).await.out, "fine\n");

    let silent = start(GuestFault::AgentSilent { after: 1 }).await;
    silent.wait_until_up(minute).await.unwrap();
    assert!(matches!(
        silent.run(&["true"], b"", moment).await,
        Err(HvError::AgentTimeout(..))
    ));

    for fault in [
        GuestFault::AgentGarbage { after: 1 },
        GuestFault::AgentOversize { after: 1 },
    ] {
        let guest = start(fault).await;
        guest.wait_until_up(minute).await.unwrap();
        let job = script("");
        assert!(
            matches!(guest.start_job(&job).await, Err(HvError::Agent(_))),
            "{fault:?}"
        );
        let mut nowhere = |_, _, _| ();
        let followed = guest
            .follow_job(job.attempt, LogOffsets::default(), 100, &mut nowhere)
            .await;
        assert!(
            matches!(followed, Err(HvError::Agent(_))),
            "{fault:?} {followed:?}"
        );
        assert!(guest.job_output(job.attempt, 100).await.is_err());
    }

    for (fault, listed) in [
        (GuestFault::Crash { after: 2 }, false),
        (GuestFault::CrashListed { after: 2 }, true),
    ] {
        let guest = start(fault).await;
        guest.wait_until_up(minute).await.unwrap();
        let job = script("sleep 100");
        guest.start_job(&job).await.unwrap();
        assert!(matches!(
            follow(&guest, job.attempt).await,
            Err(HvError::NoSuchMachine(_))
        ));
        assert_eq!(
            f.hypervisor.machine(guest.machine).await.unwrap().is_some(),
            listed
        );
        f.hypervisor.destroy_machine(guest.machine).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "takes the 15 seconds that a launcher is given"]
async fn a_job_that_was_never_started_is_not_waited_for_for_ever() {
    let f = simulated();
    let guest = f.fresh().await;
    let followed = follow(&guest, script("").attempt).await;
    assert!(matches!(followed, Err(HvError::Agent(_))), "{followed:?}");
}

#[tokio::test]
async fn room_is_counted() {
    let (f, simulated) = reachable(SimSettings {
        memory_mib: 600,
        disk_mib: 500,
        ..SimSettings::default()
    });
    let guest = f.fresh().await;
    let second = f.fresh().await;
    let third = f.spec().await;
    assert!(matches!(
        f.hypervisor.start_machine(&third).await,
        Err(HvError::NoMemory(_))
    ));
    assert_eq!(
        f.hypervisor.host().await.unwrap().free_memory_mib,
        600 - 512
    );
    f.hypervisor.destroy_machine(guest.machine).await.unwrap();
    f.hypervisor.start_machine(&third).await.unwrap();
    let copy = |n: u32| DiskOrder::Copy {
        path: format!("/disks/{n}").into(),
        base: "/b".into(),
        size_mib: 300,
    };
    f.hypervisor.make_disk(&copy(1)).await.unwrap();
    assert!(matches!(
        f.hypervisor.make_disk(&copy(2)).await,
        Err(HvError::DiskFull(_))
    ));
    f.hypervisor.destroy_machine(second.machine).await.unwrap();
    assert_eq!(simulated.world().counts().most_machines, 2);
}

#[tokio::test]
async fn what_is_not_ours_stays_as_it_is() {
    let (f, simulated) = reachable(SimSettings::default());
    let world = simulated.world();
    world.add_foreign_machine("somebody's", 128);
    world.add_foreign_disk("/disks/somebody's".as_ref());
    let before = world.snapshot();
    let guest = f.fresh().await;
    assert_eq!(done(&guest, &script("echo hello")).await.out, "hello\n");
    assert_ne!(world.snapshot(), before);
    f.hypervisor.destroy_machine(guest.machine).await.unwrap();
    for disk in f.hypervisor.disks().await.unwrap() {
        if !disk.ends_with("somebody's") {
            f.hypervisor.remove_disk(&disk).await.unwrap();
        }
    }
    assert_eq!(world.snapshot(), before);
}

#[tokio::test]
async fn another_deployments_machines_are_strangers() {
    let (f, simulated) = reachable(SimSettings::default());
    let guest = f.fresh().await;
    let other = Simulated::of(simulated.world().clone(), Deployment::fresh());
    assert!(matches!(
        other.destroy_machine(guest.machine).await,
        Err(HvError::Refused(_))
    ));
    assert!(other.machine(guest.machine).await.unwrap().is_some());
    let own = Simulated::of(simulated.world().clone(), f.deployment);
    own.destroy_machine(guest.machine).await.unwrap();
}

#[tokio::test]
async fn chance_is_the_same_for_the_same_seed() {
    let outcome = async |seed| {
        let chaos = Chaos {
            seed,
            start_fails: 0.3,
            disk_fails: 0.1,
            listing_fails: 0.2,
            lost_reply: 0.1,
            ..Chaos::default()
        };
        let simulated = Simulated::new(SimSettings {
            chaos,
            ..SimSettings::default()
        });
        let mut outcomes = Vec::new();
        for n in 0..50 {
            let order = DiskOrder::Raw {
                path: format!("/disks/{n}").into(),
                size_mib: 1,
            };
            outcomes.push(simulated.make_disk(&order).await.is_ok());
            outcomes.push(simulated.machines().await.is_ok());
        }
        outcomes
    };
    assert_eq!(outcome(1).await, outcome(1).await);
    assert_ne!(outcome(1).await, outcome(2).await);
}

#[tokio::test]
async fn things_take_the_time_that_they_are_given() {
    let unit = Duration::from_millis(50);
    let latencies = Latencies {
        make_disk: unit,
        start: unit,
        boot: 3 * unit,
        ..Latencies::default()
    };
    let (f, _) = reachable(SimSettings {
        latencies,
        ..SimSettings::default()
    });
    let began = tokio::time::Instant::now();
    f.fresh().await;
    let took = began.elapsed();
    assert!(
        took >= 5 * unit && took < 5 * unit + Duration::from_millis(300),
        "{took:?}"
    );
}

/// A benchmark runs ten thousand such stages.
#[tokio::test]
async fn a_simulated_stage_costs_next_to_nothing() {
    let f = simulated();
    let began = Instant::now();
    for _ in 0..200 {
        let guest = f.fresh().await;
        let job = script("cat > \"$GREENROOM_OUTPUT\"\necho done\n");
        assert_eq!(done(&guest, &job).await.code, 0);
        guest.job_output(job.attempt, 1000).await.unwrap();
        f.hypervisor.destroy_machine(guest.machine).await.unwrap();
    }
    let each = began.elapsed() / 200;
    eprintln!("{each:?} for each stage");
    assert!(each < Duration::from_millis(5), "{each:?}");
}
