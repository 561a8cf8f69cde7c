//! The API's latency: reads at a steady 1,000 requests per second, on kept connections over TLS.
//!
//! An open loop: each request has its time, and its latency counts from then on, so that a server that
//! stalls is not asked less (coordinated omission).

use std::time::Duration;

use axum::http::Method;
use greenroom::vocab::access::Role;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ground::Ground;
use crate::{Figure, figure};

const CONNECTIONS: usize = 32;
const PER_S: u64 = 1000;
const SECONDS: u64 = 10;
const PATHS: [&str; 4] = [
    "/api/v1/runs?limit=50",
    "/api/v1/devices?limit=50",
    "/api/v1/devices/box-7",
    "/api/v1/runs/1",
];

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut took = runtime.block_on(load());
    took.sort_by(f64::total_cmp);
    let at = |share: f64| greenroom::runs::pinned::quantile(&took, share);
    let n = took.len();
    vec![
        figure("api_read_p50_ms", at(0.5), "ms", "", n),
        figure("api_read_p99_ms", at(0.99), "ms", "≤ 20", n),
        figure("api_read_max_ms", at(1.0), "ms", "", n),
    ]
}

async fn load() -> Vec<f64> {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    for n in 0..200 {
        ground.add_device(&format!("box-{n}"), "lab").await;
    }
    for n in 0..50 {
        ground.run(&format!("box-{n}")).await;
    }
    let token = ground.token(Role::Viewer, None).await;
    let mut lanes = Vec::new();
    let (sender, mut taken) = mpsc::unbounded_channel();
    for _ in 0..CONNECTIONS {
        let stream = TokioIo::new(ground.connect().await);
        let (mut http, connection) = http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        let (lane, mut turns) = mpsc::unbounded_channel::<(Instant, &'static str)>();
        let (sender, token) = (sender.clone(), token.clone());
        tokio::spawn(async move {
            while let Some((due, path)) = turns.recv().await {
                let request = axum::http::Request::builder()
                    .method(Method::GET)
                    .uri(path)
                    .header("host", "localhost")
                    .header("authorization", format!("Bearer {token}"))
                    .body(Empty::<Bytes>::new())
                    .expect("a request");
                let answer = http.send_request(request).await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a body");
                let _ = sender.send(due.elapsed().as_secs_f64() * 1e3);
            }
        });
        lanes.push(lane);
    }
    drop(sender);
    let began = Instant::now();
    for n in 0..PER_S * SECONDS {
        let due = began + Duration::from_micros(n * 1_000_000 / PER_S);
        tokio::time::sleep_until(due).await;
        let place = usize::try_from(n).unwrap_or(0);
        let _ = lanes[place % CONNECTIONS].send((due, PATHS[place % PATHS.len()]));
    }
    drop(lanes);
    let mut all = Vec::new();
    while let Some(one) = taken.recv().await {
        all.push(one);
    }
    all
}
