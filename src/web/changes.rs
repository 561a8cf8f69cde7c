//! A request that changes something: it is in the audit log before it is done and after, it goes on when
//! its caller goes away, and with an Idempotency-Key it is done once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::App;
use super::guard::{RequestId, in_time};
use super::refusal::{Detail, Refusal, Why};
use super::routes::Declared;
use crate::access::ledger::Entry;
use crate::access::{Caller, Origin};
use crate::api::MAX_BODY_BYTES;
use crate::store::answers::{self, Said};
use crate::store::audit;
use crate::vocab::{Digest, Timestamp};

/// A handler whose caller was a stranger says in its answer's extensions who they turned out to be.
#[derive(Debug, Clone)]
pub struct TurnedOut(pub String);

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Answers are kept for a day, microseconds.
const KEEP_US: i64 = 24 * 3600 * 1_000_000;
/// Largest answer that is kept, bytes.
const LARGEST: usize = 1 << 20;
/// Headers that belong to an answer.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

pub async fn carry_out(
    app: &Arc<App>,
    op: &Arc<Declared>,
    caller: Option<Caller>,
    origin: Origin,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (app, op) = (app.clone(), op.clone());
    // In a task of its own: hyper drops what it waits for when the caller hangs up, and a change that
    // was begun is to be ended and written down.
    let work = async move {
        match (keyed(&request)?, caller) {
            (Some(key), Some(caller)) => once(&app, &op, caller, origin, key, request, next).await,
            (_, caller) => audited(&app, &op, caller.as_ref(), origin, request, next).await,
        }
    };
    match tokio::spawn(work.in_current_span()).await {
        Ok(answer) => answer,
        Err(broken) => std::panic::resume_unwind(broken.into_panic()),
    }
}

/// Who is refused is written down too.
pub async fn audit_refused(app: &App, mut asked: Entry, refusal: &Refusal) -> Result<(), Refusal> {
    asked.status = i64::from(refusal.status().as_u16());
    refusal.detail().clone_into(&mut asked.detail);
    append(app, asked).await
}

/// The record of a request before it is answered.
pub fn asked(
    app: &App,
    op: &Declared,
    request: &Request,
    caller: Option<&Caller>,
    origin: Origin,
) -> Entry {
    let id = request.extensions().get::<RequestId>();
    Entry {
        at: app.state.services.now(),
        request: id.map(|id| id.0.clone()).unwrap_or_default(),
        who: caller.map_or_else(|| "stranger".to_owned(), Caller::name),
        origin: origin.to_string(),
        role: caller.map_or_else(String::new, |caller| caller.role.to_string()),
        client: caller
            .and_then(|caller| caller.scope.client())
            .unwrap_or("")
            .to_owned(),
        action: op.id.to_owned(),
        // A path has no control characters: hyper refuses them.
        subject: format!("{} {}", request.method(), request.uri().path()),
        status: 0,
        detail: String::new(),
    }
}

async fn append(app: &App, entry: Entry) -> Result<(), Refusal> {
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { audit::audit_append(connection, entry).await })
    });
    write.await?;
    app.state.outbound.nudge();
    Ok(())
}

/// Written down before and after. What cannot be written down is not done.
async fn audited(
    app: &App,
    op: &Declared,
    caller: Option<&Caller>,
    origin: Origin,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let mut entry = asked(app, op, &request, caller, origin);
    append(app, entry.clone()).await?;
    let answer = in_time(op.patience, next.run(request)).await;
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    entry.at = app.state.services.now();
    entry.status = i64::from(response.status().as_u16());
    if let Some(Detail(detail)) = response.extensions().get::<Detail>() {
        entry.detail = detail.chars().take(500).collect();
    }
    if let Some(TurnedOut(who)) = response.extensions().get::<TurnedOut>() {
        entry.who.clone_from(who);
    }
    if let Err(error) = append(app, entry).await {
        tracing::error!(
            detail = error.detail(),
            op = op.id,
            "a change was made whose end is not in the audit log"
        );
    }
    Ok(response)
}

fn keyed(request: &Request) -> Result<Option<String>, Refusal> {
    let Some(value) = request.headers().get(KEY) else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Refusal::mistake(
            "an Idempotency-Key has 1 to 255 visible ASCII characters, such as a UUID",
        )),
    }
}

/// Done once for this caller and key; repeated requests get the same answer.
async fn once(
    app: &App,
    op: &Declared,
    caller: Caller,
    origin: Origin,
    key: String,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let read = axum::body::to_bytes(body, MAX_BODY_BYTES);
    let body = tokio::time::timeout(op.patience, read)
        .await
        .map_err(|_| Refusal::new(Why::Unavailable, "the request's body was too slow"))?
        .map_err(|_| {
            Refusal::new(
                Why::TooLarge,
                format!("a request's body has at most {MAX_BODY_BYTES} bytes"),
            )
        })?;
    let mut subject = format!("{} {}\n", parts.method, parts.uri).into_bytes();
    subject.extend_from_slice(&body);
    let digest = Digest::of(&subject);
    let now = app.state.services.now();
    let (who, name) = (caller.key(), key.clone());
    let known = app.state.services.store.write(move |connection| {
        Box::pin(async move {
            let oldest = Timestamp(now.0.saturating_sub(KEEP_US));
            answers::answer_claim(connection, &who, &name, digest, now, oldest).await
        })
    });
    if let Some(known) = known.await? {
        if known.request != digest {
            return Err(Refusal::new(
                Why::KeyReused,
                "this Idempotency-Key was used for another request in the last 24 hours; take a new one",
            ));
        }
        return replayed(known.said);
    }
    let request = Request::from_parts(parts, Body::from(body));
    let response = audited(app, op, Some(&caller), origin, request, next).await;
    let store = &app.state.services.store;
    let who = caller.key();
    let response = match response {
        Ok(response) if !response.status().is_server_error() => response,
        failed => {
            // Nothing was promised: the same key may try again.
            let forget = store.write(move |connection| {
                Box::pin(async move { answers::answer_forget(connection, &who, &key).await })
            });
            forget.await?;
            return failed;
        }
    };
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LARGEST)
        .await
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    let said = Said {
        status: parts.status.as_u16(),
        headers: KEPT
            .iter()
            .filter_map(|name| {
                let value = parts.headers.get(name)?.to_str().ok()?;
                Some((name.as_str().to_owned(), value.to_owned()))
            })
            .collect(),
        body: (!op.secret).then(|| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let keep = store.write(move |connection| {
        Box::pin(async move { answers::answer_store(connection, &who, &key, &said).await })
    });
    keep.await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn replayed(said: Option<Said>) -> Result<Response, Refusal> {
    let Some(said) = said else {
        return Err(Refusal::new(
            Why::Refused,
            "a request with this Idempotency-Key is under way, or was cut off by a crash of the daemon; look at what is there before you try again with a new key",
        ));
    };
    let Some(body) = said.body else {
        return Err(Refusal::new(
            Why::Refused,
            "this was done; its answer held a secret, which is shown once only",
        ));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(said.status).unwrap_or(StatusCode::OK);
    for (name, value) in said.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
