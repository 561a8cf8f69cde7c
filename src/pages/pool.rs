//! The pool: classes with their tiers, claims with their phases, machines with their memory, templates.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Page, Part, Visitor, done};
use super::marks;
use crate::access::{Access, Caller};
use crate::api::{
    BuildTemplate, ClaimView, PoolStatusView, SetPool, ShellView, TargetView, TemplateView, Time,
    WhichClass,
};
use crate::vocab::access::Role;
use crate::web::extract::{Body, InPath, Params, Part as Piece};
use crate::web::forms::Fields;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, claims, pool, present, templates};

/// Machines and templates that are shown.
const SHOWN: usize = 100;

pub fn routes() -> Routes {
    let (see, write) = (
        Access::whole_site(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_pool", "/pool", see, show).says("The pool"))
        .with(
            Op::post("page_pool_set", "/pool", write, set)
                .says("Sets what is wanted of a class, or lets it go")
                .form(),
        )
        .with(
            Op::post("page_template_build", "/pool/templates", write, build)
                .says("Begins a template")
                .form(),
        )
        .with(
            Op::post(
                "page_template_retire",
                "/pool/templates/{id}/retire",
                write,
                retire,
            )
            .says("Nothing more is forked from a template")
            .form(),
        )
        .with(
            Op::post(
                "page_claim_release",
                "/pool/release",
                Access::whole_site(Role::Operator),
                release,
            )
            .says("Gives a machine back")
            .form()
            .within(std::time::Duration::from_secs(300)),
        )
}

#[derive(Template)]
#[template(path = "pool.html")]
struct Pool {
    frame: Frame,
    now: Time,
    status: PoolStatusView,
    shells: Vec<ShellView>,
    shells_left_out: usize,
    claims: Vec<ClaimView>,
    templates: Vec<TemplateView>,
}

impl Pool {
    /// The largest machine, as the end of the scale.
    fn largest_mib(&self) -> f64 {
        let sizes = self.shells.iter().filter_map(|shell| shell.pss_mib);
        sizes.fold(1.0, f64::max)
    }

    fn budget(&self) -> marks::Markup {
        let budget = self.status.budget_mib as f64;
        marks::meter(&self.status.used_mib, &budget, "memory of the pool")
    }

    fn memory(&self, shell: &ShellView) -> marks::Markup {
        let Some(mib) = shell.pss_mib else {
            return marks::Markup::default();
        };
        marks::plain_bar(mib, self.largest_mib(), &format!("{mib:.0} MiB"))
    }

    fn took(&self, claim: &ClaimView) -> String {
        let all: f64 = claim.phases.iter().map(|phase| phase.ms).sum();
        marks::millis(&all)
    }

    fn served(&self, pool: &crate::api::PoolView) -> String {
        let parts = pool.served.iter().map(|(tier, n)| format!("{n} {tier}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let status = pool::status(State(app.clone())).await?.0;
    let mut shells: Vec<ShellView> = app
        .state
        .pool
        .shells()
        .await?
        .iter()
        .map(ShellView::of)
        .collect();
    shells.sort_by(|a, b| a.class.cmp(&b.class).then(a.name.cmp(&b.name)));
    let shells_left_out = shells.len().saturating_sub(SHOWN);
    shells.truncate(SHOWN);
    let piece = Piece {
        limit: Some(100),
        cursor: None,
    };
    let claims = claims::list(State(app.clone()), caller, Params(piece))
        .await?
        .0
        .items;
    let which = templates::Which {
        limit: Some(50),
        ..templates::Which::default()
    };
    let templates = templates::list(State(app.clone()), Params(which))
        .await?
        .0
        .items;
    Ok(Page::of(Pool {
        frame: visitor.frame(Part::Pool, "Pool").follows("/api/v1/events"),
        now: present::time(app.state.services.now()),
        status,
        shells,
        shells_left_out,
        claims,
        templates,
    })
    .into_response())
}

fn class(fields: &Fields) -> WhichClass {
    WhichClass {
        of: fields.get("class").trim().to_owned(),
        ..WhichClass::default()
    }
}

async fn set(State(app): Shared, fields: Fields) -> Result<Response, Refusal> {
    let lets_go = fields.get("do") == "let-go";
    let target = TargetView {
        hot: fields.number("hot")?.unwrap_or(0),
        floor: fields.word("floor").unwrap_or_else(|| "warm".into()),
    };
    let order = SetPool {
        class: class(&fields),
        target: (!lets_go).then_some(target),
    };
    let _ = pool::set(State(app), Body(order)).await?;
    Ok(done("/pool", if lets_go { "let-go" } else { "pool" }))
}

async fn build(State(app): Shared, fields: Fields) -> Result<Response, Refusal> {
    let order = BuildTemplate {
        class: class(&fields),
        force: fields.has("force"),
    };
    let _ = templates::build(State(app), Body(order)).await?;
    Ok(done("/pool", "template"))
}

async fn retire(State(app): Shared, InPath(id): InPath<String>) -> Result<Response, Refusal> {
    let _ = templates::retire(State(app), InPath(id)).await?;
    Ok(done("/pool", "retired"))
}

async fn release(State(app): Shared, caller: Caller, fields: Fields) -> Result<Response, Refusal> {
    let key = fields.get("key").to_owned();
    claims::release(State(app), caller, InPath(key)).await?;
    Ok(done("/pool", "given-back"))
}
