//! `device telemetry`: what a delivered device measured of itself.

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use super::text;
use crate::api::telemetry::{MetricView, TelemetryView};
use crate::vocab::telemetry::Metric;

/// Width of a sparkline, characters.
const WIDTH: usize = 32;
/// Eighths of a character's height (Unicode, Block Elements).
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greenroom device telemetry web-1\n  greenroom device telemetry web-1 --since 7d --metric memory\n  greenroom device telemetry web-1 -o json | jq '.latest.details.firewall[]'"
)]
pub struct TelemetryCommand {
    /// Name or id
    name: String,
    /// How far back, such as 30m or 24h
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = text::parse_span)]
    since: u64,
    /// Only this one
    #[arg(long, value_name = "METRIC", value_parser = metric)]
    metric: Option<Metric>,
    /// How finely; the finest that is kept for so long, unless given
    #[arg(long, value_name = "STEP", value_parser = ["raw", "fine", "coarse"])]
    step: Option<String>,
}

fn metric(word: &str) -> Result<Metric, String> {
    let words = Metric::ALL.map(Metric::word).join(", ");
    Metric::from_word(word).ok_or_else(|| format!("the metrics are {words}"))
}

impl TelemetryCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let view = client
            .device_telemetry(&self.name, self.since, self.metric, self.step.as_deref())
            .await?;
        context.show(&view, || show(&view, context))?;
        Ok(Exit::Ok)
    }
}

fn show(view: &TelemetryView, context: &Context) -> String {
    let mut out = match (&view.latest, view.latest_at) {
        (Some(latest), Some(at)) => format!(
            "{}\nheard     {} ago\n{}",
            system_line(latest),
            text::span(context.now().seconds_from(at)),
            details(latest)
        ),
        _ => String::new(),
    };
    let mut table = Table::new(
        context.out,
        &["METRIC", "LAST", "MIN", "MEAN", "MAX", "POINTS", "COURSE"],
    );
    for metric in &view.metrics {
        let said = |value: f64| amount(value, &metric.unit);
        table.row([
            metric.metric.word().to_owned(),
            metric
                .points
                .last()
                .map_or_else(String::new, |point| said(point.mean)),
            said(metric.min),
            said(metric.mean),
            said(metric.max),
            metric.points.len().to_string(),
            sparkline(metric),
        ]);
    }
    let none = format!(
        "{} has reported nothing in this time; see `greenroom device show {}`",
        text::line(&view.device),
        text::line(&view.device)
    );
    out.push_str(&table.render(&none));
    if view.step_s > 0 {
        out.push_str(&format!(
            "each point is for {}\n",
            text::span(view.step_s as f64)
        ));
    }
    out
}

/// The newest report in one line.
pub fn system_line(latest: &Value) -> String {
    let word = |key: &str| text::line(latest[key].as_str().unwrap_or("?")).to_string();
    let number = |key: &str| latest[key].as_f64().unwrap_or(0.0);
    format!(
        "{} on {}, up {}, cpu {:.0} %, {:.0} of {:.0} MiB free",
        word("hostname"),
        word("os"),
        text::span(number("uptime_s")),
        number("cpu_busy") * 100.0,
        number("memory_available_mib"),
        number("memory_mib")
    )
}

/// Units and versions, where the newest report has them.
fn details(latest: &Value) -> String {
    let mut out = String::new();
    for (title, key) in [("units", "units"), ("packages", "packages")] {
        let Some(all) = latest["details"][key]
            .as_object()
            .filter(|all| !all.is_empty())
        else {
            continue;
        };
        let said: Vec<String> = all
            .iter()
            .map(|(name, value)| {
                format!(
                    "{} {}",
                    text::line(name),
                    text::line(value.as_str().unwrap_or("absent"))
                )
            })
            .collect();
        out.push_str(&format!("{title:<9} {}\n", said.join(", ")));
    }
    out
}

fn amount(value: f64, unit: &str) -> String {
    match unit {
        "share" => format!("{:.1} %", value * 100.0),
        "MiB" => format!("{value:.0} MiB"),
        "B/s" => format!("{}/s", text::bytes(value.max(0.0) as u64)),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.2}"),
    }
}

/// The course between the least and the greatest; points that share a character become their mean.
fn sparkline(metric: &MetricView) -> String {
    let means: Vec<f64> = metric.points.iter().map(|point| point.mean).collect();
    let width = means.len().min(WIDTH);
    let range = metric.max - metric.min;
    (0..width)
        .map(|column| {
            let part = &means[column * means.len() / width..(column + 1) * means.len() / width];
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            let height = if range > 0.0 {
                (mean - metric.min) / range
            } else {
                0.0
            };
            BARS[((height * 7.0).round() as usize).min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Time;
    use crate::api::telemetry::PointView;
    use crate::vocab::Timestamp;

    fn of(values: &[f64]) -> MetricView {
        let points = values.iter().map(|value| PointView {
            at: Time::of(Timestamp(0)),
            n: 1,
            min: *value,
            mean: *value,
            max: *value,
        });
        MetricView {
            metric: Metric::Cpu,
            unit: "share".into(),
            n: values.len() as u64,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            mean: 0.0,
            max: values.iter().copied().fold(0.0, f64::max),
            points: points.collect(),
        }
    }

    #[test]
    fn a_course_is_drawn_between_its_least_and_its_greatest() {
        assert_eq!(sparkline(&of(&[0.0, 0.5, 1.0])), "▁▅█");
        assert_eq!(sparkline(&of(&[3.0, 3.0])), "▁▁");
        assert_eq!(sparkline(&of(&[])), "");
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&of(&many)).chars().count(), WIDTH);
    }

    #[test]
    fn amounts_have_their_units() {
        let said = [
            amount(0.256, "share"),
            amount(220.4, "MiB"),
            amount(3.0, ""),
            amount(0.126, ""),
        ];
        assert_eq!(said, ["25.6 %", "220 MiB", "3", "0.13"].map(str::to_owned));
    }
}
