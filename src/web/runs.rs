//! `/runs`: start, list, show, abort, retry, replay.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::extract::{Body, OfRun, Params, flag};
use super::refusal::Refusal;
use super::{App, Shared, present};
use crate::api::{AbortRun, ReplayRun, RetryRun, RunSummary, RunView, StartRun, StartedRun};
use crate::runs::drive;
use crate::runs::explain::{explain, stages};
use crate::runs::plan::Request;
use crate::runs::submit::{self, RunOrder};
use crate::runs::view::View;
use crate::store::{devices, events, journal, runs};
use crate::vocab::RunId;

/// Every word that a run's state may have.
const STATES: [&str; 7] = [
    "queued",
    "running",
    "undoing",
    "held",
    "succeeded",
    "failed",
    "aborted",
];
/// Most runs of one page.
const MOST: i64 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    state: Option<String>,
    /// Name or id.
    device: Option<String>,
    limit: Option<i64>,
    /// Only runs with a smaller number: the next page.
    below: Option<i64>,
}

pub async fn list(
    State(app): Shared,
    Params(which): Params<Which>,
) -> Result<Json<Vec<RunSummary>>, Refusal> {
    if let Some(state) = &which.state
        && !STATES.contains(&state.as_str())
    {
        return Err(Refusal::mistake(format!(
            "{state:?} is not a state of runs; these are: {}",
            STATES.join(", ")
        )));
    }
    let mut connection = app.state.services.store.read().await?;
    let device = match &which.device {
        None => None,
        Some(name) => {
            let found = devices::device_by_name(&mut connection, name).await?;
            let device =
                found.ok_or_else(|| Refusal::not_found(format!("there is no device {name:?}")))?;
            Some(device.id.to_string())
        }
    };
    let found = runs::run_list(
        &mut connection,
        which.state.as_deref(),
        device.as_deref(),
        which.below.map(RunId),
        which.limit.unwrap_or(50).clamp(1, MOST),
    )
    .await?;
    Ok(Json(found.iter().map(present::run).collect()))
}

pub async fn start(
    State(app): Shared,
    Body(order): Body<StartRun>,
) -> Result<(StatusCode, Json<StartedRun>), Refusal> {
    let (services, dry_run) = (&app.state.services, order.dry_run);
    let order = RunOrder {
        device: order.device,
        chain: order.chain,
        version: order.version,
        engine: order.engine,
        hold_s: order.hold_s,
        keep_machine: order.keep_machine,
    };
    let prepared = submit::prepare(services, &app.state.images, &order).await?;
    let plan = present::planned_run(&prepared);
    if dry_run {
        return Ok((StatusCode::OK, Json(StartedRun { run: None, plan })));
    }
    let run = submit::submit(services, prepared).await?;
    app.state.dispatch.nudge();
    tracing::info!(run = %run.id, device = %run.device_name, chain = %run.chain, "run queued");
    let run = Some(present::run(&run));
    Ok((StatusCode::CREATED, Json(StartedRun { run, plan })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithJournal {
    #[serde(default, deserialize_with = "flag")]
    journal: bool,
}

pub async fn show(
    State(app): Shared,
    OfRun(id): OfRun,
    Params(with): Params<WithJournal>,
) -> Result<Json<RunView>, Refusal> {
    let view = load(&app, id).await?;
    let now = app.state.services.now();
    let mut connection = app.state.services.store.read().await?;
    let events = events::event_list(&mut connection, id, 0).await?;
    let journal = if with.journal {
        let entries = journal::journal_list(&mut connection, id).await?;
        Some(entries.into_iter().map(present::journal_entry).collect())
    } else {
        None
    };
    Ok(Json(RunView {
        run: present::run(&view.run),
        why: present::why(explain(&view, now)),
        stages: stages(&view, now).into_iter().map(present::stage).collect(),
        attempts: view.attempts.iter().map(present::attempt).collect(),
        machines: view.machines.iter().map(present::machine).collect(),
        events: events.iter().map(present::event).collect(),
        plan: present::planned_stages(&view.plan),
        persona: view.plan.persona.as_ref().map(super::personas::of_run),
        journal,
    }))
}

pub async fn abort(
    State(app): Shared,
    OfRun(id): OfRun,
    Body(order): Body<AbortRun>,
) -> Result<Json<RunSummary>, Refusal> {
    let reason = order.reason;
    request(&app, id, Request::Abort { reason }).await
}

pub async fn retry(
    State(app): Shared,
    OfRun(id): OfRun,
    Body(order): Body<RetryRun>,
) -> Result<Json<RunSummary>, Refusal> {
    let RetryRun { from, force } = order;
    request(&app, id, Request::Retry { from, force }).await
}

pub async fn request(app: &App, id: RunId, request: Request) -> Result<Json<RunSummary>, Refusal> {
    app.state.dispatch.request(id, request).await?;
    let view = load(app, id).await?;
    Ok(Json(present::run(&view.run)))
}

pub async fn replay(
    State(app): Shared,
    OfRun(id): OfRun,
    Body(order): Body<ReplayRun>,
) -> Result<(StatusCode, Json<RunSummary>), Refusal> {
    let run = submit::replay(&app.state.services, id, &order.stage).await?;
    app.state.dispatch.nudge();
    Ok((StatusCode::CREATED, Json(present::run(&run))))
}

/// A run with everything about it.
pub async fn load(app: &App, id: RunId) -> Result<View, Refusal> {
    drive::load(&app.state.services, id).await?.ok_or_else(|| {
        Refusal::not_found(format!("there is no run {id}; see `greenroom run list`"))
    })
}
