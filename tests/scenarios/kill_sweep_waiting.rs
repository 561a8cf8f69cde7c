//! The daemon is killed at every point of a run that waits for its device in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenroom::chain::model::Chain;
use greenroom::daemon::Running;
use greenroom::runs::plan::{self, Request};
use greenroom::runs::view::View;
use greenroom::store::boot;
use greenroom::vocab::boot::{BootDevice, BootPhase, Trust};
use greenroom::vocab::run::RunState;
use greenroom::vocab::{Device, RunId, Timestamp};

use crate::kill_sweep::life;
use crate::support::house::House;
use crate::support::killer::{Killer, has_killed, side_by_side};
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

const HOUSES: usize = 4;

fn watched() -> Chain {
    chain(
        "watched",
        vec![
            stage("make", &format!("echo make\n{}", says("1"))).on_disk(),
            stage("look", &format!("echo look\n{}", says("2"))).after_delivery(3600),
        ],
    )
}

/// A device on its way from the network; for another the stage that waits would be left out.
pub async fn put_on_network(daemon: &Running, device: &Device) {
    let row = BootDevice {
        phase: BootPhase::Discovered,
        disk: "vda".into(),
        ..BootDevice::registered(device.id, device.name.clone(), Trust::Network, Timestamp(0))
    };
    daemon
        .services
        .store
        .write(move |c| Box::pin(async move { boot::device_put(c, &row).await }))
        .await
        .expect("a device on the network");
}

/// Says that the device reports whenever the run waits for it, as the network's desk does, until the
/// run is at its end.
async fn arrive_and_finish(daemon: &Running, id: RunId) -> View {
    loop {
        let view = daemon
            .until(id, 30, |view| {
                matches!(view.run.state, RunState::Waiting { .. })
                    || (view.run.state.is_terminal() && plan::is_over(view))
            })
            .await;
        if view.run.state.is_terminal() {
            return daemon.finished(id).await;
        }
        let head = view.run.head;
        let _ = daemon.dispatch.request(id, Request::Arrived { head }).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn begin(house: &House, killer: &Arc<Killer>) -> Option<RunId> {
    let mut id = None;
    life(house, Some(killer), async |daemon| {
        let device = daemon.add_device("d1", "c1").await;
        put_on_network(daemon, &device).await;
        daemon.apply(&watched()).await;
        let run = daemon.start("d1", "watched").await;
        id = Some(run.id);
        arrive_and_finish(daemon, run.id).await;
    });
    id
}

#[test]
fn killed_at_every_point_of_a_run_that_waits_for_its_device() {
    let house = House::new();
    let counter = Killer::never();
    begin(&house, &counter);
    let points: Vec<usize> = (0..counter.passed().len()).collect();
    let struck = AtomicUsize::new(0);
    side_by_side(HOUSES, &points, |n| {
        let house = House::new();
        let killer = Killer::at(*n);
        let id = begin(&house, &killer).expect("no point is passed before there is a run");
        struck.fetch_add(usize::from(killer.has_struck()), Ordering::SeqCst);
        let (log, view) = life(&house, None, async |daemon| {
            let view = arrive_and_finish(daemon, id).await;
            (daemon.log_of(id).await, view)
        })
        .expect("the last life is not killed");
        assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
        assert_eq!(view.attempts.len(), 2, "a kill costs no try: {view:#?}");
        assert_eq!(log, "make\nlook\n");
    });
    has_killed(struck.into_inner(), points.len());
}

#[test]
fn a_run_for_a_device_that_nobody_delivers_to_leaves_out_what_would_wait() {
    let house = House::new();
    life(&house, None, async |daemon| {
        daemon.add_device("d1", "c1").await;
        daemon.apply(&watched()).await;
        let run = daemon.start("d1", "watched").await;
        let view = daemon.finished(run.id).await;
        assert_eq!(view.run.state, RunState::Succeeded);
        assert_eq!(view.attempts.len(), 1);
    });
}
