//! `/models`, `/devices/{name}/prediction`: what was learned, and what it says.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::extract::{Body, InPath, Params};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, devices, present};
use crate::access::{Access, Caller};
use crate::api::models::{
    CalibrationView, InfluenceView, ModelDetail, ModelExplanation, ModelSummary, ModelView,
    PredictedStage, PredictionView, RecordView, SavedView, StageDayView, TrainModel,
};
use crate::foresight::{ForesightError, PERSONA};
use crate::learn::resources::record::{Record, StageDay};
use crate::learn::resources::whole::whole;
use crate::runs::submit::{self, Prepared, RunOrder};
use crate::store::models::{ModelRow, ModelState};
use crate::vocab::Timestamp;
use crate::vocab::access::Role;
use crate::vocab::prediction::{Resource, Source, Spread};

/// Trainings of one kind that are shown.
const SHOWN: i64 = 50;

/// Models are made of everyone's runs, so all but predictions is for those who may see everyone's.
pub fn routes() -> Routes {
    let see = Access::whole_site(Role::Viewer);
    Routes::of(
        "models",
        "What was learned from earlier runs, and what it says of the next.",
    )
    .with(
        Op::get("model_list", "/models", see, list)
            .says("Kinds of models: what serves, and how it was judged")
            .answers::<Vec<ModelSummary>>(200),
    )
    .with(
        Op::get("model_show", "/models/{name}", see, show)
            .says("One kind of model with its trainings")
            .answers::<ModelDetail>(200),
    )
    .with(
        Op::post(
            "model_train",
            "/models/{name}/train",
            Access::whole_site(Role::Author),
            train,
        )
        .says("Trains a model now; it serves only if it beats the plain rule")
        .takes::<TrainModel>()
        .answers::<ModelView>(202),
    )
    .with(
        Op::get("model_explain", "/models/{name}/explain", see, explain)
            .says("Why a model says what it says of a stage of a device")
            .query::<OfStage>()
            .answers::<ModelExplanation>(200),
    )
    .with(
        Op::get("prediction_record", "/predictions/record", see, record)
            .says("How good what was said of stages turned out to be, and what it saved")
            .answers::<RecordView>(200),
    )
    .with(
        Op::get(
            "device_prediction",
            "/devices/{name}/prediction",
            Access::per_client(Role::Viewer),
            predict,
        )
        .says("What a chain would need for a device, and which persona the device seems to be")
        .query::<OfChain>()
        .answers::<PredictionView>(200),
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfChain {
    /// None: the one chain whose trigger holds for the device.
    chain: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfStage {
    /// Name or id.
    device: String,
    chain: Option<String>,
    /// None: the first.
    stage: Option<String>,
}

impl From<ForesightError> for Refusal {
    fn from(error: ForesightError) -> Self {
        match error {
            ForesightError::NoSuchModel(_) => Self::not_found(error.to_string()),
            ForesightError::Store(error) => error.into(),
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    Resource::ALL
        .into_iter()
        .map(Resource::word)
        .chain([PERSONA])
}

pub async fn list(State(app): Shared) -> Result<Json<Vec<ModelSummary>>, Refusal> {
    let mut all = Vec::new();
    for name in names() {
        all.push(summary(&app, name, &trainings(&app, name).await?));
    }
    Ok(Json(all))
}

async fn show(
    State(app): Shared,
    InPath(name): InPath<String>,
) -> Result<Json<ModelDetail>, Refusal> {
    let name = known(&name)?;
    let rows = trainings(&app, name).await?;
    let plain_rule = match Resource::from_word(name) {
        Some(_) => {
            "the 95 % quantile of the stage's last 200 observations and 15 %, no more than was always enough; with fewer than 5 of them the chain's own sizes"
        }
        None => "assignments, then rules, then the default",
    };
    Ok(Json(ModelDetail {
        model: summary(&app, name, &rows),
        plain_rule: plain_rule.to_owned(),
        trainings: rows.into_iter().map(view).collect(),
    }))
}

async fn train(
    State(app): Shared,
    InPath(name): InPath<String>,
    Body(order): Body<TrainModel>,
) -> Result<(StatusCode, Json<ModelView>), Refusal> {
    let why = match order.why.trim() {
        "" => "it was asked for".to_owned(),
        why => why.to_owned(),
    };
    let row = app.state.services.foresight.train(&name, &why).await?;
    Ok((StatusCode::ACCEPTED, Json(view(row))))
}

async fn explain(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(of): Params<OfStage>,
) -> Result<Json<ModelExplanation>, Refusal> {
    let name = known(&name)?;
    let prepared = prepared(&app, &caller, &of.device, of.chain).await?;
    let plan = &prepared.plan;
    let at = match &of.stage {
        None => 0,
        Some(stage) => plan.chain.stage_index(stage).ok_or_else(|| {
            Refusal::not_found(format!("chain {} has no stage {stage:?}", plan.chain.name))
        })?,
    };
    let planned = &plan.stages[at];
    let foresight = &app.state.services.foresight;
    let (by, influences) = match (Resource::from_word(name), &planned.case, &planned.expected) {
        (Some(resource), Some(case), Some(expected)) => {
            let found = foresight.explain(resource, case).unwrap_or_default();
            let influences = found
                .into_iter()
                .map(|one| InfluenceView {
                    feature: one.feature,
                    value: one.value,
                    factor: one.factor,
                })
                .collect();
            (expected.of(resource).reason.clone(), influences)
        }
        _ => match foresight.propose(&prepared.device.client, &prepared.device.facts) {
            Some(proposal) => {
                let influences = proposal
                    .reasons
                    .iter()
                    .map(|(feature, weight)| InfluenceView {
                        feature: feature.clone(),
                        value: None,
                        factor: weight.exp(),
                    })
                    .collect();
                (
                    format!("{}: {}", proposal.persona, proposal.told()),
                    influences,
                )
            }
            None => (
                "there is no classifier yet; rules and people decide".to_owned(),
                Vec::new(),
            ),
        },
    };
    Ok(Json(ModelExplanation {
        name: name.to_owned(),
        device: prepared.device.name.clone(),
        chain: plan.chain.name.clone(),
        stage: plan.chain.stages[at].name.clone(),
        by,
        influences,
    }))
}

/// Largest answer: the newest days of the stages.
const MOST_DAYS: usize = 5000;

pub async fn record(State(app): Shared) -> Result<Json<RecordView>, Refusal> {
    let found = app.state.services.foresight.record().await?;
    let mut found = Record::clone(&found);
    found.days.sort_by_key(|day| std::cmp::Reverse(day.day_s));
    found.days.truncate(MOST_DAYS);
    found.days.sort_by(|a, b| {
        let key = |day: &StageDay| {
            (
                day.chain.clone(),
                day.stage.clone(),
                day.resource,
                day.day_s,
            )
        };
        key(a).cmp(&key(b))
    });
    let day = |day: StageDay| StageDayView {
        day: present::time(Timestamp(day.day_s.saturating_mul(1_000_000))),
        chain: day.chain,
        stage: day.stage,
        resource: day.resource.word().to_owned(),
        tries: day.tries,
        by_model: day.by_model,
        off: day.off,
        plain_off: day.plain_off,
    };
    let calibration = found.calibration.iter().map(|of| {
        let [below_low, below_middle, below_high] = of.below;
        CalibrationView {
            resource: of.resource.word().to_owned(),
            tries: of.tries,
            below_low,
            below_middle,
            below_high,
        }
    });
    let saved = found.saved;
    Ok(Json(RecordView {
        calibration: calibration.collect(),
        days: found.days.into_iter().map(day).collect(),
        saved: SavedView {
            tries: saved.tries,
            vcpu_hours: saved.vcpu_hours,
            gib_hours: saved.gib_hours,
            seconds: saved.seconds,
        },
    }))
}

async fn predict(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(of): Params<OfChain>,
) -> Result<Json<PredictionView>, Refusal> {
    let prepared = prepared(&app, &caller, &name, of.chain).await?;
    let plan = &prepared.plan;
    let spreads: Option<Vec<Spread>> = plan
        .stages
        .iter()
        .map(|stage| {
            let duration = &stage.expected.as_ref()?.duration;
            duration.spread.filter(|_| duration.source != Source::Chain)
        })
        .collect();
    let whole = spreads.and_then(|spreads| whole(&spreads));
    let device = &prepared.device;
    Ok(Json(PredictionView {
        device: device.name.clone(),
        chain: plan.chain.name.clone(),
        chain_version: prepared.chain_version,
        stages: plan
            .chain
            .stages
            .iter()
            .zip(&plan.stages)
            .map(|(stage, planned)| PredictedStage {
                name: stage.name.clone(),
                size: planned.size,
                size_reason: planned.size_reason.clone(),
                expected: planned.expected.clone(),
            })
            .collect(),
        duration: whole.map(|whole| whole.spread),
        duration_late: whole.map(|whole| whole.late),
        persona: plan
            .persona
            .as_ref()
            .map(|persona| format!("{}@{}", persona.name, persona.version)),
        persona_reason: plan
            .persona
            .as_ref()
            .map_or_else(String::new, |persona| persona.reason.clone()),
        proposal: app
            .state
            .services
            .foresight
            .propose(&device.client, &device.facts),
    }))
}

async fn prepared(
    app: &App,
    caller: &Caller,
    device: &str,
    chain: Option<String>,
) -> Result<Prepared, Refusal> {
    let device = devices::find(app, caller, device).await?;
    let order = RunOrder {
        device: device.id.to_string(),
        chain,
        ..RunOrder::default()
    };
    Ok(submit::prepare(&app.state.services, &app.state.images, &order).await?)
}

fn known(name: &str) -> Result<&'static str, Refusal> {
    names()
        .find(|known| *known == name)
        .ok_or_else(|| Refusal::not_found(ForesightError::NoSuchModel(name.to_owned()).to_string()))
}

async fn trainings(app: &App, name: &str) -> Result<Vec<ModelRow>, Refusal> {
    Ok(app
        .state
        .services
        .foresight
        .models(Some(name), SHOWN)
        .await?)
}

fn summary(app: &App, name: &str, rows: &[ModelRow]) -> ModelSummary {
    let serving = rows.iter().find(|row| row.state == ModelState::Serving);
    ModelSummary {
        name: name.to_owned(),
        unit: Resource::from_word(name)
            .map_or("", Resource::unit)
            .to_owned(),
        serving: serving.cloned().map(view),
        last: rows.first().cloned().map(view),
        unseen: app.state.services.foresight.unseen(name),
    }
}

fn view(row: ModelRow) -> ModelView {
    ModelView {
        id: row.id,
        name: row.name,
        state: row.state.word().to_owned(),
        made_at: present::time(row.made_at),
        why: row.why,
        features: row.features,
        rows: row.rows,
        took_ms: row.took_ms,
        digest: row.digest.map(|digest| digest.to_string()),
        verdict: row.verdict,
        judged: row.judged,
    }
}
