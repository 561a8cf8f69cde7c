//! The API: JSON over HTTP, on a Unix socket and, where an address is configured, over TLS on the network.
//!
//! [`serve`] claims the socket ([`listen`]), accepts connections ([`door`]) and routes requests to a
//! file per noun. What is said is in `api`; [`present`] turns inner values into it, [`refusal`] turns
//! every error into a problem document.
//!
//! Every route is declared with the access it needs ([`routes`] says how), and [`guard`] is the one
//! gate in front of all of them. Whoever may open the socket is an admin: its mode is 0660, so its group
//! decides. On the network a caller shows a bearer token or a session ([`identity`]). Changes pass
//! [`changes`], which keeps the audit log. The device-facing listener is another one, elsewhere: nothing
//! here is for devices.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Caller;
use crate::access::pace::{Paces, Rate};
use crate::access::secret::Secret;
use crate::access::session;
use crate::api::MAX_BODY_BYTES;
pub use crate::api::PREFIX;
use crate::demand::Demand;
use crate::images::Images;
use crate::netboot::desk::Desk;
use crate::outbound::Outbound;
use crate::pool::Pool;
use crate::power::hands::RemoteHands;
use crate::reconcile::Reconciler;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::Services;
use crate::store::StoreError;
use crate::vocab::Timestamp;

pub(crate) mod audit;
pub(crate) mod boot;
pub(crate) mod chains;
pub(crate) mod changes;
pub(crate) mod claims;
mod class;
pub(crate) mod consoles;
pub(crate) mod cursor;
pub(crate) mod demand;
mod describe;
pub(crate) mod devices;
mod door;
pub(crate) mod etag;
mod events;
pub(crate) mod extract;
pub(crate) mod forms;
mod guard;
mod health;
pub(crate) mod host;
pub(crate) mod identity;
mod listen;
pub(crate) mod logs;
mod meter;
pub(crate) mod models;
mod openapi;
pub(crate) mod output;
pub(crate) mod personas;
pub(crate) mod pool;
mod power;
pub(crate) mod present;
pub(crate) mod refusal;
mod rooms;
pub mod routes;
pub(crate) mod runs;
pub(crate) mod sessions;
mod stream;
mod telemetry;
pub(crate) mod templates;
pub mod tls;
pub(crate) mod tokens;
pub(crate) mod users;
mod watch;
pub(crate) mod webhooks;

use refusal::Refusal;
use rooms::Rooms;
use routes::Routes;

/// All that is served. A file of routes is added here.
pub fn all_routes() -> Vec<Routes> {
    vec![
        host::routes(),
        chains::routes(),
        devices::routes(),
        boot::routes(),
        power::routes(),
        telemetry::routes(),
        models::routes(),
        personas::routes(),
        pool::routes(),
        demand::routes(),
        templates::routes(),
        claims::routes(),
        runs::routes(),
        output::routes(),
        logs::routes(),
        consoles::routes(),
        watch::routes(),
        events::routes(),
        sessions::routes(),
        tokens::routes(),
        users::routes(),
        audit::routes(),
        webhooks::routes(),
        describe::routes(),
        describe::problems(),
        health::routes(),
        meter::routes(),
    ]
}

/// What the routes need.
#[derive(Clone)]
pub struct State {
    pub services: Services,
    pub dispatch: Arc<Dispatch>,
    pub pool: Arc<Pool>,
    pub demand: Arc<Demand>,
    pub images: Images,
    pub reconciler: Arc<Reconciler>,
    pub outbound: Arc<Outbound>,
    /// None: this daemon answers no devices.
    pub netboot: Option<Arc<Desk>>,
    pub power: Arc<RemoteHands>,
}

/// Where the API is to be reached, and how much of it one caller gets.
pub struct Doors {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// The group that owns it; the daemon's own when not given.
    pub group: Option<String>,
    pub network: Option<NetworkDoor>,
    pub limits: Limits,
    pub sessions: session::Limits,
    /// None: the API alone.
    pub pages: Option<Pages>,
}

/// Pages for people, which are made elsewhere and served here, behind the same gate.
#[derive(Clone, Copy)]
pub struct Pages {
    pub(crate) routes: fn() -> Vec<Routes>,
    /// Shows a refusal to a person.
    pub(crate) refuse: fn(&Asked, &Refusal) -> axum::response::Response,
}

/// A request that was refused.
pub(crate) struct Asked {
    pub method: axum::http::Method,
    pub uri: axum::http::Uri,
    pub headers: axum::http::HeaderMap,
    pub caller: Option<Caller>,
}

impl Doors {
    /// The socket alone.
    pub fn local(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            group: None,
            network: None,
            limits: Limits::default(),
            sessions: session::Limits::default(),
            pages: None,
        }
    }
}

/// A port that is bound already, so that its number is known.
pub struct NetworkDoor {
    pub listener: TcpListener,
    pub tls: TlsAcceptor,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests of one token or user.
    pub rate: Rate,
    /// Connections from the network at once.
    pub connections: usize,
    /// Streams at once.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate: Rate {
                per_s: 200.0,
                burst: 400,
            },
            connections: 1024,
            streams: 256,
        }
    }
}

/// The state, and what belongs to this server alone.
pub struct App {
    pub(crate) state: State,
    /// Of machines that were claimed through this server.
    rooms: Arc<Rooms>,
    /// Ends open streams, which would otherwise keep the server from stopping.
    stopping: CancellationToken,
    started_at: Timestamp,
    limits: Limits,
    sessions: session::Limits,
    /// How fast everyone asks; times are since `began`.
    paces: Mutex<Paces>,
    began: Instant,
    /// When the use of each token was last noted.
    noted: Mutex<std::collections::HashMap<String, Timestamp>>,
    /// Places for streams.
    streams: Arc<Semaphore>,
    /// Turns at hashing passwords, which is slow on purpose.
    hashing: Semaphore,
    meter: meter::Meter,
    last_look: health::LastLook,
    description: describe::Description,
    pages: Option<Pages>,
}

pub(crate) type Shared = axum::extract::State<Arc<App>>;

/// How long a request that is under way may still take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Passwords hashed at once: each takes 19 MiB and a core for tens of milliseconds.
const HASHED_AT_ONCE: usize = 2;
/// Tries at one user's password, from wherever: two a minute on the average.
const LOGINS: Rate = Rate {
    per_s: 1.0 / 30.0,
    burst: 10,
};

impl App {
    fn new(state: State, doors: &Doors, stopping: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            started_at: state.services.now(),
            rooms: Arc::new(Rooms::new(state.services.capacity.clone())),
            state,
            stopping,
            limits: doors.limits,
            sessions: doors.sessions,
            paces: Mutex::default(),
            began: Instant::now(),
            noted: Mutex::default(),
            streams: Arc::new(Semaphore::new(doors.limits.streams)),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            meter: meter::Meter::default(),
            last_look: health::LastLook::default(),
            description: describe::Description::new(&all_routes()),
            pages: doors.pages,
        })
    }

    /// Takes one request of a key's allowance.
    fn pace(&self, key: &str, rate: Rate) -> Result<(), Refusal> {
        let mut paces = self
            .paces
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        paces
            .take(key, rate, self.began.elapsed())
            .map_err(Refusal::too_many)
    }

    /// Takes one try at a user's password.
    fn pace_login(&self, name: &str) -> Result<(), Refusal> {
        // A digest, so that long names cost no memory.
        let name = crate::vocab::Digest::of(name.as_bytes());
        self.pace(&format!("login:{name}"), LOGINS)
    }

    /// Whether nothing was noted under a key for so long; then it is now.
    fn note_use(&self, key: &str, now: Timestamp, every_us: i64) -> bool {
        let mut noted = self
            .noted
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let last = noted.get(key).copied();
        let is_due = last.is_none_or(|last| now.0.saturating_sub(last.0) >= every_us);
        if is_due {
            noted.insert(key.to_owned(), now);
        }
        is_due
    }
}

/// Serves the API until `stopping`. A stale socket file is replaced; a socket on which somebody
/// listens is an error. The file is gone when this returns.
pub async fn serve(state: State, doors: Doors, stopping: CancellationToken) -> anyhow::Result<()> {
    let claim = listen::claim(&doors.socket, doors.group.as_deref())
        .context("the API's socket cannot be opened")?;
    let (listener, _held) = claim.into_parts();
    tracing::info!(socket = %doors.socket.display(), "the API listens");
    let app = App::new(state, &doors, stopping.clone());
    app.rooms.adopt(&app.state.pool.claims().await?);
    let rooms = app.rooms.clone();
    tokio::spawn(rooms.watch(app.state.pool.clone(), stopping.clone()));
    let hall = door::Hall {
        router: router(app),
        stopping: stopping.clone(),
        open: TaskTracker::new(),
    };
    let mut accepting = tokio::task::JoinSet::new();
    accepting.spawn(door::accept_local(listener, hall.clone()));
    if let Some(NetworkDoor { listener, tls }) = doors.network {
        tracing::info!(address = %listener.local_addr()?, "the API listens on the network, with TLS");
        let most = doors.limits.connections;
        accepting.spawn(door::accept_network(listener, tls, most, hall.clone()));
    }
    while let Some(ended) = accepting.join_next().await {
        ended.context("the API's listener broke")?;
    }
    hall.open.close();
    if tokio::time::timeout(GRACE, hall.open.wait()).await.is_err() {
        tracing::warn!("requests were cut off: they did not end within {GRACE:?}");
    }
    Ok(())
}

fn router(app: Arc<App>) -> Router {
    let mut all = all_routes();
    if let Some(pages) = &app.pages {
        all.extend((pages.routes)());
    }
    routes::router(&app, all)
        .fallback(guard::no_such_path)
        .method_not_allowed_fallback(guard::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            guard::surround,
        ))
        .with_state(app)
}

/// The code with which the first admin is made, valid for a day; none when there are users. The last
/// one printed counts: what is stored is a digest, so it cannot be printed again.
pub async fn bootstrap_code(services: &Services) -> Result<Option<Secret>, StoreError> {
    let secret = Secret::fresh_code();
    let digest = secret.digest();
    let until = services.now().after(Duration::from_secs(24 * 3600));
    let write = services.store.write(move |connection| {
        Box::pin(crate::store::access::bootstrap_set(
            connection, digest, until,
        ))
    });
    match write.await {
        Ok(()) => Ok(Some(secret)),
        Err(StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
