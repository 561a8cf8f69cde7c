//! Traces for OpenTelemetry: the spans of runs, of their actions and of requests, told to a collector by
//! OTLP over HTTP (protobuf).
//!
//! Spans are gathered and sent by the SDK's own thread, a few hundred at once; what the collector does not
//! take is dropped, and nobody waits for it. A run's span ends when its driver does, so a run shows when
//! it is over, its actions at once.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::send::Trust;
use crate::blocking;

/// A collector answers within this; also how long an end waits for what was not sent yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// What of an answer is read, bytes: a collector says how many spans it refused.
const ANSWER: usize = 64 << 10;

/// Where traces go, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Collector {
    /// Such as `http://127.0.0.1:4318`; the path of OTLP is added where there is none.
    pub endpoint: String,
    /// Share of runs and requests that are traced, 0 to 1.
    pub sample: f64,
}

/// Sends what it is told.
#[derive(Debug, Clone)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To be called within the runtime that is to do the sending. `authorities`: a file of further
    /// certificate authorities, PEM.
    pub fn to(collector: &Collector, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let sender = Sender {
            runtime: Handle::current(),
            trust: Trust::load(authorities)?,
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(with_path(&collector.endpoint))
            .with_timeout(PATIENCE)
            .with_http_client(sender)
            .build()?;
        let about = Resource::builder().with_service_name("greenroom").build();
        // What a run does is traced with it or not at all.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(collector.sample)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(about)
            .with_sampler(sampler)
            .build();
        Ok(Self(provider))
    }

    /// To be put beside the log. Our own spans only: those of libraries tell of the sending too.
    pub fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("greenroom"))
            .with_filter(Targets::new().with_target("greenroom", LevelFilter::DEBUG))
            .boxed()
    }

    /// Sends what is left.
    pub async fn end(self) {
        let ended = blocking::run(move || self.0.shutdown_with_timeout(PATIENCE)).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// OTLP's own path for traces (OTLP specification 1.9, "OTLP/HTTP request"), unless a path is given.
fn with_path(endpoint: &str) -> String {
    let path = endpoint.parse::<Uri>();
    let has_path = path.is_ok_and(|uri| uri.path().len() > 1);
    match has_path {
        true => endpoint.to_owned(),
        false => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
    }
}

/// The SDK's thread has no reactor, so the exchange is a task of ours and the thread waits for it.
#[derive(Clone)]
struct Sender {
    runtime: Handle,
    trust: Trust,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = reach(self.trust.clone(), request);
        // The clock of a timeout is the runtime's too, so it is made in there.
        let task = self
            .runtime
            .spawn(async move { tokio::time::timeout(PATIENCE, exchange).await });
        task.await??
    }
}

async fn reach(trust: Trust, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let authority = parts
        .uri
        .authority()
        .ok_or("the collector has no name")?
        .clone();
    let is_tls = parts.uri.scheme_str() == Some("https");
    let port = authority
        .port_u16()
        .unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    parts
        .headers
        .insert(HOST, HeaderValue::from_str(authority.as_str())?);
    parts.uri = parts.uri.path().parse()?;
    let request = Request::from_parts(parts, Full::new(body));
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if is_tls {
        exchange(trust.wrap(&host, stream).await?, request).await
    } else {
        exchange(stream, request).await
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talk = tokio::spawn(connection);
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
        Ok::<_, HttpError>(Response::from_parts(parts, body))
    };
    let answer = answer.await;
    talk.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_otlp_is_added_where_there_is_none() {
        assert_eq!(with_path("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(with_path("http://c:4318/"), "http://c:4318/v1/traces");
        assert_eq!(with_path("https://c/otlp/traces"), "https://c/otlp/traces");
    }
}
