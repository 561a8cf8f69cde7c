//! Section `telemetry`: where traces of the daemon's own work go. What devices report is `boot.telemetry`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigFault;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; no traces when not given.
    pub otlp: Option<String>,
    /// Share of runs and requests that are traced, 0 to 1.
    pub sample: f64,
    /// File of further certificate authorities to trust, PEM.
    pub authorities: Option<PathBuf>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            otlp: None,
            sample: 1.0,
            authorities: None,
        }
    }
}

impl TracesConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if let Some(otlp) = &self.otlp {
            let uri = otlp.parse::<hyper::Uri>().ok();
            let can_be = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
            });
            if !can_be {
                faults.push(ConfigFault::new(
                    "telemetry.otlp",
                    format!(
                        "{otlp:?} is not the address of a collector, such as http://127.0.0.1:4318"
                    ),
                ));
            }
        }
        if !(0.0..=1.0).contains(&self.sample) {
            faults.push(ConfigFault::new(
                "telemetry.sample",
                format!("{} is not within 0 and 1", self.sample),
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn a_collector_is_an_address_over_http() {
        let of = |text: &str| {
            let config = parse(text).unwrap();
            let faults = config.check().into_iter();
            faults.map(|fault| fault.key).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(of("telemetry: { otlp: 'http://127.0.0.1:4318' }\n"), none);
        assert_eq!(
            of("telemetry: { otlp: 'https://otel.example.com/v1/traces', sample: 0.1 }\n"),
            none
        );
        assert_eq!(
            of("telemetry: { otlp: '127.0.0.1:4317', sample: 2 }\n"),
            ["telemetry.otlp", "telemetry.sample"]
        );
    }
}
