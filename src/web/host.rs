//! `/version`, `/status`, `/images`: the daemon, its host, and what is stuck.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, pool, present};
use crate::access::Access;
use crate::api::{ImageView, StatusView, StuckRun, VersionView};
use crate::runs::explain::explain;
use crate::runs::view::View;
use crate::runs::{drive, services};
use crate::store::runs;
use crate::vocab::access::Role;
use crate::vocab::machine::MachineState;
use crate::vocab::run::RunState;
use crate::vocab::{RunId, Timestamp};

/// A status that waits longer for libvirt says that it does not answer.
const HOST_PATIENCE: Duration = Duration::from_secs(5);
/// Most held runs that are listed as stuck.
const MOST_HELD: i64 = 50;
/// What is late by less than this is not called stuck.
const LENIENCE: Duration = Duration::from_secs(30);

pub fn routes() -> Routes {
    Routes::of("host", "The daemon, its host, and what is stuck.")
        .with(
            Op::get("version", "/version", Access::shared(Role::Viewer), version)
                .says("The daemon")
                .answers::<VersionView>(200),
        )
        .with(
            Op::get(
                "status",
                "/status",
                Access::whole_site(Role::Viewer),
                status,
            )
            .says("What the daemon is doing, and what is stuck")
            .answers::<StatusView>(200),
        )
        .with(
            Op::get(
                "image_list",
                "/images",
                Access::shared(Role::Viewer),
                images,
            )
            .says("Base images")
            .answers::<Vec<ImageView>>(200),
        )
}

pub(crate) async fn version(State(app): Shared) -> Json<VersionView> {
    Json(VersionView {
        version: env!("CARGO_PKG_VERSION").into(),
        deployment: app.state.services.deployment.to_string(),
        started_at: present::time(app.started_at),
        pid: std::process::id(),
    })
}

pub(crate) async fn images(State(app): Shared) -> Result<Json<Vec<ImageView>>, Refusal> {
    let images = app.state.images.clone();
    let all = crate::blocking::run(move || images.list()).await?;
    Ok(Json(all.iter().map(ImageView::of).collect()))
}

pub(crate) async fn status(State(app): Shared) -> Result<Json<StatusView>, Refusal> {
    let services = &app.state.services;
    let host = tokio::time::timeout(HOST_PATIENCE, services.hypervisor.host());
    let (host, host_error) = match host.await {
        Ok(Ok(facts)) => (Some(present::host(facts)), None),
        Ok(Err(error)) => (None, Some(error.to_string())),
        Err(_) => (
            None,
            Some(format!("it did not answer within {HOST_PATIENCE:?}")),
        ),
    };
    let (counts, alive, held) = {
        let mut connection = services.store.read().await?;
        (
            runs::run_counts(&mut connection).await?,
            runs::machine_alive(&mut connection).await?,
            runs::run_list(&mut connection, Some("held"), None, None, MOST_HELD).await?,
        )
    };
    let mut machines = std::collections::BTreeMap::new();
    for machine in alive {
        *machines.entry(machine.state.word().to_owned()).or_default() += 1;
    }
    Ok(Json(StatusView {
        version: env!("CARGO_PKG_VERSION").into(),
        now: present::time(services.now()),
        runs: counts.into_iter().collect(),
        machines,
        capacity: present::capacity(services.capacity.status()),
        host,
        host_error,
        reconcile: present::reconcile(app.state.reconciler.status()),
        pool: pool::brief(&app).await,
        stuck: stuck(&app, held.into_iter().map(|run| run.id)).await?,
    }))
}

pub(crate) async fn stuck(
    app: &App,
    held: impl Iterator<Item = RunId>,
) -> Result<Vec<StuckRun>, Refusal> {
    let services = &app.state.services;
    let mut ids: Vec<RunId> = held.chain(app.state.dispatch.driven()).collect();
    ids.sort();
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        let Some(view) = drive::load(services, id).await? else {
            continue;
        };
        let now = services.now();
        let Some(why) = why_stuck(&view, now, &services.settings) else {
            continue;
        };
        let explanation = explain(&view, now);
        found.push(StuckRun {
            run: id.0,
            device: view.run.device_name.clone(),
            state: explanation.state,
            age_s: explanation.age_s,
            why,
            next: explanation.next,
            you_can: explanation.you_can,
        });
    }
    Ok(found)
}

/// What keeps a run from going on as it should.
fn why_stuck(view: &View, now: Timestamp, settings: &services::RunSettings) -> Option<String> {
    if let RunState::Held { failure, .. } = &view.run.state {
        return Some(format!("is held: {failure}"));
    }
    if let RunState::Paused { reason, .. } = &view.run.state {
        return Some(format!("is paused: {reason}"));
    }
    let late = |since: Timestamp, allowed: Duration| now.since(since) > allowed + LENIENCE;
    let attempt = view.current().filter(|_| view.run.state.is_active());
    if let Some(attempt) = attempt
        && let Some(deadline) = attempt.deadline
        && late(deadline, settings.silence)
    {
        return Some(format!(
            "stage {} is past its deadline and was not ended",
            attempt.stage
        ));
    }
    view.machines.iter().find_map(|machine| {
        let (verb, since, allowed) = match machine.state {
            MachineState::Making if view.run.state.is_active() => {
                ("come up", machine.made_at, settings.boot_deadline)
            }
            MachineState::Releasing => {
                let since = machine.up_at.unwrap_or(machine.made_at);
                (
                    "go away",
                    since.max(view.run.state_since),
                    settings.patience,
                )
            }
            _ => return None,
        };
        late(since, allowed).then(|| {
            format!(
                "machine {} did not {verb} within {} s: the host is full or does not answer",
                machine.name,
                allowed.as_secs()
            )
        })
    })
}
