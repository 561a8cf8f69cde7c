//! The web interface with a full database: how long each page takes, how large it is, and how soon an
//! event is told to a browser.
//!
//! One request after the other, on a kept connection over TLS, as one person's browser asks. 10,000
//! devices that came from the network, 1,000 runs with what they left, and days of demand by persona.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::Method;
use greenroom::api::StartRun;
use greenroom::outbound::Settings;
use greenroom::store::{boot, devices};
use greenroom::vocab::access::Role;
use greenroom::vocab::boot::{BootDevice, BootPhase, Trust};
use greenroom::vocab::{Device, DeviceId};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;

use crate::ground::Ground;
use crate::{Figure, figure, percentile};

const DEVICES: usize = 10_000;
const RUNS: usize = 1_000;
/// Requests of each page.
const REPEATS: usize = 200;
const EVENTS: usize = 20;

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let ground = full().await;
        let mut figures = render(&ground).await;
        figures.extend(live(&ground).await);
        figures
    })
}

/// A site at work for a while.
async fn full() -> Ground {
    let ground = Ground::with_pool(Settings::default()).await;
    ground.apply_chain().await;
    ground.apply_persona().await;
    let services = ground.running.services.clone();
    let now = services.now();
    for batch in 0..DEVICES / 500 {
        let write = services.store.write(move |connection| {
            Box::pin(async move {
                for n in batch * 500..(batch + 1) * 500 {
                    let facts = json!({ "role": "web", "hardware": {
                        "vendor": "Supermicro", "model": "SYS-5019S", "serial": format!("S{n}"), "memory_mib": 8192,
                        "nics": [{ "name": "eno1", "mac": format!("52:54:00:00:{:02x}:{:02x}", n / 256, n % 256) }] } });
                    let device = Device {
                        id: DeviceId::fresh(),
                        name: format!("box-{n:05}"),
                        client: "lab".into(),
                        facts: serde_json::from_value(facts).expect("facts"),
                        added_at: now,
                    };
                    devices::device_put(connection, &device).await?;
                    boot::device_put(connection, &came_from_the_network(&device, now)).await?;
                }
                Ok(())
            })
        });
        write.await.expect("devices");
    }
    // As many at once as the daemon takes; each has its events, attempts, machine and log.
    for n in 0..RUNS {
        let order = StartRun {
            device: format!("box-{:05}", n * 7),
            chain: Some("hello".into()),
            ..StartRun::default()
        };
        ground.local.run_start(&order).await.expect("a run");
    }
    loop {
        let status = ground.local.status().await.expect("the status");
        let ended: i64 = status.runs.get("succeeded").copied().unwrap_or(0);
        if ended >= RUNS as i64 {
            crate::weeks::lived(&ground.running, "odd").await;
            return ground;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn came_from_the_network(device: &Device, now: greenroom::vocab::Timestamp) -> BootDevice {
    BootDevice {
        phase: BootPhase::Discovered,
        next: "it waits for a chain".into(),
        ..BootDevice::registered(device.id, device.name.clone(), Trust::Network, now)
    }
}

const PAGES: [(&str, &str); 21] = [
    ("overview", "/"),
    ("devices", "/devices"),
    ("devices_by_name", "/devices?name=99"),
    ("device", "/devices/box-00700"),
    ("runs", "/runs"),
    ("run", "/runs/500"),
    ("chains", "/chains"),
    ("chain", "/chains/hello"),
    ("personas", "/personas"),
    ("persona", "/personas/plain"),
    ("pool", "/pool"),
    ("audit", "/audit"),
    ("settings", "/settings"),
    ("run_new", "/runs/new?device=box-00001"),
    ("chain_editor", "/chains/hello/edit"),
    ("persona_editor", "/personas/plain/edit"),
    (
        "persona_preview",
        "/personas/plain/preview?device=box-00700",
    ),
    ("assignments", "/assignments"),
    ("images", "/images"),
    ("foresight", "/foresight"),
    ("foresight_persona", "/foresight?persona=kiosk"),
];

/// Milliseconds from the request to the last byte.
async fn render(ground: &Ground) -> Vec<Figure> {
    let token = ground.token(Role::Admin, None).await;
    let stream = TokioIo::new(ground.connect().await);
    let (mut http, connection) = http1::handshake(stream).await.expect("HTTP");
    tokio::spawn(connection);
    let mut took: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut largest = 0;
    for n in 0..REPEATS + 3 {
        for (name, path) in PAGES {
            let request = axum::http::Request::builder()
                .method(Method::GET)
                .uri(path)
                .header("host", "localhost")
                .header("accept", "text/html")
                .header("authorization", format!("Bearer {token}"))
                .body(Empty::<Bytes>::new())
                .expect("a request");
            // The last answer was read, and the connection may still be at its end.
            http.ready().await.expect("a connection");
            let began = Instant::now();
            let answer = http.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200, "{path}");
            let body = answer
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes();
            // The first ones find cold caches.
            if n >= 3 {
                took.entry(name)
                    .or_default()
                    .push(began.elapsed().as_secs_f64() * 1e3);
            }
            largest = largest.max(body.len());
        }
    }
    let mut figures: Vec<Figure> = took
        .into_iter()
        .map(|(name, times)| {
            let n = times.len();
            figure(
                &format!("page_{name}_p99_ms"),
                percentile(times, 0.99),
                "ms",
                "≤ 50",
                n,
            )
        })
        .collect();
    figures.push(figure(
        "page_largest_kb",
        largest as f64 / 1e3,
        "kB",
        "≤ 150",
        PAGES.len(),
    ));
    figures
}

/// From a run's first event in the database to the line that a browser's stream has of it.
async fn live(ground: &Ground) -> Vec<Figure> {
    let token = ground.token(Role::Viewer, None).await;
    let (status, _, mut body) = ground.get("/api/v1/events").token(&token).head().await;
    assert_eq!(status, 200);
    let mut delays = Vec::new();
    for n in 0..EVENTS {
        let order = StartRun {
            device: format!("box-{:05}", n + 1),
            chain: Some("hello".into()),
            ..StartRun::default()
        };
        ground.local.run_start(&order).await.expect("a run");
        // Events of a run go on coming: all of them count.
        let until = Instant::now() + Duration::from_millis(400);
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(
            until.saturating_duration_since(Instant::now()),
            body.frame(),
        )
        .await
        {
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let heard = ground.running.services.now();
            for line in String::from_utf8_lossy(data).lines() {
                let Some(event) = line.strip_prefix("data: ") else {
                    continue;
                };
                let event: greenroom::api::EventOfRun =
                    serde_json::from_str(event).expect("an event");
                delays.push((heard.0 - event.at.0.as_microsecond()) as f64 / 1e3);
            }
        }
    }
    let n = delays.len();
    vec![
        figure(
            "event_to_browser_p50_ms",
            percentile(delays.clone(), 0.5),
            "ms",
            "",
            n,
        ),
        figure(
            "event_to_browser_p99_ms",
            percentile(delays, 0.99),
            "ms",
            "≤ 250",
            n,
        ),
    ]
}
