//! `/healthz`, `/readyz`: for whoever restarts the daemon, and whoever sends it work.

use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::routes::{Op, Routes};
use super::{App, Shared};
use crate::access::Access;
use crate::store::pages;

/// What was found is believed for so long: strangers may ask, and the host is not to be asked by them.
const FRESH: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    pub ready: bool,
    /// The database can be read.
    pub database: bool,
    /// The host answers.
    pub host: bool,
}

#[derive(Default)]
pub struct LastLook(Mutex<Option<(Instant, Readiness)>>);

pub fn routes() -> Routes {
    Routes::of("monitoring", "For monitors, beside the API.")
        .at_root()
        .with(
            Op::get("healthz", "/healthz", Access::ANYONE, alive)
                .says("Answers as long as the daemon lives")
                .answers_bytes(200, "text/plain; charset=utf-8"),
        )
        .with(
            Op::get("readyz", "/readyz", Access::ANYONE, ready)
                .says("Whether runs can be started: database and host answer")
                .answers::<Readiness>(200)
                .answers::<Readiness>(503),
        )
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(State(app): Shared) -> (StatusCode, Json<Readiness>) {
    let found = look(&app).await;
    let status = if found.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(found))
}

async fn look(app: &App) -> Readiness {
    let last = *app
        .last_look
        .0
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    if let Some((at, found)) = last
        && at.elapsed() < FRESH
    {
        return found;
    }
    let services = &app.state.services;
    let read = async {
        let mut connection = services.store.read().await?;
        pages::event_newest(&mut connection).await
    };
    let (database, host) = tokio::join!(
        tokio::time::timeout(PATIENCE, read),
        tokio::time::timeout(PATIENCE, services.hypervisor.host())
    );
    let (database, host) = (matches!(database, Ok(Ok(_))), matches!(host, Ok(Ok(_))));
    let found = Readiness {
        ready: database && host,
        database,
        host,
    };
    *app.last_look
        .0
        .lock()
        .unwrap_or_else(|broken| broken.into_inner()) = Some((Instant::now(), found));
    found
}
