//! `/runs/{id}/output`, `/artefacts/{stage}`, `/discard`: what a run made.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::extract::OfRun;
use super::refusal::Refusal;
use super::{App, Shared, runs};
use crate::api::{ArtefactView, RunOutput, RunSummary};
use crate::runs::plan::Request;
use crate::runs::view::View;
use crate::vocab::RunId;
use crate::vocab::envelope::Envelope;

/// The newest envelope of a run: after its last stage, the result.
async fn newest(app: &App, view: &View) -> Result<Envelope, Refusal> {
    let bytes = app.state.services.artefacts.get(view.run.head).await;
    let bytes = bytes.map_err(|error| Refusal::not_found(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::not_found(format!("the stored envelope does not read back: {error}"))
    })
}

pub async fn output(State(app): Shared, OfRun(id): OfRun) -> Result<Json<RunOutput>, Refusal> {
    let view = runs::load(&app, id).await?;
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

pub async fn artefact(
    State(app): Shared,
    Path((id, stage)): Path<(i64, String)>,
) -> Result<Response, Refusal> {
    let view = runs::load(&app, RunId(id)).await?;
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

pub async fn discard(State(app): Shared, OfRun(id): OfRun) -> Result<Json<RunSummary>, Refusal> {
    runs::request(&app, id, Request::Discard).await
}
