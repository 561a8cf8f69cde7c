//! A strict Redfish BMC with one machine, over real sockets on the loopback. It accepts what the standard
//! demands and nothing else: unusual paths that cannot be guessed, a session, `If-Match`, JSON. And it can
//! misbehave in one way at a time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use greenroom::web::tls::{self, Certificate};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

pub const USER: &str = "greenroom";
pub const PASSWORD: &str = "correct horse";

/// How it misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// No sessions: each request carries the password.
    Basic,
    /// Reading the system leads to another address.
    Elsewhere(String),
    /// Changes lead to another path of its own.
    MovesChanges,
    /// Reading leads to the same path again.
    Circle,
    /// The root's link to the systems is an address of another host.
    ForeignLink,
    /// 8 MiB of a valid document.
    Giant,
    /// Answers the head, and a byte now and then for ever.
    Drips,
    /// Says nothing.
    Silent,
    /// A page for people.
    Garbage,
    /// Half a document.
    Cut,
    /// Refuses each change: somebody else was quicker.
    AlwaysChanged,
    /// Somebody else is quicker the first time.
    ChangedOnce,
    /// Gives weak tags and compares them strongly.
    WeakTags,
    /// Accepts a boot override and forgets it.
    Forgets,
    /// Takes boot overrides at the settings object only.
    Settings,
    /// Knows overrides only until they are changed.
    Continuous,
    /// Accepts a switch and does nothing.
    Deaf,
    /// Is busy with its own start.
    Busy,
    /// Two machines.
    Two,
}

pub struct State {
    pub manner: Manner,
    pub on: bool,
    pub boot: Value,
    pub password: String,
    /// Method and path of all requests, with how they were authorised.
    pub asked: Vec<(String, String, &'static str)>,
    pub sessions: BTreeSet<String>,
    /// Switched off, and on.
    pub switched: (u32, u32),
    made: u64,
    version: u64,
}

/// A BMC at work.
#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

const SYSTEM: &str = "/redfish/v1/cs-7f3a/a9";

impl Fake {
    pub async fn open(manner: Manner) -> Self {
        Self::serve(manner, None).await
    }

    /// With a certificate that nobody signed but itself.
    pub async fn open_tls(manner: Manner, folder: &Path) -> Self {
        let own = Certificate::Own {
            folder: folder.to_owned(),
            names: vec!["127.0.0.1".into()],
        };
        Self::serve(manner, Some(tls::acceptor(&own).unwrap())).await
    }

    async fn serve(manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            manner,
            on: true,
            boot: json!({ "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI" }),
            password: PASSWORD.into(),
            asked: Vec::new(),
            sessions: BTreeSet::new(),
            switched: (0, 0),
            made: 0,
            version: 1,
        }));
        let fake = Self { address, state };
        let serving = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fake, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => fake.talk(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                fake.talk(stream).await;
                            }
                        }
                    }
                });
            }
        });
        fake
    }

    async fn talk(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let answer = service_fn(move |request| {
            let fake = self.clone();
            async move { Ok::<_, hyper::Error>(fake.answer(request).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn asked(&self) -> usize {
        self.with(|state| state.asked.len())
    }

    /// Nothing was asked for that no answer had named, and no session was left open.
    pub fn is_satisfied(&self) {
        self.with(|state| {
            assert!(state.sessions.is_empty(), "left open: {:?}", state.sessions);
            let strange: Vec<_> = state
                .asked
                .iter()
                .filter(|(_, path, _)| path.starts_with("?"))
                .collect();
            assert!(strange.is_empty(), "guessed: {strange:?}");
        });
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let (method, path) = (head.method.as_str().to_owned(), head.uri.path().to_owned());
        let header = |name: &str| {
            let value = head.headers.get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        assert_eq!(header("host"), Some(self.address.to_string()));
        let manner = self.with(|state| state.manner.clone());
        if path == SYSTEM && method == "GET" {
            match manner {
                Manner::Silent => std::future::pending().await,
                Manner::Drips => return drips(),
                _ => {}
            }
        }
        let document: Option<Value> = serde_json::from_slice(&bytes).ok();
        if !bytes.is_empty() {
            assert_eq!(header("content-type").as_deref(), Some("application/json"));
            assert!(document.is_some(), "a body that is no JSON");
        }
        let asked = Asked {
            method,
            path,
            authorization: header("authorization"),
            token: header("x-auth-token"),
            if_match: header("if-match"),
            body: document.unwrap_or(Value::Null),
        };
        let (status, headers, body) = self.with(|state| state.judge(&asked));
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(full(body)).unwrap()
    }
}

fn full(body: Vec<u8>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn drips() -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let drops = futures::stream::repeat(()).then(|()| async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Ok(Frame::data(Bytes::from_static(b" ")))
    });
    Response::new(BodyExt::boxed_unsync(StreamBody::new(
        drops.boxed().map(|drop| drop),
    )))
}

struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    token: Option<String>,
    if_match: Option<String>,
    body: Value,
}

type Said = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn said(status: u16, body: &Value) -> Said {
    (
        status,
        vec![("content-type", "application/json".into())],
        body.to_string().into_bytes(),
    )
}

fn complains(status: u16, message: &str) -> Said {
    said(
        status,
        &json!({ "error": { "code": "Base.1.0.GeneralError", "message": message } }),
    )
}

impl State {
    fn tag(&self) -> String {
        match self.manner {
            Manner::WeakTags => format!("W/\"{}\"", self.version),
            _ => format!("\"{}\"", self.version),
        }
    }

    fn basic(&self) -> String {
        use base64::Engine as _;
        let pair = format!("{USER}:{}", self.password);
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        )
    }

    fn judge(&mut self, asked: &Asked) -> Said {
        let by = match (&asked.token, &asked.authorization) {
            (Some(_), _) => "session",
            (None, Some(_)) => "basic",
            (None, None) => "nobody",
        };
        let (method, path) = (asked.method.as_str(), asked.path.as_str());
        self.asked
            .push((asked.method.clone(), asked.path.clone(), by));
        if (method, path) == ("GET", "/redfish/v1/") {
            return said(200, &self.root());
        }
        if (method, path) == ("POST", "/redfish/v1/ss/here") && self.manner != Manner::Basic {
            let right = asked.body == json!({ "UserName": USER, "Password": self.password });
            if !right {
                return complains(401, "wrong user or password");
            }
            self.made += 1;
            let token = format!("token-{}", self.made);
            self.sessions.insert(token.clone());
            let (status, mut headers, body) = said(201, &json!({}));
            headers.push(("location", format!("/redfish/v1/ss/here/{token}")));
            headers.push(("x-auth-token", token));
            return (status, headers, body);
        }
        let is_known = match self.manner {
            Manner::Basic => asked.authorization.as_ref() == Some(&self.basic()),
            _ => asked
                .token
                .as_ref()
                .is_some_and(|token| self.sessions.contains(token)),
        };
        if !is_known {
            return complains(401, "who are you?");
        }
        self.admitted(asked)
    }

    fn admitted(&mut self, asked: &Asked) -> Said {
        let path = asked.path.as_str();
        if let Some(token) = path.strip_prefix("/redfish/v1/ss/here/") {
            assert_eq!(asked.method, "DELETE");
            self.sessions.remove(token);
            return (204, Vec::new(), Vec::new());
        }
        match (asked.method.as_str(), path) {
            ("GET", "/redfish/v1/cs-7f3a") => said(
                200,
                &json!({ "Members": [{ "@odata.id": SYSTEM }], "Members@odata.nextLink": "/redfish/v1/cs-7f3a/more" }),
            ),
            ("GET", "/redfish/v1/cs-7f3a/more") => {
                let members = match self.manner {
                    Manner::Two => json!([{ "@odata.id": "/redfish/v1/cs-7f3a/b0" }]),
                    _ => json!([]),
                };
                said(200, &json!({ "Members": members }))
            }
            ("GET", "/redfish/v1/cs-7f3a/b0") => said(
                200,
                &json!({ "Id": "b0", "Name": "the other", "PowerState": "Off" }),
            ),
            ("GET", SYSTEM) => self.system(),
            ("GET", "/redfish/v1/cs-7f3a/a9/rai") => said(
                200,
                &json!({ "Parameters": [{ "Name": "ResetType", "AllowableValues": ["On", "ForceOff", "GracefulShutdown", "ForceRestart"] }] }),
            ),
            ("PATCH", SYSTEM | "/redfish/v1/cs-7f3a/a9/pending") => self.patch(asked),
            ("GET", "/redfish/v1/cs-7f3a/a9/pending") => said(
                200,
                &json!({ "@odata.etag": self.tag(), "Boot": self.boot }),
            ),
            ("POST", "/redfish/v1/cs-7f3a/a9/act/r") => self.reset(asked),
            ("GET", "/redfish/v1/vm-1") => said(
                200,
                &json!({ "Members": [{ "@odata.id": "/redfish/v1/vm-1/usb" }, { "@odata.id": "/redfish/v1/vm-1/cd" }] }),
            ),
            ("GET", "/redfish/v1/vm-1/usb") => said(
                200,
                &json!({ "MediaTypes": ["USBStick"], "Inserted": false }),
            ),
            ("GET", "/redfish/v1/vm-1/cd") => said(
                200,
                &json!({
                    "MediaTypes": ["CD", "DVD"], "Inserted": !self.boot["image"].is_null(), "Image": self.boot["image"],
                    "Actions": { "#VirtualMedia.InsertMedia": { "target": "/redfish/v1/vm-1/cd/in" }, "#VirtualMedia.EjectMedia": { "target": "/redfish/v1/vm-1/cd/out" } }
                }),
            ),
            ("POST", "/redfish/v1/vm-1/cd/in") if !self.boot["image"].is_null() => {
                complains(409, "there is one in it")
            }
            ("POST", "/redfish/v1/vm-1/cd/in") => {
                self.boot["image"] = asked.body["Image"].clone();
                (204, Vec::new(), Vec::new())
            }
            ("POST", "/redfish/v1/vm-1/cd/out") => {
                self.boot["image"] = Value::Null;
                (204, Vec::new(), Vec::new())
            }
            _ => {
                if let Some(last) = self.asked.last_mut() {
                    last.1 = format!("?{path}");
                }
                complains(404, "nobody told you of this path")
            }
        }
    }

    fn root(&self) -> Value {
        let systems = match self.manner {
            Manner::ForeignLink => "http://evil.example/redfish/v1/Systems",
            _ => "/redfish/v1/cs-7f3a",
        };
        let mut root = json!({ "RedfishVersion": "1.15.0", "Vendor": "Fake", "Systems": { "@odata.id": systems } });
        if self.manner != Manner::Basic {
            root["Links"] = json!({ "Sessions": { "@odata.id": "/redfish/v1/ss/here" } });
        }
        root
    }

    fn system(&mut self) -> Said {
        let mut boot = self.boot.clone();
        boot["BootSourceOverrideTarget@Redfish.AllowableValues"] =
            json!(["None", "Pxe", "Hdd", "Cd"]);
        if self.manner == Manner::Continuous {
            boot["BootSourceOverrideEnabled@Redfish.AllowableValues"] =
                json!(["Disabled", "Continuous"]);
        }
        if self.manner == Manner::Settings {
            boot = json!({ "BootSourceOverrideEnabled": "Disabled" });
        }
        let mut system = json!({
            "@odata.id": SYSTEM, "Id": "a9", "Name": "web", "UUID": "38947555-7742-3448-3784-823347823834",
            "PowerState": if self.on { "On" } else { "Off" }, "Boot": boot,
            "VirtualMedia": { "@odata.id": "/redfish/v1/vm-1" },
            "Actions": { "#ComputerSystem.Reset": { "target": "/redfish/v1/cs-7f3a/a9/act/r", "@Redfish.ActionInfo": "/redfish/v1/cs-7f3a/a9/rai" } }
        });
        if self.manner == Manner::Settings {
            system["@Redfish.Settings"] =
                json!({ "SettingsObject": { "@odata.id": "/redfish/v1/cs-7f3a/a9/pending" } });
        }
        match &self.manner {
            Manner::Elsewhere(place) => {
                return (
                    302,
                    vec![("location", format!("{place}/redfish/v1/Systems/1"))],
                    Vec::new(),
                );
            }
            Manner::Circle => return (307, vec![("location", SYSTEM.into())], Vec::new()),
            Manner::Garbage => {
                return (
                    200,
                    Vec::new(),
                    b"<html><title>Log in</title></html>".to_vec(),
                );
            }
            Manner::Cut => {
                let text = system.to_string();
                return (200, Vec::new(), text.as_bytes()[..text.len() / 2].to_vec());
            }
            Manner::Giant => system["Oem"] = json!("x".repeat(8 << 20)),
            _ => {}
        }
        let (status, mut headers, body) = said(200, &system);
        headers.push(("etag", self.tag()));
        (status, headers, body)
    }

    fn patch(&mut self, asked: &Asked) -> Said {
        let is_settings = asked.path.ends_with("/pending");
        match self.manner {
            Manner::Busy => return complains(503, "the machine is in POST"),
            Manner::MovesChanges => {
                return (
                    307,
                    vec![("location", "/redfish/v1/cs-7f3a/a9/pending".into())],
                    Vec::new(),
                );
            }
            Manner::Settings if !is_settings => return complains(405, "use the settings"),
            Manner::AlwaysChanged => self.version += 1,
            Manner::ChangedOnce if self.version == 1 => self.version += 1,
            _ => {}
        }
        let Some(tag) = &asked.if_match else {
            return complains(428, "If-Match is needed");
        };
        let fits = match self.manner {
            // RFC 9110, 13.1.1: the comparison is a strong one, and a weak tag never fits.
            Manner::WeakTags => *tag == format!("\"{}\"", self.version),
            _ => *tag == self.tag(),
        };
        if !fits {
            return complains(412, "it is not what you have read");
        }
        if self.manner == Manner::Forgets {
            return (204, Vec::new(), Vec::new());
        }
        self.version += 1;
        for (key, value) in asked.body["Boot"]
            .as_object()
            .expect("a change of the boot")
        {
            self.boot[key] = value.clone();
        }
        (204, Vec::new(), Vec::new())
    }

    fn reset(&mut self, asked: &Asked) -> Said {
        let word = asked.body["ResetType"].as_str().expect("a kind of reset");
        if self.manner != Manner::Deaf {
            match word {
                "On" if !self.on => self.switched.1 += 1,
                "ForceOff" | "GracefulShutdown" if self.on => self.switched.0 += 1,
                "On" | "ForceOff" | "GracefulShutdown" | "ForceRestart" => {}
                _ => return complains(400, "no such kind of reset"),
            }
            self.on = matches!(word, "On" | "ForceRestart");
        }
        (202, Vec::new(), Vec::new())
    }
}
