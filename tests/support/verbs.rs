//! What users do, as methods of a daemon.

use std::time::Duration;

use greenroom::chain::model::Chain;
use greenroom::daemon::Running;
use greenroom::runs::submit::{self, RunOrder};
use greenroom::runs::view::View;
use greenroom::runs::{drive, plan};
use greenroom::store::{chains, devices, journal, logs};
use greenroom::vocab::machine::MachineState;
use greenroom::vocab::run::Run;
use greenroom::vocab::{Device, DeviceId, RunId, Timestamp};

/// The user's verbs.
pub trait Verbs {
    async fn add_device(&self, name: &str, client: &str) -> Device {
        let facts = serde_json::Map::from_iter([("memory_mib".to_owned(), 2048.into())]);
        self.add_device_with(name, client, facts).await
    }
    async fn add_device_with(
        &self,
        name: &str,
        client: &str,
        facts: serde_json::Map<String, serde_json::Value>,
    ) -> Device;
    async fn apply(&self, chain: &Chain);
    async fn start(&self, device: &str, chain: &str) -> Run;
    async fn view(&self, id: RunId) -> View;
    /// Waits until the run's view is as wanted; panics with the view after `seconds`.
    async fn until(&self, id: RunId, seconds: u64, what: impl Fn(&View) -> bool) -> View;
    /// Waits until nothing is left to do for the run.
    async fn finished(&self, id: RunId) -> View {
        self.finished_within(id, 30).await
    }
    async fn finished_within(&self, id: RunId, seconds: u64) -> View;
    async fn log_of(&self, id: RunId) -> String;
}

impl Verbs for Running {
    async fn add_device_with(
        &self,
        name: &str,
        client: &str,
        facts: serde_json::Map<String, serde_json::Value>,
    ) -> Device {
        let device = Device {
            id: DeviceId::fresh(),
            name: name.into(),
            client: client.into(),
            facts,
            added_at: Timestamp(0),
        };
        let write = device.clone();
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { devices::device_put(connection, &write).await })
            })
            .await
            .expect("a device")
    }

    async fn apply(&self, chain: &Chain) {
        let chain = chain.clone();
        self.services
            .store
            .write(move |connection| {
                Box::pin(
                    async move { chains::chain_apply(connection, &chain, "", Timestamp(0)).await },
                )
            })
            .await
            .expect("a chain");
    }

    async fn start(&self, device: &str, chain: &str) -> Run {
        let order = RunOrder {
            device: device.into(),
            chain: Some(chain.into()),
            ..RunOrder::default()
        };
        let prepared = submit::prepare(&self.services, &self.images, &order)
            .await
            .expect("a plan");
        let run = submit::submit(&self.services, prepared)
            .await
            .expect("a run");
        self.dispatch.nudge();
        run
    }

    async fn view(&self, id: RunId) -> View {
        drive::load(&self.services, id)
            .await
            .expect("rows")
            .expect("a run")
    }

    async fn until(&self, id: RunId, seconds: u64, what: impl Fn(&View) -> bool) -> View {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        loop {
            let view = self.view(id).await;
            if what(&view) {
                return view;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "after {seconds} s it is still: {view:#?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn finished_within(&self, id: RunId, seconds: u64) -> View {
        let view = self
            .until(id, seconds, |view| {
                view.run.state.is_terminal() && plan::is_over(view)
            })
            .await;
        check_rows(self, &view).await;
        view
    }

    async fn log_of(&self, id: RunId) -> String {
        let mut connection = self.services.store.read().await.expect("a connection");
        let pieces = logs::piece_list(&mut connection, id, 0, 10_000)
            .await
            .expect("pieces");
        pieces.into_iter().map(|piece| piece.text).collect()
    }
}

/// The invariants of a finished run's rows.
async fn check_rows(running: &Running, view: &View) {
    assert!(
        view.machines
            .iter()
            .all(|machine| machine.state == MachineState::Gone)
    );
    let mut connection = running.services.store.read().await.expect("a connection");
    let journal = journal::journal_list(&mut connection, view.run.id)
        .await
        .expect("a journal");
    let numbers: Vec<i64> = journal.iter().map(|entry| entry.seq).collect();
    assert_eq!(
        numbers,
        (1..=journal.len() as i64).collect::<Vec<_>>(),
        "the journal has holes"
    );
    let open: Vec<_> = journal
        .iter()
        .filter(|entry| entry.result_at.is_none())
        .collect();
    assert!(open.is_empty(), "intentions without a result: {open:#?}");
    let ids: std::collections::BTreeSet<_> =
        view.machines.iter().map(|machine| machine.id).collect();
    assert_eq!(
        ids.len(),
        view.machines.len(),
        "a machine's id was used twice"
    );
    for pair in view.attempts.windows(2) {
        let next =
            pair[1].stage_index == pair[0].stage_index + 1 && pair[0].purpose == pair[1].purpose;
        // What the device reports comes in between.
        let next = next && view.stage(pair[1].stage_index).after.is_none();
        if next && pair[0].output.is_some() && pair[0].generation == pair[1].generation {
            assert_eq!(
                pair[0].output,
                Some(pair[1].input),
                "what stage {} left is not what {} got",
                pair[0].stage,
                pair[1].stage
            );
        }
    }
}
