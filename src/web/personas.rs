//! `/personas`: compile, store, compare, promote, preview, assign, explain.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Map;

use super::extract::{Body, Params};
use super::present::time;
use super::refusal::{Refusal, Why};
use super::{App, Shared};
use crate::api::personas::*;
use crate::api::ProblemFault;
use crate::chain::faults::Fault;
use crate::personas::compile::Source;
use crate::personas::library::{self, Act, Applied, LibraryError, Mode, Wanted};
use crate::personas::{catalogue::Catalogue, diff};
use crate::store::personas::{self as rows, AppliedRules};
use crate::store::devices;
use crate::vocab::persona::{Assignment, Given, PersonaVersion, PinnedPersona, Subject};
use crate::vocab::{Device, Timestamp};

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

/// What of the API is about personas.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/personas", get(list).post(apply))
        .route("/personas/{name}", get(show))
        .route("/personas/{name}/history", get(history))
        .route("/personas/{name}/diff", get(difference))
        .route("/personas/{name}/promote", post(promote))
        .route("/personas/{name}/rollback", post(roll_back))
        .route("/persona-previews", post(preview))
        .route("/persona-catalogue", get(catalogue))
        .route("/persona-assignments", get(assignments).post(assign))
        .route("/persona-assignments/{id}/end", post(unassign))
        .route("/persona-rules", get(rules).post(apply_rules))
        .route("/devices/{name}/persona", get(why))
}

fn act(app: &App, by: String, reason: String) -> Result<Act, Refusal> {
    for (what, text) in [("by", &by), ("reason", &reason)] {
        if text.chars().count() > LONGEST_WORDS || text.chars().any(char::is_control) {
            return Err(Refusal::mistake(format!("`{what}` is a line of at most {LONGEST_WORDS} characters")));
        }
    }
    let by = if by.is_empty() { "somebody at the API".to_owned() } else { by };
    Ok(Act { by, reason, now: app.state.services.now() })
}

pub async fn list(State(app): Shared) -> Result<Json<Vec<PersonaSummary>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let heads = rows::persona_list(&mut connection).await?;
    let summaries = heads.into_iter().map(|head| {
        let version = head.newest;
        let document = &version.compiled.document;
        PersonaSummary {
            name: version.compiled.name.clone(),
            version: version.version,
            current: head.current,
            description: version.compiled.description.clone(),
            variant: document.os.variant.clone(),
            profile: document.security.profile.clone(),
            applications: document.applications.iter().map(|application| application.name.clone()).collect(),
            parent: version.compiled.lineage.first().cloned(),
            labels: document.labels.clone(),
            digest: version.compiled.digest,
            applied_at: time(version.applied_at),
            applied_by: version.applied_by.clone(),
        }
    });
    Ok(Json(summaries.collect()))
}

pub async fn apply(
    State(app): Shared,
    Body(order): Body<ApplyPersonas>,
) -> Result<(StatusCode, Json<Vec<AppliedPersona>>), Refusal> {
    if order.files.is_empty() || order.files.len() > MOST_FILES {
        return Err(Refusal::mistake(format!("there are {} files; expected 1 to {MOST_FILES}", order.files.len())));
    }
    let mode = match (order.dry_run, order.promote) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::StoreAndPromote,
        (false, false) => Mode::Store,
    };
    let act = act(&app, order.by, order.reason)?;
    let sources = order.files.into_iter().map(|file| Source { file: file.file, text: file.source }).collect();
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
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(views)))
}

fn refuse_faults(applied: &[Applied]) -> Result<(), Refusal> {
    let mut errors = Vec::new();
    for one in applied {
        for fault in one.faults.iter().flat_map(|faults| &faults.faults) {
            let mut path = fault.path.clone();
            if applied.len() > 1 || !one.file.is_empty() {
                path = format!("{}: {path}", one.file);
            }
            errors.push(ProblemFault {
                path,
                line: Some(fault.line),
                column: Some(fault.column),
                detail: fault.message.clone(),
                expected: fault.expected.clone(),
                suggestion: fault.suggestion.clone(),
            });
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let plural = if errors.len() == 1 { "" } else { "s" };
    Err(Refusal::invalid(format!("nothing was applied: {} fault{plural}", errors.len()), errors))
}

fn applied_view(one: &Applied, current: Option<i64>) -> AppliedPersona {
    let version = one.version.as_ref();
    AppliedPersona {
        file: one.file.clone(),
        name: one.name.clone(),
        ok: version.is_some(),
        version: version.map(|version| version.version),
        digest: version.map(|version| version.compiled.digest),
        is_new: one.is_new,
        is_current: current.is_some() && version.map(|version| version.version) == current,
        parent: version.and_then(|version| version.compiled.lineage.first().cloned()),
        difference: one.difference.clone(),
        faults: one.faults.iter().flat_map(|faults| &faults.faults).map(fault).collect(),
        warnings: one.warnings.iter().map(fault).collect(),
    }
}

fn fault(fault: &Fault) -> PersonaFault {
    PersonaFault {
        line: fault.line,
        column: fault.column,
        start: fault.bytes.start,
        end: fault.bytes.end,
        path: fault.path.clone(),
        detail: fault.message.clone(),
        expected: fault.expected.clone(),
        suggestion: fault.suggestion.clone(),
    }
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
) -> Result<Json<PersonaView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = library::find(&mut connection, &name, version).await?;
    let current = rows::current_get(&mut connection, &name).await?;
    Ok(Json(view(found, current)?))
}

fn view(version: PersonaVersion, current: Option<i64>) -> Result<PersonaView, Refusal> {
    let compiled = version.compiled;
    let document = serde_json::to_value(&compiled.document).map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    Ok(PersonaView {
        name: compiled.name,
        version: version.version,
        is_current: current == Some(version.version),
        description: compiled.description,
        lineage: compiled.lineage,
        digest: compiled.digest,
        applied_at: time(version.applied_at),
        applied_by: version.applied_by,
        reason: version.reason,
        warnings: version.warnings,
        source: version.source,
        document,
        origins: compiled.origins,
    })
}

pub async fn history(State(app): Shared, Path(name): Path<String>) -> Result<Json<PersonaHistory>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let versions = rows::version_list(&mut connection, &name).await?;
    if versions.is_empty() {
        library::find(&mut connection, &name, None).await?;
    }
    let current = rows::current_get(&mut connection, &name).await?;
    let moves = rows::move_list(&mut connection, &name).await?;
    let was_current = |version: i64| moves.iter().any(|moved| moved.version == version && moved.what != "applied");
    let versions = versions
        .into_iter()
        .map(|version| PersonaVersionView {
            version: version.version,
            state: match (current == Some(version.version), was_current(version.version)) {
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
    Ok(Json(PersonaHistory { name, current, versions, moves: moves.collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    from: Option<i64>,
    to: Option<i64>,
}

/// Without numbers: from the version before the newest to the newest.
pub async fn difference(
    State(app): Shared,
    Path(name): Path<String>,
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

pub async fn promote(
    State(app): Shared,
    Path(name): Path<String>,
    Body(order): Body<MovePersona>,
) -> Result<Json<PersonaView>, Refusal> {
    let act = act(&app, order.by, order.reason)?;
    let found = library::promote(&app.state.services.store, &name, order.version, act).await?;
    tracing::info!(persona = %name, version = found.version, "persona promoted");
    let number = found.version;
    Ok(Json(view(found, Some(number))?))
}

pub async fn roll_back(
    State(app): Shared,
    Path(name): Path<String>,
    Body(order): Body<MovePersona>,
) -> Result<Json<PersonaView>, Refusal> {
    let act = act(&app, order.by, order.reason)?;
    let found = library::roll_back(&app.state.services.store, &name, order.version, act).await?;
    tracing::info!(persona = %name, version = found.version, "persona rolled back");
    let number = found.version;
    Ok(Json(view(found, Some(number))?))
}

pub async fn preview(State(app): Shared, Body(order): Body<PreviewPersona>) -> Result<Json<PersonaPreview>, Refusal> {
    let (device, facts) = match (order.device, order.facts) {
        (Some(name), None) => {
            let device = device(&app, &name).await?;
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
        (None, Some(source)) => {
            let act = act(&app, String::new(), String::new())?;
            let sources = vec![Source { file: String::new(), text: source }];
            let applied = library::apply(store, sources, Mode::DryRun, act).await?;
            refuse_faults(&applied)?;
            let version = applied.into_iter().find_map(|one| one.version);
            let version = version.ok_or_else(|| Refusal::new(Why::Internal, "a text without faults has no persona"))?;
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
            .map(|file| RenderedFile { path: file.path, mode: file.mode, text: file.text })
            .collect(),
    }))
}

async fn device(app: &App, name: &str) -> Result<Device, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = devices::device_by_name(&mut connection, name).await?;
    found.ok_or_else(|| Refusal::not_found(format!("there is no device {name:?}; see `greenroom device list`")))
}

/// What there is to choose from: variants and applications with what they need.
pub async fn catalogue() -> Json<&'static Catalogue> {
    Json(Catalogue::shipped())
}

pub async fn assignments(State(app): Shared) -> Result<Json<Vec<AssignmentView>>, Refusal> {
    let now = app.state.services.now();
    let mut connection = app.state.services.store.read().await?;
    let all = rows::assignment_list(&mut connection).await?;
    Ok(Json(all.into_iter().map(|one| assignment(one, now)).collect()))
}

fn assignment(one: Assignment, now: Timestamp) -> AssignmentView {
    AssignmentView {
        id: one.id,
        kind: one.subject.kind().to_owned(),
        name: one.subject.name().to_owned(),
        persona: one.persona,
        precedence: one.precedence,
        reason: one.reason,
        by: one.by,
        at: time(one.at),
        until: one.until.map(time),
        is_over: one.until.is_some_and(|until| until <= now),
    }
}

pub async fn assign(
    State(app): Shared,
    Body(order): Body<AssignPersona>,
) -> Result<(StatusCode, Json<AssignmentView>), Refusal> {
    let kinds = Subject::KINDS.join(", ");
    let subject = Subject::of(&order.kind, &order.name)
        .ok_or_else(|| Refusal::mistake(format!("{:?} is not something to assign to; there are {kinds}", order.kind)))?;
    let is_plain = |text: &str| !text.is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if !is_plain(&order.name) {
        return Err(Refusal::mistake("`name` is a line of 1 to 200 characters"));
    }
    if !is_plain(&order.reason) {
        return Err(Refusal::mistake("`reason` says why, in a line of 1 to 200 characters"));
    }
    let act = act(&app, order.by, order.reason)?;
    let now = act.now;
    let wanted = Wanted {
        subject,
        persona: order.persona,
        precedence: order.precedence,
        until: order.until.map(|until| Timestamp(until.0.as_microsecond())),
    };
    let made = library::assign(&app.state.services.store, wanted, act).await?;
    tracing::info!(id = made.id, subject = %made.subject, persona = %made.persona, by = %made.by, "persona assigned");
    Ok((StatusCode::CREATED, Json(assignment(made, now))))
}

pub async fn unassign(
    State(app): Shared,
    Path(id): Path<i64>,
    Body(order): Body<EndAssignment>,
) -> Result<Json<AssignmentView>, Refusal> {
    let act = act(&app, order.by, order.reason)?;
    let now = act.now;
    let ended = library::unassign(&app.state.services.store, id, act).await?;
    Ok(Json(assignment(ended, now)))
}

pub async fn why(State(app): Shared, Path(name): Path<String>) -> Result<Json<PersonaWhy>, Refusal> {
    let device = device(&app, &name).await?;
    let mut connection = app.state.services.store.read().await?;
    let chosen = library::choose_for(&mut connection, &device, app.state.services.now()).await?;
    let outcome = match &chosen.choice.given {
        Given::Persona { .. } => "persona",
        Given::Nothing => "nothing",
        Given::Conflict => "conflict",
    };
    Ok(Json(PersonaWhy {
        device: device.name,
        outcome: outcome.to_owned(),
        persona: chosen.version.as_ref().map(PersonaVersion::exact).or(match chosen.choice.given {
            Given::Persona { persona } => Some(persona),
            _ => None,
        }),
        reason: chosen.choice.reason,
        trouble: chosen.trouble,
        candidates: chosen.choice.candidates,
        undecided: chosen.choice.undecided,
    }))
}

pub async fn rules(
    State(app): Shared,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Json<RulesView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = rows::rules_get(&mut connection, version).await?;
    let found = found.ok_or_else(|| Refusal::not_found("there are no rules; apply some with `greenroom persona rules apply FILE`"))?;
    Ok(Json(rules_view(found, false)))
}

fn rules_view(applied: AppliedRules, is_new: bool) -> RulesView {
    RulesView {
        version: applied.version,
        rules: applied
            .rules
            .rules
            .into_iter()
            .map(|rule| RuleView { name: rule.name, when: rule.when, persona: rule.persona, priority: rule.priority })
            .collect(),
        default: applied.rules.default,
        source: applied.source,
        applied_at: time(applied.applied_at),
        applied_by: applied.applied_by,
        reason: applied.reason,
        is_new,
        faults: Vec::new(),
    }
}

pub async fn apply_rules(State(app): Shared, Body(order): Body<ApplyRules>) -> Result<Json<RulesView>, Refusal> {
    let act = act(&app, order.by.clone(), order.reason.clone())?;
    let (mode, now) = (if order.dry_run { Mode::DryRun } else { Mode::Store }, act.now);
    match library::apply_rules(&app.state.services.store, order.source.clone(), mode, act).await? {
        Ok((applied, is_new)) => Ok(Json(rules_view(applied, is_new))),
        // A dry run tells faults as part of its answer, with what an editor needs to mark them.
        Err(faults) if order.dry_run => {
            let nothing = AppliedRules {
                version: 0,
                source: order.source,
                rules: crate::vocab::persona::RuleSet::default(),
                applied_at: now,
                applied_by: order.by,
                reason: order.reason,
            };
            Ok(Json(RulesView { faults: faults.faults.iter().map(fault).collect(), ..rules_view(nothing, false) }))
        }
        Err(faults) => Err(Refusal::of_faults(&faults)),
    }
}

/// The persona that a run pinned.
pub fn of_run(pinned: &PinnedPersona) -> PersonaOfRun {
    PersonaOfRun {
        name: pinned.name.clone(),
        version: pinned.version,
        digest: pinned.digest,
        reason: pinned.reason.clone(),
    }
}
