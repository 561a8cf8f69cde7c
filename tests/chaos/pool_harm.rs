//! Shells and templates that come to harm while they wait, and what they stand on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::ground::Ground;
use crate::look;
use crate::pool_verbs::{FILLS_WITHIN, Stock, claim, force, hot, qemu_of};
use crate::pooled::Kept;
use crate::surroundings::{fill, libvirtd};

/// The folder of the template that shells are forked from.
fn folder_of(ground: &Ground, stock: &Stock) -> PathBuf {
    let template = stock.ready_template().expect("a template");
    ground.state().join("templates").join(&template.id)
}

/// Somebody opens a sealed file for writing and does this to it.
fn harm(path: &Path, change: impl FnOnce(&mut std::fs::File)) {
    let mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    mode(0o644).expect("its mode");
    let file = std::fs::File::options().write(true).open(path);
    change(&mut file.expect("the file"));
    mode(0o444).expect("its mode");
}

/// A damaged template: nobody gets a machine of it, it says why it failed, and another is built.
async fn is_found_out(ground: &mut Ground, stock: &Stock, file: &str) {
    let old = stock.ready_template().expect("a template").id.clone();
    let taken = ground.client().claim_take(&claim("harmed")).await;
    let taken = taken.expect("an answer");
    assert!(
        taken.claim.is_none() && taken.reason.contains(file),
        "{taken:#?}"
    );
    ground
        .until_stock(FILLS_WITHIN, "pool of another generation", |stock| {
            stock.is_full(1)
                && stock.ready_template().is_some_and(|now| now.id != old)
                && stock.of("ready").all(|shell| shell.template != old)
        })
        .await;
    let all = ground.client().template_list(true).await.expect("a list");
    let failed = all.iter().find(|template| template.id == old);
    let reason = failed.and_then(|template| template.reason.clone());
    let reason = reason.unwrap_or_default();
    assert!(reason.contains(file), "it failed with {reason:?}");
    ground.claims("after-the-harm").await;
    ground.until_full(1).await;
    ground.keeps(Kept::hot(1), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_is_killed_and_a_template_that_is_cut_off_are_replaced() {
    let Some(mut ground) = Ground::open_with_pool("a shell that is killed").await else {
        return;
    };
    ground.start(None).await;
    ground.want(&hot(1)).await;
    let stock = ground.until_full(1).await;
    let victim = stock.of("ready").next().expect("one").clone();
    kill(qemu_of(&victim.name), Signal::SIGKILL).expect("a signal");
    let taken = ground.claims("right-after-the-kill").await;
    let taken = taken.claim.expect("a machine");
    assert_ne!(taken.machine, victim.id, "a dead shell was handed out");
    let stock = ground.until_full(1).await;
    assert!(stock.shells.iter().all(|shell| shell.id != victim.id));
    ground.keeps(Kept::hot(1), &[]).await;

    harm(&folder_of(&ground, &stock).join("state"), |file| {
        file.set_len(1000).expect("a shorter file");
    });
    is_found_out(&mut ground, &stock, "state").await;
    ground.lets_go().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `vagrant/lab chaos`"]
async fn a_template_that_is_changed_or_cut_off_fails_with_the_reason() {
    use std::os::unix::fs::FileExt as _;
    let Some(mut ground) = Ground::open_with_pool("a template that is changed").await else {
        return;
    };
    ground.start(None).await;
    ground.want(&hot(1)).await;
    let stock = ground.until_full(1).await;
    harm(&folder_of(&ground, &stock).join("disk.qcow2"), |file| {
        file.write_all_at(b"x", 70_000).expect("a change");
    });
    is_found_out(&mut ground, &stock, "disk").await;
    // Forks have it mapped: those that wait are gone with it.
    let stock = ground.until_full(1).await;
    harm(&folder_of(&ground, &stock).join("memory"), |file| {
        file.set_len(1 << 20).expect("a shorter file");
    });
    is_found_out(&mut ground, &stock, "memory").await;
    let stock = ground.until_full(1).await;
    std::fs::remove_file(folder_of(&ground, &stock).join("state")).expect("one file less");
    is_found_out(&mut ground, &stock, "state").await;
    ground.lets_go().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `vagrant/lab chaos`"]
async fn a_shell_that_does_not_come_back_is_passed_over() {
    // While one QEMU is stopped, libvirt describes no machine to anybody.
    let story = "a shell that does not come back";
    let Some(mut ground) = Ground::open_alone_with_pool(story).await else {
        return;
    };
    ground.start(None).await;
    ground.want(&hot(2)).await;
    let stock = ground.until_full(2).await;
    // The one that has waited longest is handed out first.
    let victim = stock
        .of("ready")
        .min_by_key(|shell| shell.made_at.to_string());
    let victim = victim.expect("one").clone();
    let qemu = qemu_of(&victim.name);
    kill(qemu, Signal::SIGSTOP).expect("a signal");
    let begun = Instant::now();
    let taken = ground.claims("patient").await;
    eprintln!(
        "a claim that met a stopped machine took {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let taken = taken.claim.expect("a machine");
    assert_ne!(taken.machine, victim.id, "a stopped shell was handed out");
    let stock = ground.until_full(2).await;
    assert!(stock.shells.iter().all(|shell| shell.id != victim.id));
    ground.keeps(Kept::hot(2), &[]).await;
    assert!(
        !Path::new(&format!("/proc/{qemu}")).exists(),
        "the stopped process {qemu} is still there"
    );
    ground.lets_go().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ends the lab's libvirtd, on which everything else stands: `vagrant/lab chaos`"]
async fn a_libvirtd_that_is_killed_while_the_pool_fills_is_waited_for() {
    let Some(mut ground) = Ground::open_alone_with_pool("a libvirtd that is killed").await else {
        return;
    };
    ground.start(None).await;
    ground.want(&hot(1)).await;
    ground.until_full(1).await;
    for round in 1..=3 {
        ground.want(&hot(1 + 2 * round)).await;
        ground
            .until_stock(FILLS_WITHIN, "shell being filled", |stock| {
                stock.of("filling").next().is_some()
            })
            .await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 150)).await;
        kill(libvirtd(), Signal::SIGKILL).expect("a signal");
        let begun = Instant::now();
        while look::virsh(&["list"]).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "nobody started libvirtd again"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let hot = 1 + 2 * round as usize;
        ground.until_full(hot).await;
        ground.keeps(Kept::hot(hot), &[]).await;
        let taken = ground.claims(&format!("after-death-{round}")).await;
        assert_eq!(taken.tier, "hot", "{taken:#?}");
        ground.until_full(hot).await;
    }
    ground.lets_go().await;
}

/// What a template's overlay grows by until it is captured, and less than its device state takes.
const LEFT_KIB: u64 = 448;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `vagrant/lab chaos`"]
async fn a_full_disk_under_the_templates_leaves_the_generation_before() {
    let Some(mut ground) = Ground::open_with_pool("a full disk under the templates").await else {
        return;
    };
    let templates = ground.state().join("templates");
    ground.mount(&templates, "500m");
    ground.start(None).await;
    ground.want(&hot(1)).await;
    let stock = ground.until_full(1).await;
    let first = stock.ready_template().expect("a template").id.clone();
    let begun = ground.client().template_build(&force()).await;
    let second = begun.expect("a template that is being built").id;
    // The new memory gets its room before the guest needs it, and what is then left is taken.
    let memory = templates.join(&second).join("memory");
    let filler = templates.join("filler");
    let waited = Instant::now();
    while !memory.exists() {
        assert!(waited.elapsed() < FILLS_WITHIN, "it is never begun");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let file = std::fs::File::options().write(true).open(&memory);
    let file = file.expect("the memory");
    while file.metadata().expect("its size").len() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let length = i64::try_from(file.metadata().expect("its size").len()).expect("a size");
    nix::fcntl::posix_fallocate(&file, 0, length).expect("room for the memory");
    fill(&filler);
    let taken = std::fs::metadata(&filler).expect("the filler").len();
    std::fs::File::options()
        .write(true)
        .open(&filler)
        .and_then(|file| file.set_len(taken.saturating_sub(LEFT_KIB << 10)))
        .expect("a little room");
    let reason = loop {
        let all = ground.client().template_list(true).await.expect("a list");
        let failed = all.iter().find(|template| template.id == second);
        let failed = failed.expect("its row");
        assert_ne!(failed.state, "ready", "there was room for it: {failed:#?}");
        if let Some(reason) = &failed.reason {
            break reason.clone();
        }
        assert!(waited.elapsed() < FILLS_WITHIN, "{failed:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    eprintln!("it failed with: {reason}");
    assert!(
        reason.contains("capturing it") && reason.contains("no space left"),
        "{reason}"
    );
    // Nothing that was there has suffered.
    let taken = ground.claims("meanwhile").await;
    assert_eq!(taken.tier, "hot", "{taken:#?}");
    let stock = ground.until_full(1).await;
    assert_eq!(stock.ready_template().expect("a template").id, first);
    std::fs::remove_file(&filler).expect("room");
    ground.keeps(Kept::hot(1), &[]).await;
    ground
        .client()
        .template_build(&force())
        .await
        .expect("a third");
    ground
        .until_stock(FILLS_WITHIN, "third generation", |stock| {
            stock.is_full(1) && stock.ready_template().is_some_and(|now| now.id != first)
        })
        .await;
    ground.keeps(Kept::hot(1), &[]).await;
    ground.lets_go().await;
}
