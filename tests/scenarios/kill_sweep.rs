//! The daemon is killed at every point of a run, in each window, and started again on the same host
//! and state; and killed once more while it recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenroom::chain::model::Chain;
use greenroom::daemon::Running;
use greenroom::fault::Window;
use greenroom::runs::plan::{self, Action};
use greenroom::runs::view::View;
use greenroom::vocab::run::{Purpose, RunState};
use greenroom::vocab::{FailureKind, RunId};

use crate::support::house::House;
use crate::support::killer::{self, Killer, Point, every_point, has_killed, side_by_side};
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

/// Houses at a time: in each of them most of the time is waited.
const HOUSES: usize = 4;

/// One life of a daemon.
pub fn life<T>(
    house: &House,
    killer: Option<&Arc<Killer>>,
    story: impl AsyncFnOnce(&Running) -> T,
) -> Option<T> {
    killer::life(killer, async |faults| {
        story(&house.daemon(faults).await).await
    })
}

/// Each stage says so once; the first and third leave a mark on the disk, and a mark that is there
/// already when it should not be is written to the log.
pub fn marking() -> Chain {
    chain(
        "marking",
        vec![
            stage("one", &format!("echo one\nprintf %s A > $GREENROOM_HANDOFF_DISK\n{}", says("1"))).on_disk(),
            stage("two", &format!("echo two\n{}", says("2"))),
            stage("three", "head -c 1 $GREENROOM_HANDOFF_DISK\necho three\nprintf %s B > $GREENROOM_HANDOFF_DISK").on_disk().without_output(),
        ],
    )
}

/// The second stage always fails; the first takes back what it did.
fn failing() -> Chain {
    let mut chain = chain(
        "failing",
        vec![
            stage("one", &format!("echo one\n{}", says("1"))).undone_by("echo undo"),
            stage("two", "exit 1").retrying(&[FailureKind::Exit], 2),
        ],
    );
    chain.on_failure.hold_s = 0;
    chain
}

fn begin(house: &House, chain: &Chain, killer: &Arc<Killer>) -> Option<RunId> {
    let mut id = None;
    life(house, Some(killer), async |daemon| {
        daemon.add_device("d1", "c1").await;
        daemon.apply(chain).await;
        let run = daemon.start("d1", &chain.name).await;
        id = Some(run.id);
        daemon.finished(run.id).await;
    });
    id
}

fn passed_points(chain: &Chain) -> Vec<Point> {
    let house = House::new();
    let counter = Killer::never();
    begin(&house, chain, &counter);
    counter.passed()
}

pub fn check_marking(daemon_log: &str, view: &View) {
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(
        view.attempts.len(),
        3,
        "a kill of the daemon costs no try: {view:#?}"
    );
    assert_eq!(
        daemon_log, "one\ntwo\nAthree\n",
        "each stage worked once, on the disk as its predecessor left it"
    );
}

fn check_failing(daemon_log: &str, view: &View) {
    assert!(
        matches!(view.run.state, RunState::Failed { .. }),
        "{view:#?}"
    );
    assert_eq!(
        view.attempts
            .iter()
            .filter(|attempt| attempt.stage == "two")
            .count(),
        2,
        "{view:#?}"
    );
    assert_eq!(
        view.attempts
            .iter()
            .filter(|attempt| attempt.purpose == Purpose::Undo)
            .count(),
        1
    );
    assert_eq!(daemon_log, "one\nundo\n");
}

/// Kills at the n-th point, then at the m-th of the recovery, then lets it recover. Returns how often it
/// was killed.
fn kill_and_recover(chain: &Chain, first: usize, again: &[usize], check: fn(&str, &View)) -> usize {
    let house = House::new();
    let killer = Killer::at(first);
    let id = begin(&house, chain, &killer).expect("no point is passed before there is a run");
    let mut struck = usize::from(killer.has_struck());
    for n in again {
        let killer = Killer::at(*n);
        life(&house, Some(&killer), async |daemon| {
            daemon.finished(id).await
        });
        struck += usize::from(killer.has_struck());
    }
    let (log, view) = life(&house, None, async |daemon| {
        let view = daemon.finished(id).await;
        // The reconciler's second look at what a killed daemon may have left without a row.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while house.world.snapshot().disks.len() + house.world.snapshot().machines.len() > 1 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{first} {again:?}: {:?}",
                house.world.snapshot()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (daemon.log_of(id).await, view)
    })
    .expect("the last life is not killed");
    assert!(plan::is_over(&view));
    check(&log, &view);
    house.check_nothing_left();
    struck
}

fn sweep(chain: &Chain, check: fn(&str, &View)) -> usize {
    let points: Vec<usize> = (0..passed_points(chain).len()).collect();
    let struck = AtomicUsize::new(0);
    side_by_side(HOUSES, &points, |n| {
        struck.fetch_add(kill_and_recover(chain, *n, &[], check), Ordering::SeqCst);
    });
    let struck = struck.into_inner();
    has_killed(struck, points.len());
    struck
}

#[test]
fn killed_at_every_point_of_a_run_that_succeeds() {
    let points = passed_points(&marking());
    for word in Action::WORDS {
        for window in Window::ALL {
            assert!(
                points.contains(&(word.to_owned(), window)),
                "{word} {} is never passed",
                window.word()
            );
        }
    }
    let sites = sweep(&marking(), check_marking);
    println!("killed at {sites} points, each run came to its end");
}

#[test]
fn killed_at_every_point_of_a_run_that_fails_and_undoes() {
    let sites = sweep(&failing(), check_failing);
    println!("killed at {sites} points, each run came to its end");
}

#[test]
fn killed_again_while_it_recovers() {
    let stride = if every_point() { 5 } else { 12 };
    let kills: Vec<(usize, usize)> = (0..passed_points(&marking()).len())
        .step_by(stride)
        .flat_map(|first| [0, 1, 2, 4].map(|again| (first, again)))
        .collect();
    let struck = AtomicUsize::new(0);
    side_by_side(HOUSES, &kills, |(first, again)| {
        let again = [*again, *again];
        let killed = kill_and_recover(&marking(), *first, &again, check_marking);
        struck.fetch_add(killed, Ordering::SeqCst);
    });
    println!(
        "killed {} times, up to three in a row, each run came to its end",
        struck.load(Ordering::SeqCst)
    );
    // Who has less left to do than that passes no further point.
    assert!(struck.into_inner() > kills.len());
}
