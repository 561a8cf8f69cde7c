//! Templates: keys, generations, damage, failures.

use std::time::Duration;

use greenroom::fault::Faults;
use greenroom::hypervisor::HvError;
use greenroom::hypervisor::simulated::{Damage, Fault, SimSettings};
use greenroom::pool::Answer;
use greenroom::vocab::pool::{ShellState, TemplateState};

use crate::ground::{Ground, TINY, Verbs, class, hot, ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_version_drains_the_old_generation_and_builds_a_new_one() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(2)).await.unwrap();
    pool.until_hot(2).await;
    let old = pool.templates(false).await.unwrap();
    let old = ready(&old).unwrap().clone();
    let claim = pool.take(&ground.want("a")).await;
    pool.until_hot(2).await;

    ground.world.set_version("simulated 2");
    ground.world.set_reachable(false);
    ground.world.set_reachable(true);
    let templates = pool
        .until_templates("a new generation", |templates| {
            ready(templates).is_some_and(|template| template.generation == 2)
        })
        .await;
    let drained = templates
        .iter()
        .find(|template| template.id == old.id)
        .unwrap();
    assert_eq!(drained.state, TemplateState::Draining);
    let reason = drained.reason.as_deref().unwrap();
    assert!(reason.contains("host: simulated → simulated 2"), "{reason}");

    // What is handed out from now on is of the new generation.
    pool.until_shells("two of the new generation", |shells| {
        let new = shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready && shell.template != old.id);
        new.count() == 2
    })
    .await;
    let new = pool.take(&ground.want("b")).await;
    let shells = pool.shells().await.unwrap();
    let shell = shells.iter().find(|shell| shell.id == new.shell).unwrap();
    assert_ne!(shell.template, old.id);

    // The old one goes with its last shell.
    assert!(
        pool.templates(false)
            .await
            .unwrap()
            .iter()
            .any(|template| template.id == old.id)
    );
    pool.release(&claim.key).await.unwrap();
    pool.until_templates("the old one gone", |templates| {
        templates.iter().all(|template| template.id != old.id)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_of_another_key_is_never_handed_out() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    let mut want = ground.want("a");
    want.image.digest = greenroom::vocab::Digest::of(b"another image of this name");
    assert!(matches!(
        pool.claim(&want).await.unwrap(),
        Answer::Nothing { .. }
    ));
    let mut want = ground.want("b");
    want.image.kernel.digest = greenroom::vocab::Digest::of(b"another kernel");
    assert!(matches!(
        pool.claim(&want).await.unwrap(),
        Answer::Nothing { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_template_fails_at_the_next_claim_and_is_built_again() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(2)).await.unwrap();
    let old = pool.until_hot(2).await[0].template;
    let files = ground.settings.templates.join(old.to_string());
    ground.world.damage_template(&files, Damage::Changed);
    let answer = pool.claim(&ground.want("a")).await.unwrap();
    assert!(matches!(answer, Answer::Nothing { .. }), "{answer:?}");
    pool.until_shells("hot shells of a new template", |shells| {
        let new = shells
            .iter()
            .filter(|shell| shell.template != old && shell.state == ShellState::Ready);
        new.count() == 2 && shells.iter().all(|shell| shell.template != old)
    })
    .await;
    let all = pool.templates(true).await.unwrap();
    let failed = all.iter().find(|template| template.id == old).unwrap();
    assert!(
        failed.reason.as_deref().unwrap().contains("memory"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_verified_on_request() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    let template = pool.until_hot(1).await[0].template;
    assert_eq!(
        pool.verify_template(template).await.unwrap().state,
        TemplateState::Ready
    );
    let files = ground.settings.templates.join(template.to_string());
    ground.world.damage_template(&files, Damage::Truncated);
    assert_eq!(
        pool.verify_template(template).await.unwrap().state,
        TemplateState::Failed
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_leaves_nothing_and_is_tried_again() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class("tiny:1x256"), hot(0)).await.unwrap();
    pool.until_hot(0).await;
    ground.world.inject(Fault::CaptureFails(HvError::Host(
        "no room for the state".into(),
    )));
    pool.set(class(TINY), hot(1)).await.unwrap();
    let all = pool
        .until_templates("a failed one gone and a new one ready", |templates| {
            ground.forward(&pool, Duration::from_millis(50));
            templates
                .iter()
                .filter(|template| template.state == TemplateState::Ready)
                .count()
                == 2
        })
        .await;
    assert_eq!(all.len(), 2);
    let all = pool.templates(true).await.unwrap();
    let failed = all
        .iter()
        .find(|template| template.class == class(TINY) && template.state == TemplateState::Gone);
    assert!(
        failed
            .unwrap()
            .reason
            .as_deref()
            .unwrap()
            .contains("no room for the state")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_is_begun_right_after_a_restart_is_not_taken_for_a_half_built_one() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(0)).await.unwrap();
    pool.until_hot(0).await;
    drop(pool);
    // What an earlier life left is looked at again a second after the host was away.
    ground.world.set_reachable(false);
    let pool = ground.pool(Faults::none()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    ground.world.set_reachable(true);
    let begun = pool.build_template(&class(TINY), true).await.unwrap();
    pool.until_templates("it is ready", |templates| {
        ready(templates).is_some_and(|template| template.id == begun)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_that_fails_fails_the_template_with_its_words() {
    let ground = Ground::new();
    change_manifest(&ground, |image| {
        image["warm_up"] = serde_json::json!([["sh", "-c", "echo no tool here >&2; exit 3"]]);
    });
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    for _ in 0..1000 {
        if pool
            .status()
            .await
            .unwrap()
            .forks_reason
            .contains("no tool here")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:#?}", pool.status().await);
}

fn change_manifest(ground: &Ground, change: impl Fn(&mut serde_json::Value)) {
    let image = ground.image("tiny");
    let path = image.disk.path.with_file_name("manifest.json");
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_cannot_be_forked_is_given_up_for_the_one_before() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    let first = pool.until_hot(1).await[0].template;
    for _ in 0..3 {
        ground.world.inject(Fault::LoadFails(HvError::Host(
            "a state that does not fit".into(),
        )));
    }
    let second = pool.build_template(&class(TINY), true).await.unwrap();
    assert_eq!(
        pool.build_template(&class(TINY), false).await.unwrap(),
        second,
        "it is being built"
    );
    pool.until_templates("the first is taken again", |templates| {
        // The breaker's pauses.
        ground.forward(&pool, Duration::from_millis(50));
        let state = |id| {
            templates
                .iter()
                .find(|template| template.id == id)
                .map(|template| template.state)
        };
        state(first) == Some(TemplateState::Ready)
            && matches!(state(second), None | Some(TemplateState::Failed))
    })
    .await;
    let all = pool.templates(true).await.unwrap();
    let failed = all.iter().find(|template| template.id == second).unwrap();
    assert!(
        failed
            .reason
            .as_deref()
            .unwrap()
            .contains("3 forks in a row failed"),
        "{failed:?}"
    );
    ground.world.calm();
    pool.until_hot(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_template_goes_with_its_last_shell_and_the_target_gets_another() {
    let ground = Ground::new();
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    let first = pool.until_hot(1).await[0].template;
    let claim = pool.take(&ground.want("a")).await;
    pool.until_hot(1).await;
    assert_eq!(
        pool.retire_template(first).await.unwrap().state,
        TemplateState::Draining
    );
    pool.until_shells("one of the next", |shells| {
        shells
            .iter()
            .any(|shell| shell.state == ShellState::Ready && shell.template != first)
    })
    .await;
    assert!(
        ground
            .folders()
            .contains(&ground.settings.templates.join(first.to_string()))
    );
    pool.release(&claim.key).await.unwrap();
    pool.until_templates("it is gone", |templates| {
        templates.iter().all(|template| template.id != first)
    })
    .await;
    assert!(
        !ground
            .folders()
            .contains(&ground.settings.templates.join(first.to_string()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn template_folders_that_nobody_knows_go_at_the_start() {
    let ground = Ground::on(SimSettings::default());
    let pool = ground.pool(Faults::none()).await;
    pool.set(class(TINY), hot(1)).await.unwrap();
    pool.until_hot(1).await;
    drop(pool);
    // The database of another day: nothing in it knows the template.
    std::fs::remove_file(ground.state.path().join("greenroom.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(ground.state.path().join(format!("greenroom.db{suffix}")));
    }
    let _pool = ground.pool(Faults::none()).await;
    for _ in 0..500 {
        if ground.folders().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} is left", ground.folders());
}
