//! Forecasts by persona.

use axum::Json;
use axum::extract::State;

use super::{Compare, OfClient, judged, view};
use crate::api::demand::{ComparedView, ForecastView};
use crate::vocab::demand::Series;
use crate::web::Shared;
use crate::web::extract::{InPath, Params};
use crate::web::refusal::Refusal;

pub async fn list(
    State(app): Shared,
    Params(of): Params<OfClient>,
) -> Result<Json<Vec<ForecastView>>, Refusal> {
    let demand = &app.state.demand;
    let all = demand.personas();
    let Some(client) = &of.client else {
        return Ok(Json(all.iter().map(|one| view(&app, one)).collect()));
    };
    let mut found = Vec::new();
    for persona in all {
        let of_client = persona.series.clone().by(Some(client));
        if let Some(mut one) = demand.of_series(&of_client, demand.now()).await? {
            one.parent = persona.parent;
            one.classes = persona.classes;
            found.push(view(&app, &one));
        }
    }
    Ok(Json(found))
}

pub async fn show(
    State(app): Shared,
    InPath(persona): InPath<String>,
    Params(of): Params<OfClient>,
) -> Result<Json<ForecastView>, Refusal> {
    let all = list(State(app), Params(of)).await?.0;
    all.into_iter()
        .find(|one| one.persona.as_deref() == Some(&*persona))
        .map(Json)
        .ok_or_else(|| unknown(&persona))
}

pub async fn compare(
    State(app): Shared,
    InPath(persona): InPath<String>,
    Params(of): Params<Compare>,
) -> Result<Json<ComparedView>, Refusal> {
    let all = app.state.demand.personas();
    let of_persona = Series::of_persona(&persona);
    if !all.iter().any(|one| one.series == of_persona) {
        return Err(unknown(&persona));
    }
    judged(&app, &of_persona.by(of.client.as_deref()), &of).await
}

fn unknown(persona: &str) -> Refusal {
    Refusal::not_found(format!(
        "nothing is known of the demand for a persona {persona:?} of that client: nobody has asked for it within six weeks, nor is it new; see `greenroom forecast show` for what is known"
    ))
}
