//! `/chains`: check, store, list, show.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::etag::{Conditions, Tag};
use super::extract::{Body, InPath, Params};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, present};
use crate::access::Access;
use crate::api::{AppliedChainView, ApplyChain, ChainSummary, ChainView, PREFIX, Page};
use crate::chain::files::FilesInMemory;
use crate::chain::{Chain, Faults, check};
use crate::store::chains::{self, AppliedChain};
use crate::vocab::access::Role;

pub fn routes() -> Routes {
    Routes::of("chains", "Recipes of stages, in immutable versions, shared by all clients.")
        .with(
            Op::get("chain_list", "/chains", Access::shared(Role::Viewer), list)
                .says("The newest version of each chain, by name")
                .query::<Which>()
                .answers::<Page<ChainSummary>>(200),
        )
        .with(
            Op::post("chain_apply", "/chains", Access::whole_site(Role::Author), apply)
                .says("Checks a chain file and stores it as its name's next version; If-Match names the newest")
                .takes::<ApplyChain>()
                .answers::<AppliedChainView>(200)
                .answers::<AppliedChainView>(201)
                .conditional(),
        )
        .with(
            Op::get("chain_show", "/chains/{name}", Access::shared(Role::Viewer), show)
                .says("One version of a chain, or the newest")
                .query::<OfVersion>()
                .answers::<ChainView>(200)
                .conditional(),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

/// Names a version of a chain by what it means.
fn tag(applied: &AppliedChain) -> Tag {
    Tag::of_digest(applied.digest)
}

pub(crate) async fn list(
    State(app): Shared,
    Params(which): Params<Which>,
) -> Result<Json<Page<ChainSummary>>, Refusal> {
    let limit = cursor::limit(which.limit);
    let after = cursor::read("chains", which.cursor.as_deref(), "")?;
    let mut connection = app.state.services.store.read().await?;
    // Chains are few and written by people: the page is cut from all of them.
    let all = chains::chain_list(&mut connection).await?;
    let rest = all.into_iter().filter(|applied| applied.chain.name > after);
    let found = rest.take(usize::try_from(limit + 1).unwrap_or(1)).collect();
    let key = |applied: &AppliedChain| applied.chain.name.clone();
    let page = cursor::page("chains", found, limit, key, present::chain_summary);
    Ok(Json(page))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfVersion {
    /// The newest when not given.
    pub(crate) version: Option<i64>,
}

pub(crate) async fn show(
    State(app): Shared,
    InPath(name): InPath<String>,
    Params(OfVersion { version }): Params<OfVersion>,
    conditions: Conditions,
) -> Result<Response, Refusal> {
    let applied = find(&app, &name, version).await?;
    let chain = serde_json::to_value(&applied.chain)
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    let tag = tag(&applied);
    let view = ChainView {
        summary: present::chain_summary(&applied),
        source: applied.source,
        chain,
    };
    Ok(conditions.answer_tagged(view, &tag))
}

/// One version of a chain, or the newest.
pub(crate) async fn find(
    app: &App,
    name: &str,
    version: Option<i64>,
) -> Result<AppliedChain, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    chains::chain_get(&mut connection, name, version)
        .await?
        .ok_or_else(|| {
            let which = version.map_or(String::new(), |version| format!(" in version {version}"));
            Refusal::not_found(format!(
                "there is no chain {name:?}{which}; see `greenroom chain list`"
            ))
        })
}

pub(crate) async fn apply(
    State(app): Shared,
    conditions: Conditions,
    Body(order): Body<ApplyChain>,
) -> Result<Response, Refusal> {
    let (applied, is_new) = store(&app, conditions, order).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let tag = tag(&applied);
    let chain = present::chain_summary(&applied);
    let location = [(header::LOCATION, format!("{PREFIX}/chains/{}", chain.name))];
    let view = Json(AppliedChainView { chain, is_new });
    Ok((status, [tag.header()], location, view).into_response())
}

/// What a chain file means, or all its faults.
pub(crate) async fn checked(order: ApplyChain) -> (String, Result<Chain, Faults>) {
    let ApplyChain { source, files } = order;
    let files = files
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()));
    let files = FilesInMemory(files.collect());
    crate::blocking::run(move || {
        let checked = check::check(&source, &files);
        (source, checked)
    })
    .await
}

/// Checks a chain file and stores it as its name's next version. True: it meant something new.
pub(crate) async fn store(
    app: &App,
    conditions: Conditions,
    order: ApplyChain,
) -> Result<(AppliedChain, bool), Refusal> {
    let (source, checked) = checked(order).await;
    let chain = checked.map_err(|faults| Refusal::of_faults(&faults))?;
    let now = app.state.services.now();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move {
            let newest = chains::chain_get(connection, &chain.name, None).await?;
            if let Err(changed) = conditions.hold(newest.as_ref().map(tag).as_ref()) {
                return Ok(Err(changed));
            }
            Ok(Ok(
                chains::chain_apply(connection, &chain, &source, now).await?
            ))
        })
    });
    let (applied, is_new) = write.await??;
    if is_new {
        tracing::info!(chain = %applied.chain.name, version = applied.version, "chain applied");
    }
    Ok((applied, is_new))
}
