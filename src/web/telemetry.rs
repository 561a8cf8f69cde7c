//! `/devices/NAME/telemetry`: what a delivered device measured of itself.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::boot::desk;
use super::extract::{InPath, Params};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{Shared, devices};
use crate::access::{Access, Caller};
use crate::api::Time;
use crate::api::telemetry::{MetricView, PointView, TelemetryView};
use crate::store::telemetry::Series;
use crate::vocab::Timestamp;
use crate::vocab::access::Role;
use crate::vocab::telemetry::Metric;

/// How far back it is shown where nobody says, seconds.
const SPAN_S: u64 = 3600;
/// Points of each metric at most.
const MOST_POINTS: usize = 20_000;

pub fn routes() -> Routes {
    Routes::of("telemetry", "What delivered devices report of themselves.").with(
        Op::get(
            "device_telemetry",
            "/devices/{name}/telemetry",
            Access::per_client(Role::Viewer),
            show,
        )
        .says("What a device measured: each metric summed up and point by point, and its newest report")
        .query::<Which>()
        .answers::<TelemetryView>(200),
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// From this instant on, RFC 3339.
    since: Option<String>,
    /// So many seconds back, where `since` is not given; 3600 when neither is.
    span_s: Option<u64>,
    /// Only this metric.
    metric: Option<String>,
    /// `raw` (each report), `fine` or `coarse`; the finest that reaches back so far within 400 points,
    /// when not given.
    step: Option<String>,
}

async fn show(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Params(which): Params<Which>,
) -> Result<Json<TelemetryView>, Refusal> {
    let device = devices::find(&app, &caller, &name).await?;
    let desk = desk(&app)?;
    let keeping = desk.keeping();
    let step = match which.step.as_deref() {
        None => None,
        Some("raw") => Some(Duration::ZERO),
        Some("fine") => Some(keeping.fine),
        Some("coarse") => Some(keeping.coarse),
        Some(_) => return Err(Refusal::mistake("the steps are raw, fine and coarse")),
    };
    let wanted = match &which.metric {
        None => None,
        Some(word) => Some(Metric::from_word(word).ok_or_else(|| {
            let words = Metric::ALL.map(Metric::word).join(", ");
            Refusal::mistake(format!("the metrics are {words}"))
        })?),
    };
    let back = which.span_s.unwrap_or(SPAN_S).min(100 * 365 * 86_400);
    let since = match &which.since {
        Some(since) => {
            let since: jiff::Timestamp = since.parse().map_err(|_| {
                Refusal::mistake("`since` is an instant such as 2026-01-31T12:00:00Z")
            })?;
            Timestamp(since.as_microsecond())
        }
        None => Timestamp(desk.time().0 - back as i64 * 1_000_000),
    };
    let series = desk.series(device.id, since, step).await?;
    let latest = desk.latest_report(device.id).await?;
    let metrics = Metric::ALL
        .into_iter()
        .filter(|metric| wanted.is_none_or(|wanted| wanted == *metric))
        .filter_map(|metric| view(metric, &series))
        .collect();
    Ok(Json(TelemetryView {
        device: device.name,
        since: Time::of(since),
        step_s: series.step.as_secs(),
        metrics,
        latest_at: latest.as_ref().map(|report| Time::of(report.at)),
        latest: latest.map(|report| report.body),
    }))
}

/// None where nothing was measured.
fn view(metric: Metric, series: &Series) -> Option<MetricView> {
    let mut points: Vec<PointView> = series
        .buckets
        .iter()
        .filter_map(|bucket| {
            let summary = bucket.values.get(&metric)?;
            Some(PointView {
                at: Time::of(bucket.at),
                n: summary.n,
                min: summary.min,
                mean: summary.mean(),
                max: summary.max,
            })
        })
        .collect();
    let whole = *series.whole().get(&metric)?;
    points.drain(..points.len().saturating_sub(MOST_POINTS));
    Some(MetricView {
        metric,
        unit: metric.unit().to_owned(),
        n: whole.n,
        min: whole.min,
        mean: whole.mean(),
        max: whole.max,
        points,
    })
}
