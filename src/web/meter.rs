//! Counts answers and how long they took, by operation; writes everything that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared};
use crate::access::Access;
use crate::store::{pages, runs};
use crate::vocab::access::Role;

/// Upper bounds of the latency buckets, seconds.
const BOUNDS_S: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 10.0];

#[derive(Debug, Default)]
pub struct Meter(Mutex<BTreeMap<(&'static str, u16), Latency>>);

#[derive(Debug, Default, Clone)]
struct Latency {
    count: u64,
    sum_s: f64,
    within: [u64; BOUNDS_S.len()],
}

impl Meter {
    pub fn note(&self, op: &'static str, status: u16, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let one = all.entry((op, status / 100)).or_default();
        let took = took.as_secs_f64();
        one.count += 1;
        one.sum_s += took;
        for (count, bound) in one.within.iter_mut().zip(BOUNDS_S) {
            *count += u64::from(took <= bound);
        }
    }
}

pub fn routes() -> Routes {
    Routes::of("monitoring", "For monitors, beside the API.")
        .at_root()
        .with(
            Op::get(
                "metrics",
                "/metrics",
                Access::whole_site(Role::Viewer),
                metrics,
            )
            .says("Counts and durations, as Prometheus reads them")
            .answers_bytes(200, "text/plain; version=0.0.4"),
        )
}

async fn metrics(State(app): Shared) -> Result<Response, Refusal> {
    let mut page = Page::default();
    runs_and_stages(&app, &mut page).await?;
    host(&app, &mut page);
    requests(&app, &mut page);
    let media_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((media_type, page.0).into_response())
}

async fn runs_and_stages(app: &App, page: &mut Page) -> Result<(), Refusal> {
    let mut connection = app.state.services.store.read().await?;
    page.begin("greenroom_runs", "gauge", "Runs by state.");
    for (state, count) in runs::run_counts(&mut connection).await? {
        page.value("greenroom_runs", &[("state", &state)], count as f64);
    }
    let name = "greenroom_attempts_total";
    page.begin(
        name,
        "counter",
        "Attempts at stages that have ended, by result.",
    );
    for (result, count) in pages::attempt_counts(&mut connection).await? {
        page.value(name, &[("result", &result)], count as f64);
    }
    let name = "greenroom_stage_duration_seconds";
    page.begin(name, "histogram", "Successful work of stages.");
    for stage in pages::stage_durations(&mut connection).await? {
        let labels = [("chain", stage.chain.as_str()), ("stage", &stage.stage)];
        let within = stage.within.map(|count| count as f64);
        page.histogram(
            name,
            &labels,
            &pages::BOUNDS_S,
            &within,
            stage.count as f64,
            stage.sum_s,
        );
    }
    Ok(())
}

fn host(app: &App, page: &mut Page) {
    let status = app.state.services.capacity.status();
    let mib = |n: u64| n as f64 * f64::from(1 << 20);
    for (name, help, value) in [
        (
            "greenroom_memory_total_bytes",
            "Memory that machines may take.",
            mib(status.total.memory_mib),
        ),
        (
            "greenroom_memory_used_bytes",
            "Memory that machines take.",
            mib(status.used.memory_mib),
        ),
        (
            "greenroom_vcpus_total",
            "vCPUs that machines may take.",
            status.total.vcpus as f64,
        ),
        (
            "greenroom_vcpus_used",
            "vCPUs that machines take.",
            status.used.vcpus as f64,
        ),
        (
            "greenroom_machines",
            "Machines that hold a share of the host.",
            status.machines as f64,
        ),
        (
            "greenroom_machines_waiting",
            "Machines that wait for a share of the host.",
            status.waiting as f64,
        ),
    ] {
        page.begin(name, "gauge", help);
        page.value(name, &[], value);
    }
}

fn requests(app: &App, page: &mut Page) {
    let name = "greenroom_api_request_duration_seconds";
    page.begin(name, "histogram", "Until the head of an answer.");
    let all = app
        .meter
        .0
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    for ((op, class), latency) in all.iter() {
        let class = format!("{class}xx");
        let labels = [("operation", *op), ("status", &class)];
        let within = latency.within.map(|count| count as f64);
        page.histogram(
            name,
            &labels,
            &BOUNDS_S,
            &within,
            latency.count as f64,
            latency.sum_s,
        );
    }
}

/// The text format (Prometheus, exposition formats, version 0.0.4).
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            let _ = write!(self.0, "{{{}}}", labels.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        within: &[f64],
        count: f64,
        sum: f64,
    ) {
        let bucket = format!("{name}_bucket");
        let ends = bounds.iter().map(ToString::to_string);
        let all = ends
            .chain(["+Inf".to_owned()])
            .zip(within.iter().chain([&count]));
        for (end, value) in all {
            let mut labels = labels.to_vec();
            labels.push(("le", &end));
            self.value(&bucket, &labels, *value);
        }
        self.value(&format!("{name}_sum"), labels, sum);
        self.value(&format!("{name}_count"), labels, count);
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.begin("x", "gauge", "Some.");
        page.value("x", &[("a", "b\"\\\n")], 2.0);
        page.histogram("h", &[("a", "b")], &[0.5, 1.0], &[1.0, 2.0], 3.0, 4.5);
        insta::assert_snapshot!(page.0, @r#"
        # HELP x Some.
        # TYPE x gauge
        x{a="b\"\\\n"} 2
        h_bucket{a="b",le="0.5"} 1
        h_bucket{a="b",le="1"} 2
        h_bucket{a="b",le="+Inf"} 3
        h_sum{a="b"} 4.5
        h_count{a="b"} 3
        "#);
    }
}
