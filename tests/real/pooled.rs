//! Chains whose stages are served by the pool's shells, on real machines.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use greenroom::config::{StartTarget, TargetOf};
use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::{Hypervisor, Power};
use greenroom::pool::{Answer, Want};
use greenroom::vocab::machine::{EngineKind, Size};
use greenroom::vocab::pool::{Class, ShellState, Target, Tier, TrustDomain};
use greenroom::vocab::run::RunState;

use crate::support::three_stages;
use crate::support::verbs::Verbs;
use crate::support::yard::Yard;

fn tiny(hot: u32) -> Vec<StartTarget> {
    vec![StartTarget {
        of: TargetOf::Image("tiny".into()),
        target: Target {
            hot,
            floor: Tier::Warm,
        },
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_runs_on_shells_without_being_told() {
    let Some(yard) = Yard::with_pool("a chain on shells", 4096, tiny(3)).await else {
        return;
    };
    let daemon = &yard.daemon;
    yard.filled(Duration::from_secs(240)).await;
    for shell in daemon.pool.shells().await.unwrap() {
        eprintln!("{}: {:?} {:?}", shell.name, shell.state, shell.phases);
        if shell.state == ShellState::Ready {
            let seen = yard.hypervisor.machine(shell.id).await.unwrap().unwrap();
            assert_eq!((seen.power, &seen.name), (Power::Paused, &shell.name));
        }
    }
    daemon.add_device("d1", "default").await;
    daemon.apply(&three_stages()).await;
    let run = daemon.start("d1", "three").await;
    let view = daemon.finished_within(run.id, 180).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(daemon.log_of(run.id).await, "working\nONE");
    for machine in &view.machines {
        eprintln!(
            "{}: {} ({}) {:?}",
            machine.name, machine.engine, machine.engine_reason, machine.phases
        );
        assert_eq!(machine.engine, EngineKind::Resume, "{machine:#?}");
        let shell = machine.shell.expect("a shell served");
        assert!(yard.hypervisor.machine(shell).await.unwrap().is_none());
    }
    for attempt in &view.attempts {
        eprintln!("{}: {:?}", attempt.stage, attempt.phases);
    }
    // Single use: none of them waits again.
    let used: Vec<_> = view.machines.iter().filter_map(|m| m.shell).collect();
    let waiting = daemon.pool.shells().await.unwrap();
    assert!(waiting.iter().all(|shell| !used.contains(&shell.id)));
    yard.drained(Duration::from_secs(60)).await;
    yard.check_nothing_left().await;
}

/// The number that is checked; the simulated host has five times as many of them (`tests/pool`).
const FORKS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `vagrant/lab test --test real -- --ignored two_hundred`"]
async fn two_hundred_forks_are_all_different() {
    let class: Class = "tiny:1x128+net".parse().unwrap();
    let target = StartTarget {
        of: TargetOf::Class(class),
        target: Target {
            hot: FORKS,
            floor: Tier::Warm,
        },
    };
    let Some(yard) = Yard::with_pool("two hundred forks", 16_384, vec![target]).await else {
        return;
    };
    let began = Instant::now();
    yard.filled(Duration::from_secs(1800)).await;
    let filled_s = began.elapsed().as_secs_f64();
    let shells = yard.daemon.pool.shells().await.expect("shells");
    let ready: Vec<_> = shells
        .iter()
        .filter(|shell| shell.state == ShellState::Ready)
        .collect();
    assert!(ready.len() >= FORKS as usize, "{} are ready", ready.len());
    let mut seen: [BTreeSet<String>; 5] = Default::default();
    for shell in &ready {
        let identity = shell.identity.clone().expect("an identity");
        assert!(identity.reseeded, "{}: {identity:?}", shell.name);
        let values = [
            identity.draw,
            identity.machine_id,
            identity.host_name,
            identity.mac.expect("a MAC address"),
            shell.name.clone(),
        ];
        for (seen, value) in seen.iter_mut().zip(values) {
            assert!(seen.insert(value.clone()), "{value} is there twice");
        }
    }
    // What the guests themselves say, and what they draw now.
    let mut drawn = BTreeSet::new();
    for (number, shell) in ready.iter().enumerate().step_by(10) {
        let want = Want {
            key: format!("look-{number}"),
            image: yard.daemon.images.get("tiny").expect("the image"),
            size: Size {
                vcpus: 1,
                memory_mib: 128,
                disk_mib: 256,
                network_kbytes_per_s: None,
            },
            network: true,
            trust: TrustDomain::default(),
            owner: "test".into(),
            client: "default".into(),
            ttl: None,
        };
        let claim = match yard.daemon.pool.claim(&want).await.expect("an answer") {
            Answer::Claimed(claim) => *claim,
            Answer::Nothing { reason, .. } => panic!("nothing for {}: {reason}", shell.name),
        };
        let guest = Guest {
            hypervisor: &*yard.hypervisor,
            machine: claim.shell,
        };
        let look =
            "cat /etc/machine-id /sys/class/net/e*/address; head -c 16 /dev/urandom | od -An -tx1";
        let told = guest
            .run(&["/bin/sh", "-c", look], b"", Duration::from_secs(60))
            .await
            .expect("an answer");
        assert_eq!(told.exit_code, 0, "{told:?}");
        for line in String::from_utf8_lossy(&told.out).lines() {
            assert!(drawn.insert(line.to_owned()), "{line:?} is there twice");
        }
        yard.daemon.pool.release(&want.key).await.expect("released");
    }
    assert!(drawn.len() >= 3 * FORKS as usize / 10, "{drawn:?}");
    eprintln!("{} forks, filled in {filled_s:.0} s", ready.len());
    yard.drained(Duration::from_secs(300)).await;
    yard.check_nothing_left().await;
}
