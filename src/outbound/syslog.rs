//! The syslog stream for a SIEM: RFC 5424 messages of the audit log and of runs' events, over UDP
//! (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1) or TLS (RFC 5425).
//!
//! Each table is read from a stored place on. Over TCP and TLS what the collector was sent before it
//! went away may be lost, as the protocol has no acknowledgement; the audit records' `seq` shows gaps.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Outbound;
use crate::access::ledger::Record;
use crate::store::pages::{self, EventOfClient, WhichEvents};
use crate::store::{StoreError, audit, meta};
use crate::vocab::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Host and port.
    pub address: String,
    pub transport: Transport,
    /// RFC 5424, table 1.
    pub facility: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// Looks by itself so often.
const PULSE: Duration = Duration::from_secs(1);
/// Longest wait for a collector that is away.
const LONGEST: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);
const BATCH: i64 = 100;
/// Our structured data, with the number that RFC 5612 reserves for what has no own one.
const SD_ID: &str = "greenroom@32473";

/// This host's name.
static HOST: LazyLock<String> =
    LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default());

/// Severities of RFC 5424, table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// One message, without framing.
pub fn format(
    facility: u8,
    severity: Severity,
    at: Timestamp,
    kind: &str,
    fields: &[(&str, String)],
    text: &str,
) -> String {
    let priority = u32::from(facility) * 8 + severity as u32;
    let data: String = fields
        .iter()
        .map(|(name, value)| format!(" {name}=\"{}\"", escaped(value)))
        .collect();
    format!(
        "<{priority}>1 {at} {} greenroom {} {} [{SD_ID}{data}] \u{feff}{}",
        word(&HOST, 255),
        std::process::id(),
        word(kind, 32),
        plain(text)
    )
}

/// Printable ASCII, at most so many characters; `-` for nothing.
fn word(text: &str, most: usize) -> String {
    let clean: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(most)
        .collect();
    if clean.is_empty() { "-".into() } else { clean }
}

/// Without control characters, which could end a message and begin a forged one.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1000)
        .collect()
}

fn escaped(value: &str) -> String {
    let mut out = String::new();
    for c in plain(value).chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

pub fn of_audit(facility: u8, record: &Record) -> String {
    let entry = &record.entry;
    let severity = match entry.status {
        0 => Severity::Info,
        200..=299 => Severity::Notice,
        500.. => Severity::Error,
        _ => Severity::Warning,
    };
    let fields = [
        ("seq", record.seq.to_string()),
        ("hash", record.hash.to_string()),
        ("request", entry.request.clone()),
        ("who", entry.who.clone()),
        ("origin", entry.origin.clone()),
        ("role", entry.role.clone()),
        ("client", entry.client.clone()),
        ("action", entry.action.clone()),
        ("status", entry.status.to_string()),
    ];
    let text = format!("{} {}", entry.subject, entry.detail);
    format(facility, severity, entry.at, "audit", &fields, text.trim())
}

pub fn of_event(facility: u8, told: &EventOfClient) -> String {
    let event = &told.event;
    let severity = match event.kind.as_str() {
        kind if kind.contains("failed") || kind.contains("held") => Severity::Warning,
        _ => Severity::Info,
    };
    let fields = [
        ("event", event.id.to_string()),
        ("run", event.run.to_string()),
        ("chain", told.chain.clone()),
        ("device", told.device.clone()),
        ("client", told.client.clone()),
    ];
    format(
        facility,
        severity,
        event.at,
        &event.kind,
        &fields,
        &event.message,
    )
}

/// Tells without end.
pub async fn tell(outbound: Arc<Outbound>, collector: Collector) {
    let mut pause = PULSE;
    loop {
        match connected(&outbound, &collector, &mut pause).await {
            Ok(never) => match never {},
            Err(error) => {
                tracing::warn!(collector = %collector.address, error = %format!("{error:#}"), wait_s = pause.as_secs(), "the syslog collector is away");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}

enum Line {
    Datagrams(UdpSocket),
    Stream(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Line {
    async fn open(outbound: &Outbound, collector: &Collector) -> anyhow::Result<Self> {
        let address = collector.address.as_str();
        if collector.transport == Transport::Udp {
            let target = tokio::net::lookup_host(address)
                .await?
                .next()
                .with_context(|| format!("{address} has no address"))?;
            let any = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(target).await?;
            return Ok(Self::Datagrams(socket));
        }
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
        if collector.transport == Transport::Tcp {
            return Ok(Self::Stream(Box::new(stream)));
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        let stream = tokio::time::timeout(PATIENCE, outbound.trust.wrap(host, stream)).await??;
        Ok(Self::Stream(Box::new(stream)))
    }

    async fn send(&mut self, message: &str) -> anyhow::Result<()> {
        match self {
            Self::Datagrams(socket) => {
                socket.send(message.as_bytes()).await?;
            }
            Self::Stream(stream) => {
                let framed = format!("{} {message}", message.len());
                let write = async {
                    stream.write_all(framed.as_bytes()).await?;
                    stream.flush().await
                };
                tokio::time::timeout(PATIENCE, write).await??;
            }
        }
        Ok(())
    }
}

async fn connected(
    outbound: &Outbound,
    collector: &Collector,
    pause: &mut Duration,
) -> anyhow::Result<std::convert::Infallible> {
    let mut line = Line::open(outbound, collector).await?;
    let store = &outbound.store;
    let (mut audited, mut told) = {
        let mut connection = store.read().await?;
        (
            meta::cursor_get(&mut connection, "syslog_audit").await?,
            meta::cursor_get(&mut connection, "syslog_events").await?,
        )
    };
    loop {
        let (records, events) = {
            let mut connection = store.read().await?;
            (
                audit::audit_read(&mut connection, audited, BATCH).await?,
                pages::event_page(&mut connection, &WhichEvents::default(), told, BATCH).await?,
            )
        };
        for record in &records {
            line.send(&of_audit(collector.facility, record)).await?;
            audited = record.seq;
        }
        for event in &events {
            line.send(&of_event(collector.facility, event)).await?;
            told = event.event.id;
        }
        *pause = PULSE;
        if !records.is_empty() || !events.is_empty() {
            keep(outbound, audited, told).await?;
            continue;
        }
        tokio::select! {
            () = outbound.log_news.notified() => {}
            () = tokio::time::sleep(PULSE) => {}
        }
    }
}

async fn keep(outbound: &Outbound, audited: i64, told: i64) -> Result<(), StoreError> {
    let write = outbound.store.write(move |connection| {
        Box::pin(async move {
            meta::cursor_set(connection, "syslog_audit", audited).await?;
            meta::cursor_set(connection, "syslog_events", told).await
        })
    });
    write.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_form_of_rfc_5424_whatever_it_says() {
        let fields = [("who", "user:\"eve\" ]\\\n<13>1".to_owned())];
        let at = Timestamp(1_700_000_000_123_000);
        let text = format(13, Severity::Warning, at, "odd kind", &fields, "one\ntwo");
        assert!(
            text.starts_with("<108>1 2023-11-14T22:13:20.123Z "),
            "{text}"
        );
        assert!(!text.contains('\n'));
        let (head, rest) = text.split_once(" [").unwrap();
        assert_eq!(head.split(' ').count(), 6, "{head}");
        assert!(head.ends_with(" oddkind"));
        assert_eq!(
            rest,
            "greenroom@32473 who=\"user:\\\"eve\\\" \\]\\\\ <13>1\"] \u{feff}one two"
        );
    }
}
