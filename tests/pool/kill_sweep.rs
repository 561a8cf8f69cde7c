//! The pool is killed at every point that it passes, in each window, and started again on the same host
//! and state; and killed once more while it recovers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom::fault::{Faults, Hook, Window};
use greenroom::pool::{Pool, WORDS};
use greenroom::vocab::MachineId;
use greenroom::vocab::pool::ShellState;
use tokio::sync::Notify;

use crate::ground::{Ground, TINY, Verbs, class, hot};

/// Ends a pool the n-th time that any point is passed, and writes down what was passed.
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
            let count = |n: usize| n.checked_sub(1);
            let dies = this
                .countdown
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count)
                == Ok(0);
            if dies {
                this.dead.store(true, Ordering::SeqCst);
                this.died.notify_one();
            }
            dies
        })
    }
}

/// One life of a pool, on a runtime of its own: when `story` ends or the killer strikes, everything of
/// it is gone, wherever it was.
fn life<T: Send + 'static>(
    ground: &Ground,
    killer: Option<&Arc<Killer>>,
    story: impl AsyncFnOnce(Arc<Pool>) -> T,
) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(async {
        let faults = killer.map_or_else(Faults::none, |killer| Faults::hooked(killer.hook()));
        let pool = ground.pool(faults).await;
        let death = async {
            match killer {
                Some(killer) => killer.died.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            value = story(pool) => Some(value),
            () = death => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Who was told which shell is theirs.
type Told = Arc<Mutex<BTreeMap<String, BTreeSet<MachineId>>>>;

/// A pool is filled; hot shells and forks on demand are claimed, one released, one template retired.
async fn story(ground: &Ground, pool: Arc<Pool>, told: &Told) {
    pool.set(class(TINY), hot(2)).await.unwrap();
    pool.until_hot(2).await;
    for key in ["a", "b", "c"] {
        let claim = pool.take(&ground.want(key)).await;
        told.lock()
            .unwrap()
            .entry(key.to_owned())
            .or_default()
            .insert(claim.shell);
    }
    pool.release("b").await.unwrap();
    let template = pool.until_hot(2).await[0].template;
    pool.retire_template(template).await.unwrap();
    pool.until_shells("two of the next generation", |shells| {
        let new = shells
            .iter()
            .filter(|shell| shell.state == ShellState::Ready && shell.template != template);
        new.count() == 2
    })
    .await;
    pool.until_hot(2).await;
}

/// The pool goes on from wherever it was: what is claimed stays, what is wanted comes, nothing is left.
async fn recover(ground: &Ground, pool: Arc<Pool>, told: &Told) {
    for key in ["a", "c"] {
        let claim = pool.take(&ground.want(key)).await;
        told.lock()
            .unwrap()
            .entry(key.to_owned())
            .or_default()
            .insert(claim.shell);
    }
    pool.release("b").await.unwrap();
    pool.set(class(TINY), hot(2)).await.unwrap();
    pool.until_hot(2).await;
    for key in ["a", "c"] {
        pool.release(key).await.unwrap();
    }
    pool.set(class(TINY), None).await.unwrap();
    pool.until_shells("no shells", <[_]>::is_empty).await;
    pool.until_templates("no templates", <[_]>::is_empty).await;
}

fn passed_points() -> Vec<(String, Window)> {
    let ground = Ground::new();
    let counter = Killer::at(usize::MAX);
    let told = Told::default();
    life(&ground, Some(&counter), async |pool| {
        story(&ground, pool, &told).await
    });
    life(&ground, Some(&counter), async |pool| {
        recover(&ground, pool, &told).await
    });
    counter.passed.lock().unwrap().clone()
}

/// Kills at the n-th point, then at the m-th of each recovery, then lets it recover.
fn kill_and_recover(first: usize, again: &[usize]) {
    let ground = Ground::new();
    let told = Told::default();
    let killer = Killer::at(first);
    life(&ground, Some(&killer), async |pool| {
        story(&ground, pool, &told).await
    });
    for n in again {
        let killer = Killer::at(*n);
        life(&ground, Some(&killer), async |pool| {
            recover_if_asked(&ground, pool, &told).await
        });
    }
    life(&ground, None, async |pool| {
        // Without a template nothing can be claimed: first the target is reached.
        pool.set(class(TINY), hot(2)).await.unwrap();
        pool.until_hot(2).await;
        recover(&ground, pool, &told).await;
    });
    ground.check_nothing_left();
    let told = told.lock().unwrap();
    let all: Vec<&MachineId> = told.values().flatten().collect();
    let different: BTreeSet<&MachineId> = all.iter().copied().collect();
    assert_eq!(
        all.len(),
        different.len(),
        "a shell was given to two claims: {told:?}"
    );
    for (key, shells) in told.iter() {
        assert!(
            shells.len() <= 1,
            "{key} was told of several shells: {shells:?}"
        );
    }
}

async fn recover_if_asked(ground: &Ground, pool: Arc<Pool>, told: &Told) {
    pool.set(class(TINY), hot(2)).await.unwrap();
    pool.until_hot(2).await;
    let claim = pool.take(&ground.want("a")).await;
    told.lock()
        .unwrap()
        .entry("a".to_owned())
        .or_default()
        .insert(claim.shell);
}

#[test]
fn every_point_is_passed() {
    let points = passed_points();
    for word in WORDS {
        for window in Window::ALL {
            assert!(
                points.contains(&(word.to_owned(), window)),
                "{word} {} is never passed",
                window.word()
            );
        }
    }
}

#[test]
fn killed_at_every_point() {
    let points = passed_points().len();
    side_by_side((0..points).map(|n| (n, vec![])).collect());
    println!("killed at {points} points");
}

#[test]
fn killed_again_while_it_recovers() {
    let points = passed_points().len();
    let kills: Vec<(usize, Vec<usize>)> = (0..points)
        .step_by(11)
        .flat_map(|first| [0, 3, 9].map(|again| (first, vec![again, again])))
        .collect();
    println!("{} times killed three times in a row", kills.len());
    side_by_side(kills);
}

/// Most of the time is waited: guests settle. So several worlds at once.
fn side_by_side(kills: Vec<(usize, Vec<usize>)>) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((first, again)) = kills.get(next.fetch_add(1, Ordering::SeqCst)) {
                    kill_and_recover(*first, again);
                }
            });
        }
    });
}
