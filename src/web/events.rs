//! `/events`: what happens in all runs, as server-sent events, from any point on.
//!
//! The database is what is read; `live` only says when. So nothing is lost or told twice however slow a
//! listener is, and after a broken connection a browser's `Last-Event-ID` goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::extract::Params;
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::stream::{Cut, Form, Lines, stream};
use super::{App, Shared};
use crate::access::{Access, Caller};
use crate::api::{EventOfRun, Time};
use crate::runs::services::Live;
use crate::store::pages::{self, EventOfClient, WhichEvents};
use crate::vocab::RunId;
use crate::vocab::access::Role;

/// Looks by itself so often; a listener that has gone is found out about at the latest then.
const PULSE: Duration = Duration::from_secs(10);
const PAGE: i64 = 200;

pub fn routes() -> Routes {
    Routes::of("events", "What happens, as it happens.").with(
        Op::get(
            "event_stream",
            "/events",
            Access::per_client(Role::Viewer),
            events,
        )
        .says("Events of all runs, from now on or after the id in Last-Event-ID or `after`")
        .query::<Which>()
        .answers_as::<EventOfRun>(200, "text/event-stream"),
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Only of this run.
    run: Option<i64>,
    /// Only of this kind, such as `run_succeeded`.
    kind: Option<String>,
    /// Only after the event with this id; 0: from the first on.
    after: Option<i64>,
}

async fn events(
    State(app): Shared,
    caller: Caller,
    headers: HeaderMap,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    // Before the newest id is read, so that nothing falls between the two.
    let live = app.state.services.live.subscribe();
    let resumed = headers
        .get("last-event-id")
        .map(|value| {
            let id = value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<i64>().ok());
            id.ok_or_else(|| {
                Refusal::mistake("Last-Event-ID is not the id of an event, which is a number")
            })
        })
        .transpose()?;
    let after = match resumed.or(which.after) {
        Some(after) => after,
        None => pages::event_newest(&mut *app.state.services.store.read().await?).await?,
    };
    let teller = Teller {
        which: WhichEvents {
            client: caller.scope.client().unwrap_or("").to_owned(),
            run: which.run.map(RunId),
        },
        kind: which.kind,
        after,
        live,
    };
    let own = app.clone();
    stream(&app, caller, Form::Events, move |lines| {
        teller.tell(own, lines)
    })
}

struct Teller {
    which: WhichEvents,
    kind: Option<String>,
    /// The last event that was read.
    after: i64,
    live: broadcast::Receiver<Live>,
}

impl Teller {
    async fn tell(mut self, app: Arc<App>, lines: Lines) -> Result<(), Cut> {
        // At once, so that a browser knows that it is connected. A reader whose connection breaks waits
        // for a second.
        lines.send_text("retry: 1000\n\n".into()).await?;
        loop {
            let found = {
                let mut connection = app.state.services.store.read().await?;
                pages::event_page(&mut connection, &self.which, self.after, PAGE).await?
            };
            let is_all = (found.len() as i64) < PAGE;
            for told in found {
                self.after = told.event.id;
                if self
                    .kind
                    .as_ref()
                    .is_none_or(|kind| *kind == told.event.kind)
                {
                    lines.send_text(frame(&told)).await?;
                }
            }
            if is_all && !self.news().await {
                // A comment, which readers pass over: the connection lives.
                lines.send_text(":\n\n".into()).await?;
            }
        }
    }

    /// Whether something has happened; false when it is time to look anyway.
    async fn news(&mut self) -> bool {
        let until = Instant::now() + PULSE;
        loop {
            match timeout_at(until, self.live.recv()).await {
                Ok(Ok(Live::Event(event))) if event.id > self.after => return true,
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_))) => return true,
                Ok(Err(RecvError::Closed)) => {
                    tokio::time::sleep_until(until).await;
                    return false;
                }
                Err(_) => return false,
            }
        }
    }
}

fn frame(told: &EventOfClient) -> String {
    let event = &told.event;
    let data = EventOfRun {
        id: event.id,
        at: Time::of(event.at),
        kind: event.kind.clone(),
        message: event.message.clone(),
        run: event.run.0,
        chain: told.chain.clone(),
        device: told.device.clone(),
        client: told.client.clone(),
    };
    // JSON has no line ends outside of its strings, and escapes those inside.
    let data = serde_json::to_string(&data).expect("wire types are plain data");
    format!("id: {}\nevent: run\ndata: {data}\n\n", event.id)
}
