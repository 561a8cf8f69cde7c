//! Answers without a foreseeable end: one JSON document per line.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;

use super::refusal::{Refusal, Why};
use super::{App, identity};
use crate::access::Caller;
use crate::store::StoreError;

/// Where the documents of a stream go.
pub struct Lines(mpsc::Sender<Result<Bytes, io::Error>>);

/// The listener is gone.
pub struct Gone;

/// Why a stream ends before all was said.
pub enum Cut {
    Gone,
    Store(StoreError),
}

impl From<Gone> for Cut {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Lines {
    pub async fn send_text(&self, text: String) -> Result<(), Gone> {
        self.0.send(Ok(text.into())).await.map_err(|_| Gone)
    }

    pub async fn send<T: Serialize>(&self, document: &T) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(document).expect("wire types are plain data");
        line.push(b'\n');
        self.0.send(Ok(line.into())).await.map_err(|_| Gone)
    }
}

/// How often it is looked whether a listener may still listen.
const LOOK: Duration = Duration::from_secs(10);

/// Returns once the caller is not let in any more.
async fn shut_out(app: &App, caller: &Caller) {
    loop {
        tokio::time::sleep(LOOK).await;
        // A database that does not answer now is no reason to hang up.
        if let Ok(false) = identity::is_still_known(app, caller).await {
            return;
        }
    }
}

/// How the documents of a stream are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON document per line.
    Lines,
    /// Server-sent events (WHATWG HTML, 9.2); what is sent is text of that form already.
    Events,
}

/// Streams what `produce` sends. Ends with it, when the listener goes away, or when the server stops,
/// and when the caller is not let in any more: a token that is revoked does not go on listening.
/// Refused when as many streams as are allowed are open.
pub fn stream<F, Done>(
    app: &Arc<App>,
    caller: Caller,
    form: Form,
    produce: F,
) -> Result<Response, Refusal>
where
    F: FnOnce(Lines) -> Done,
    Done: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let open = app.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::new(
            Why::Busy,
            "close one that is not needed, or raise api.limits.streams",
        )
    })?;
    let stopping = app.stopping.clone();
    let own = app.clone();
    let (sender, receiver) = mpsc::channel(16);
    let work = produce(Lines(sender.clone()));
    tokio::spawn(async move {
        let _open = open;
        tokio::select! {
            () = stopping.cancelled() => {}
            () = shut_out(&own, &caller) => {}
            () = sender.closed() => {}
            done = work => if let Err(Cut::Store(error)) = done {
                tracing::error!(%error, "a stream was cut");
                // An error in the body breaks the connection: the listener must not take it for the end.
                let _ = sender.send(Err(io::Error::other(error.to_string()))).await;
            }
        }
    });
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let media_type = match form {
        Form::Lines => "application/x-ndjson",
        Form::Events => "text/event-stream",
    };
    let headers = [(header::CONTENT_TYPE, media_type)];
    Ok((headers, Body::from_stream(lines)).into_response())
}
