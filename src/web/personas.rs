//! `/personas`: compile, store, compare, promote, preview, assign, explain.

pub(crate) mod giving;
pub(crate) mod views;

pub use views::of_run;
use views::{applied_view, refuse_faults, view};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::extract::{Body, InPath, Params, Part};
use super::present::time;
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, devices};
use crate::access::{Access, Caller, Who};
use crate::api::Page;
use crate::api::personas::*;
use crate::personas::compile::Source;
use crate::personas::library::{self, Act, LibraryError, Mode};
use crate::personas::{catalogue::Catalogue, diff};
use crate::store::personas as rows;
use crate::vocab::access::Role;
use crate::vocab::persona::PersonaHead;

/// Most files of one batch.
const MOST_FILES: usize = 200;
/// Longest reason or name of a person, characters.
const LONGEST_WORDS: usize = 500;

impl From<LibraryError> for Refusal {
    fn from(error: LibraryError) -> Self {
        match error {
            LibraryError::NotFound(what) => Self::not_found(what),
            LibraryError::Refused(why) => Self::new(Why::Refused, why),
            LibraryError::Store(error) => error.into(),
        }
    }
}

/// The library is one for all clients, as chains are. Who is given what is about everyone's devices,
/// except where it is asked of one device.
pub fn routes() -> Routes {
    let (see, write) = (
        Access::shared(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    let own = Access::per_client(Role::Viewer);
    let about = "What devices are to become, in immutable versions, shared by all clients.";
    let routes = Routes::of("personas", about)
        .with(
            Op::get("persona_list", "/personas", see, list)
                .says("The newest version of each persona, by name")
                .query::<Part>()
                .answers::<Page<PersonaSummary>>(200),
        )
        .with(
            Op::post("persona_apply", "/personas", write, apply)
                .says("Checks persona files and stores new versions; a dry run answers with the faults")
                .takes::<ApplyPersonas>()
                .answers::<Vec<AppliedPersona>>(200)
                .answers::<Vec<AppliedPersona>>(201),
        )
        .with(
            Op::get("persona_show", "/personas/{name}", see, show)
                .says("One version of a persona, or the newest")
                .query::<OfVersion>()
                .answers::<PersonaView>(200),
        )
        .with(
            Op::get("persona_history", "/personas/{name}/history", see, history)
                .says("Its versions and what was done with them")
                .answers::<PersonaHistory>(200),
        )
        .with(
            Op::get("persona_diff", "/personas/{name}/diff", see, difference)
                .says("Two versions compared, in text and in meaning")
                .query::<Between>()
                .answers::<PersonaDifference>(200),
        )
        .with(
            Op::post("persona_promote", "/personas/{name}/promote", write, promote)
                .says("From now on devices get this version")
                .takes::<MovePersona>()
                .answers::<PersonaView>(200),
        )
        .with(
            Op::post("persona_roll_back", "/personas/{name}/rollback", write, roll_back)
                .says("Devices get the version before")
                .takes::<MovePersona>()
                .answers::<PersonaView>(200),
        )
        .with(
            Op::post("persona_preview", "/persona-previews", own, preview)
                .says("What a persona makes of a device; one from a text is for authors. Nothing is stored")
                .takes::<PreviewPersona>()
                .answers::<PersonaPreview>(200),
        )
        .with(
            Op::get("persona_catalogue", "/persona-catalogue", see, catalogue)
                .says("Variants and applications that a persona can choose from")
                .answers::<Value>(200),
        );
    giving::routes(routes)
}

/// Who does it and why. Who asks through the socket may speak for somebody; others are who they are.
fn act(app: &App, caller: &Caller, by: String, reason: String) -> Result<Act, Refusal> {
    for (what, text) in [("by", &by), ("reason", &reason)] {
        if text.chars().count() > LONGEST_WORDS || text.chars().any(char::is_control) {
            return Err(Refusal::mistake(format!(
                "`{what}` is a line of at most {LONGEST_WORDS} characters"
            )));
        }
    }
    let by = match caller.who {
        Who::Socket { .. } if !by.is_empty() => by,
        _ => caller.name(),
    };
    Ok(Act {
        by,
        reason,
        now: app.state.services.now(),
    })
}

pub(crate) async fn list(
    State(app): Shared,
    Params(part): Params<Part>,
) -> Result<Json<Page<PersonaSummary>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let heads = rows::persona_list(&mut connection).await?;
    let key = |head: &PersonaHead| head.newest.compiled.name.clone();
    let view = |head: &PersonaHead| {
        let version = &head.newest;
        let document = &version.compiled.document;
        PersonaSummary {
            name: version.compiled.name.clone(),
            version: version.version,
            current: head.current,
            description: version.compiled.description.clone(),
            variant: document.os.variant.clone(),
            profile: document.security.profile.clone(),
            applications: document
                .applications
                .iter()
                .map(|application| application.name.clone())
                .collect(),
            parent: version.compiled.lineage.first().cloned(),
            labels: document.labels.clone(),
            digest: version.compiled.digest,
            applied_at: time(version.applied_at),
            applied_by: version.applied_by.clone(),
        }
    };
    let (limit, cursor) = (part.limit, part.cursor.as_deref());
    cursor::cut("personas", heads, limit, cursor, key, view).map(Json)
}

pub(crate) async fn apply(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<ApplyPersonas>,
) -> Result<(StatusCode, Json<Vec<AppliedPersona>>), Refusal> {
    if order.files.is_empty() || order.files.len() > MOST_FILES {
        return Err(Refusal::mistake(format!(
            "there are {} files; expected 1 to {MOST_FILES}",
            order.files.len()
        )));
    }
    let mode = match (order.dry_run, order.promote) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::StoreAndPromote,
        (false, false) => Mode::Store,
    };
    let act = act(&app, &caller, order.by, order.reason)?;
    let sources = order
        .files
        .into_iter()
        .map(|file| Source {
            file: file.file,
            text: file.source,
        })
        .collect();
    let store = &app.state.services.store;
    let applied = library::apply(store, sources, mode, act).await?;
    if mode != Mode::DryRun {
        refuse_faults(&applied)?;
    }
    let mut connection = store.read().await?;
    let mut views = Vec::new();
    for one in &applied {
        let current = rows::current_get(&mut connection, &one.name).await?;
        if one.is_new && mode != Mode::DryRun {
            tracing::info!(persona = %one.name, version = one.version.as_ref().map(|version| version.version), "persona applied");
        }
        views.push(applied_view(one, current));
    }
    let is_new = mode != Mode::DryRun && applied.iter().any(|one| one.is_new);
    Ok((
        if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        Json(views),
    ))
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
) -> Result<Json<PersonaView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = library::find(&mut connection, &name, version).await?;
    let current = rows::current_get(&mut connection, &name).await?;
    Ok(Json(view(found, current)?))
}

pub(crate) async fn history(
    State(app): Shared,
    InPath(name): InPath<String>,
) -> Result<Json<PersonaHistory>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let versions = rows::version_list(&mut connection, &name).await?;
    if versions.is_empty() {
        library::find(&mut connection, &name, None).await?;
    }
    let current = rows::current_get(&mut connection, &name).await?;
    let moves = rows::move_list(&mut connection, &name).await?;
    let was_current = |version: i64| {
        moves
            .iter()
            .any(|moved| moved.version == version && moved.what != "applied")
    };
    let versions = versions
        .into_iter()
        .map(|version| PersonaVersionView {
            version: version.version,
            state: match (
                current == Some(version.version),
                was_current(version.version),
            ) {
                (true, _) => "current",
                (false, true) => "former",
                (false, false) => "draft",
            }
            .to_owned(),
            digest: version.compiled.digest,
            parent: version.compiled.lineage.first().cloned(),
            applied_at: time(version.applied_at),
            applied_by: version.applied_by,
            reason: version.reason,
        })
        .collect();
    let moves = moves.into_iter().map(|moved| PersonaMoveView {
        version: moved.version,
        what: moved.what,
        previous: moved.previous,
        at: time(moved.at),
        by: moved.by,
        reason: moved.reason,
    });
    Ok(Json(PersonaHistory {
        name,
        current,
        versions,
        moves: moves.collect(),
    }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Between {
    /// The one before `to` when not given.
    pub(crate) from: Option<i64>,
    /// The newest when not given.
    pub(crate) to: Option<i64>,
}

/// Without numbers: from the version before the newest to the newest.
pub(crate) async fn difference(
    State(app): Shared,
    InPath(name): InPath<String>,
    Params(Between { from, to }): Params<Between>,
) -> Result<Json<PersonaDifference>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let newest = rows::version_get(&mut connection, &name, None).await?;
    let to = to.or(newest.map(|newest| newest.version));
    let to = library::find(&mut connection, &name, to).await?;
    let from = from.unwrap_or((to.version - 1).max(1));
    let from = library::find(&mut connection, &name, Some(from)).await?;
    let difference = diff::versions(&from, &to);
    Ok(Json(PersonaDifference {
        from: from.exact(),
        to: to.exact(),
        source: difference.source,
        compiled: difference.compiled,
    }))
}

pub(crate) async fn promote(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<MovePersona>,
) -> Result<Json<PersonaView>, Refusal> {
    let act = act(&app, &caller, order.by, order.reason)?;
    let found = library::promote(&app.state.services.store, &name, order.version, act).await?;
    tracing::info!(persona = %name, version = found.version, "persona promoted");
    let number = found.version;
    Ok(Json(view(found, Some(number))?))
}

pub(crate) async fn roll_back(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<MovePersona>,
) -> Result<Json<PersonaView>, Refusal> {
    let act = act(&app, &caller, order.by, order.reason)?;
    let found = library::roll_back(&app.state.services.store, &name, order.version, act).await?;
    tracing::info!(persona = %name, version = found.version, "persona rolled back");
    let number = found.version;
    Ok(Json(view(found, Some(number))?))
}

pub(crate) async fn preview(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<PreviewPersona>,
) -> Result<Json<PersonaPreview>, Refusal> {
    let (device, facts) = match (order.device, order.facts) {
        (Some(name), None) => {
            let device = devices::find(&app, &caller, &name).await?;
            (device.name, device.facts)
        }
        (None, Some(facts)) => ("sample".to_owned(), facts),
        (None, None) => ("sample".to_owned(), Map::new()),
        (Some(_), Some(_)) => return Err(Refusal::mistake("give either a device or facts")),
    };
    let store = &app.state.services.store;
    let (name, compiled) = match (order.persona, order.source) {
        (Some(persona), None) => {
            let mut connection = store.read().await?;
            let found = library::find(&mut connection, &persona.name, persona.version).await?;
            (found.exact().to_string(), found.compiled)
        }
        // What is checked of a text is more than who only looks may set going.
        (None, Some(_)) if caller.role < Role::Author => {
            let needs = Role::Author;
            return Err(Refusal::new(
                Why::Forbidden,
                format!(
                    "a preview of a text needs the role {needs}, and yours is {}",
                    caller.role
                ),
            ));
        }
        (None, Some(source)) => {
            let act = act(&app, &caller, String::new(), String::new())?;
            let sources = vec![Source {
                file: String::new(),
                text: source,
            }];
            let applied = library::apply(store, sources, Mode::DryRun, act).await?;
            refuse_faults(&applied)?;
            let version = applied.into_iter().find_map(|one| one.version);
            let version = version.ok_or_else(|| {
                Refusal::new(Why::Internal, "a text without faults has no persona")
            })?;
            (version.compiled.name.clone(), version.compiled)
        }
        _ => return Err(Refusal::mistake("give either a persona or a source")),
    };
    let preview = library::preview(&compiled, &device, &facts);
    Ok(Json(PersonaPreview {
        persona: name,
        device,
        hostname: preview.resolved.hostname,
        fits: preview.resolved.problems.is_empty(),
        problems: preview.resolved.problems,
        unknown: preview.resolved.unknown,
        files: preview
            .files
            .into_iter()
            .map(|file| RenderedFile {
                path: file.path,
                mode: file.mode,
                text: file.text,
            })
            .collect(),
    }))
}

/// What there is to choose from: variants and applications with what they need.
pub(crate) async fn catalogue() -> Json<&'static Catalogue> {
    Json(Catalogue::shipped())
}
