//! The API's latency: reads at a steady 1,000 requests per second, on kept connections over TLS, while two
//! chains run.
//!
//! An open loop: each request has its time, and its latency counts from then on, so that a server that
//! stalls is not asked less (coordinated omission). On a machine that does other things the latency says
//! little; the processor time of a request, of server and client together, says how far away the limit is.

use std::time::Duration;

use axum::http::Method;
use greenroom::api::StartRun;
use greenroom::vocab::access::Role;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ground::Ground;
use crate::{Figure, figure};

const CONNECTIONS: usize = 32;
const PER_S: u64 = 1000;
const SECONDS: u64 = 10;
/// Requests of each path whose processor time is measured.
const ALONE: usize = 200;
const PATHS: [(&str, &str); 4] = [
    ("run_list_50", "/api/v1/runs?limit=50"),
    ("device_list_50", "/api/v1/devices?limit=50"),
    ("device", "/api/v1/devices/box-7"),
    ("run", "/api/v1/runs/1"),
];

/// Processor time of this process so far, milliseconds.
fn cpu_ms() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    us as f64 / 1e3
}

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut took, costs) = runtime.block_on(load());
    took.sort_by(f64::total_cmp);
    let at = |share: f64| greenroom::runs::pinned::quantile(&took, share);
    let n = took.len();
    let mut figures: Vec<Figure> = PATHS
        .iter()
        .zip(costs)
        .map(|((name, _), ms)| figure(&format!("api_cpu_{name}_ms"), ms, "ms", "≤ 1", ALONE))
        .collect();
    figures.extend([
        figure("api_read_p50_ms", at(0.5), "ms", "", n),
        figure("api_read_p99_ms", at(0.99), "ms", "≤ 20", n),
        figure("api_read_max_ms", at(1.0), "ms", "", n),
    ]);
    figures
}

/// Latencies of all requests, and the processor time of one of each path; milliseconds.
async fn load() -> (Vec<f64>, Vec<f64>) {
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
                http.ready().await.expect("a connection");
                let answer = http.send_request(request).await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a body");
                let _ = sender.send(due.elapsed().as_secs_f64() * 1e3);
            }
        });
        lanes.push(lane);
    }
    drop(sender);
    let mut costs = Vec::new();
    for (_, path) in PATHS {
        let before = cpu_ms();
        for _ in 0..ALONE {
            let _ = lanes[0].send((Instant::now(), path));
            taken.recv().await;
        }
        costs.push((cpu_ms() - before) / ALONE as f64);
    }
    let (stop, runs) = chains_at_work(&ground).await;
    let began = Instant::now();
    for n in 0..PER_S * SECONDS {
        let due = began + Duration::from_micros(n * 1_000_000 / PER_S);
        tokio::time::sleep_until(due).await;
        let place = usize::try_from(n).unwrap_or(0);
        let _ = lanes[place % CONNECTIONS].send((due, PATHS[place % PATHS.len()].1));
    }
    drop(lanes);
    let mut all = Vec::new();
    while let Some(one) = taken.recv().await {
        all.push(one);
    }
    drop(stop);
    let ran = runs.await.expect("the runs");
    eprintln!("  {ran} runs of two stages came to their end meanwhile");
    (all, costs)
}

const BUSY: &str = "\
chain: busy
stages:
  - name: first
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo beginning
      sleep 1
      echo '{\"seen\": 3}' > $GREENROOM_OUTPUT
    output: { format: json, merge: /seen }
  - name: second
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo going on
      sleep 1
    output: { format: none }
";

/// Two devices, each with one run of a chain of two stages after the other, until the sender is dropped.
/// The handle tells how many came to their end.
async fn chains_at_work(ground: &Ground) -> (watch::Sender<()>, tokio::task::JoinHandle<usize>) {
    let order = serde_json::json!({ "source": BUSY });
    let order = serde_json::from_value(order).expect("an order");
    ground.local.chain_apply(&order).await.expect("a chain");
    let (stop, stopped) = watch::channel(());
    let mut both = JoinSet::new();
    for n in 0..2 {
        let (local, stopped) = (ground.local.clone(), stopped.clone());
        let order = StartRun {
            device: format!("box-{}", 100 + n),
            chain: Some("busy".into()),
            ..StartRun::default()
        };
        both.spawn(async move {
            let mut ended = 0;
            loop {
                let run = local.run_start(&order).await.expect("a run").run;
                let id = run.expect("a real one").id;
                while !local
                    .run_show(id, false)
                    .await
                    .expect("the run")
                    .run
                    .is_at_rest()
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                ended += 1;
                if stopped.has_changed().is_err() {
                    return ended;
                }
            }
        });
    }
    let all = async move { both.join_all().await.into_iter().sum() };
    (stop, tokio::spawn(all))
}
