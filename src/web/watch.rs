//! `/runs/{id}/watch`: where a run is, as it changes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, timeout_at};

use super::extract::OfRun;
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::runs::load;
use super::stream::{Cut, Form, Lines, stream};
use super::{App, Shared, present};
use crate::access::{Access, Caller};
use crate::api::{EventView, WatchUpdate};
use crate::runs::drive;
use crate::runs::explain::{explain, stages};
use crate::runs::services::Live;
use crate::runs::view::View;
use crate::vocab::RunId;
use crate::vocab::access::Role;

/// A watcher hears something at least this often.
const PULSE: Duration = Duration::from_secs(1);

pub fn routes() -> Routes {
    Routes::of("runs", "Executions of chains.").with(
        Op::get(
            "run_watch",
            "/runs/{id}/watch",
            Access::per_client(Role::Viewer),
            watch,
        )
        .says("Where a run is, as it changes, a JSON document per line")
        .answers_as::<WatchUpdate>(200, "application/x-ndjson"),
    )
}

/// A snapshot first, then one update for each event and at least each second; the last one shows the
/// run at its end or held.
async fn watch(State(app): Shared, caller: Caller, OfRun(id): OfRun) -> Result<Response, Refusal> {
    // Before the snapshot is read, so that nothing falls between the two.
    let live = app.state.services.live.subscribe();
    load(&app, &caller, id).await?;
    let own = app.clone();
    stream(&app, caller, Form::Lines, move |lines| {
        updates(own, id, live, lines)
    })
}

async fn updates(
    app: Arc<App>,
    id: RunId,
    live: broadcast::Receiver<Live>,
    lines: Lines,
) -> Result<(), Cut> {
    let services = &app.state.services;
    let mut ear = Ear {
        id,
        live,
        log_line: None,
    };
    let mut event = None;
    loop {
        let Some(view) = drive::load(services, id).await? else {
            return Ok(());
        };
        lines
            .send(&update(&app, &view, event, ear.log_line.clone()))
            .await?;
        if present::run(&view.run).is_at_rest() {
            while let Some(event) = ear.heard_already() {
                lines.send(&update(&app, &view, Some(event), None)).await?;
            }
            return Ok(());
        }
        event = ear.next(Instant::now() + PULSE).await;
    }
}

fn update(
    app: &App,
    view: &View,
    event: Option<EventView>,
    log_line: Option<String>,
) -> WatchUpdate {
    let now = app.state.services.now();
    WatchUpdate {
        run: present::run(&view.run),
        why: present::why(explain(view, now)),
        stages: stages(view, now).into_iter().map(present::stage).collect(),
        event,
        log_line,
    }
}

/// Listens for what concerns one run.
struct Ear {
    id: RunId,
    live: broadcast::Receiver<Live>,
    log_line: Option<String>,
}

impl Ear {
    /// The next event of the run; none when it is time to look again anyway.
    async fn next(&mut self, until: Instant) -> Option<EventView> {
        loop {
            match timeout_at(until, self.live.recv()).await {
                Ok(Ok(live)) => {
                    if let Some(event) = self.take(live) {
                        return Some(event);
                    }
                }
                Ok(Err(RecvError::Lagged(_))) => return None,
                Ok(Err(RecvError::Closed)) => {
                    tokio::time::sleep_until(until).await;
                    return None;
                }
                Err(_) => return None,
            }
        }
    }

    fn heard_already(&mut self) -> Option<EventView> {
        loop {
            match self.live.try_recv() {
                Ok(live) => {
                    if let Some(event) = self.take(live) {
                        return Some(event);
                    }
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self, live: Live) -> Option<EventView> {
        match live {
            Live::Event(event) if event.run == self.id => Some(present::event(&event)),
            Live::Log(run, piece) if run == self.id => {
                let last = piece
                    .text
                    .lines()
                    .rev()
                    .find(|line| !line.trim().is_empty());
                if let Some(line) = last {
                    self.log_line = Some(line.chars().take(500).collect());
                }
                None
            }
            _ => None,
        }
    }
}
