//! The list of runs, and the form that starts one.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::{Frame, Page, Part, Visitor, done, part_of_path};
use super::marks;
use crate::access::{Access, Caller};
use crate::api::{ChainSummary, RunSummary, StartRun, StartedRun, Time};
use crate::vocab::access::Role;
use crate::vocab::persona::PersonaRef;
use crate::web::extract::Params;
use crate::web::forms::Fields;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, chains, present, runs};

const SHOWN: i64 = 50;

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_runs", "/runs", see, list).says("Runs, newest first"))
        .with(Op::get("page_run_new", "/runs/new", change, form).says("Where a run is started"))
        .with(
            Op::post("page_run_start", "/runs", change, start)
                .says("Starts a run")
                .form(),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
struct Which {
    state: Option<String>,
    device: Option<String>,
    chain: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct Runs {
    frame: Frame,
    now: Time,
    runs: Vec<RunSummary>,
    states: &'static [&'static str],
    state: String,
    device: String,
    chain: String,
    /// Where the next page is.
    next: Option<String>,
    is_filtered: bool,
}

impl Runs {
    fn is_state(&self, word: &str) -> bool {
        self.state == word
    }
}

/// Empty fields of a form say nothing.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

async fn list(
    State(app): Shared,
    visitor: Visitor,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let (state, device, chain) = (said(which.state), said(which.device), said(which.chain));
    let asked = runs::Which {
        state: state.clone(),
        device: device.clone(),
        chain: chain.clone(),
        limit: Some(SHOWN),
        cursor: which.cursor,
        ..runs::Which::default()
    };
    let page = runs::list(State(app.clone()), caller, Params(asked))
        .await?
        .0;
    let is_filtered = state.is_some() || device.is_some() || chain.is_some();
    let [state, device, chain] = [state, device, chain].map(Option::unwrap_or_default);
    let next = page.next.map(|cursor| {
        format!(
            "/runs?state={}&device={}&chain={}&cursor={cursor}",
            part_of_path(&state),
            part_of_path(&device),
            part_of_path(&chain)
        )
    });
    Ok(Page::of(Runs {
        frame: visitor.frame(Part::Runs, "Runs").follows("/api/v1/events"),
        now: present::time(app.state.services.now()),
        runs: page.items,
        states: &runs::STATES,
        state,
        device,
        chain,
        next,
        is_filtered,
    })
    .into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
struct For {
    device: Option<String>,
    chain: Option<String>,
    persona: Option<String>,
}

#[derive(Template)]
#[template(path = "run-new.html")]
struct New {
    frame: Frame,
    order: StartRun,
    chains: Vec<ChainSummary>,
    personas: Vec<String>,
    /// What would be done, after it was asked.
    planned: Option<StartedRun>,
    problem: String,
}

impl New {
    fn is_chosen(&self, chain: &ChainSummary) -> bool {
        self.order.chain.as_deref() == Some(chain.name.as_str())
    }

    fn becomes(&self, persona: &str) -> bool {
        let asked = self.order.persona.as_ref();
        asked.is_some_and(|asked| asked.to_string() == persona)
    }

    fn keeps(&self) -> bool {
        self.order.keep_machine == Some(true)
    }

    fn hold(&self) -> String {
        self.order
            .hold_s
            .map_or_else(String::new, |s| (s / 60).to_string())
    }
}

async fn known_chains(app: &std::sync::Arc<crate::web::App>) -> Result<Vec<ChainSummary>, Refusal> {
    let which = chains::Which {
        limit: Some(1000),
        ..chains::Which::default()
    };
    Ok(chains::list(State(app.clone()), Params(which))
        .await?
        .0
        .items)
}

/// Names of those that a device can get.
async fn known_personas(app: &std::sync::Arc<crate::web::App>) -> Result<Vec<String>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let all = crate::store::personas::persona_list(&mut connection).await?;
    let promoted = all.into_iter().filter(|head| head.current.is_some());
    Ok(promoted.map(|head| head.newest.name().to_owned()).collect())
}

fn asked_persona(fields: &Fields) -> Result<Option<PersonaRef>, Refusal> {
    let asked = fields
        .word("persona")
        .map(|name| name.parse::<PersonaRef>());
    asked
        .transpose()
        .map_err(|error| Refusal::mistake(error.to_string()))
}

async fn form(
    State(app): Shared,
    visitor: Visitor,
    Params(wanted): Params<For>,
) -> Result<Response, Refusal> {
    Ok(Page::of(New {
        frame: visitor.frame(Part::Runs, "Start a run"),
        order: StartRun {
            device: wanted.device.unwrap_or_default(),
            chain: said(wanted.chain),
            persona: said(wanted.persona).and_then(|name| name.parse().ok()),
            ..StartRun::default()
        },
        chains: known_chains(&app).await?,
        personas: known_personas(&app).await?,
        planned: None,
        problem: String::new(),
    })
    .into_response())
}

async fn start(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let engine = fields.word("engine").map(|word| {
        serde_json::from_value(serde_json::Value::String(word.clone()))
            .map_err(|_| Refusal::mistake(format!("{word:?} is not an engine")))
    });
    let order = StartRun {
        device: fields.get("device").trim().to_owned(),
        chain: fields.word("chain"),
        version: None,
        persona: asked_persona(&fields)?,
        engine: engine.transpose()?,
        hold_s: fields.number::<u64>("hold")?.map(|minutes| minutes * 60),
        keep_machine: fields.has("keep_machine").then_some(true),
        dry_run: fields.get("do") == "plan",
    };
    match runs::begin(&app, &caller, order.clone()).await {
        Ok(StartedRun { run: Some(run), .. }) => Ok(done(&format!("/runs/{}", run.id), "started")),
        answer => {
            let (planned, problem, status) = match answer {
                Ok(planned) => (Some(planned), String::new(), axum::http::StatusCode::OK),
                Err(refusal) => (None, refusal.detail().to_owned(), refusal.status()),
            };
            let page = New {
                frame: visitor.frame(Part::Runs, "Start a run"),
                order,
                chains: known_chains(&app).await?,
                personas: known_personas(&app).await?,
                planned,
                problem,
            };
            Ok(Page(status, page).into_response())
        }
    }
}
