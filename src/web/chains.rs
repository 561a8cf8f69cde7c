//! `/chains`: check, store, list, show.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::Shared;
use super::extract::{Body, Params};
use super::present;
use super::refusal::{Refusal, Why};
use crate::api::{AppliedChainView, ApplyChain, ChainSummary, ChainView};
use crate::chain::check;
use crate::chain::files::FilesInMemory;
use crate::store::chains;

pub async fn list(State(app): Shared) -> Result<Json<Vec<ChainSummary>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let all = chains::chain_list(&mut connection).await?;
    Ok(Json(all.iter().map(present::chain_summary).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfVersion {
    version: Option<i64>,
}

pub async fn show(
    State(app): Shared,
    Path(name): Path<String>,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Json<ChainView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let applied = chains::chain_get(&mut connection, &name, version)
        .await?
        .ok_or_else(|| {
            let which = version.map_or(String::new(), |version| format!(" in version {version}"));
            Refusal::not_found(format!(
                "there is no chain {name:?}{which}; see `greenroom chain list`"
            ))
        })?;
    let chain = serde_json::to_value(&applied.chain)
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    Ok(Json(ChainView {
        summary: present::chain_summary(&applied),
        source: applied.source,
        chain,
    }))
}

pub async fn apply(
    State(app): Shared,
    Body(order): Body<ApplyChain>,
) -> Result<(StatusCode, Json<AppliedChainView>), Refusal> {
    let ApplyChain { source, files } = order;
    let files = files
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()));
    let files = FilesInMemory(files.collect());
    let (source, checked) = crate::blocking::run(move || {
        let checked = check::check(&source, &files);
        (source, checked)
    })
    .await;
    let chain = checked.map_err(|faults| Refusal::of_faults(&faults))?;
    let now = app.state.services.now();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { chains::chain_apply(connection, &chain, &source, now).await })
    });
    let (applied, is_new) = write.await?;
    if is_new {
        tracing::info!(chain = %applied.chain.name, version = applied.version, "chain applied");
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let chain = present::chain_summary(&applied);
    Ok((status, Json(AppliedChainView { chain, is_new })))
}
