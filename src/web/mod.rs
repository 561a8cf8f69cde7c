//! The API: JSON over HTTP on a Unix socket.
//!
//! [`serve`] claims the socket ([`listen`]) and routes requests to a file per noun. What is said is
//! in `api`; [`present`] turns inner values into it, [`refusal`] turns every error into a problem
//! document. Whoever may open the socket may do everything: its mode is 0660, so the group decides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use tokio_util::sync::CancellationToken;

use crate::api::{MAX_BODY_BYTES, PREFIX};
use crate::images::Images;
use crate::pool::Pool;
use crate::netboot::desk::Desk;
use crate::reconcile::Reconciler;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::Services;
use crate::vocab::Timestamp;

mod boot;
mod chains;
mod claims;
mod class;
mod devices;
mod extract;
mod guard;
mod host;
mod listen;
mod logs;
mod output;
mod pool;
mod personas;
mod present;
mod refusal;
mod rooms;
mod runs;
mod stream;
mod templates;
mod watch;

use rooms::Rooms;

/// What the routes need.
#[derive(Clone)]
pub struct State {
    pub services: Services,
    pub dispatch: Arc<Dispatch>,
    pub pool: Arc<Pool>,
    pub images: Images,
    pub reconciler: Arc<Reconciler>,
    /// None: this daemon answers no devices.
    pub netboot: Option<Arc<Desk>>,
}

/// The state, and what belongs to this server alone.
pub(crate) struct App {
    pub state: State,
    /// Of machines that were claimed through this server.
    pub rooms: Arc<Rooms>,
    /// Ends open streams, which would otherwise keep the server from stopping.
    pub stopping: CancellationToken,
    pub started_at: Timestamp,
}

type Shared = axum::extract::State<Arc<App>>;

/// How long a request that is under way may still take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the API until `stopping`. A stale socket file is replaced; a socket on which somebody
/// listens is an error; it belongs to `group` where one is given. The file is gone when this returns.
pub async fn serve(
    state: State,
    socket: &Path,
    group: Option<&str>,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    let claim = listen::claim(socket, group).context("the API's socket cannot be opened")?;
    let (listener, _held) = claim.into_parts();
    tracing::info!(socket = %socket.display(), "the API listens");
    let rooms = Arc::new(Rooms::new(state.services.capacity.clone()));
    rooms.adopt(&state.pool.claims().await?);
    tokio::spawn(rooms.clone().watch(state.pool.clone(), stopping.clone()));
    let app = Arc::new(App {
        rooms,
        started_at: state.services.now(),
        state,
        stopping: stopping.clone(),
    });
    let server = axum::serve(listener, router(app))
        .with_graceful_shutdown(stopping.clone().cancelled_owned());
    let overtime = async {
        stopping.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = async { server.await } => ended.context("the API's server ended"),
        () = overtime => {
            tracing::warn!("requests were cut off: they did not end within {GRACE:?}");
            Ok(())
        }
    }
}

fn router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/version", get(host::version))
        .route("/status", get(host::status))
        .route("/images", get(host::images))
        .route("/chains", get(chains::list).post(chains::apply))
        .route("/chains/{name}", get(chains::show))
        .route("/devices", get(devices::list).post(devices::put))
        .route("/devices/{name}", get(devices::show))
        .route("/pools", get(pool::list).put(pool::set))
        .route("/pools/{class}", get(pool::show))
        .route("/pool/status", get(pool::status))
        .route("/templates", get(templates::list).post(templates::build))
        .route("/templates/{id}", get(templates::show))
        .route("/templates/{id}/verify", post(templates::verify))
        .route("/templates/{id}/retire", post(templates::retire))
        .route("/claims", get(claims::list).post(claims::take))
        .route("/claims/{key}", delete(claims::release))
        .route("/devices/{name}/boot", get(boot::show).post(boot::change))
        .route("/boot/devices", get(boot::list))
        .route("/boot/events", get(boot::events))
        .route("/boot/explain/{mac}", post(boot::explain))
        .merge(personas::routes())
        .route("/runs", get(runs::list).post(runs::start))
        .route("/runs/{id}", get(runs::show))
        .route("/runs/{id}/output", get(output::output))
        .route("/runs/{id}/artefacts/{stage}", get(output::artefact))
        .route("/runs/{id}/discard", post(output::discard))
        .route("/runs/{id}/abort", post(runs::abort))
        .route("/runs/{id}/retry", post(runs::retry))
        .route("/runs/{id}/replay", post(runs::replay))
        .route("/runs/{id}/logs", get(logs::logs))
        .route("/runs/{id}/watch", get(watch::watch));
    Router::new()
        .nest(PREFIX, routes)
        .fallback(guard::no_such_path)
        .method_not_allowed_fallback(guard::no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(guard::guard))
        .with_state(app)
}
