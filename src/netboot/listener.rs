//! The listener for devices: boot scripts and files, the agent's words, images. Nothing else is here,
//! and none of this is on the operators' socket.
//!
//! Whoever is on the network may come: connections, requests per address, sizes and times are bounded
//! ([`gate`]), and no request waits for another's image.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::decide::{Answer, FIRST_SCRIPT, Request};
use super::desk::{Desk, DeskError};
use super::settings::PlaneSettings;
use super::wire::{Credential, Exchange, GivenCode, Heartbeat, Order, Register, Registered, Taken};
use super::{inventory, plane, telemetry};
use crate::vocab::boot::Mac;

mod gate;
mod stream;

/// Largest body but for the inventory's and the telemetry's, bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

type Shared = State<Arc<Desk>>;

impl IntoResponse for DeskError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(error = %self, "a device was not served");
            return (status, "the server failed; its log says why\n").into_response();
        }
        (status, format!("{self}\n")).into_response()
    }
}

/// Opens the port; fails where the address is not this host's.
pub async fn open(settings: &PlaneSettings) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((settings.address, settings.port));
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listening for devices at {address}; see boot.address and boot.port")
    })?;
    tracing::info!(%address, "devices are listened to");
    Ok(listener)
}

/// Serves devices until `stop`.
pub async fn serve(listener: TcpListener, desk: Arc<Desk>, stop: CancellationToken) {
    let service = router(desk).into_make_service_with_connect_info::<gate::Peer>();
    let served = axum::serve(gate::Gate::new(listener), service)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the listener for devices ended");
    }
}

/// The routes, apart from any socket.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(FIRST_SCRIPT, get(first_script))
        .route("/boot/device/{mac}", get(script))
        .route("/boot/device/{mac}/failed", get(script_failed))
        .route("/boot/files/{name}", get(file))
        .route("/boot/ramdisk/{digest}/{part}", get(stream::ramdisk))
        .route("/device/v1/register", post(register))
        .route(
            "/device/v1/inventory",
            post(tell_inventory).layer(DefaultBodyLimit::max(inventory::MAX_BYTES)),
        )
        .route("/device/v1/heartbeat", post(heartbeat))
        .route("/device/v1/exchange", post(exchange))
        .route("/device/v1/code", post(give_code))
        .route("/device/v1/manifest", get(stream::manifest))
        .route("/device/v1/data", get(stream::data))
        .route(
            "/device/v1/telemetry",
            post(tell_telemetry).layer(DefaultBodyLimit::max(telemetry::MAX_BYTES)),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing\n") })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(
            Arc::new(gate::Rates::default()),
            gate::guard,
        ))
        .with_state(desk)
}

fn text(body: String) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=us-ascii")],
        body,
    )
        .into_response()
}

fn failed(why: &str) -> Response {
    tracing::error!(why, "a boot script cannot be made");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server failed; its log says why\n",
    )
        .into_response()
}

async fn first_script(State(desk): Shared) -> Response {
    match desk.scene().await {
        Ok(scene) => text(scene.first()),
        Err(why) => failed(&why),
    }
}

/// What a machine says of itself in its script's URL: for the log, never for a decision.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claimed {
    uuid: String,
    serial: String,
    product: String,
    arch: String,
    platform: String,
}

impl Claimed {
    fn shown(&self) -> String {
        [
            &self.uuid,
            &self.serial,
            &self.product,
            &self.arch,
            &self.platform,
        ]
        .map(|text| {
            text.chars()
                .filter(|c| !c.is_control())
                .take(64)
                .collect::<String>()
        })
        .join(" | ")
    }
}

async fn script(
    State(desk): Shared,
    Path(mac): Path<String>,
    query: Result<Query<Claimed>, QueryRejection>,
) -> Response {
    let Ok(mac) = mac.parse::<Mac>() else {
        return (StatusCode::NOT_FOUND, "that is no address\n").into_response();
    };
    let claimed = query
        .map(|Query(claimed)| claimed.shown())
        .unwrap_or_default();
    match desk.script(mac, &claimed).await {
        Ok(Some(script)) => text(script),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no script for it\n").into_response(),
        Err(why) => failed(&why),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FailedAt {
    at: String,
}

async fn script_failed(
    State(desk): Shared,
    Path(mac): Path<String>,
    query: Result<Query<FailedAt>, QueryRejection>,
) -> Response {
    let Ok(mac) = mac.parse::<Mac>() else {
        return (StatusCode::NOT_FOUND, "that is no address\n").into_response();
    };
    let at = query.map(|Query(failed)| failed.at).unwrap_or_default();
    match desk.script_failed(mac, &at).await {
        Ok(()) => text("noted\n".to_owned()),
        Err(error) => DeskError::from(error).into_response(),
    }
}

async fn file(State(desk): Shared, Path(name): Path<String>) -> Response {
    let decision = match desk
        .decide(&Client::default(), &Request::BootFile(name))
        .await
    {
        Ok(decision) => decision,
        Err(error) => return DeskError::from(error).into_response(),
    };
    let Answer::Send { file } = decision.answer else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    match plane::boot_file(&desk.settings.state, file).await {
        Ok(bytes) => bytes.into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, DeskError> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .filter(|token| token.len() == 64)
        .ok_or(DeskError::Unknown)
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DeskError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // What was sent is not repeated: it may be anything.
        DeskError::Invalid(format!(
            "it does not fit: line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

fn address(peer: &ConnectInfo<gate::Peer>) -> IpAddr {
    peer.0.0.ip()
}

type Bytes = axum::body::Bytes;

async fn register(
    State(desk): Shared,
    peer: ConnectInfo<gate::Peer>,
    body: Bytes,
) -> Result<Json<Registered>, DeskError> {
    let order: Register = read(&body)?;
    Ok(Json(desk.register(&order, address(&peer)).await?))
}

async fn tell_inventory(
    State(desk): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, DeskError> {
    desk.inventory(bearer(&headers)?, &body).await?;
    Ok(Json(json!({})).into_response())
}

async fn heartbeat(
    State(desk): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Order>, DeskError> {
    let heartbeat: Heartbeat = read(&body)?;
    Ok(Json(desk.heartbeat(bearer(&headers)?, &heartbeat).await?))
}

async fn exchange(
    State(desk): Shared,
    peer: ConnectInfo<gate::Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Credential>, DeskError> {
    let order: Exchange = read(&body)?;
    Ok(Json(
        desk.exchange(bearer(&headers)?, &order, address(&peer))
            .await?,
    ))
}

async fn give_code(
    State(desk): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, DeskError> {
    let given: GivenCode = read(&body)?;
    desk.give_code(bearer(&headers)?, &given).await?;
    Ok(Json(json!({})).into_response())
}

async fn tell_telemetry(
    State(desk): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Taken>, DeskError> {
    let token = bearer(&headers)?;
    let told =
        telemetry::read(&body).map_err(|why| DeskError::Invalid(format!("the report: {why}")))?;
    Ok(Json(desk.telemetry(token, told).await?))
}

/// For bodies of bytes.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
