//! The audit log: who changed what, and whether the log is whole.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::{Frame, Page, Part, Visitor, part_of_path};
use super::marks;
use crate::access::Access;
use crate::api::{AuditVerdict, AuditView, Time};
use crate::vocab::access::Role;
use crate::web::extract::Params;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, audit, present};

const SHOWN: i64 = 80;

pub fn routes() -> Routes {
    let see = Access::whole_site(Role::Admin);
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_audit", "/audit", see, show).says("Who changed what"))
}

#[derive(Default, Deserialize, JsonSchema)]
struct Which {
    who: Option<String>,
    action: Option<String>,
    cursor: Option<String>,
    /// Reads the whole log and says whether it is whole.
    verify: Option<String>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    now: Time,
    records: Vec<AuditView>,
    who: String,
    action: String,
    next: Option<String>,
    verdict: Option<AuditVerdict>,
}

async fn show(
    State(app): Shared,
    visitor: Visitor,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (who, action) = (said(which.who), said(which.action));
    let asked = audit::Which {
        who: who.clone(),
        action: action.clone(),
        limit: Some(SHOWN),
        cursor: which.cursor,
    };
    let page = audit::list(State(app.clone()), Params(asked)).await?.0;
    let verdict = match which.verify {
        None => None,
        Some(_) => Some(
            audit::verify(State(app.clone()), Params(audit::Kept { head: None }))
                .await?
                .0,
        ),
    };
    let [who, action] = [who, action].map(Option::unwrap_or_default);
    let next = page.next.map(|cursor| {
        let (who, action) = (part_of_path(&who), part_of_path(&action));
        format!("/audit?who={who}&action={action}&cursor={cursor}")
    });
    Ok(Page::of(Audit {
        frame: visitor.frame(Part::Audit, "Audit"),
        now: present::time(app.state.services.now()),
        records: page.items,
        who,
        action,
        next,
        verdict,
    })
    .into_response())
}
