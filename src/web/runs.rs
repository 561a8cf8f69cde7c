//! `/runs`: start, list, show, abort, hold, resume, retry, replay.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::{Body, OfRun, Params, flag};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, devices, present};
use crate::access::{Access, Caller};
use crate::api::{
    AbortRun, HoldRun, PREFIX, Page, ReplayRun, RetryRun, RunSummary, RunView, StartRun, StartedRun,
};
use crate::runs::drive;
use crate::runs::explain::{explain, stages};
use crate::runs::plan::Request;
use crate::runs::submit::{self, RunOrder};
use crate::runs::view::View;
use crate::store::{events, journal, observations, pages};
use crate::vocab::RunId;
use crate::vocab::access::Role;
use crate::vocab::run::Run;

/// Every word that a run's state may have.
pub(crate) const STATES: [&str; 9] = [
    "queued",
    "running",
    "waiting",
    "paused",
    "undoing",
    "held",
    "succeeded",
    "failed",
    "aborted",
];

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("runs", "Executions of chains. What takes long is answered with 202: the run itself is the operation, and says where it is.")
        .with(
            Op::get("run_list", "/runs", see, list)
                .says("Runs, newest first")
                .query::<Which>()
                .answers::<Page<RunSummary>>(200),
        )
        .with(
            Op::post("run_start", "/runs", change, start)
                .says("Starts a run, or says what would be done")
                .takes::<StartRun>()
                .answers::<StartedRun>(200)
                .answers::<StartedRun>(202),
        )
        .with(
            Op::get("run_show", "/runs/{id}", see, show)
                .says("Everything about one run")
                .query::<WithJournal>()
                .answers::<RunView>(200),
        )
        .with(
            Op::post("run_abort", "/runs/{id}/abort", change, abort)
                .says("Ends a run; what it did is undone")
                .takes::<AbortRun>()
                .answers::<RunSummary>(202),
        )
        .with(
            Op::post("run_hold", "/runs/{id}/hold", change, hold)
                .says("Pauses a run before its next stage")
                .takes::<HoldRun>()
                .answers::<RunSummary>(202),
        )
        .with(
            Op::post("run_resume", "/runs/{id}/resume", change, resume)
                .says("Lets a paused run go on, or lifts a hold that has not come into effect")
                .answers::<RunSummary>(202),
        )
        .with(
            Op::post("run_retry", "/runs/{id}/retry", change, retry)
                .says("Goes on with a run that is held or has failed")
                .takes::<RetryRun>()
                .answers::<RunSummary>(202),
        )
        .with(
            Op::post("run_replay", "/runs/{id}/replay", change, replay)
                .says("Runs one stage again with what it was given, as a run of its own")
                .takes::<ReplayRun>()
                .answers::<RunSummary>(202),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Only in this state.
    pub(crate) state: Option<String>,
    /// Only of this device: name or id.
    pub(crate) device: Option<String>,
    /// Only of this chain.
    pub(crate) chain: Option<String>,
    /// Only of this client.
    pub(crate) client: Option<String>,
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// Only runs with a smaller number.
    pub(crate) below: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
    Params(which): Params<Which>,
) -> Result<Json<Page<RunSummary>>, Refusal> {
    if let Some(state) = &which.state
        && !STATES.contains(&state.as_str())
    {
        return Err(Refusal::mistake(format!(
            "{state:?} is not a state of runs; these are: {}",
            STATES.join(", ")
        )));
    }
    let limit = cursor::limit(which.limit);
    let below = which.below.unwrap_or(i64::MAX);
    let below = cursor::read_number("runs", which.cursor.as_deref(), below)?;
    let device = match &which.device {
        None => String::new(),
        Some(name) => devices::find(&app, &caller, name).await?.id.to_string(),
    };
    let client = which.client.or(caller.scope.client().map(str::to_owned));
    let found = match client {
        Some(client) if !caller.scope.covers(&client) => Vec::new(),
        client => {
            let which = pages::WhichRuns {
                state: which.state.unwrap_or_default(),
                device,
                chain: which.chain.unwrap_or_default(),
                client: client.unwrap_or_default(),
            };
            let mut connection = app.state.services.store.read().await?;
            pages::run_page(&mut connection, &which, below, limit + 1).await?
        }
    };
    let key = |run: &Run| run.id.to_string();
    Ok(Json(cursor::page("runs", found, limit, key, present::run)))
}

pub(crate) async fn start(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<StartRun>,
) -> Result<Response, Refusal> {
    let started = begin(&app, &caller, order).await?;
    Ok(match &started.run {
        None => Json(started).into_response(),
        Some(run) => accepted(RunId(run.id), &started),
    })
}

/// Starts a run, or says what would be done.
pub(crate) async fn begin(
    app: &App,
    caller: &Caller,
    order: StartRun,
) -> Result<StartedRun, Refusal> {
    let device = devices::find(app, caller, &order.device).await?;
    let (services, dry_run) = (&app.state.services, order.dry_run);
    let order = RunOrder {
        device: device.id.to_string(),
        chain: order.chain,
        version: order.version,
        persona: order.persona,
        engine: order.engine,
        hold_s: order.hold_s,
        keep_machine: order.keep_machine,
    };
    let prepared = submit::prepare(services, &app.state.images, &order).await?;
    let plan = present::planned_run(&prepared);
    if dry_run {
        return Ok(StartedRun { run: None, plan });
    }
    let run = submit::submit(services, prepared).await?;
    app.state.dispatch.nudge();
    tracing::info!(run = %run.id, device = %run.device_name, chain = %run.chain, "run queued");
    let run = Some(present::run(&run));
    Ok(StartedRun { run, plan })
}

/// 202, and where to see how far it has come.
fn accepted<T: Serialize>(id: RunId, view: &T) -> Response {
    let location = [(header::LOCATION, format!("{PREFIX}/runs/{id}"))];
    (StatusCode::ACCEPTED, location, Json(view)).into_response()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WithJournal {
    /// With each side effect and what came of it.
    #[serde(default, deserialize_with = "flag")]
    #[schemars(with = "bool")]
    pub(crate) journal: bool,
}

pub(crate) async fn show(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Params(with): Params<WithJournal>,
) -> Result<Json<RunView>, Refusal> {
    let view = load(&app, &caller, id).await?;
    shown(&app, &view, with.journal).await.map(Json)
}

/// Everything about a run that was loaded.
pub(crate) async fn shown(app: &App, view: &View, with_journal: bool) -> Result<RunView, Refusal> {
    let (now, id) = (app.state.services.now(), view.run.id);
    let mut connection = app.state.services.store.read().await?;
    let events = events::event_list(&mut connection, id, 0).await?;
    let used: HashMap<_, _> = observations::observations_of_run(&mut connection, id)
        .await?
        .into_iter()
        .map(|one| (one.attempt, one.used))
        .collect();
    let journal = if with_journal {
        let entries = journal::journal_list(&mut connection, id).await?;
        Some(entries.into_iter().map(present::journal_entry).collect())
    } else {
        None
    };
    Ok(RunView {
        run: present::run(&view.run),
        why: present::why(explain(view, now)),
        stages: stages(view, now).into_iter().map(present::stage).collect(),
        attempts: view
            .attempts
            .iter()
            .map(|attempt| present::attempt(attempt, used.get(&attempt.id).copied()))
            .collect(),
        machines: view.machines.iter().map(present::machine).collect(),
        events: events.iter().map(present::event).collect(),
        plan: present::planned_stages(&view.plan),
        persona: view.plan.persona.as_ref().map(super::personas::of_run),
        journal,
    })
}

pub(crate) async fn abort(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Body(order): Body<AbortRun>,
) -> Result<Response, Refusal> {
    let reason = order.reason;
    request(&app, &caller, id, Request::Abort { reason }).await
}

pub(crate) async fn hold(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Body(order): Body<HoldRun>,
) -> Result<Response, Refusal> {
    // Before the order is looked at: a run of somebody else is not there, whatever is asked of it.
    load(&app, &caller, id).await?;
    let hold = hold_of(order)?;
    request(&app, &caller, id, hold).await
}

/// Seconds that a pause may last: what is taken when nothing is said, and the most.
const PAUSE_S: u64 = 86_400;
const LONGEST_PAUSE_S: u64 = 30 * 86_400;
/// Characters of a reason.
const LONGEST_REASON: usize = 300;

pub(crate) fn hold_of(order: HoldRun) -> Result<Request, Refusal> {
    let within_s = order.within_s.unwrap_or(PAUSE_S);
    if !(1..=LONGEST_PAUSE_S).contains(&within_s) {
        return Err(Refusal::mistake(format!(
            "within_s: {within_s} is not within 1 and {LONGEST_PAUSE_S}"
        )));
    }
    let reason = order.reason.trim();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
        return Err(Refusal::mistake(format!(
            "reason: say why in 1 to {LONGEST_REASON} characters"
        )));
    }
    Ok(Request::Hold {
        reason: reason.to_owned(),
        within: Duration::from_secs(within_s),
    })
}

pub(crate) async fn resume(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
) -> Result<Response, Refusal> {
    request(&app, &caller, id, Request::Resume).await
}

pub(crate) async fn retry(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Body(order): Body<RetryRun>,
) -> Result<Response, Refusal> {
    let RetryRun { from, force } = order;
    request(&app, &caller, id, Request::Retry { from, force }).await
}

pub async fn request(
    app: &App,
    caller: &Caller,
    id: RunId,
    request: Request,
) -> Result<Response, Refusal> {
    let run = demand(app, caller, id, request).await?;
    Ok(accepted(id, &run))
}

/// Asks something of a run; what it is then.
pub(crate) async fn demand(
    app: &App,
    caller: &Caller,
    id: RunId,
    request: Request,
) -> Result<RunSummary, Refusal> {
    load(app, caller, id).await?;
    app.state.dispatch.request(id, request).await?;
    let view = load(app, caller, id).await?;
    Ok(present::run(&view.run))
}

pub(crate) async fn replay(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Body(order): Body<ReplayRun>,
) -> Result<Response, Refusal> {
    let run = replayed(&app, &caller, id, &order.stage).await?;
    Ok(accepted(RunId(run.id), &run))
}

/// The new run that replays a stage of a run.
pub(crate) async fn replayed(
    app: &App,
    caller: &Caller,
    id: RunId,
    stage: &str,
) -> Result<RunSummary, Refusal> {
    load(app, caller, id).await?;
    let run = submit::replay(&app.state.services, id, stage).await?;
    app.state.dispatch.nudge();
    Ok(present::run(&run))
}

/// A run within the caller's reach, with everything about it.
pub async fn load(app: &App, caller: &Caller, id: RunId) -> Result<View, Refusal> {
    let found = drive::load(&app.state.services, id).await?;
    found
        .filter(|view| caller.scope.covers(&view.run.client))
        .ok_or_else(|| {
            Refusal::not_found(format!("there is no run {id}; see `greenroom run list`"))
        })
}
