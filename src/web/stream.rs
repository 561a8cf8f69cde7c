//! Answers without a foreseeable end: one JSON document per line.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

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
    pub async fn send<T: Serialize>(&self, document: &T) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(document).expect("wire types are plain data");
        line.push(b'\n');
        self.0.send(Ok(line.into())).await.map_err(|_| Gone)
    }
}

/// Streams what `produce` sends. Ends with it, when the listener goes away, or at `stopping`.
pub fn stream<F, Done>(stopping: CancellationToken, produce: F) -> Response
where
    F: FnOnce(Lines) -> Done,
    Done: Future<Output = Result<(), Cut>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(16);
    let work = produce(Lines(sender.clone()));
    tokio::spawn(async move {
        tokio::select! {
            () = stopping.cancelled() => {}
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
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(lines)).into_response()
}
