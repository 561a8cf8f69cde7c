//! A thousand forks, each somebody else; and a host whose forks are not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use greenroom::fault::Faults;
use greenroom::hypervisor::simulated::SimSettings;
use greenroom::vocab::pool::ShellState;

use crate::ground::{Ground, TINY, Verbs, class, hot};

const FORKS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_forks_are_all_different() {
    let mut sim = SimSettings::default();
    // The image has a host key, which each fork has to make anew.
    sim.files.insert(
        "/etc/ssh/ssh_host_ed25519_key.pub".into(),
        "ssh-ed25519 baked-in\n".into(),
    );
    let ground = Ground::on(sim);
    let pool = ground.pool(Faults::none()).await;
    pool.set(class("tiny:1x128+net"), hot(FORKS as u32))
        .await
        .unwrap();
    // Only standing still is a failure, however slow the machine that this runs on.
    let mut before = (0, Instant::now());
    loop {
        let ready = pool.all(ShellState::Ready).await.len();
        if ready == FORKS {
            break;
        }
        if ready > before.0 {
            before = (ready, Instant::now());
        }
        assert!(
            before.1.elapsed() < Duration::from_secs(20),
            "it stands still at {ready}: {:#?}",
            pool.status().await
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let shells = pool.all(ShellState::Ready).await;
    let mut seen: [BTreeSet<String>; 6] = Default::default();
    for shell in &shells {
        let identity = shell.identity.clone().expect("an identity");
        assert!(identity.reseeded);
        assert_eq!(identity.keys.len(), 1);
        assert_ne!(identity.keys[0], "ssh-ed25519 baked-in");
        let values = [
            identity.draw,
            identity.machine_id,
            identity.host_name,
            identity.mac.expect("a MAC address"),
            identity.keys[0].clone(),
            shell.name.clone(),
        ];
        for (seen, value) in seen.iter_mut().zip(values) {
            assert!(seen.insert(value.clone()), "{value} is there twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forks_that_do_not_reseed_never_become_ready() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    ground.world.share_generation_ids(true);
    pool.set(class(TINY), hot(3)).await.unwrap();
    for _ in 0..1000 {
        let status = pool.status().await.unwrap();
        let view = &status.pools[0];
        if view
            .shortfall
            .as_ref()
            .is_some_and(|words| words.contains("did not reseed"))
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = pool.status().await.unwrap();
    let words = status.pools[0].shortfall.clone().unwrap_or_default();
    assert!(words.contains("did not reseed"), "{status:#?}");
    assert_eq!(
        pool.all(ShellState::Ready).await.len(),
        1,
        "the one from before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_forks_draw_alike_fails_its_self_test() {
    let ground = Ground::new();
    ground.world.share_generation_ids(true);
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    for _ in 0..1000 {
        if pool.status().await.unwrap().forks_reason.contains("reseed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = pool.status().await.unwrap();
    assert!(
        !status.forks && status.forks_reason.contains("reseed"),
        "{status:#?}"
    );
    let greenroom::pool::Answer::Nothing { reason, .. } =
        pool.claim(&ground.want("a")).await.unwrap()
    else {
        panic!("it was forked");
    };
    assert!(reason.contains("does not fork"), "{reason}");
    pool.until_shells("no shells", <[_]>::is_empty).await;
    pool.until_templates("no templates", <[_]>::is_empty).await;
    ground.check_nothing_left();

    // Mended, it is tried again after a while.
    ground.world.share_generation_ids(false);
    ground.forward(&pool, Duration::from_secs(3600));
    pool.until_hot(1).await;
}
