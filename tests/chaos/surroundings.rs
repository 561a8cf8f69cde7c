//! What the daemon stands on is taken away for a while: libvirtd, disk space, its database, itself.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt as _;

use crate::chains;
use crate::ground::Ground;
use crate::look;

const LONG: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_locked_is_waited_for() {
    let Some(mut ground) = Ground::open("a locked database").await else {
        return;
    };
    ground.start(None).await;
    ground.apply(&chains::marks(3)).await;
    let run = ground.begin("marks").await;
    ground.works(run, "one").await;
    let mut other = look::connect(&ground.state().join("greenroom.db"))
        .await
        .expect("a connection");
    sqlx::raw_sql("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .expect("the lock");
    // The stage ends meanwhile, and the daemon gives up waiting for the lock more than once.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before = ground.show(run).await;
    assert_eq!(before.run.state, "running", "it can still be asked");
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut other)
        .await
        .expect("the end of the lock");
    ground.rests(run, LONG).await;
    ground.is_clean(&[chains::marks_done(run, 1)]).await;
    let log = ground.log();
    assert!(log.contains("locked by another program"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `vagrant/lab chaos`"]
async fn a_full_disk_under_the_database_is_waited_for() {
    let Some(mut ground) = Ground::open("a full disk under the database").await else {
        return;
    };
    let small = ground.folder().join("database");
    ground.mount(&small, "1m");
    std::os::unix::fs::symlink(
        small.join("greenroom.db"),
        ground.state().join("greenroom.db"),
    )
    .expect("a link");
    ground.start(None).await;
    ground.apply(&chains::marks(4)).await;
    let run = ground.begin("marks").await;
    ground.works(run, "one").await;
    let filler = small.join("filler");
    fill(&filler);
    // The stage ends on a host that cannot take a note of it.
    let begun = Instant::now();
    while !ground.log().contains("waits for the database") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "nothing is said of the full disk\n{}",
            ground.report().await
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let log = ground.log();
    assert!(
        log.contains("is full; free space there"),
        "the disk is full, and it is said so\n{log}"
    );
    std::fs::remove_file(&filler).expect("space");
    ground.rests(run, LONG).await;
    ground.is_clean(&[chains::marks_done(run, 1)]).await;
}

/// Writes until nothing more fits.
pub fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("a file");
    while file.write_all(&[1; 512]).is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_machines_holds_the_run_until_there_is_space() {
    let Some(mut ground) = Ground::open("a full disk under the machines").await else {
        return;
    };
    let disks = ground.state().join("vm");
    // An overlay's header alone takes more.
    ground.mount(&disks, "4k");
    ground.start(None).await;
    ground.apply(&chains::marks(0)).await;
    let run = ground.begin("marks").await;
    let view = ground.rests(run, LONG).await;
    assert_eq!(view.run.state, "held", "{view:#?}");
    let failure = view.run.failure.expect("a reason");
    assert_eq!(failure.kind.word(), "host", "{failure}");
    assert!(
        failure
            .to_string()
            .contains("free space on the host's disk"),
        "{failure}"
    );
    let in_vain = view.attempts.len();
    ground.resize(&disks, "64m");
    ground.retry(run).await;
    ground.rests(run, LONG).await;
    let mut expected = chains::marks_done(run, 1);
    expected.tries[0].count += in_vain;
    ground.is_clean(&[expected]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half a minute: `vagrant/lab chaos`"]
async fn a_handoff_disk_that_cannot_be_removed_is_tried_again_with_pauses() {
    let Some(mut ground) = Ground::open("a handoff disk that cannot be removed").await else {
        return;
    };
    ground.start(None).await;
    ground.apply(&chains::marks(2)).await;
    let run = ground.begin("marks").await;
    ground.works(run, "two").await;
    // What something is mounted on cannot be removed.
    let disk = ground.state().join(format!("vm/run-{run}.handoff.raw"));
    ground.cover(&disk);
    ground.rests(run, LONG).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let facts = look::gather(&ground.state()).await.expect("facts");
    let removals = facts
        .journal
        .iter()
        .filter(|row| row.action == "remove_disks")
        .count();
    assert!(removals < 5, "tried {removals} times within seconds");
    ground.uncover(&disk);
    ground.is_clean(&[chains::marks_done(run, 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `vagrant/lab chaos`"]
async fn a_daemon_that_is_killed_again_and_again_goes_on_each_time() {
    for round in 1..=3 {
        let Some(mut ground) = Ground::open("a daemon that is killed again and again").await else {
            return;
        };
        let pauses: Vec<u64> = {
            let mut random = rand::rng();
            (0..4).map(|_| random.random_range(50..3500)).collect()
        };
        eprintln!("round {round}: killed after {pauses:?} ms");
        ground.start(None).await;
        ground.apply(&chains::marks(2)).await;
        let run = ground.begin("marks").await;
        for pause_ms in pauses {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            ground.kill();
            ground.start(None).await;
        }
        ground.rests(run, LONG).await;
        ground.is_clean(&[chains::marks_done(run, 1)]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ends the lab's libvirtd, on which everything else stands: `vagrant/lab chaos`"]
async fn a_libvirtd_that_is_killed_costs_no_try() {
    let Some(mut ground) = Ground::open_alone("a libvirtd that is killed").await else {
        return;
    };
    ground.start(None).await;
    ground.apply(&chains::marks(6)).await;
    let run = ground.begin("marks").await;
    for stage in ["one", "two"] {
        ground.works(run, stage).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let recorded = libvirtd();
        kill(recorded, Signal::SIGKILL).expect("a signal");
        let begun = Instant::now();
        while look::virsh(&["list"]).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "nobody started libvirtd again"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        eprintln!(
            "libvirtd killed while {stage} worked; it answers again after {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
    ground.rests(run, LONG).await;
    ground.is_clean(&[chains::marks_done(run, 1)]).await;
}

/// The lab's libvirtd, as it recorded itself.
pub fn libvirtd() -> Pid {
    let text = ["/run/libvirtd.pid", "/run/libvirt/libvirtd.pid"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .expect("libvirtd's pid file");
    let pid = Pid::from_raw(text.trim().parse().expect("a number"));
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_eq!(name.trim(), "libvirtd", "process {pid} is somebody else");
    pid
}
