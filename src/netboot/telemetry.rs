//! A delivered system's report: checked against its schema, and turned into measures. Pure.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::untrusted;
use super::wire::{Details, Telemetry};
use crate::vocab::Timestamp;
use crate::vocab::telemetry::{Measures, Metric};

/// Largest report, bytes: the largest that the schema lets through has a quarter of it.
pub const MAX_BYTES: usize = 256 << 10;

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| untrusted::schema(include_str!("telemetry.schema.json")));

/// Reads and checks. The error says what is wrong without repeating what was sent.
pub fn read(bytes: &[u8]) -> Result<Telemetry, String> {
    let value = untrusted::read(bytes, MAX_BYTES, "a report", &SCHEMA)?;
    let telemetry: Telemetry =
        serde_json::from_value(value).map_err(|_| "it does not fit the schema".to_owned())?;
    if telemetry.memory_available_mib > telemetry.memory_mib
        || telemetry.root_free > telemetry.root_bytes
    {
        return Err("more is free than there is".to_owned());
    }
    Ok(telemetry)
}

/// What a report measures. Counters become rates with the one before, of the same boot.
pub fn measures(
    at: Timestamp,
    now: &Telemetry,
    before: Option<(Timestamp, &Telemetry)>,
) -> Measures {
    let used = now.memory_mib.saturating_sub(now.memory_available_mib) as f64;
    let mut measures = Measures::from([
        (Metric::Cpu, now.cpu_busy),
        (Metric::Load, now.load_1),
        (Metric::Memory, used),
        (Metric::Processes, f64::from(now.processes)),
    ]);
    if now.memory_mib > 0 {
        measures.insert(Metric::MemoryShare, used / now.memory_mib as f64);
    }
    if now.root_bytes > 0 {
        let used = now.root_bytes.saturating_sub(now.root_free) as f64;
        measures.insert(Metric::Root, used / now.root_bytes as f64);
    }
    if let Some(details) = &now.details {
        measures.insert(Metric::FailedUnits, failed(details).len() as f64);
    }
    let Some((then, before)) = before.filter(|(_, before)| before.boot_id == now.boot_id) else {
        return measures;
    };
    let seconds = at.since(then).as_secs_f64();
    if seconds < 0.5 {
        return measures;
    }
    for (metric, now, before) in [
        (Metric::DiskRead, now.disk_read, before.disk_read),
        (Metric::DiskWrite, now.disk_written, before.disk_written),
        (Metric::NetIn, now.net_received, before.net_received),
        (Metric::NetOut, now.net_sent, before.net_sent),
    ] {
        // A counter that went back says nothing: a card or a disk was taken out.
        if let Some(more) = now.checked_sub(before) {
            measures.insert(metric, more as f64 / seconds);
        }
    }
    measures
}

pub fn failed(details: &Details) -> Vec<&str> {
    let failed = details.units.iter().filter(|(_, state)| *state == "failed");
    failed.map(|(unit, _)| unit.as_str()).collect()
}

/// What a monitoring stage reads as `telemetry`. Times are RFC 3339, UTC.
pub struct Seen<'s> {
    pub device: &'s str,
    /// When the device was sent to its own disk.
    pub sent_at: Timestamp,
    /// When it first reported.
    pub reporting_at: Timestamp,
    pub reports: &'s [(Timestamp, Telemetry)],
    pub series: &'s crate::store::telemetry::Series,
}

impl Seen<'_> {
    /// The newest report with the newest details, and each metric summed up.
    pub fn document(&self) -> Value {
        let latest = self.reports.first().map(|(_, report)| {
            let mut latest = report.clone();
            latest.details = self.details().cloned();
            latest
        });
        let metrics: serde_json::Map<String, Value> = self
            .series
            .whole()
            .into_iter()
            .map(|(metric, summary)| {
                let said = json!({ "unit": metric.unit(), "n": summary.n, "min": summary.min, "mean": summary.mean(), "max": summary.max });
                (metric.word().to_owned(), said)
            })
            .collect();
        json!({
            "device": self.device,
            "sent_at": self.sent_at.to_string(),
            "reporting_at": self.reporting_at.to_string(),
            "boot_s": self.boot_s(),
            "reports": self.reports.len(),
            "latest": latest,
            "metrics": metrics,
        })
    }

    fn details(&self) -> Option<&Details> {
        self.reports
            .iter()
            .find_map(|(_, report)| report.details.as_ref())
    }

    /// From leaving the network for its own disk until its first report. None: it was not seen to leave.
    fn boot_s(&self) -> Option<f64> {
        (self.sent_at.0 > 0).then(|| self.reporting_at.since(self.sent_at).as_secs_f64())
    }
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
