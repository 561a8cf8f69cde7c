//! What stands around every request: a span, and a net under panics.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::refusal::{Refusal, Why};

pub async fn guard(request: Request, next: Next) -> Response {
    let span =
        tracing::debug_span!("request", method = %request.method(), path = request.uri().path());
    // The routes share no memory that a panic could leave half-changed: runs are changed by their
    // drivers, rows in transactions.
    let answer = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind();
    answer.await.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        let detail = format!(
            "it met a condition that it did not expect ({}); please report this",
            said.unwrap_or_default()
        );
        Refusal::new(Why::Internal, detail).into_response()
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
