//! `/runs/{id}/output`, `/artefacts/{stage}`, `/discard`: what a run made.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::extract::{InPath, OfRun, run_id};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, runs};
use crate::access::{Access, Caller};
use crate::api::{ArtefactView, RunOutput, RunSummary};
use crate::runs::plan::Request;
use crate::runs::view::View;
use crate::vocab::access::Role;
use crate::vocab::envelope::Envelope;

pub fn routes() -> Routes {
    let see = Access::per_client(Role::Viewer);
    Routes::of("runs", "Executions of chains.")
        .with(
            Op::get("run_output", "/runs/{id}/output", see, output)
                .says("What a run has made so far")
                .answers::<RunOutput>(200),
        )
        .with(
            Op::get(
                "run_artefact",
                "/runs/{id}/artefacts/{stage}",
                see,
                artefact,
            )
            .says("A stage's binary output")
            .answers_bytes(200, "application/octet-stream"),
        )
        .with(
            Op::post(
                "run_discard",
                "/runs/{id}/discard",
                Access::per_client(Role::Operator),
                discard,
            )
            .says("Lets a kept result go; the run is its own operation")
            .answers::<RunSummary>(202),
        )
}

/// The newest envelope of a run: after its last stage, the result.
pub(crate) async fn newest(app: &App, view: &View) -> Result<Envelope, Refusal> {
    let bytes = app.state.services.artefacts.get(view.run.head).await;
    let bytes = bytes.map_err(|error| Refusal::not_found(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::not_found(format!("the stored envelope does not read back: {error}"))
    })
}

pub(crate) async fn output(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
) -> Result<Json<RunOutput>, Refusal> {
    let view = runs::load(&app, &caller, id).await?;
    let envelope = newest(&app, &view).await?;
    let disk = app.state.services.settings.handoff_disk(id);
    Ok(Json(RunOutput {
        run: id.0,
        state: view.run.state.word().to_owned(),
        document: envelope.document,
        artefacts: envelope
            .artefacts
            .into_iter()
            .map(|artefact| ArtefactView {
                stage: artefact.stage,
                media_type: artefact.media_type,
                size_bytes: artefact.size_bytes,
                digest: artefact.digest.to_string(),
            })
            .collect(),
        disk: view
            .plan
            .keeps_disk(&view.run)
            .then(|| disk.display().to_string()),
    }))
}

pub(crate) async fn artefact(
    State(app): Shared,
    caller: Caller,
    InPath((id, stage)): InPath<(String, String)>,
) -> Result<Response, Refusal> {
    let id = run_id(&id)?;
    let view = runs::load(&app, &caller, id).await?;
    let envelope = newest(&app, &view).await?;
    let found = envelope
        .artefacts
        .iter()
        .rev()
        .find(|artefact| artefact.stage == stage);
    let artefact = found.ok_or_else(|| {
        let stages: Vec<&str> = envelope
            .artefacts
            .iter()
            .map(|one| one.stage.as_str())
            .collect();
        Refusal::not_found(format!(
            "stage {stage:?} of run {id} left no binary output; those that did: {}",
            if stages.is_empty() {
                "none".to_owned()
            } else {
                stages.join(", ")
            }
        ))
    })?;
    let bytes = app.state.services.artefacts.get(artefact.digest).await;
    let bytes = bytes.map_err(|error| Refusal::not_found(error.to_string()))?;
    // Whatever the chain's author called it, no browser is to interpret it.
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

pub(crate) async fn discard(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
) -> Result<Response, Refusal> {
    runs::request(&app, &caller, id, Request::Discard).await
}
