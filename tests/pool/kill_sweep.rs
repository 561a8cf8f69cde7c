//! The pool is killed at every point that it passes, in each window, and started again on the same host
//! and state; and killed once more while it recovers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use greenroom::fault::Window;
use greenroom::pool::{Pool, WORDS};
use greenroom::vocab::MachineId;
use greenroom::vocab::pool::ShellState;

use crate::ground::{Ground, TINY, Verbs, class, hot};
use crate::support::killer::{self, Killer, Point, chosen, every_point, has_killed, side_by_side};

/// Of the points beyond the first of each kind, every so many-th is struck at.
const STRIDE: usize = 9;
/// And every so many-th of all when there are more deaths in a row.
const STRIDE_AGAIN: usize = 40;
/// Worlds at a time: guests settle, and claims are waited out.
const WORLDS: usize = 16;

/// One life of a pool.
fn life<T>(
    ground: &Ground,
    killer: Option<&Arc<Killer>>,
    story: impl AsyncFnOnce(Arc<Pool>) -> T,
) -> Option<T> {
    killer::life(killer, async |faults| {
        story(ground.pool(faults).await).await
    })
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

/// What the story passes, and what comes after it.
fn passed_points() -> (Vec<Point>, Vec<Point>) {
    let ground = Ground::new();
    let (counter, after) = (Killer::never(), Killer::never());
    let told = Told::default();
    life(&ground, Some(&counter), async |pool| {
        story(&ground, pool, &told).await
    });
    life(&ground, Some(&after), async |pool| {
        recover(&ground, pool, &told).await
    });
    (counter.passed(), after.passed())
}

/// Kills at the n-th point, then at the m-th of each recovery, then lets it recover. Returns how often
/// it was killed.
fn kill_and_recover(first: usize, again: &[usize]) -> usize {
    let ground = Ground::new();
    let told = Told::default();
    let killer = Killer::at(first);
    let mut struck = 0;
    life(&ground, Some(&killer), async |pool| {
        story(&ground, pool, &told).await
    });
    struck += usize::from(killer.has_struck());
    for n in again {
        let killer = Killer::at(*n);
        life(&ground, Some(&killer), async |pool| {
            recover_if_asked(&ground, pool, &told).await
        });
        struck += usize::from(killer.has_struck());
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
    struck
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
    let (mut points, after) = passed_points();
    points.extend(after);
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
    let (points, _) = passed_points();
    let kills = chosen(&points, STRIDE);
    let struck = AtomicUsize::new(0);
    side_by_side(WORLDS, &kills, |first| {
        struck.fetch_add(kill_and_recover(*first, &[]), Ordering::SeqCst);
    });
    let struck = struck.into_inner();
    println!(
        "of {} points {} chosen, {struck} times killed",
        points.len(),
        kills.len()
    );
    has_killed(struck, kills.len());
}

#[test]
fn killed_again_while_it_recovers() {
    let stride = if every_point() { 11 } else { STRIDE_AGAIN };
    let kills: Vec<(usize, usize)> = (0..passed_points().0.len())
        .step_by(stride)
        .flat_map(|first| [0, 3, 9].map(|again| (first, again)))
        .collect();
    let struck = AtomicUsize::new(0);
    side_by_side(WORLDS, &kills, |(first, again)| {
        let again = [*again, *again];
        struck.fetch_add(kill_and_recover(*first, &again), Ordering::SeqCst);
    });
    println!(
        "{} stories, {} times killed, up to three in a row",
        kills.len(),
        struck.load(Ordering::SeqCst)
    );
    // Who has less left to do than that passes no further point.
    assert!(struck.into_inner() > kills.len());
}
