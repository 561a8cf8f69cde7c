//! `/forecasts`, `/persona-forecasts`, `/planned-events`, `/pool/policies`: what is expected, and how many wait because of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::class;
use super::extract::{Body, InPath, Params};
use super::present::time;
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, pool};
use crate::access::Access;
use crate::api::demand::{
    ChoiceView, ClassShare, ComparedHour, ComparedView, ForecastStep, ForecastView, LevelStep,
    LevelsView, PlannedEventView, PolicyView, PreviewView, PutPlannedEvent, SetPolicy, TierView,
    Weighed,
};
use crate::api::{ProblemFault, TargetView, Time};
use crate::demand::compare::{Hour, Scores};
use crate::demand::{ChangePolicy, DemandError, Forecast, PolicyNow, STEP_S};
use crate::vocab::Timestamp;
use crate::vocab::access::Role;
use crate::vocab::demand::{BUCKET_S, Mode, PlannedEvent, Series};
use crate::vocab::device::is_plain_name;
use crate::vocab::pool::{Class, Tier};

pub(crate) mod personas;

/// Most hours of one comparison: what is kept.
const MOST_HOURS: usize = 24 * 60;
/// Longest planned event and farthest from now, seconds: two years.
const FARTHEST_S: i64 = 2 * 366 * 86_400;

impl From<DemandError> for Refusal {
    fn from(error: DemandError) -> Self {
        match error {
            DemandError::NotFound(what) => Self::not_found(what),
            DemandError::Refused(why) => Self::mistake(why),
            DemandError::Pool(error) => error.into(),
            DemandError::Store(error) => error.into(),
        }
    }
}

/// Demand tells what other clients do, so all of it is for those who may see everyone's.
pub fn routes() -> Routes {
    let (see, write) = (
        Access::whole_site(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    Routes::of("demand", "What will be asked for, and how many machines wait because of it.")
        .with(
            Op::get("forecast_list", "/forecasts", see, list)
                .says("What is expected of each class in the coming day")
                .answers::<Vec<ForecastView>>(200),
        )
        .with(
            Op::get("forecast_show", "/forecasts/{class}", see, show)
                .says("The same of one class, by class or by an image of which there is one; of one client or of all")
                .query::<OfClient>()
                .answers::<ForecastView>(200),
        )
        .with(
            Op::get("forecast_compare", "/forecasts/{class}/compared", see, compare)
                .says("What was expected against what came, with scores")
                .query::<Compare>()
                .answers::<ComparedView>(200),
        )
        .with(
            Op::get("forecast_levels", "/forecasts/{class}/levels", see, levels)
                .says("How full the pool was of a class, beside who came")
                .query::<Back>()
                .answers::<LevelsView>(200),
        )
        .with(
            Op::get("persona_forecast_list", "/persona-forecasts", see, personas::list)
                .says("What is expected of each persona in the coming day; of one client or of all")
                .query::<OfClient>()
                .answers::<Vec<ForecastView>>(200),
        )
        .with(
            Op::get("persona_forecast_show", "/persona-forecasts/{name}", see, personas::show)
                .says("The same of one persona")
                .query::<OfClient>()
                .answers::<ForecastView>(200),
        )
        .with(
            Op::get("persona_forecast_compare", "/persona-forecasts/{name}/compared", see, personas::compare)
                .says("What was expected of a persona against what came, with scores")
                .query::<Compare>()
                .answers::<ComparedView>(200),
        )
        .with(
            Op::get("planned_event_list", "/planned-events", see, events)
                .says("Planned events by when they begin")
                .answers::<Vec<PlannedEventView>>(200),
        )
        .with(
            Op::put("planned_event_put", "/planned-events", write, put_event)
                .says("Adds a planned event, or replaces the one of its name")
                .takes::<PutPlannedEvent>()
                .answers::<PlannedEventView>(200),
        )
        .with(
            Op::delete("planned_event_remove", "/planned-events/{name}", write, remove_event)
                .says("Removes a planned event")
                .answers_bytes(204, ""),
        )
        .with(
            Op::get("pool_policy_list", "/pool/policies", see, policies)
                .says("How the number of each class is chosen")
                .answers::<Vec<PolicyView>>(200),
        )
        .with(
            Op::put("pool_policy_set", "/pool/policies", write, set_policy)
                .says("Sets how a class's number is chosen, or says what that would come to")
                .takes::<SetPolicy>()
                .answers::<PolicyView>(200),
        )
        .with(
            Op::get("pool_policy_show", "/pool/policies/{class}", see, policy)
                .says("How one class's number is chosen, and what that would have come to lately")
                .answers::<PolicyView>(200),
        )
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfClient {
    /// All clients together when not given.
    pub client: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// Hours back from now; 48 when not given.
    pub hours: Option<usize>,
    /// Seconds between a forecast and its hour, at least; an hour when not given.
    pub ahead_s: Option<i64>,
    /// All clients together when not given.
    pub client: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Back {
    /// Hours back from now; 48 when not given.
    pub hours: Option<usize>,
}

pub async fn list(State(app): Shared) -> Result<Json<Vec<ForecastView>>, Refusal> {
    let forecasts = app.state.demand.forecasts();
    Ok(Json(forecasts.iter().map(|f| view(&app, f)).collect()))
}

async fn show(
    State(app): Shared,
    InPath(which): InPath<String>,
    Params(of): Params<OfClient>,
) -> Result<Json<ForecastView>, Refusal> {
    let demand = &app.state.demand;
    let forecasts = demand.forecasts();
    let class = pick(
        forecasts.iter().filter_map(|f| f.series.class.as_ref()),
        &which,
    )?;
    let Some(client) = of.client else {
        let found = forecasts
            .iter()
            .find(|f| f.series.class.as_ref() == Some(&class));
        return found
            .map(|forecast| Json(view(&app, forecast)))
            .ok_or_else(|| unknown(&which));
    };
    let series = Series::of_class(&class).by(Some(&client));
    let found = demand.of_series(&series, demand.now()).await?;
    found
        .map(|forecast| Json(view(&app, &forecast)))
        .ok_or_else(|| {
            Refusal::not_found(format!(
                "the client {client:?} has asked for no machine of {class} within six weeks"
            ))
        })
}

pub async fn levels(
    State(app): Shared,
    InPath(which): InPath<String>,
    Params(of): Params<Back>,
) -> Result<Json<LevelsView>, Refusal> {
    let demand = &app.state.demand;
    let forecasts = demand.forecasts();
    let class = pick(
        forecasts.iter().filter_map(|f| f.series.class.as_ref()),
        &which,
    )?;
    let hours = back(of.hours)?;
    let steps = demand.levels(&class, hours).await?;
    Ok(Json(LevelsView {
        class: class.to_string(),
        step_s: BUCKET_S,
        steps: steps
            .iter()
            .map(|step| LevelStep {
                at: time(Timestamp(step.at_s.saturating_mul(1_000_000))),
                ready: step.level.map(|level| level.ready),
                wanted: step.level.and_then(|level| level.wanted),
                hot: step.count.hot,
                warm: step.count.warm,
                cold: step.count.cold,
                wait_ms: step.count.wait_ms,
            })
            .collect(),
    }))
}

fn back(hours: Option<usize>) -> Result<usize, Refusal> {
    let hours = hours.unwrap_or(48);
    match (1..=MOST_HOURS).contains(&hours) {
        true => Ok(hours),
        false => Err(Refusal::mistake(format!(
            "hours={hours} is not within 1 and {MOST_HOURS}"
        ))),
    }
}

pub async fn compare(
    State(app): Shared,
    InPath(which): InPath<String>,
    Params(of): Params<Compare>,
) -> Result<Json<ComparedView>, Refusal> {
    let demand = &app.state.demand;
    let forecasts = demand.forecasts();
    let class = pick(
        forecasts.iter().filter_map(|f| f.series.class.as_ref()),
        &which,
    )?;
    let series = Series::of_class(&class).by(of.client.as_deref());
    judged(&app, &series, &of).await
}

async fn judged(app: &App, series: &Series, of: &Compare) -> Result<Json<ComparedView>, Refusal> {
    let hours = back(of.hours)?;
    let ahead_s = of.ahead_s.unwrap_or(STEP_S);
    if !(0..=86_400).contains(&ahead_s) {
        return Err(Refusal::mistake(format!(
            "ahead_s={ahead_s} is not within 0 and 86400: a forecast reaches a day ahead"
        )));
    }
    let demand = &app.state.demand;
    let (hours, scores) = demand.compared(series, hours, ahead_s).await?;
    Ok(Json(compared(series, ahead_s, &hours, scores)))
}

pub async fn events(State(app): Shared) -> Result<Json<Vec<PlannedEventView>>, Refusal> {
    let events = app.state.demand.events().await?;
    Ok(Json(events.iter().map(event_view).collect()))
}

async fn put_event(
    State(app): Shared,
    Body(order): Body<PutPlannedEvent>,
) -> Result<Json<PlannedEventView>, Refusal> {
    let demand = &app.state.demand;
    let event = event(&order, demand.now()).map_err(class::invalid)?;
    demand.add_event(event.clone()).await?;
    Ok(Json(event_view(&event)))
}

async fn remove_event(
    State(app): Shared,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refusal> {
    app.state.demand.remove_event(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn policies(State(app): Shared) -> Result<Json<Vec<PolicyView>>, Refusal> {
    let all = app.state.demand.all_policies().await?;
    Ok(Json(all.iter().map(policy_view).collect()))
}

pub async fn policy(
    State(app): Shared,
    InPath(which): InPath<String>,
) -> Result<Json<PolicyView>, Refusal> {
    let all = app.state.demand.all_policies().await?;
    let class = pick(all.iter().map(|now| &now.policy.class), &which)?;
    let now = app.state.demand.policy(&class).await?;
    Ok(Json(policy_view(&now)))
}

async fn set_policy(
    State(app): Shared,
    Body(order): Body<SetPolicy>,
) -> Result<Json<PolicyView>, Refusal> {
    pool::working(&app)?;
    let mode = match order.mode.as_deref() {
        None => None,
        Some("fixed") => Some(Mode::Fixed),
        Some("forecast") => Some(Mode::Forecast),
        Some(other) => {
            let detail = format!("{other:?} is no way of choosing a number");
            let fault = class::fault("mode", detail, "\"fixed\" or \"forecast\"");
            return Err(class::invalid(vec![fault]));
        }
    };
    let named = class::read(&order.class).map_err(class::invalid)?;
    let (class, _) = class::with_image(&app, named).await?;
    let change = ChangePolicy {
        mode,
        idle_hour_cost: order.idle_hour_cost,
        cold_cost: order.cold_cost,
        least: order.least,
        most: order.most,
        dry_run: order.dry_run,
    };
    let now = app.state.demand.change_policy(&class, change).await?;
    Ok(Json(policy_view(&now)))
}

/// The class that is named, or the only one of the image that is named.
fn pick<'a>(known: impl Iterator<Item = &'a Class>, which: &str) -> Result<Class, Refusal> {
    if let Ok(class) = which.parse() {
        return Ok(class);
    }
    let of_image: Vec<&Class> = known.filter(|class| class.image == which).collect();
    class::meant_by_image(of_image)
        .map_err(|several| class::ambiguous(which, &several))?
        .cloned()
        .ok_or_else(|| unknown(which))
}

fn unknown(which: &str) -> Refusal {
    Refusal::new(
        Why::NotFound,
        format!(
            "nothing is known of {which:?} yet: nobody has asked for such a machine; see `greenroom forecast show` for what is known"
        ),
    )
}

fn event(order: &PutPlannedEvent, now: Timestamp) -> Result<PlannedEvent, Vec<ProblemFault>> {
    let mut faults = Vec::new();
    let mut add = |path: &str, detail: String, expected: &'static str| {
        faults.push(class::fault(path, detail, expected));
    };
    if !is_plain_name(&order.name) {
        let detail = format!("{:?} is not a plain name", order.name);
        add("name", detail, class::PLAIN);
    }
    if let Some(of) = &order.of
        && !is_plain_name(of)
        && of.parse::<Class>().is_err()
    {
        let detail = format!("{of:?} is neither an image nor a class");
        add("of", detail, "such as toolbox or toolbox:2x1024+net");
    }
    let (from, until) = (micros(order.from), micros(order.until));
    if until <= from {
        let detail = format!("it ends at {} before it has begun", order.until);
        add("until", detail, "later than from");
    }
    let reach = FARTHEST_S.saturating_mul(1_000_000);
    if until.saturating_sub(from) > reach || from.saturating_sub(now.0).abs() > reach {
        let detail = "it is more than two years away, or lasts longer".to_owned();
        add("from", detail, "within two years");
    }
    if !order.factor.is_finite() || !(0.0..=100.0).contains(&order.factor) {
        let detail = format!("{} is no factor of demand", order.factor);
        add("factor", detail, "0 to 100; 1 changes nothing");
    }
    if !order.doubt.is_finite() || !(0.0..=2.0).contains(&order.doubt) {
        let detail = format!("{} is no doubt", order.doubt);
        add("doubt", detail, "0 to 2; 0.1 is give or take a tenth");
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(PlannedEvent {
        name: order.name.clone(),
        of: order.of.clone(),
        from: Timestamp(from),
        until: Timestamp(until),
        factor: order.factor,
        doubt: order.doubt,
    })
}

fn micros(at: Time) -> i64 {
    at.0.as_microsecond()
}

fn event_view(event: &PlannedEvent) -> PlannedEventView {
    PlannedEventView {
        name: event.name.clone(),
        of: event.of.clone(),
        from: time(event.from),
        until: time(event.until),
        factor: event.factor,
        doubt: event.doubt,
    }
}

fn step(at_s: i64, step: &[f64; 5]) -> ForecastStep {
    ForecastStep {
        at: time(Timestamp(at_s.saturating_mul(1_000_000))),
        low95: step[0],
        low80: step[1],
        median: step[2],
        high80: step[3],
        high95: step[4],
    }
}

fn view(app: &App, forecast: &Forecast) -> ForecastView {
    let begin_s = forecast.made_at.0.div_euclid(1_000_000);
    let series = &forecast.series;
    let decision = match (&series.class, &series.client) {
        (Some(class), None) => app.state.demand.decision(class),
        _ => None,
    };
    let weighed = |list: &[(String, f64)]| {
        list.iter()
            .map(|(method, value)| Weighed {
                method: method.clone(),
                value: *value,
            })
            .collect()
    };
    ForecastView {
        class: series.class.as_ref().map(Class::to_string),
        persona: series.persona.clone(),
        parent: forecast.parent.clone(),
        classes: forecast
            .classes
            .iter()
            .map(|(class, share)| ClassShare {
                class: class.to_string(),
                share: *share,
            })
            .collect(),
        client: series.client.clone(),
        made_at: time(forecast.made_at),
        step_s: STEP_S,
        steps: forecast
            .steps
            .iter()
            .enumerate()
            .map(|(at, quantiles)| step(begin_s + at as i64 * STEP_S, quantiles))
            .collect(),
        basis: word(&forecast.basis),
        because: forecast.because().to_owned(),
        last_day: forecast
            .last_day
            .iter()
            .map(|count| count.is_finite().then_some(*count))
            .collect(),
        known_hours: forecast.known_h,
        gaps: forecast.faults.gaps,
        capped: forecast.faults.capped,
        events: forecast.events.clone(),
        choice: forecast.choice.as_ref().map(|(at, choice)| ChoiceView {
            made_at: time(*at),
            method: word(&choice.method),
            weights: weighed(&choice.weights),
            losses: weighed(&choice.losses),
        }),
        sized: decision.map(|decision| format!("{}: {}", decision.target.hot, decision.why)),
        model: crate::demand::MODEL_VERSION.to_owned(),
    }
}

/// A variant's word as it is stored.
fn word<T: serde::Serialize>(variant: &T) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn compared(series: &Series, ahead_s: i64, hours: &[Hour], scores: Scores) -> ComparedView {
    let hour = |hour: &Hour| ComparedHour {
        at: time(Timestamp(hour.start_s.saturating_mul(1_000_000))),
        expected: hour
            .expected
            .map(|quantiles| step(hour.start_s, &quantiles)),
        made_at: hour.made_at.map(time),
        actual: hour.actual,
    };
    ComparedView {
        class: series.class.as_ref().map(Class::to_string),
        persona: series.persona.clone(),
        client: series.client.clone(),
        ahead_s,
        hours: hours.iter().map(hour).collect(),
        judged: scores.hours,
        error: scores.error,
        plain_error: scores.plain_error.is_finite().then_some(scores.plain_error),
        // Where no hour could be judged there is no mean, and JSON has no word for that.
        pinball: match scores.hours {
            0 => 0.0,
            _ => scores.pinball,
        },
        within80: scores.within80,
        within95: scores.within95,
    }
}

fn policy_view(now: &PolicyNow) -> PolicyView {
    let policy = &now.policy;
    PolicyView {
        class: policy.class.to_string(),
        mode: policy.mode.to_string(),
        idle_hour_cost: policy.idle_hour_cost,
        cold_cost: policy.cold_cost,
        least: policy.least,
        most: policy.most,
        target: now.standing.as_ref().map(TargetView::of),
        before: policy.before.as_ref().map(TargetView::of),
        why: now.decision.as_ref().map(|decision| decision.why.clone()),
        lead_s: now.lead_s,
        tiers: Tier::ALL
            .into_iter()
            .zip(now.costs())
            .map(|(tier, cost)| TierView {
                tier: tier.word().to_owned(),
                wait_s: now.waits.seconds[tier as usize],
                measured: now.waits.measured[tier as usize],
                cost,
                is_next: tier == now.instead,
            })
            .collect(),
        preview: now
            .previews
            .iter()
            .map(|preview| PreviewView {
                rule: preview.rule.clone(),
                is_asked: preview.is_asked,
                requests: preview.requests,
                cold: preview.cold,
                idle_s_per_day: preview.idle_s_per_day,
                cost_per_day: preview.cost_per_day,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_of_an_event_are_told_at_once() {
        let order: PutPlannedEvent = serde_json::from_value(serde_json::json!({
            "name": "a b", "of": "no class", "from": "2026-01-02T00:00:00Z",
            "until": "2026-01-01T00:00:00Z", "factor": -1.0, "doubt": 9.0,
        }))
        .unwrap();
        let now = Timestamp(micros(order.from));
        let paths: Vec<String> = event(&order, now)
            .unwrap_err()
            .into_iter()
            .map(|fault| fault.path)
            .collect();
        assert_eq!(paths, ["name", "of", "until", "factor", "doubt"]);
        assert!(event(&order, Timestamp(i64::MIN)).unwrap_err().len() > 5);
    }
}
