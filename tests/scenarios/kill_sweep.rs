//! The daemon is killed at every point of a run, in each window, and started again on the same host
//! and state; and killed once more while it recovers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom::chain::model::Chain;
use greenroom::daemon::Running;
use greenroom::fault::{Faults, Hook, Window};
use greenroom::runs::plan::{self, Action};
use greenroom::runs::view::View;
use greenroom::vocab::run::{Purpose, RunState};
use greenroom::vocab::{FailureKind, RunId};
use tokio::sync::Notify;

use crate::support::house::House;
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

/// Ends a daemon the n-th time that any point is passed, and writes down what was passed.
struct Killer {
    countdown: AtomicUsize,
    dead: AtomicBool,
    died: Notify,
    passed: Mutex<Vec<(String, Window)>>,
}

impl Killer {
    fn at(n: usize) -> Arc<Self> {
        Arc::new(Self {
            countdown: AtomicUsize::new(n),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            passed: Mutex::default(),
        })
    }

    fn hook(self: &Arc<Self>) -> Hook {
        let this = self.clone();
        Arc::new(move |action, window| {
            if this.dead.load(Ordering::SeqCst) {
                return true;
            }
            this.passed
                .lock()
                .unwrap()
                .push((action.to_owned(), window));
            let dies = this
                .countdown
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                == Ok(0);
            if dies {
                this.dead.store(true, Ordering::SeqCst);
                this.died.notify_one();
            }
            dies
        })
    }
}

/// One life of a daemon, on a runtime of its own: when `story` ends or the killer strikes, everything
/// of it is gone, wherever it was.
fn life<T: Send + 'static>(
    house: &House,
    killer: Option<Arc<Killer>>,
    story: impl AsyncFnOnce(&Running) -> T,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(async {
        let daemon = house
            .daemon(
                killer
                    .as_ref()
                    .map_or_else(Faults::none, |killer| Faults::hooked(killer.hook())),
            )
            .await;
        let death = async {
            match &killer {
                Some(killer) => killer.died.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            value = story(&daemon) => Some(value),
            () = death => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Each stage says so once; the first and third leave a mark on the disk, and a mark that is there
/// already when it should not be is written to the log.
fn marking() -> Chain {
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

fn begin(house: &House, chain: &Chain, killer: Option<Arc<Killer>>) -> Option<RunId> {
    let mut id = None;
    life(house, killer, async |daemon| {
        daemon.add_device("d1", "c1").await;
        daemon.apply(chain).await;
        let run = daemon.start("d1", &chain.name).await;
        id = Some(run.id);
        daemon.finished(run.id).await;
    });
    id
}

fn passed_points(chain: &Chain) -> Vec<(String, Window)> {
    let house = House::new();
    let counter = Killer::at(usize::MAX);
    begin(&house, chain, Some(counter.clone()));
    let passed = counter.passed.lock().unwrap().clone();
    passed
}

fn check_marking(daemon_log: &str, view: &View) {
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

/// Kills at the n-th point, then at the m-th of the recovery, then lets it recover.
fn kill_and_recover(chain: &Chain, first: usize, again: &[usize], check: fn(&str, &View)) {
    let house = House::new();
    let Some(id) = begin(&house, chain, Some(Killer::at(first))) else {
        return;
    };
    for n in again {
        life(&house, Some(Killer::at(*n)), async |daemon| {
            daemon.finished(id).await
        });
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
}

fn sweep(chain: &Chain, check: fn(&str, &View)) -> usize {
    let points = passed_points(chain);
    for n in 0..points.len() {
        kill_and_recover(chain, n, &[], check);
    }
    points.len()
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
    let points = passed_points(&marking()).len();
    let mut killed = 0;
    for first in (0..points).step_by(5) {
        for again in [0, 1, 2, 4] {
            kill_and_recover(&marking(), first, &[again, again], check_marking);
            killed += 3;
        }
    }
    println!("killed {killed} times, three in a row, each run came to its end");
}
