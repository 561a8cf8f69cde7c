//! Filling, claiming, releasing.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom::fault::Faults;
use greenroom::hypervisor::simulated::{Fault, GuestFault, SimSettings};
use greenroom::hypervisor::{HvError, Power};
use greenroom::pool::Answer;
use greenroom::vocab::machine::EngineKind;
use greenroom::vocab::pool::{ShellState, Target, Tier};

use crate::ground::{Ground, TINY, Verbs, class, hot, ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_filled_and_let_go() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    assert!(!pool.status().await.unwrap().forks);
    pool.set(class(TINY), hot(3)).await.unwrap();
    let shells = pool.until_hot(3).await;
    let status = pool.status().await.unwrap();
    assert!(status.forks, "{}", status.forks_reason);
    let view = &status.pools[0];
    assert_eq!(
        (view.tier, view.ready, &view.shortfall),
        (Tier::Hot, 3, &None)
    );
    for shell in &shells {
        assert_eq!(
            ground.world.snapshot().machines[&shell.id].power,
            Power::Paused
        );
        let identity = shell.identity.as_ref().unwrap();
        assert!(identity.reseeded && identity.host_name.ends_with(&shell.serial.to_string()));
    }
    pool.set(class(TINY), hot(1)).await.unwrap();
    let left = pool.until_hot(1).await;
    assert_eq!(left[0].id, shells[2].id, "the oldest go first");
    pool.set(class(TINY), None).await.unwrap();
    pool.until_shells("no shells", <[_]>::is_empty).await;
    pool.until_templates("no templates", <[_]>::is_empty).await;
    ground.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_takes_a_hot_shell_once_and_its_key_gives_the_same_again() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(2)).await.unwrap();
    let shells = pool.until_hot(2).await;
    let first = pool.take(&ground.want("a")).await;
    assert_eq!(
        (first.shell, first.tier, first.engine),
        (shells[0].id, Tier::Hot, EngineKind::Resume)
    );
    assert_eq!(
        ground.world.snapshot().machines[&first.shell].power,
        Power::Running
    );
    let again = pool.take(&ground.want("a")).await;
    assert_eq!((again.shell, again.made_at), (first.shell, first.made_at));
    let other = pool.take(&ground.want("b")).await;
    assert_eq!(other.shell, shells[1].id);
    assert_eq!(pool.claims().await.unwrap().len(), 2);
    pool.release("a").await.unwrap();
    assert!(!ground.world.snapshot().machines.contains_key(&first.shell));
    pool.release("a").await.unwrap();
    pool.release("never heard of").await.unwrap();
    let third = pool.take(&ground.want("a")).await;
    assert_ne!(third.shell, first.shell, "a shell is used once");
    pool.until_hot(2).await;
    let status = pool.status().await.unwrap();
    assert_eq!(status.pools[0].served.values().sum::<u64>(), 3);
    assert_eq!(status.recent.len(), 3);
    for key in ["a", "b"] {
        pool.release(key).await.unwrap();
    }
    pool.set(class(TINY), None).await.unwrap();
    pool.until_templates("no templates", <[_]>::is_empty).await;
    ground.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_claims_at_once_never_get_one_shell_twice() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(8)).await.unwrap();
    pool.until_hot(8).await;
    // Sixteen claimants for eight hot shells, two of each with one key.
    let claims = (0..32).map(|n| {
        let (pool, want) = (pool.clone(), ground.want(&format!("key {}", n / 2)));
        tokio::spawn(async move { (n / 2, pool.take(&want).await) })
    });
    let claims = futures::future::join_all(claims).await;
    let pairs: BTreeSet<(i32, String)> = claims
        .into_iter()
        .map(|done| done.expect("a claim"))
        .map(|(key, claim)| (key, claim.shell.to_string()))
        .collect();
    let shells: BTreeSet<&String> = pairs.iter().map(|(_, shell)| shell).collect();
    assert_eq!((pairs.len(), shells.len()), (16, 16));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hot_shell_a_template_is_forked_on_demand_first_from_a_standby() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(0)).await.unwrap();
    pool.until_hot(0).await;
    let standby = pool.all(ShellState::Standby).await[0].id;
    let first = pool.take(&ground.want("a")).await;
    assert_eq!(
        (first.shell, first.tier, first.engine),
        (standby, Tier::Warm, EngineKind::Fork)
    );
    let phases: Vec<&str> = first.phases.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        phases.contains(&"load") && !phases.contains(&"create"),
        "{phases:?}"
    );
    assert!(
        phases.contains(&"resize"),
        "it would step back behind the machines that others use: {phases:?}"
    );
    let second = pool.take(&ground.want("b")).await;
    assert_eq!(second.tier, Tier::Warm);
    let again = pool.take(&ground.want("a")).await;
    assert_eq!(again.shell, first.shell);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_becomes_what_is_wanted_and_says_what_it_became() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class("tiny:4x128"), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    let mut want = ground.want("a");
    want.size.vcpus = 2;
    want.size.memory_mib = 640;
    want.network = true;
    let claim = pool.take(&want).await;
    assert_eq!(ground.world.cpu_percent(claim.shell), Some(200));
    let achieved = claim.achieved.unwrap();
    assert!(
        achieved.memory_mib > 512 + 64 && achieved.memory_mib <= 640,
        "{achieved:?}"
    );
    let mut larger = ground.want("b");
    larger.size.memory_mib = 128 + 1025;
    let Answer::Nothing { tier, reason } = pool.claim(&larger).await.unwrap() else {
        panic!("more memory than can be added");
    };
    assert_eq!(tier, Tier::Cool);
    assert!(reason.contains("greenroom pool set tiny:1x"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shells_with_a_card_have_it_before_they_wait() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class("tiny:1x128+net"), hot(2)).await.unwrap();
    let shells = pool.until_hot(2).await;
    let macs: BTreeSet<_> = shells
        .iter()
        .map(|shell| shell.identity.clone().unwrap().mac.expect("a MAC address"))
        .collect();
    assert_eq!(macs.len(), 2);
    let Answer::Nothing { .. } = pool.claim(&ground.want("no card")).await.unwrap() else {
        panic!("a shell with a card was given to somebody who wanted none");
    };
    let mut want = ground.want("card");
    want.network = true;
    assert_eq!(pool.take(&want).await.tier, Tier::Hot);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trust_domain_has_templates_and_shells_of_its_own() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class("tiny:1x128@acme"), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    assert!(matches!(
        pool.claim(&ground.want("a")).await.unwrap(),
        Answer::Nothing { .. }
    ));
    pool.set(class(TINY), hot(1)).await.unwrap();
    pool.until_shells("two hot shells", |shells| {
        shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready)
            .count()
            == 2
    })
    .await;
    let templates = pool.templates(false).await.unwrap();
    assert_eq!(templates.len(), 2);
    assert_ne!(templates[0].key, templates[1].key);
    let mut want = ground.want("b");
    want.trust = class("tiny:1x128@acme").trust;
    assert_eq!(pool.take(&want).await.class.trust.0, "acme");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_is_broken_is_thrown_away_and_the_next_is_handed_out() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(4)).await.unwrap();
    let shells = pool.until_hot(4).await;
    // One died unnoticed, one was let go on by somebody, one does not go on.
    ground.world.set_paused(shells[0].id, false);
    ground.world.crash(shells[1].id, true);
    pool.until_shells("the dead one goes", |shells_now| {
        shells_now.iter().all(|shell| shell.id != shells[1].id)
    })
    .await;
    ground
        .world
        .inject(Fault::ResumeFails(HvError::Host("no".into())));
    let claim = pool.take(&ground.want("a")).await;
    assert_eq!(claim.shell, shells[3].id);
    pool.until_hot(4).await;
    let alive: BTreeSet<_> = pool
        .shells()
        .await
        .unwrap()
        .iter()
        .map(|shell| shell.id)
        .collect();
    assert!(shells[..3].iter().all(|shell| !alive.contains(&shell.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_with_a_time_ends_by_itself() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    let mut want = ground.want("a");
    want.ttl = Some(Duration::from_secs(600));
    let claim = pool.take(&want).await;
    ground.forward(&pool, Duration::from_secs(599 - 60));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pool.claims().await.unwrap().len(), 1);
    ground.forward(&pool, Duration::from_secs(120));
    pool.until_shells("the shell goes", |shells| {
        shells.iter().all(|shell| shell.id != claim.shell)
    })
    .await;
    assert!(pool.claims().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_shells_are_replaced() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(2)).await.unwrap();
    let old: BTreeSet<_> = pool
        .until_hot(2)
        .await
        .iter()
        .map(|shell| shell.id)
        .collect();
    ground.forward(&pool, ground.settings.max_age + Duration::from_secs(60));
    pool.until_shells("two new ones", |shells| {
        shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready && !old.contains(&shell.id))
            .count()
            == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_too_small_takes_hot_shells_from_who_used_them_least_recently() {
    let mut ground = Ground::new();
    build_second_image(&ground);
    ground.settings.budget_mib = 100_000;
    let pool = ground.pool(Faults::none()).await;
    let both = [class(TINY), class("second:1x128")];
    for class in &both {
        pool.set(class.clone(), hot(2)).await.unwrap();
    }
    pool.until_shells("four hot shells", |shells| {
        shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready)
            .count()
            == 4
    })
    .await;
    pool.take(&ground.want("a")).await;
    pool.release("a").await.unwrap();
    drop(pool);
    // Two standbys of the simulation's 25 MiB, and two shells of 40.
    ground.settings.budget_mib = 150;
    let pool = ground.pool(Faults::none()).await;
    let mut status = pool.status().await.unwrap();
    for _ in 0..1000 {
        status = pool.status().await.unwrap();
        let view = |name: &str| {
            status
                .pools
                .iter()
                .find(|view| view.class.image == name)
                .unwrap()
        };
        let words = view("second").shortfall.clone().unwrap_or_default();
        if words.contains("budget") && view("second").ready < 2 && view("tiny").ready == 2 {
            assert!(status.used_mib <= 150.0, "{status:#?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{status:#?}");
}

fn build_second_image(ground: &Ground) {
    crate::support::house::build_images(ground.state.path(), &["second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_is_asked_for_in_vain_gets_a_template_and_loses_it_unused() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    for n in 0..3 {
        let Answer::Nothing { tier, reason } =
            pool.claim(&ground.want(&format!("{n}"))).await.unwrap()
        else {
            panic!("there is nothing yet");
        };
        assert_eq!(tier, Tier::Cool);
        assert!(
            n > 0 || reason.contains("greenroom pool set tiny:1x128 --hot 1"),
            "{reason}"
        );
    }
    pool.until_templates("a template", |templates| ready(templates).is_some())
        .await;
    assert_eq!(pool.status().await.unwrap().pools[0].target, None);
    assert_eq!(pool.take(&ground.want("a")).await.tier, Tier::Warm);
    pool.release("a").await.unwrap();
    ground.forward(&pool, Duration::from_secs(25 * 3600));
    pool.until_templates("none", <[_]>::is_empty).await;
    pool.until_shells("none", <[_]>::is_empty).await;
    ground.check_nothing_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floor_of_cool_keeps_nothing() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    let target = Target {
        hot: 0,
        floor: Tier::Cool,
    };
    pool.set(class(TINY), Some(target)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(pool.templates(true).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_waits_and_what_is_claimed() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(3)).await.unwrap();
    pool.until_hot(3).await;
    let claim = pool.take(&ground.want("a")).await;
    let shells: BTreeSet<_> = pool
        .until_hot(3)
        .await
        .iter()
        .map(|shell| shell.id)
        .collect();
    ground.until_stored(&shells).await;
    drop(pool);
    let pool = ground.pool(Faults::none()).await;
    let after: BTreeSet<_> = pool
        .until_hot(3)
        .await
        .iter()
        .map(|shell| shell.id)
        .collect();
    assert_eq!(shells, after);
    assert_eq!(pool.take(&ground.want("a")).await.shell, claim.shell);
    assert!(pool.owned().contains(&claim.shell));
    drop(pool);
    // What was found running is not handed out: somebody may have used it.
    let victim = *shells.first().unwrap();
    ground.world.set_paused(victim, false);
    let pool = ground.pool(Faults::none()).await;
    pool.until_shells("it is replaced", |shells| {
        let ready = shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready);
        shells.iter().all(|shell| shell.id != victim) && ready.count() == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_goes_away_for_a_while_costs_nothing_but_time() {
    let ground = Ground::on(SimSettings::default());
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(2)).await.unwrap();
    pool.until_hot(2).await;
    let claim = pool.take(&ground.want("a")).await;
    ground.world.set_reachable(false);
    assert!(pool.release("a").await.is_err());
    ground.world.set_reachable(true);
    ground.forward(&pool, Duration::from_secs(10));
    pool.until_shells("the shell goes after all", |shells| {
        shells.iter().all(|shell| shell.id != claim.shell)
    })
    .await;
    pool.until_hot(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_never_answers_is_not_handed_out() {
    let mut ground = Ground::new();
    ground.settings.boot_deadline = Duration::from_millis(300);
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(0)).await.unwrap();
    pool.until_hot(0).await;
    let standby = pool.all(ShellState::Standby).await[0].id;
    ground
        .world
        .inject_into(standby, GuestFault::AgentSilent { after: 0 });
    let claim = pool.take(&ground.want("a")).await;
    assert_ne!(claim.shell, standby);
    pool.until_shells("the silent one goes", |shells| {
        shells.iter().all(|shell| shell.id != standby)
    })
    .await;
}
