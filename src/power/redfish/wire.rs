//! Requests to one BMC and its answers: one host, one connection, bounded in time and size.
//!
//! Redirects are followed for reading only, and only to the same host: a BMC that is somebody else's by now
//! could have the password sent anywhere. There are no proxies and no cookies.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::read::{Link, complaint, etag};
use super::tls::Judge;
use crate::power::{Limits, PowerError, quoted};
use crate::vocab::power::BmcTrust;

/// Redirects within the BMC that are followed for one request.
const MOST_HOPS: usize = 3;

/// The host part of a BMC's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Place {
    /// `https://host[:port][/]`; `http` where a person said that it is insecure.
    pub fn parse(text: &str, trust: &BmcTrust) -> Result<Self, String> {
        if text.len() > 1024 || text.chars().any(char::is_control) {
            return Err("an address has at most 1024 characters, and no control characters".into());
        }
        let url = Url::parse(text).map_err(|error| {
            format!("{text:?} is not an address such as https://bmc-7.example: {error}")
        })?;
        let tls = match (url.scheme(), trust) {
            ("https", _) => true,
            ("http", BmcTrust::Insecure) => false,
            ("http", _) => {
                return Err(
                    "http would send the password in the clear; use https, or say --insecure"
                        .into(),
                );
            }
            (scheme, _) => return Err(format!("the scheme {scheme:?} is not https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "an address must not hold a user or a password; say --user and --password-file"
                    .into(),
            );
        }
        let is_bare = matches!(
            url.path(),
            "" | "/" | "/redfish" | "/redfish/" | "/redfish/v1" | "/redfish/v1/"
        );
        if !is_bare || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "{text:?} has a path; give the host only, and the system with --system"
            ));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(format!("{text:?} names no host"));
        };
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
        })
    }

    /// For the Host header.
    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The path that a Location names, where it is on this very host.
    pub fn own(&self, location: &str) -> Result<Link, PowerError> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Link::parse(location);
        }
        let same = Url::parse(location).ok().filter(|url| {
            (url.scheme() == "https") == self.tls
                && url.host_str().map(|host| host.trim_matches(['[', ']'])) == Some(&*self.host)
                && url.port_or_known_default() == Some(self.port)
        });
        match same {
            Some(url) => Link::parse(&match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            }),
            None => Err(PowerError::Untrusted(format!(
                "the BMC sends us elsewhere, to {:?}; it was not followed. If it moved, set its address anew",
                quoted(location)
            ))),
        }
    }
}

/// How requests say who asks.
pub enum Auth {
    Nobody,
    Basic(Zeroizing<String>),
    Session(Zeroizing<String>),
}

impl Auth {
    pub fn basic(user: &str, password: &str) -> Self {
        let pair = Zeroizing::new(format!("{user}:{password}"));
        Self::Basic(Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair))))
    }

    fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Self::Nobody => return None,
            Self::Basic(text) => (header::AUTHORIZATION, text),
            Self::Session(text) => (header::HeaderName::from_static("x-auth-token"), text),
        };
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null where there is none, or none that is JSON in an answer that needs none.
    pub body: Value,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn etag(&self) -> Option<String> {
        self.header("etag").and_then(etag)
    }

    /// What went wrong, for a person.
    pub fn says(&self) -> String {
        match complaint(&self.body) {
            Some(said) => format!("HTTP {}: {said}", self.status),
            None => format!("HTTP {}", self.status),
        }
    }
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    talk: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

/// The connection to one BMC.
pub struct Wire {
    place: Place,
    judge: Arc<Judge>,
    tls: TlsConnector,
    limits: Limits,
    pub auth: Auth,
    open: Option<Open>,
}

impl Wire {
    pub fn new(place: Place, trust: &BmcTrust, limits: Limits) -> Result<Self, PowerError> {
        let judge = Judge::new(trust)?;
        Ok(Self {
            tls: judge.connector()?,
            judge,
            place,
            limits,
            auth: Auth::Nobody,
            open: None,
        })
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Sends a request and reads its whole answer, whatever its status is.
    pub async fn ask(
        &mut self,
        method: Method,
        link: &Link,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, PowerError> {
        let patience = self.limits.patience;
        let asked = tokio::time::timeout(
            patience,
            self.ask_following(method.clone(), link, body, if_match),
        )
        .await;
        let result = asked.unwrap_or_else(|_| {
            Err(PowerError::Unreachable(format!(
                "the BMC did not answer {method} {link} within {} ms",
                patience.as_millis()
            )))
        });
        if result.is_err() {
            // Half an answer may be on its way.
            self.open = None;
        }
        result
    }

    async fn ask_following(
        &mut self,
        method: Method,
        link: &Link,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, PowerError> {
        let mut link = link.clone();
        for _ in 0..=MOST_HOPS {
            let request = self.request(&method, &link, body, if_match)?;
            let response = self.send(request).await?;
            if !response.status().is_redirection() {
                return self.read(&method, &link, response).await;
            }
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let next = self.place.own(&location)?;
            if method != Method::GET {
                return Err(PowerError::Untrusted(format!(
                    "the BMC redirects {method} {link} to {next}; changes are not sent anywhere else"
                )));
            }
            self.open = None;
            link = next;
        }
        Err(PowerError::Untrusted(format!(
            "the BMC redirects {method} {link} in a circle"
        )))
    }

    fn request(
        &self,
        method: &Method,
        link: &Link,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, PowerError> {
        let mut request = Request::builder()
            .method(method)
            .uri(link.as_str())
            .header(header::HOST, self.place.authority())
            .header(
                header::USER_AGENT,
                concat!("greenroom/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, "application/json")
            .header("odata-version", "4.0");
        if let Some((name, value)) = self.auth.header() {
            request = request.header(name, value);
        }
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(bytes)).map_err(|error| {
            PowerError::Refused(format!("{method} {link} cannot be asked: {error}"))
        })
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, PowerError> {
        let kept = match self.open.take() {
            Some(mut open) => open.sender.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut open = match kept {
            Some(open) => open,
            None => self.connect().await?,
        };
        let said = open.sender.send_request(request).await;
        let response = said.map_err(|error| {
            PowerError::Unreachable(format!("the BMC broke off the connection: {error}"))
        })?;
        self.open = Some(open);
        Ok(response)
    }

    async fn connect(&self) -> Result<Open, PowerError> {
        let Place { host, port, tls } = &self.place;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| {
                PowerError::Unreachable(format!(
                    "the BMC cannot be reached at {host}:{port}: {error}"
                ))
            })?;
        let _ = stream.set_nodelay(true);
        if !tls {
            return Self::shake(stream).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            PowerError::Untrusted(format!("{host:?} is not a name for a certificate"))
        })?;
        let stream = self.tls.connect(name, stream).await;
        Self::shake(stream.map_err(|error| self.distrust(&error))?).await
    }

    fn distrust(&self, error: &std::io::Error) -> PowerError {
        let is_about_certificate = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
        match self.judge.shown().filter(|_| is_about_certificate) {
            Some(shown) => PowerError::Untrusted(format!(
                "the BMC's certificate is not the expected one ({error}); the password was not sent. It shows SHA-256 {shown}: compare that at the BMC itself, and if it is right say --fingerprint {shown}"
            )),
            None => PowerError::Unreachable(format!("TLS with the BMC failed: {error}")),
        }
    }

    async fn shake<S>(stream: S) -> Result<Open, PowerError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| PowerError::Unreachable(format!("the BMC speaks no HTTP: {error}")))?;
        // How it ends is told by the request that it ends.
        let talk = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Open { sender, talk })
    }

    async fn read(
        &self,
        method: &Method,
        link: &Link,
        response: Response<Incoming>,
    ) -> Result<Answer, PowerError> {
        let (head, body) = response.into_parts();
        let most = self.limits.answer_bytes;
        let bytes = Limited::new(body, most)
            .collect()
            .await
            .map_err(|error| {
                PowerError::Unreachable(format!(
                    "the BMC's answer to {method} {link} cannot be read, or has more than {most} bytes: {error}"
                ))
            })?
            .to_bytes();
        let status = head.status.as_u16();
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            // What is asked for has to come. What is told needs no answer but the status.
            Err(error) if *method == Method::GET && status == 200 => {
                return Err(PowerError::Unreachable(format!(
                    "the BMC's answer to {method} {link} is no JSON: {error}"
                )));
            }
            Err(_) => Value::Null,
        };
        Ok(Answer {
            status,
            headers: head.headers,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_says_how_it_is_reached() {
        let place = |text: &str, trust| Place::parse(text, trust);
        let authorities = &BmcTrust::Authorities;
        let found = place("https://BMC-7.example/redfish/v1", authorities).unwrap();
        assert_eq!(
            (found.host.as_str(), found.port, found.tls),
            ("bmc-7.example", 443, true)
        );
        assert_eq!(
            place("https://[fd00::7]:8443", authorities)
                .unwrap()
                .authority(),
            "[fd00::7]:8443"
        );
        assert!(place("http://10.0.0.7", &BmcTrust::Insecure).is_ok());
        for bad in [
            "http://10.0.0.7",
            "ftp://10.0.0.7",
            "10.0.0.7",
            "https://user@10.0.0.7",
            "https://u:p@10.0.0.7",
            "https://10.0.0.7/redfish/v1/Systems/1",
            "https://10.0.0.7/?x",
            "https://10.0.0.7/#x",
            "https://10.0.0.7/\n",
        ] {
            assert!(place(bad, authorities).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_location_elsewhere_is_not_a_link() {
        let place = Place::parse("https://10.0.0.7:8443", &BmcTrust::Authorities).unwrap();
        for (location, path) in [
            ("/redfish/v1/", "/redfish/v1/"),
            (
                "https://10.0.0.7:8443/redfish/v1/Sessions/3",
                "/redfish/v1/Sessions/3",
            ),
        ] {
            assert_eq!(place.own(location).unwrap().as_str(), path);
        }
        for location in [
            "https://10.0.0.8:8443/redfish/v1/",
            "https://10.0.0.7/redfish/v1/",
            "http://10.0.0.7:8443/redfish/v1/",
            "//10.0.0.8/redfish/v1/",
            "\\\\10.0.0.8\\x",
            "redfish/v1",
            "",
        ] {
            let refused = place.own(location).unwrap_err();
            assert!(matches!(refused, PowerError::Untrusted(_)), "{location}");
        }
    }
}
