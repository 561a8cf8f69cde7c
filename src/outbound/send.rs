//! One request to a target: resolved once, the address decided about, connected to that address. No
//! redirects, no proxies, no credentials but the signature.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::{Target, Targets};

/// A target answers within this, all in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of an answer's body is read, bytes: only its status counts.
const ANSWER: usize = 16 << 10;

/// Whose certificates are believed.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// The system's authorities, and those of a file.
    pub fn load(authorities: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = authorities {
            let shown = path.display();
            for certificate in CertificateDer::pem_file_iter(path)
                .with_context(|| format!("reading the authorities of {shown}"))?
            {
                let certificate = certificate.with_context(|| format!("{shown}"))?;
                roots.add(certificate).with_context(|| format!("{shown}"))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// A connection to `host`, which `stream` has reached.
    pub async fn wrap(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())?;
        self.0
            .connect(name, stream)
            .await
            .with_context(|| format!("TLS with {host}"))
    }
}

/// Sends a POST and returns the status of its answer, whatever it is.
pub async fn post(
    targets: &Targets,
    trust: &Trust,
    target: &Target,
    headers: &[(&'static str, String)],
    body: String,
) -> anyhow::Result<u16> {
    let work = async {
        let address = resolve(targets, target).await?;
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let request = request(target, headers, body)?;
        if target.tls {
            exchange(trust.wrap(&target.host, stream).await?, request).await
        } else {
            exchange(stream, request).await
        }
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()))?
}

/// The first address of the target that may be connected to.
async fn resolve(targets: &Targets, target: &Target) -> anyhow::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, target.port)],
        Err(_) => tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .with_context(|| format!("looking up {}", target.host))?
            .collect(),
    };
    let mut refused = None;
    for address in addresses {
        match targets.admit(address.ip()) {
            Ok(()) => return Ok(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(error.into()),
        None => anyhow::bail!("{} has no address", target.host),
    }
}

fn request(
    target: &Target,
    headers: &[(&'static str, String)],
    body: String,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let url = &target.url;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut host = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        host.push_str(&format!(":{port}"));
    }
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("greenroom/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, super::message::MEDIA_TYPE);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talk = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // Read, so that a well-behaved target is not cut off; how it ends does not matter.
        let _ = Limited::new(response.into_body(), ANSWER).collect().await;
        anyhow::Ok(status)
    };
    let status = answer.await;
    talk.abort();
    status
}
