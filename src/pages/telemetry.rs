//! What a delivered device says of itself, over time, as plots.
//!
//! The rows are read in one place, [`samples`]; where more becomes known of a device (profiles,
//! anomalies), it is drawn from here on.

use serde_json::Value;

use super::marks::Markup;
use super::plot::{self, Plot, Series};
use crate::store::telemetry::report_list;
use crate::vocab::{DeviceId, Timestamp};
use crate::web::App;
use crate::web::refusal::Refusal;

/// Reports that are drawn: an hour of four a minute.
const SAMPLES: i64 = 240;

/// One plot with what the last report says.
pub struct Reading {
    pub title: &'static str,
    pub now: String,
    pub plot: Markup,
}

/// Newest first.
async fn samples(app: &App, device: DeviceId) -> Result<Vec<(Timestamp, Value)>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let reports = report_list(&mut connection, device, SAMPLES).await?;
    Ok(reports
        .into_iter()
        .map(|report| (report.at, report.body))
        .collect())
}

pub async fn of(app: &App, device: DeviceId) -> Result<Vec<Reading>, Refusal> {
    let mut samples = samples(app, device).await?;
    samples.reverse();
    Ok(draw(&samples))
}

/// Oldest first. Fewer than two reports are no line.
fn draw(samples: &[(Timestamp, Value)]) -> Vec<Reading> {
    let Some((last, _)) = samples.last().filter(|_| samples.len() >= 2) else {
        return Vec::new();
    };
    let minutes = |at: &Timestamp| (at.0 - last.0) as f64 / 60e6;
    let line = |of: &dyn Fn(&Value) -> Option<f64>| -> Vec<(f64, f64)> {
        samples
            .iter()
            .filter_map(|(at, body)| Some((minutes(at), of(body)?)))
            .collect()
    };
    let number = |body: &Value, key: &str| body.get(key).and_then(Value::as_f64);
    let rate = |key: &'static str| -> Vec<(f64, f64)> {
        samples
            .windows(2)
            .filter_map(|pair| {
                let [(before, a), (after, b)] = pair else {
                    return None;
                };
                let s = (after.0 - before.0) as f64 / 1e6;
                let step = number(b, key)? - number(a, key)?;
                // A counter that went back was set to zero by a restart.
                (s > 0.0 && step >= 0.0).then(|| (minutes(after), step / s / 1024.0))
            })
            .collect()
    };
    let used =
        |body: &Value| Some(number(body, "memory_mib")? - number(body, "memory_available_mib")?);
    let disk = |body: &Value| {
        let (all, free) = (number(body, "root_bytes")?, number(body, "root_free")?);
        Some((all - free) / (1024.0 * 1024.0))
    };
    let plots = [
        (
            "Processor",
            "%",
            vec![(
                "busy",
                line(&|body| Some(number(body, "cpu_busy")? * 100.0)),
            )],
        ),
        (
            "Load",
            "processes",
            vec![("load over a minute", line(&|body| number(body, "load_1")))],
        ),
        ("Memory", "MiB", vec![("used", line(&used))]),
        ("Disk of the system", "MiB", vec![("used", line(&disk))]),
        (
            "Network",
            "KiB/s",
            vec![
                ("received", rate("net_received")),
                ("sent", rate("net_sent")),
            ],
        ),
        (
            "Disk traffic",
            "KiB/s",
            vec![
                ("read", rate("disk_read")),
                ("written", rate("disk_written")),
            ],
        ),
    ];
    plots
        .into_iter()
        .filter(|(_, _, series)| series.iter().any(|(_, points)| points.len() > 1))
        .map(|(title, unit, series)| {
            let now = series
                .iter()
                .filter_map(|(name, points)| {
                    let (_, value) = points.last()?;
                    Some(format!("{name} {value:.1}"))
                })
                .collect::<Vec<_>>()
                .join(", ");
            let series = series
                .into_iter()
                .map(|(name, points)| Series { name, points })
                .collect();
            Reading {
                title,
                now: format!("{now} {unit}"),
                plot: plot::draw(&Plot {
                    label: format!("{title}, {unit}, over time"),
                    x: "minutes before the last report",
                    y: unit,
                    series,
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reports_are_a_line_and_counters_are_rates() {
        let report = |n: i64| {
            let body = serde_json::json!({
                "cpu_busy": 0.5, "load_1": 1.0, "memory_mib": 100, "memory_available_mib": 60,
                "net_received": n * 1024 * 15, "net_sent": 0,
            });
            (Timestamp(n * 15_000_000), body)
        };
        assert!(draw(&[report(0)]).is_empty());
        let drawn = draw(&[report(0), report(1), report(2)]);
        let titles: Vec<&str> = drawn.iter().map(|reading| reading.title).collect();
        assert_eq!(titles, ["Processor", "Load", "Memory", "Network"]);
        assert!(drawn[3].now.starts_with("received 1.0"), "{}", drawn[3].now);
        assert!(drawn[0].plot.0.starts_with("<svg"));
    }
}
