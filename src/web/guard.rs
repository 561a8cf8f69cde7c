//! What stands around every request, and the gate in front of every route.
//!
//! ```text
//!  surround: request id, span, a net under panics, headers against misuse, measuring
//!    └─ admit (per route): who is it ─► not too many? ─► decide (access) ─► cross-site? ─► the handler
//!                                                                   changes: audit, Idempotency-Key
//! ```

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::refusal::{Refusal, Refused, Why};
use super::routes::Declared;
use super::{App, Asked, changes, forms, identity};
use crate::access::pace::Rate;
use crate::access::{Caller, Origin, Verdict, Who, decide};

/// Names a request in the answer, the log and the audit log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request that is being answered.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Which operation answered: for measuring.
#[derive(Debug, Clone, Copy)]
struct Answered(&'static str);

/// Who was answered, where it is known.
#[derive(Debug, Clone)]
struct To(Option<Caller>);

/// A route's declaration, and what is needed to hold it.
#[derive(Clone)]
pub struct Gate {
    pub app: Arc<App>,
    pub op: Arc<Declared>,
}

/// What strangers may try: to log in, to use the first code, or a token that is not valid.
const TRIES: Rate = Rate {
    per_s: 0.2,
    burst: 10,
};
/// What strangers may ask for of what is open to everyone.
const STRANGERS: Rate = Rate {
    per_s: 20.0,
    burst: 60,
};

pub async fn surround(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = uuid::Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let asked = for_people(&request).then(|| Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
        headers: request.headers().clone(),
        caller: None,
    });
    let span = tracing::debug_span!("request", %id, method = %request.method(), path = request.uri().path());
    // The routes share no memory that a panic could leave half-changed: runs are changed by their
    // drivers, rows in transactions.
    let answer = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind();
    let mut response = answer.await.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        let detail = format!(
            "it met a condition that it did not expect ({}); please report this",
            said.unwrap_or_default()
        );
        Refusal::new(Why::Internal, detail).into_response()
    });
    let op = response
        .extensions()
        .get::<Answered>()
        .map_or("none", |op| op.0);
    if let (Some(mut asked), Some(pages)) = (asked, &app.pages)
        && let Some(Refused(refusal)) = response.extensions().get::<Refused>().cloned()
    {
        asked.caller = response
            .extensions()
            .get::<To>()
            .and_then(|To(who)| who.clone());
        response = (pages.refuse)(&asked, &refusal);
    }
    app.meter
        .note(op, response.status().as_u16(), began.elapsed());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        // An answer of the API is never a page; what is one brings its own policy.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether it is a person who looks at the answer: a browser that asks for a page. What is below the
/// API's prefix speaks JSON to everyone.
fn for_people(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    let takes_pages = accept.is_some_and(|accept| {
        let accept = accept.to_str().unwrap_or_default();
        accept.contains("text/html")
    });
    takes_pages && !request.uri().path().starts_with("/api/")
}

pub async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let mut who = None;
    let mut response = match enter(&gate, request, next, &mut who).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    response.extensions_mut().insert(Answered(gate.op.id));
    response.extensions_mut().insert(To(who));
    response
}

/// `who` becomes who asks, also where they are refused.
async fn enter(
    gate: &Gate,
    mut request: Request,
    next: Next,
    who: &mut Option<Caller>,
) -> Result<Response, Refusal> {
    let (app, op) = (&gate.app, &gate.op);
    let origin = *request
        .extensions()
        .get::<Origin>()
        .ok_or_else(|| Refusal::new(Why::Internal, "the connection's origin is not known"))?;
    let caller = if op.access.role.is_none() {
        stranger(app, op, origin)?;
        None
    } else {
        known(app, request.headers(), origin).await?
    };
    who.clone_from(&caller);
    if let Some(refusal) = refused(decide(op.access, caller.as_ref())) {
        if op.mutates()
            && let Some(caller) = &caller
        {
            let asked = changes::asked(app, op, &request, Some(caller), origin);
            changes::audit_refused(app, asked, &refusal).await?;
        }
        return Err(refusal);
    }
    if op.form {
        request = tokio::time::timeout(op.patience, forms::open(request))
            .await
            .map_err(|_| Refusal::new(Why::Unavailable, "the form was too slow"))??;
    }
    if let Some(caller) = caller.clone() {
        if op.mutates() {
            not_from_elsewhere(&caller, &request)?;
        }
        request.extensions_mut().insert(caller);
    }
    if op.mutates() {
        return changes::carry_out(app, op, caller, origin, request, next).await;
    }
    in_time(op.patience, next.run(request)).await
}

/// Says who asks, within their allowance. One who shows something that is not valid has few tries, which
/// does not keep out others from behind the same address.
async fn known(
    app: &App,
    headers: &axum::http::HeaderMap,
    origin: Origin,
) -> Result<Option<Caller>, Refusal> {
    let from = match origin {
        Origin::Socket { uid } => return Ok(Some(Caller::of_socket(uid))),
        Origin::Network(_) => format!("failed:{}", origin.neighbourhood()),
    };
    let caller = match identity::of(app, headers).await {
        Err(refusal) if refusal.why() == Why::Stranger => {
            app.pace(&from, TRIES)?;
            return Err(refusal);
        }
        other => other?,
    };
    match &caller {
        Some(caller) => app.pace(&caller.key(), app.limits.rate)?,
        None => app.pace(&format!("stranger:{}", origin.neighbourhood()), STRANGERS)?,
    }
    Ok(caller)
}

fn stranger(app: &App, op: &Declared, origin: Origin) -> Result<(), Refusal> {
    let from = origin.neighbourhood();
    match origin {
        Origin::Socket { .. } => Ok(()),
        Origin::Network(_) if op.mutates() => app.pace(&format!("try:{from}"), TRIES),
        Origin::Network(_) => app.pace(&format!("stranger:{from}"), STRANGERS),
    }
}

fn refused(verdict: Verdict) -> Option<Refusal> {
    match verdict {
        Verdict::Admitted => None,
        Verdict::Stranger => Some(Refusal::new(
            Why::Stranger,
            "this needs a bearer token (`greenroom token create` makes one) or a session",
        )),
        Verdict::RoleTooLow { has, needs } => Some(Refusal::new(
            Why::Forbidden,
            format!("this needs the role {needs}, and yours is {has}"),
        )),
        Verdict::BoundToClient => Some(Refusal::new(
            Why::Forbidden,
            "this is about the installation as a whole, and you are bound to one client",
        )),
    }
}

/// A browser sends its cookie whoever made it ask; only our own pages know the token.
fn not_from_elsewhere(caller: &Caller, request: &Request) -> Result<(), Refusal> {
    if !matches!(caller.who, Who::User { .. }) {
        return Ok(());
    }
    let expected = identity::cookie(request.headers()).map(|secret| secret.csrf());
    let header = request.headers().get(crate::access::session::CSRF_HEADER);
    let brought = request.extensions().get::<forms::Brought>();
    let given = header
        .and_then(|value| value.to_str().ok())
        .or_else(|| brought.map(|forms::Brought(token)| token.as_str()));
    // Digests of both are compared, so that the time says nothing of the token.
    let fits = match (&expected, given) {
        (Some(expected), Some(given)) => {
            crate::vocab::Digest::of(expected.as_bytes())
                == crate::vocab::Digest::of(given.as_bytes())
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::new(
        Why::Forbidden,
        format!(
            "a change in a session needs the header {}, whose value `GET /api/v1/session` tells",
            crate::access::session::CSRF_HEADER
        ),
    ))
}

/// The answer's head, or a refusal when it does not come in time.
pub async fn in_time(
    patience: Duration,
    answer: impl Future<Output = Response>,
) -> Result<Response, Refusal> {
    tokio::time::timeout(patience, answer).await.map_err(|_| {
        Refusal::new(
            Why::Unavailable,
            format!(
                "there was no answer within {} s; the request's body was slow, or the host is",
                patience.as_secs()
            ),
        )
    })
}

pub async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::not_found(format!("there is no {}", uri.path()))
}

pub async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        Why::MethodNotAllowed,
        format!("{} does not answer to {method}", uri.path()),
    )
}
