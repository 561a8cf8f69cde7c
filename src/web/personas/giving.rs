//! Who gets which persona: assignments, rules, and why.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::views::fault;
use super::{OfVersion, act};
use crate::access::{Access, Caller};
use crate::api::Page;
use crate::api::personas::*;
use crate::personas::library::{self, Mode, Wanted};
use crate::store::personas::{self as rows, AppliedRules};
use crate::vocab::Timestamp;
use crate::vocab::access::Role;
use crate::vocab::persona::{Assignment, Given, PersonaVersion, Subject};
use crate::web::extract::{Body, InPath, Params, Part};
use crate::web::present::time;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, cursor, devices};

/// Assignments and rules name users, roles, groups and devices of all clients.
pub(super) fn routes(routes: Routes) -> Routes {
    let (see, write) = (
        Access::whole_site(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    routes
        .with(
            Op::get("assignment_list", "/persona-assignments", see, assignments)
                .says("Who is given which persona by a person")
                .query::<Part>()
                .answers::<Page<AssignmentView>>(200),
        )
        .with(
            Op::post("assignment_make", "/persona-assignments", write, assign)
                .says("Gives a persona to a device, a user, a role or a group")
                .takes::<AssignPersona>()
                .answers::<AssignmentView>(201),
        )
        .with(
            Op::post("assignment_end", "/persona-assignments/{id}/end", write, unassign)
                .says("Ends an assignment")
                .takes::<EndAssignment>()
                .answers::<AssignmentView>(200),
        )
        .with(
            Op::get("persona_rules", "/persona-rules", see, rules)
                .says("One version of the rules, or the newest")
                .query::<OfVersion>()
                .answers::<RulesView>(200),
        )
        .with(
            Op::post("persona_rules_apply", "/persona-rules", write, apply_rules)
                .says("Checks rules and stores them as the next version; a dry run answers with the faults")
                .takes::<ApplyRules>()
                .answers::<RulesView>(200),
        )
        .with(
            Op::get(
                "persona_why",
                "/devices/{name}/persona",
                Access::per_client(Role::Viewer),
                why,
            )
            .says("Which persona a device gets, and why")
            .answers::<PersonaWhy>(200),
        )
}

pub(crate) async fn assignments(
    State(app): Shared,
    Params(part): Params<Part>,
) -> Result<Json<Page<AssignmentView>>, Refusal> {
    let now = app.state.services.now();
    let mut connection = app.state.services.store.read().await?;
    let all = rows::assignment_list(&mut connection).await?;
    let key = |one: &Assignment| format!("{:019}", one.id);
    let view = |one: &Assignment| assignment(one.clone(), now);
    let (limit, cursor) = (part.limit, part.cursor.as_deref());
    cursor::cut("assignments", all, limit, cursor, key, view).map(Json)
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

pub(crate) async fn assign(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<AssignPersona>,
) -> Result<(StatusCode, Json<AssignmentView>), Refusal> {
    let kinds = Subject::KINDS.join(", ");
    let subject = Subject::of(&order.kind, &order.name).ok_or_else(|| {
        Refusal::mistake(format!(
            "{:?} is not something to assign to; there are {kinds}",
            order.kind
        ))
    })?;
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control)
    };
    if !is_plain(&order.name) {
        return Err(Refusal::mistake("`name` is a line of 1 to 200 characters"));
    }
    if !is_plain(&order.reason) {
        return Err(Refusal::mistake(
            "`reason` says why, in a line of 1 to 200 characters",
        ));
    }
    let act = act(&app, &caller, order.by, order.reason)?;
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

pub(crate) async fn unassign(
    State(app): Shared,
    caller: Caller,
    InPath(id): InPath<i64>,
    Body(order): Body<EndAssignment>,
) -> Result<Json<AssignmentView>, Refusal> {
    let act = act(&app, &caller, order.by, order.reason)?;
    let now = act.now;
    let ended = library::unassign(&app.state.services.store, id, act).await?;
    Ok(Json(assignment(ended, now)))
}

pub(crate) async fn why(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<PersonaWhy>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let mut connection = app.state.services.store.read().await?;
    let services = &app.state.services;
    let proposal = services.foresight.propose(&device.client, &device.facts);
    let chosen = library::choose_for(&mut connection, &device, proposal, services.now()).await?;
    let outcome = match &chosen.choice.given {
        Given::Persona { .. } => "persona",
        Given::Nothing => "nothing",
        Given::Conflict => "conflict",
    };
    Ok(Json(PersonaWhy {
        device: device.name,
        outcome: outcome.to_owned(),
        persona: chosen
            .version
            .as_ref()
            .map(PersonaVersion::exact)
            .or(match chosen.choice.given {
                Given::Persona { persona } => Some(persona),
                _ => None,
            }),
        reason: chosen.choice.reason,
        trouble: chosen.trouble,
        candidates: chosen.choice.candidates,
        undecided: chosen.choice.undecided,
    }))
}

pub(crate) async fn rules(
    State(app): Shared,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Json<RulesView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = rows::rules_get(&mut connection, version).await?;
    let found = found.ok_or_else(|| {
        Refusal::not_found(
            "there are no rules; apply some with `greenroom persona rules apply FILE`",
        )
    })?;
    Ok(Json(rules_view(found, false)))
}

fn rules_view(applied: AppliedRules, is_new: bool) -> RulesView {
    RulesView {
        version: applied.version,
        rules: applied
            .rules
            .rules
            .into_iter()
            .map(|rule| RuleView {
                name: rule.name,
                when: rule.when,
                persona: rule.persona,
                priority: rule.priority,
            })
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

pub(crate) async fn apply_rules(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<ApplyRules>,
) -> Result<Json<RulesView>, Refusal> {
    let act = act(&app, &caller, order.by.clone(), order.reason.clone())?;
    let (mode, now, by) = (
        if order.dry_run {
            Mode::DryRun
        } else {
            Mode::Store
        },
        act.now,
        act.by.clone(),
    );
    match library::apply_rules(&app.state.services.store, order.source.clone(), mode, act).await? {
        Ok((applied, is_new)) => Ok(Json(rules_view(applied, is_new))),
        // A dry run tells faults as part of its answer, with what an editor needs to mark them.
        Err(faults) if order.dry_run => {
            let nothing = AppliedRules {
                version: 0,
                source: order.source,
                rules: crate::vocab::persona::RuleSet::default(),
                applied_at: now,
                applied_by: by,
                reason: order.reason,
            };
            Ok(Json(RulesView {
                faults: faults.faults.iter().map(fault).collect(),
                ..rules_view(nothing, false)
            }))
        }
        Err(faults) => Err(Refusal::of_faults(&faults)),
    }
}
