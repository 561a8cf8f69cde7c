//! The same as [`super::kill_sweep`] with stages that are served by the pool: the daemon is killed at
//! the points of runs and at those of the pool, while it fills, serves and is let go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenroom::daemon::Running;
use greenroom::fault::Window;
use greenroom::pool::WORDS;
use greenroom::runs::plan::{self, Action};
use greenroom::runs::view::View;
use greenroom::store::runs;
use greenroom::vocab::machine::EngineKind;
use greenroom::vocab::pool::{Class, Shell, ShellState, Target, Tier};
use greenroom::vocab::{MachineId, RunId};

use super::kill_sweep::{check_marking, life, marking};
use crate::support::house::{House, STAGES};
use crate::support::killer::{Killer, chosen, has_killed, side_by_side};
use crate::support::verbs::Verbs;

const HOT: u32 = 2;
/// Of the points beyond the first of each kind, every so many-th is struck at.
const STRIDE: usize = 12;
/// Houses at a time.
const HOUSES: usize = 8;
/// Only standing still is a failure, however slow the machine that this runs on.
const PATIENCE_S: u64 = 120;

fn class() -> Class {
    STAGES.parse().expect("a class")
}

fn kept(hot: u32) -> Target {
    Target {
        hot,
        floor: if hot > 0 { Tier::Warm } else { Tier::Cool },
    }
}

async fn until(daemon: &Running, what: &str, is: impl Fn(&[Shell]) -> bool) -> Vec<Shell> {
    for _ in 0..PATIENCE_S * 100 {
        let shells = daemon.pool.shells().await.expect("shells");
        if is(&shells) {
            return shells;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}\n{:#?}", daemon.pool.status().await);
}

/// So many wait, one of them empty, and nothing is made or taken away.
async fn full(daemon: &Running) -> Vec<MachineId> {
    let is = |shells: &[Shell]| {
        let of = |state| shells.iter().filter(|shell| shell.state == state).count();
        of(ShellState::Ready) == HOT as usize
            && of(ShellState::Standby) == 1
            && shells.len() == HOT as usize + 1
    };
    let shells = until(daemon, "a full pool", is).await;
    shells.into_iter().map(|shell| shell.id).collect()
}

/// The device's run: the one that there is, else a new one.
async fn the_run(daemon: &Running) -> RunId {
    let mut connection = daemon.services.store.read().await.expect("a connection");
    let there = runs::run_list(&mut connection, None, None, None, 10).await;
    let there = there.expect("the runs");
    assert!(there.len() <= 1, "one was asked for: {there:#?}");
    drop(connection);
    if let Some(run) = there.first() {
        return run.id;
    }
    daemon.add_device("d1", "c1").await;
    daemon.apply(&marking()).await;
    daemon.start("d1", "marking").await.id
}

async fn set(daemon: &Running, target: Target) {
    let set = daemon.pool.set(class(), Some(target)).await;
    set.expect("a target");
}

/// Fills, serves a run, is let go.
async fn story(daemon: &Running) -> View {
    full(daemon).await;
    let run = the_run(daemon).await;
    let view = daemon.finished_within(run, PATIENCE_S).await;
    full(daemon).await;
    set(daemon, kept(0)).await;
    until(daemon, "an empty pool", <[_]>::is_empty).await;
    until_no_template(daemon).await;
    view
}

async fn until_no_template(daemon: &Running) {
    for _ in 0..PATIENCE_S * 100 {
        if daemon
            .pool
            .templates(false)
            .await
            .expect("templates")
            .is_empty()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a template is left: {:#?}", daemon.pool.status().await);
}

/// The last life: the run comes to its end, the pool is full, and nothing else is there; then nothing.
async fn recover(house: &House, daemon: &Running) {
    set(daemon, kept(HOT)).await;
    let run = the_run(daemon).await;
    let view = daemon.finished_within(run, PATIENCE_S).await;
    assert!(plan::is_over(&view));
    check_marking(&daemon.log_of(run).await, &view);
    // What a killed daemon left without a row goes at the reconciler's second look.
    let mut found = Ok(());
    for _ in 0..PATIENCE_S * 100 {
        let waiting = full(daemon).await;
        found = house.check_only(&waiting, 1);
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(found, Ok(()));
    assert!(daemon.pool.claims().await.expect("claims").is_empty());
    set(daemon, kept(0)).await;
    until(daemon, "an empty pool", <[_]>::is_empty).await;
    until_no_template(daemon).await;
}

/// Kills at the n-th point, then at the m-th of each recovery, then lets it recover. Returns how often
/// it was killed.
fn kill_and_recover(first: usize, again: &[usize]) -> usize {
    let house = House::new().with_pool(HOT);
    let mut struck = 0;
    for (life_no, n) in std::iter::once(&first).chain(again).enumerate() {
        let killer = Killer::at(*n);
        life(&house, Some(&killer), async |daemon| {
            if life_no == 0 {
                story(daemon).await;
            } else {
                recover(&house, daemon).await;
            }
        });
        struck += usize::from(killer.has_struck());
    }
    life(&house, None, async |daemon| recover(&house, daemon).await);
    house.check_nothing_left();
    struck
}

#[test]
fn killed_at_every_point_of_a_run_that_the_pool_serves() {
    let house = House::new().with_pool(HOT);
    let counter = Killer::never();
    let view = life(&house, Some(&counter), story).expect("it is not killed");
    house.check_nothing_left();
    for machine in &view.machines {
        assert!(
            matches!(machine.engine, EngineKind::Resume | EngineKind::Fork),
            "{machine:#?}"
        );
    }
    let points = counter.passed();
    for word in Action::WORDS.iter().chain(&WORDS) {
        for window in Window::ALL {
            assert!(
                points.contains(&((*word).to_owned(), window)),
                "{word} {} is never passed",
                window.word()
            );
        }
    }
    let kills = chosen(&points, STRIDE);
    let struck = AtomicUsize::new(0);
    side_by_side(HOUSES, &kills, |n| {
        struck.fetch_add(kill_and_recover(*n, &[]), Ordering::SeqCst);
    });
    let struck = struck.into_inner();
    println!(
        "of {} points {} chosen, {struck} times killed, each time nothing wrong afterwards",
        points.len(),
        kills.len()
    );
    has_killed(struck, kills.len());
}

#[test]
fn killed_again_while_it_and_the_pool_recover() {
    let kills: Vec<(usize, usize)> = [5, 40, 75, 110]
        .into_iter()
        .flat_map(|first| [1, 8].map(|again| (first, again)))
        .collect();
    let struck = AtomicUsize::new(0);
    side_by_side(HOUSES, &kills, |(first, again)| {
        let again = [*again, *again];
        struck.fetch_add(kill_and_recover(*first, &again), Ordering::SeqCst);
    });
    let struck = struck.into_inner();
    println!("killed {struck} times, three in a row");
    has_killed(struck, 3 * kills.len());
}
