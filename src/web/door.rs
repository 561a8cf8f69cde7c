//! Connections: accepted, bounded in number and time, and marked with where they come from.
//!
//! A client that sends slowly or does not read holds one task and its buffers, never a worker, and not
//! for long: it has [`HEAD`] for a request's head, the route's patience for its body, and a write that
//! makes no progress for [`STALL`] ends the connection.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Origin;

/// For the head of a request, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(15);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Without progress in writing.
const STALL: Duration = Duration::from_secs(30);
/// Largest head of a request, bytes.
const HEAD_BYTES: usize = 64 << 10;

/// What every connection is given to.
#[derive(Clone)]
pub struct Hall {
    pub router: Router,
    pub stopping: CancellationToken,
    pub open: TaskTracker,
}

/// Accepts from the Unix socket, whose file's mode has decided who may.
pub async fn accept_local(listener: UnixListener, hall: Hall) {
    while let Some(accepted) = hall.stopping.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let uid = match stream.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let hall = hall.clone();
        hall.open
            .clone()
            .spawn(async move { serve(stream, Origin::Socket { uid }, hall).await });
    }
}

/// Accepts from the network.
pub async fn accept_network(listener: TcpListener, tls: TlsAcceptor, most: usize, hall: Hall) {
    let crowd = Crowd::new(most);
    while let Some(accepted) = hall.stopping.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let from = peer.ip().to_canonical();
        // Closed at once: a client that is told nothing tries again later, as after a refused connection.
        let Some(place) = crowd.enter(from) else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (hall, tls) = (hall.clone(), tls.clone());
        hall.open.clone().spawn(async move {
            let _place = place;
            match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => serve(stream, Origin::Network(from), hall).await,
                Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS with a client"),
                Err(_) => tracing::debug!(%from, "a client did not end its TLS handshake"),
            }
        });
    }
}

/// Running out of file descriptors is no reason to end: connections close, and there are some again.
async fn rest_after(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn serve<S>(stream: S, origin: Origin, hall: Hall)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let inner = TowerToHyperService::new(hall.router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(origin);
        inner.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, STALL)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = hall.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// How many connections there are, and from where: one address may have a quarter of them.
#[derive(Clone)]
struct Crowd {
    inside: Arc<Mutex<(usize, HashMap<IpAddr, usize>)>>,
    most: usize,
}

struct Place {
    crowd: Crowd,
    from: IpAddr,
}

impl Crowd {
    fn new(most: usize) -> Self {
        Self {
            inside: Arc::default(),
            most,
        }
    }

    fn enter(&self, from: IpAddr) -> Option<Place> {
        let mut inside = self
            .inside
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let (all, by_address) = &mut *inside;
        let own = by_address.entry(from).or_default();
        if *all >= self.most || *own >= (self.most / 4).max(1) {
            return None;
        }
        *all += 1;
        *own += 1;
        Some(Place {
            crowd: self.clone(),
            from,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self
            .crowd
            .inside
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let (all, by_address) = &mut *inside;
        *all -= 1;
        if let Some(own) = by_address.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                by_address.remove(&self.from);
            }
        }
    }
}

/// A stream whose writes end in an error when they make no progress.
struct Patient<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            stalled: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let until = Instant::now() + self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let crowd = Crowd::new(8);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let places: Vec<_> = (0..3).map(|_| crowd.enter(a)).collect();
        assert!(places[1].is_some() && places[2].is_none());
        let other = crowd.enter(b);
        assert!(other.is_some());
        drop(places);
        assert!(crowd.enter(a).is_some());
    }

    #[tokio::test]
    async fn who_does_not_read_is_let_go() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours, Duration::from_millis(10));
        let error = patient.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
