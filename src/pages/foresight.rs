//! What was foreseen and what came of it: demand by class, sizes by stage, the models and their judgement,
//! and what all of it saved against the plain rules.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::{Frame, Page, Part, Visitor};
use super::marks::{self, Markup};
use crate::access::Access;
use crate::api::Time;
use crate::api::demand::{ComparedView, ForecastView, PolicyView, PreviewView};
use crate::api::models::{ModelSummary, RecordView};
use crate::vocab::access::Role;
use crate::web::demand::{Back, Compare, OfClient};
use crate::web::extract::{InPath, Params};
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{App, Shared, demand, models, present};

mod draw;
mod stages;

use stages::StageErrors;

/// Hours back that plots of demand show.
const HOURS: usize = 48;

pub fn routes() -> Routes {
    let see = Access::whole_site(Role::Viewer);
    Routes::of("pages", "The web interface.").at_root().with(
        Op::get("page_foresight", "/foresight", see, show)
            .says("What was foreseen, and what came of it")
            .query::<Which>(),
    )
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The class whose demand is drawn; the busiest when not given.
    class: Option<String>,
    /// The persona whose demand is drawn instead.
    persona: Option<String>,
    /// Not empty: what its policy would have saved, which takes a moment.
    #[serde(default)]
    saved: String,
}

#[derive(Template)]
#[template(path = "foresight.html")]
struct Foresight {
    frame: Frame,
    now: Time,
    classes: Vec<ForecastView>,
    personas: Vec<ForecastView>,
    /// The persona that was asked for.
    persona: Option<ShownPersona>,
    shown: Option<Shown>,
    models: Vec<ModelSummary>,
    record: RecordView,
    stages: Vec<StageErrors>,
    calibration: Markup,
}

/// The demand of one class.
struct Shown {
    forecast: ForecastView,
    compared: ComparedView,
    expected: Markup,
    levels: Markup,
    /// None where it was not asked for.
    policy: Option<PolicyView>,
}

/// The demand for one persona.
struct ShownPersona {
    forecast: ForecastView,
    compared: ComparedView,
    expected: Markup,
}

impl Shown {
    fn name(&self) -> &str {
        self.forecast.name()
    }

    fn next_day(&self) -> String {
        let all: f64 = self.forecast.steps.iter().map(|step| step.median).sum();
        format!("{all:.0}")
    }

    /// Against the number that would be kept without a forecast: what the policy says or would say first.
    fn saved(&self) -> Option<SavedByPolicy> {
        let policy = self.policy.as_ref()?;
        let by_forecast = |one: &&PreviewView| one.rule.starts_with("forecast:");
        let own = policy.preview.iter().find(by_forecast)?;
        let before = policy.before.as_ref().or(policy.target.as_ref());
        let fixed = format!("fixed:{}", before.map_or(0, |target| target.hot));
        let plain = policy.preview.iter().find(|one| one.rule == fixed)?;
        let cold = plain.cold as f64 - own.cold as f64;
        Some(SavedByPolicy {
            plain: fixed.replace(':', " "),
            cold,
            waited_s: cold * policy.lead_s,
            idle_hours_per_day: (plain.idle_s_per_day - own.idle_s_per_day) / 3600.0,
            is_in_use: policy.mode == "forecast",
        })
    }
}

/// What the forecast saved of the replayed week; negative where it cost.
struct SavedByPolicy {
    plain: String,
    cold: f64,
    waited_s: f64,
    idle_hours_per_day: f64,
    is_in_use: bool,
}

impl Foresight {
    /// Tries of a stage from which on anything is said of it.
    fn enough(&self) -> usize {
        crate::runs::pinned::ENOUGH
    }

    fn next_day(&self, one: &ForecastView) -> String {
        let all: f64 = one.steps.iter().map(|step| step.median).sum();
        format!("{all:.0}")
    }

    fn is_shown(&self, class: &ForecastView) -> bool {
        self.shown
            .as_ref()
            .is_some_and(|shown| shown.name() == class.name())
    }
}

async fn persona_of(app: &Arc<App>, name: String) -> Result<ShownPersona, Refusal> {
    let of = Params(OfClient::default());
    let forecast = demand::personas::show(State(app.clone()), InPath(name.clone()), of)
        .await?
        .0;
    let back = Params(Compare {
        hours: Some(HOURS),
        ..Compare::default()
    });
    let compared = demand::personas::compare(State(app.clone()), InPath(name), back)
        .await?
        .0;
    let now = present::time(app.state.services.now());
    Ok(ShownPersona {
        expected: draw::expected(&compared, &forecast, now),
        forecast,
        compared,
    })
}

async fn show(
    State(app): Shared,
    visitor: Visitor,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let mut classes = demand::list(State(app.clone())).await?.0;
    let busy = |one: &ForecastView| one.steps.iter().map(|step| step.median).sum::<f64>();
    classes.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then(a.name().cmp(b.name())));
    let found = match &which.class {
        Some(class) => classes.iter().find(|one| one.name() == class),
        None => classes.first(),
    };
    let shown = match found.cloned() {
        Some(forecast) => {
            let class = || InPath(forecast.name().to_owned());
            let of = Compare {
                hours: Some(HOURS),
                ..Compare::default()
            };
            let compared = demand::compare(State(app.clone()), class(), Params(of))
                .await?
                .0;
            let back = Params(Back { hours: Some(HOURS) });
            let levels = demand::levels(State(app.clone()), class(), back).await?.0;
            let policy = match which.saved.is_empty() {
                true => None,
                false => Some(demand::policy(State(app.clone()), class()).await?.0),
            };
            let now = present::time(app.state.services.now());
            Some(Shown {
                expected: draw::expected(&compared, &forecast, now),
                levels: draw::levels(&levels, now),
                forecast,
                compared,
                policy,
            })
        }
        None if which.class.is_some() => {
            return Err(Refusal::not_found(
                "nothing is known of such a class of machines".to_owned(),
            ));
        }
        None => None,
    };
    let personas = demand::personas::list(State(app.clone()), Params(OfClient::default()))
        .await?
        .0;
    let persona = match which.persona.clone() {
        Some(name) => Some(persona_of(&app, name).await?),
        None => None,
    };
    let models = models::list(State(app.clone())).await?.0;
    let record = models::record(State(app.clone())).await?.0;
    let now = present::time(app.state.services.now());
    Ok(Page::of(Foresight {
        frame: visitor.frame(Part::Foresight, "Foresight"),
        classes,
        personas,
        persona,
        shown,
        stages: stages::of(&record, now),
        calibration: draw::calibration(&record, &models),
        models,
        record,
        now,
    })
    .into_response())
}
