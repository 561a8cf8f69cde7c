//! Who is given which persona: assignments by people, and the rules that decide where there is none.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::editor::{self, Said};
use super::frame::{Frame, Page, Part, Visitor, done};
use super::marks;
use crate::access::{Access, Caller};
use crate::api::Time;
use crate::api::personas::*;
use crate::vocab::access::Role;
use crate::vocab::persona::{PersonaRef, Subject};
use crate::web::extract::{Body, InPath, Params, Part as Piece};
use crate::web::forms::Fields;
use crate::web::personas::{OfVersion, giving};
use crate::web::refusal::{Refusal, Why};
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, present};

const START: &str = "\
persona_rules:
  - name: web
    when: device.role | default('') == 'web'
    persona: web-server
    priority: 10
";

pub fn routes() -> Routes {
    let (see, write) = (
        Access::whole_site(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(
            Op::get("page_giving", "/assignments", see, show)
                .says("Assignments and rules of personas"),
        )
        .with(
            Op::post("page_assign", "/assignments", write, assign)
                .says("Gives a persona to a device, a user, a role or a group")
                .form(),
        )
        .with(
            Op::post("page_unassign", "/assignments/{id}/end", write, unassign)
                .says("Ends an assignment")
                .form(),
        )
        .with(
            Op::post(
                "page_rules_check",
                "/assignments/rules/check",
                write,
                check_rules,
            )
            .says("Says what is wrong with rules")
            .form()
            .harmless(),
        )
        .with(
            Op::post("page_rules_save", "/assignments/rules", write, save_rules)
                .says("Stores rules as the next version")
                .form(),
        )
}

#[derive(Template)]
#[template(path = "giving.html")]
struct Giving {
    frame: Frame,
    now: Time,
    assignments: Vec<AssignmentView>,
    kinds: &'static [&'static str],
    rules: Option<RulesView>,
    source: String,
    faults: Vec<PersonaFault>,
    problem: String,
}

async fn page(app: &std::sync::Arc<crate::web::App>, visitor: &Visitor) -> Result<Giving, Refusal> {
    let piece = Piece {
        limit: Some(200),
        cursor: None,
    };
    let assignments = giving::assignments(State(app.clone()), Params(piece))
        .await?
        .0;
    let newest = OfVersion { version: None };
    let rules = match giving::rules(State(app.clone()), Params(newest)).await {
        Ok(rules) => Some(rules.0),
        Err(refusal) if refusal.why() == Why::NotFound => None,
        Err(refusal) => return Err(refusal),
    };
    Ok(Giving {
        frame: visitor.frame(Part::Personas, "Who gets which persona"),
        now: present::time(app.state.services.now()),
        assignments: assignments.items,
        kinds: &Subject::KINDS,
        source: rules
            .as_ref()
            .map_or(START, |rules| &rules.source)
            .to_owned(),
        rules,
        faults: Vec::new(),
        problem: String::new(),
    })
}

async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    Ok(Page::of(page(&app, &visitor).await?).into_response())
}

async fn assign(State(app): Shared, caller: Caller, fields: Fields) -> Result<Response, Refusal> {
    let persona = fields.get("persona").trim();
    let persona = persona
        .parse::<PersonaRef>()
        .map_err(|error| Refusal::mistake(format!("{error}")))?;
    let hours: Option<u32> = fields.number("hours")?;
    let now = app.state.services.now();
    let order = AssignPersona {
        kind: fields.get("kind").to_owned(),
        name: fields.get("name").trim().to_owned(),
        persona,
        precedence: fields.number("precedence")?.unwrap_or(0),
        reason: fields.get("reason").trim().to_owned(),
        by: String::new(),
        until: hours.map(|hours| {
            let span = std::time::Duration::from_secs(u64::from(hours) * 3600);
            present::time(now.after(span))
        }),
    };
    let _ = giving::assign(State(app), caller, Body(order)).await?;
    Ok(done("/assignments", "assigned"))
}

async fn unassign(
    State(app): Shared,
    caller: Caller,
    InPath(id): InPath<i64>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let order = EndAssignment {
        reason: fields.get("reason").trim().to_owned(),
        by: String::new(),
    };
    let _ = giving::unassign(State(app), caller, InPath(id), Body(order)).await?;
    Ok(done("/assignments", "ended"))
}

fn order(fields: &Fields, dry_run: bool) -> ApplyRules {
    ApplyRules {
        source: fields.get("source").to_owned(),
        reason: fields.get("reason").trim().to_owned(),
        by: String::new(),
        dry_run,
    }
}

async fn check_rules(
    State(app): Shared,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let checked = giving::apply_rules(State(app), caller, Body(order(&fields, true)))
        .await?
        .0;
    Ok(editor::answer(Said {
        verdict: Said::verdict_of(checked.faults.len(), 0, "no fault"),
        faults: checked.faults,
        ..Said::default()
    }))
}

async fn save_rules(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let order = order(&fields, false);
    let source = order.source.clone();
    match giving::apply_rules(State(app.clone()), caller, Body(order)).await {
        Ok(applied) => Ok(done(
            "/assignments",
            if applied.0.is_new { "rules" } else { "same" },
        )),
        Err(refusal) if !refusal.errors().is_empty() => {
            let page = Giving {
                source,
                faults: refusal.errors().iter().map(editor::placed).collect(),
                problem: refusal.detail().to_owned(),
                ..page(&app, &visitor).await?
            };
            Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}
