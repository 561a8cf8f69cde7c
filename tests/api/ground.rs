//! A daemon with its API on loopback, and a plain HTTPS client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request};
use greenroom::access::pace::Rate;
use greenroom::api::{
    ApplyChain, BuildTemplate, Client, CreateToken, PutDevice, StartRun, WhichClass,
};
use greenroom::config::BootConfig;
use greenroom::daemon::Running;
use greenroom::fault::Faults;
use greenroom::netboot::desk::Desk;
use greenroom::outbound::{self, Outbound};
use greenroom::power::Limits;
use greenroom::power::hands::RemoteHands;
use greenroom::store::{boot, devices};
use greenroom::vocab::access::Role;
use greenroom::vocab::boot::{BootDevice, BootEvent, BootPhase, Trust};
use greenroom::web::{self, Doors, NetworkDoor, tls};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::support::house::House;

pub const CHAIN: &str = "\
chain: hello
stages:
  - name: greet
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo greetings
    output: { format: none }
";

pub const PERSONA: &str = "persona: plain\n";

pub const RULES: &str = "\
persona_rules:
  - name: none
    when: device.role | default('') == 'none'
    persona: plain
    priority: 10
";

pub struct Ground {
    pub house: House,
    pub running: Running,
    pub address: SocketAddr,
    /// Through the Unix socket: an admin.
    pub local: Client,
    tls: TlsConnector,
    stop: CancellationToken,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.stop();
    }
}

impl Ground {
    pub async fn new() -> Self {
        Self::with(outbound::Settings::default(), |_| {}).await
    }

    pub async fn with(outbound: outbound::Settings, change: impl FnOnce(&mut Doors)) -> Self {
        Self::on(House::new(), outbound, change).await
    }

    /// Where machines wait before they are asked for.
    pub async fn with_pool(outbound: outbound::Settings) -> Self {
        Self::on(House::new().with_pool(0), outbound, |_| {}).await
    }

    async fn on(
        house: House,
        mut outbound: outbound::Settings,
        change: impl FnOnce(&mut Doors),
    ) -> Self {
        let running = house.daemon(Faults::none()).await;
        let state = house.state.path();
        let folder = state.join("tls");
        let acceptor = tls::acceptor(&tls::Certificate::Own {
            folder: folder.clone(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
        })
        .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let stop = CancellationToken::new();
        outbound
            .authorities
            .get_or_insert(folder.join("self-signed.pem"));
        let outbound = Outbound::new(
            outbound,
            running.services.store.clone(),
            running.services.clock.clone(),
            running.services.deployment,
        )
        .expect("outbound");
        outbound.start(running.services.live.clone(), &stop);
        let api = web::State {
            services: running.services.clone(),
            dispatch: running.dispatch.clone(),
            pool: running.pool.clone(),
            demand: running.demand.clone(),
            images: running.images.clone(),
            reconciler: running.reconciler.clone(),
            outbound,
            // Only asked: nothing listens for devices.
            netboot: Some(Desk::new(
                running.services.clone(),
                running.dispatch.clone(),
                running.images.clone(),
                BootConfig {
                    consoles: Some(state.join("device-consoles")),
                    ..BootConfig::default()
                }
                .settings(state),
            )),
            power: RemoteHands::new(
                running.services.store.clone(),
                running.services.clock.clone(),
                state.join("bmc"),
                Limits::default(),
            ),
        };
        let socket = state.join("s");
        let mut doors = Doors::local(&socket);
        doors.network = Some(NetworkDoor {
            listener,
            tls: acceptor,
        });
        doors.limits.rate = Rate {
            per_s: 1e5,
            burst: 1000,
        };
        // Programs that test leave connections behind by the hundred, and all come from one address.
        doors.limits.connections = 1 << 14;
        // As in the real daemon: nothing of the API may depend on there being no pages.
        doors.pages = Some(greenroom::pages::pages());
        change(&mut doors);
        tokio::spawn(web::serve(api, doors, stop.clone()));
        let local = Client::new(&socket).expect("a client");
        while local.version().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self {
            tls: trusting(&folder.join("self-signed.pem")),
            house,
            running,
            address,
            local,
            stop,
        }
    }

    pub async fn token(&self, role: Role, client: Option<&str>) -> String {
        let order = CreateToken {
            name: format!("{role} of {client:?}"),
            role,
            client: client.map(str::to_owned),
            expires_in_s: None,
        };
        let created = self.local.token_create(&order).await.expect("a token");
        created.secret.0
    }

    pub async fn add_device(&self, name: &str, client: &str) {
        let order = PutDevice {
            name: name.into(),
            client: Some(client.into()),
            facts: serde_json::Map::new(),
        };
        self.local.device_put(&order).await.expect("a device");
    }

    /// As if the device had come from the network and were discovered.
    pub async fn put_on_network(&self, name: &str) {
        let store = &self.running.services.store;
        let mut connection = store.read().await.expect("a connection");
        let found = devices::device_by_name(&mut connection, name).await;
        let device = found.expect("the store").expect("the device");
        drop(connection);
        let now = self.running.services.now();
        let row = BootDevice {
            phase: BootPhase::Discovered,
            next: "it waits for a chain".into(),
            ..BootDevice::registered(device.id, device.name, Trust::Network, now)
        };
        let event = BootEvent {
            id: 0,
            subject: name.to_owned(),
            at: now,
            kind: "discovered".into(),
            message: "its inventory is known".into(),
        };
        let write = store.write(move |connection| {
            Box::pin(async move {
                boot::device_put(connection, &row).await?;
                boot::event_insert(connection, &event).await
            })
        });
        write.await.expect("a row");
    }

    /// Waits for a template for a client's machines of the image `tiny`; its class.
    pub async fn warm(&self, client: &str) -> String {
        let order = BuildTemplate {
            class: WhichClass {
                of: "tiny".into(),
                trust: Some(client.into()),
                ..WhichClass::default()
            },
            force: false,
        };
        loop {
            let template = self.local.template_build(&order).await.expect("a template");
            match template.state.as_str() {
                "ready" => return template.class,
                "building" => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => panic!("{template:?}"),
            }
        }
    }

    /// Takes a machine; its key.
    pub async fn take(&self, client: &str, key: &str) -> String {
        let order = json!({ "image": "tiny", "client": client, "key": key });
        let order = serde_json::from_value(order).expect("an order");
        let taken = self.local.claim_take(&order).await.expect("an answer");
        taken.claim.expect(&taken.reason).key
    }

    /// Applies and promotes the persona `plain`, and rules that give it to nobody.
    pub async fn apply_persona(&self) {
        let order = json!({ "files": [{ "source": PERSONA }], "promote": true });
        let order = serde_json::from_value(order).expect("an order");
        self.local.persona_apply(&order).await.expect("a persona");
        let order = json!({ "source": RULES });
        let order = serde_json::from_value(order).expect("an order");
        self.local.persona_rules_apply(&order).await.expect("rules");
    }

    pub async fn apply_chain(&self) {
        let order = ApplyChain {
            source: CHAIN.into(),
            files: Default::default(),
        };
        self.local.chain_apply(&order).await.expect("a chain");
    }

    /// Starts a run of `hello` for a device and waits until it is at rest.
    pub async fn run(&self, device: &str) -> i64 {
        let order = StartRun {
            device: device.into(),
            chain: Some("hello".into()),
            ..StartRun::default()
        };
        let started = self.local.run_start(&order).await.expect("a run");
        let id = started.run.expect("a real one").id;
        while !self
            .local
            .run_show(id, false)
            .await
            .expect("the run")
            .run
            .is_at_rest()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        id
    }

    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        Ask {
            ground: self,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: Value) -> Ask<'_> {
        self.ask(Method::POST, path).json(body)
    }

    /// A connection, for who speaks HTTP by hand.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        self.tls.connect(name, stream).await.expect("TLS")
    }
}

fn trusting(pem: &std::path::Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(pem).expect("the certificate") {
        roots
            .add(certificate.expect("a certificate"))
            .expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A request.
pub struct Ask<'a> {
    ground: &'a Ground,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask<'_> {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().expect("a value"));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(mut self, body: Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", "application/json")
    }

    /// A body that is not what it says.
    pub fn text(mut self, body: String) -> Self {
        self.body = body.into();
        self
    }

    /// The head of the answer and its body as it comes.
    pub async fn head(self) -> (u16, HeaderMap, Incoming) {
        let stream = TokioIo::new(self.ground.connect().await);
        let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header("host", "localhost");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body)).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), parts.headers, body)
    }

    pub async fn send(self) -> Reply {
        let (status, headers, body) = self.head().await;
        let body = body.collect().await.expect("a body").to_bytes();
        Reply {
            status,
            headers,
            body,
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    /// Refused with this status, by a problem document.
    pub fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().expect("a detail").is_empty());
        problem
    }

    pub fn fine(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}
