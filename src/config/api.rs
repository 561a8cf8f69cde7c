//! Section `api`: the listener on the network, and who outside is told what happens.
//!
//! Without an address there is no listener: on a single host the Unix socket is enough, and a port
//! that nobody asked for, with a certificate that nobody knows, is only something to attack.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigFault;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Address and port of the HTTPS listener, such as 127.0.0.1:8443; no listener when not given.
    pub address: Option<SocketAddr>,
    /// Names under which the listener is reached, for the certificate that is made where none is given.
    pub names: Vec<String>,
    /// File of the certificate chain, PEM; one is made in the state folder when not given.
    pub certificate: Option<PathBuf>,
    /// File of its private key, PEM.
    pub key: Option<PathBuf>,
    pub limits: LimitsConfig,
    pub sessions: SessionsConfig,
    pub webhooks: WebhooksConfig,
    /// Where audit records and events go; nowhere when not given.
    pub syslog: Option<SyslogConfig>,
}

/// How much one caller of the network listener may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests per second of one token or user, on the average.
    pub requests_per_s: f64,
    /// Requests of one token or user at once.
    pub burst: u32,
    /// Connections at once.
    pub connections: usize,
    /// Streams (events, logs, watching) at once.
    pub streams: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_s: 200.0,
            burst: 400,
            connections: 1024,
            streams: 256,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsConfig {
    /// Minutes without a request after which a browser's session ends.
    pub idle_min: u64,
    /// Hours after the login at which it ends in any case.
    pub absolute_h: u64,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            idle_min: 30,
            absolute_h: 12,
        }
    }
}

impl SessionsConfig {
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_min * 60)
    }

    pub fn absolute(&self) -> Duration {
        Duration::from_secs(self.absolute_h * 3600)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Hosts that webhooks may go to: names, or `*.example.com` for all below one; none are allowed
    /// when empty.
    pub targets: Vec<String>,
    /// Whether addresses of private networks and of this host may be targets.
    pub allow_private: bool,
    /// Whether plain http:// may be a target.
    pub allow_http: bool,
    /// File of further certificate authorities to trust, PEM.
    pub authorities: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// Host and port, such as siem.example.com:6514.
    pub address: String,
    #[serde(default)]
    pub transport: SyslogTransport,
    /// Facility number, RFC 5424 table 1; 13 is "log audit".
    #[serde(default = "log_audit")]
    pub facility: u8,
}

fn log_audit() -> u8 {
    13
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogTransport {
    Udp,
    Tcp,
    #[default]
    Tls,
}

impl ApiConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if self.certificate.is_some() != self.key.is_some() {
            faults.push(ConfigFault::new(
                "api.certificate",
                "certificate and key come together; give both, or neither to have one made",
            ));
        }
        let limits = &self.limits;
        if !(limits.requests_per_s > 0.0 && limits.requests_per_s <= 1e6) {
            faults.push(ConfigFault::new(
                "api.limits.requests_per_s",
                format!("{} is not within 0 and 1000000", limits.requests_per_s),
            ));
        }
        for (key, value) in [
            ("api.limits.burst", limits.burst as usize),
            ("api.limits.connections", limits.connections),
            ("api.limits.streams", limits.streams),
        ] {
            if !(1..=1_000_000).contains(&value) {
                faults.push(ConfigFault::new(
                    key,
                    format!("{value} is not within 1 and 1000000"),
                ));
            }
        }
        if !(1..=1440).contains(&self.sessions.idle_min) {
            faults.push(ConfigFault::new(
                "api.sessions.idle_min",
                format!("{} is not within 1 and 1440", self.sessions.idle_min),
            ));
        }
        if !(1..=720).contains(&self.sessions.absolute_h) {
            faults.push(ConfigFault::new(
                "api.sessions.absolute_h",
                format!("{} is not within 1 and 720", self.sessions.absolute_h),
            ));
        }
        for target in &self.webhooks.targets {
            let name = target.strip_prefix("*.").unwrap_or(target);
            let is_address = name.parse::<IpAddr>().is_ok();
            let is_name = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
            if !is_address && !is_name {
                faults.push(ConfigFault::new(
                    "api.webhooks.targets",
                    format!(
                        "{target:?} is neither a host name, nor `*.` and one, nor an address; ports and paths do not belong here"
                    ),
                ));
            }
        }
        if let Some(syslog) = &self.syslog {
            let port = syslog
                .address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
            if port.is_none() {
                faults.push(ConfigFault::new(
                    "api.syslog.address",
                    format!("{:?} is not HOST:PORT", syslog.address),
                ));
            }
            if syslog.facility > 23 {
                faults.push(ConfigFault::new(
                    "api.syslog.facility",
                    format!("{} is not within 0 and 23", syslog.facility),
                ));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, parse};

    #[test]
    fn a_full_section_is_read() {
        let config = parse(
            "api:
  address: 127.0.0.1:8443
  names: [green.example.com]
  limits: { requests_per_s: 1000, burst: 2000 }
  sessions: { idle_min: 15 }
  webhooks: { targets: ['*.example.com', 10.0.0.7], allow_private: true }
  syslog: { address: 'siem:6514' }
",
        )
        .unwrap();
        assert_eq!(config.check(), Vec::new());
        assert_eq!(config.api.address.unwrap().port(), 8443);
        assert_eq!(config.api.syslog.unwrap().facility, 13);
        assert_eq!(Config::default().api.address, None, "off unless asked for");
    }

    #[test]
    fn what_cannot_work_is_said() {
        let config = parse(
            "api: { certificate: /x, limits: { burst: 0 }, webhooks: { targets: ['https://x/y'] }, syslog: { address: siem, facility: 99 } }\n",
        )
        .unwrap();
        let faults: Vec<String> = config
            .check()
            .iter()
            .map(|fault| fault.key.clone())
            .collect();
        assert_eq!(
            faults,
            [
                "api.certificate",
                "api.limits.burst",
                "api.webhooks.targets",
                "api.syslog.address",
                "api.syslog.facility"
            ]
        );
    }
}
