//! The boot decision's latency: scripts at a steady 1,000 requests per second, over the real listener
//! with its gate and the real database; and a bare axum handler under the same load in the same run.
//!
//! An open loop, as in [`crate::api`]: a request's latency counts from when it was due. Every lane has
//! a loopback address of its own, because the listener bounds what one address may ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use greenroom::netboot::settings::Approve;
use greenroom::store::boot::{self, Taken};
use greenroom::store::devices;
use greenroom::vocab::boot::{BootDevice, BootPhase, Fingerprint, Mac, Trust};
use greenroom::vocab::{Device, DeviceId, RunId, Timestamp};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::station::Station;
use crate::{Figure, figure};

const LANES: usize = 64;
const PER_S: u64 = 1000;
const SECONDS: u64 = 10;
/// Devices that are known: half work in the ramdisk, half are sent to their own disk.
const DEVICES: u32 = 500;
/// Of ten requests: to known devices in the ramdisk, to strangers, to devices with their own disk,
/// for everyone's first script.
const MIX: [usize; 4] = [4, 3, 2, 1];

/// How a request's connection comes about.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Kept,
    /// One per request, as iPXE does.
    Fresh,
}

struct Outcome {
    took_ms: Vec<f64>,
    refused: usize,
}

pub fn measure() -> Vec<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let station = Station::open(Approve::Operator).await;
        fill(&station).await;
        let ours = station.address();
        let size = get_size(ours).await;
        let bare = bare(size).await;
        let mut figures = Vec::new();
        for (wire, word) in [(Wire::Kept, ""), (Wire::Fresh, "_fresh")] {
            // In turn, so that what else the machine does falls on both.
            let mut all = [(ours, Vec::new(), 0), (bare, Vec::new(), 0)];
            for _ in 0..2 {
                for (address, took, refused) in &mut all {
                    let one = load(*address, wire).await;
                    took.extend(one.took_ms);
                    *refused += one.refused;
                }
            }
            let [(_, script, refused), (_, plain, _)] = all;
            figures.extend(of(&format!("boot_decision{word}"), script, refused, "≤ 5"));
            figures.extend(of(&format!("boot_bare{word}"), plain, 0, ""));
        }
        figures
    })
}

fn of(name: &str, mut took: Vec<f64>, refused: usize, goal: &str) -> Vec<Figure> {
    took.sort_by(f64::total_cmp);
    let at = |share: f64| greenroom::runs::pinned::quantile(&took, share);
    let n = took.len();
    vec![
        figure(&format!("{name}_p50_ms"), at(0.5), "ms", "", n),
        figure(&format!("{name}_p99_ms"), at(0.99), "ms", goal, n),
        figure(&format!("{name}_p999_ms"), at(0.999), "ms", "", n),
        figure(&format!("{name}_max_ms"), at(1.0), "ms", "", n),
        figure(
            &format!("{name}_refused"),
            refused as f64 / n as f64,
            "share",
            "0",
            n,
        ),
    ]
}

fn mac(kind: u8, n: u32) -> Mac {
    let [_, a, b, c] = n.to_be_bytes();
    Mac([0x52, 0x54, kind, a, b, c])
}

/// Rows as the desk leaves them.
async fn fill(station: &Station) {
    let now = Timestamp(1_800_000_000_000_000);
    station
        .daemon
        .services
        .store
        .write(move |connection| {
            Box::pin(async move {
                for n in 0..DEVICES {
                    let phase = match n % 2 {
                        0 => BootPhase::Discovered,
                        _ => BootPhase::Booted { run: RunId(1) },
                    };
                    let device = Device {
                        id: DeviceId::fresh(),
                        name: format!("box-{n}"),
                        client: "default".into(),
                        facts: serde_json::Map::new(),
                        added_at: now,
                    };
                    let device = devices::device_put(connection, &device).await?;
                    let address = mac(n as u8 % 2, n);
                    let row = BootDevice {
                        phase,
                        deadline: Some(now.after(Duration::from_secs(86_400))),
                        fingerprint: Fingerprint {
                            macs: vec![address],
                            ..Fingerprint::default()
                        },
                        boot_id: "00000000-0000-4000-8000-000000000000".into(),
                        disk: "vda".into(),
                        ..BootDevice::registered(device.id, device.name, Trust::Discovery, now)
                    };
                    boot::device_put(connection, &row).await?;
                    boot::client_assign(connection, &[address], device.id, Taken::Take, now)
                        .await?;
                }
                Ok(())
            })
        })
        .await
        .expect("rows");
}

fn path(n: u64) -> String {
    let n = n as u32;
    let mut place = n as usize % MIX.iter().sum::<usize>();
    let device =
        |address: Mac| format!("/boot/device/{}?serial=GR-1&arch=x86_64", address.dashed());
    for (kind, share) in MIX.into_iter().enumerate() {
        if place < share {
            return match kind {
                0 => device(mac(0, n * 2 % DEVICES)),
                1 => device(mac(2, n % 2000)),
                2 => device(mac(1, (n * 2 + 1) % DEVICES)),
                _ => "/boot/first.ipxe".to_owned(),
            };
        }
        place -= share;
    }
    unreachable!("the shares are the mix's")
}

/// The same answer of the same size from nothing but axum.
async fn bare(size: usize) -> SocketAddr {
    let text = "x".repeat(size);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = axum::Router::new().fallback(move || async move { text.clone() });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn get_size(address: SocketAddr) -> usize {
    let mut http = connect(address, 0).await;
    let (status, size) = get(&mut http, &path(0)).await;
    assert_eq!(status, 200);
    size
}

async fn connect(address: SocketAddr, lane: usize) -> SendRequest<Empty<Bytes>> {
    let socket = TcpSocket::new_v4().expect("a socket");
    let own = Ipv4Addr::new(127, 1, 0, lane as u8 + 1);
    socket
        .bind(SocketAddr::new(IpAddr::V4(own), 0))
        .expect("an address of the loopback");
    let stream: TcpStream = socket.connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (http, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    http
}

async fn get(http: &mut SendRequest<Empty<Bytes>>, path: &str) -> (u16, usize) {
    let request = axum::http::Request::builder()
        .uri(path)
        .header("host", "x")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let answer = http.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body");
    (status, body.to_bytes().len())
}

async fn load(address: SocketAddr, wire: Wire) -> Outcome {
    let (sender, mut taken) = mpsc::unbounded_channel();
    let mut lanes = Vec::new();
    for number in 0..LANES {
        let (lane, mut turns) = mpsc::unbounded_channel::<(Instant, u64)>();
        let mut http = connect(address, number).await;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some((due, n)) = turns.recv().await {
                if wire == Wire::Fresh {
                    http = connect(address, number).await;
                }
                let (status, _) = get(&mut http, &path(n)).await;
                let _ = sender.send((due.elapsed().as_secs_f64() * 1e3, status));
            }
        });
        lanes.push(lane);
    }
    drop(sender);
    let began = Instant::now();
    for n in 0..PER_S * SECONDS {
        let due = began + Duration::from_micros(n * 1_000_000 / PER_S);
        tokio::time::sleep_until(due).await;
        let _ = lanes[n as usize % LANES].send((due, n));
    }
    drop(lanes);
    let mut outcome = Outcome {
        took_ms: Vec::new(),
        refused: 0,
    };
    while let Some((ms, status)) = taken.recv().await {
        outcome.took_ms.push(ms);
        outcome.refused += usize::from(status != 200);
    }
    outcome
}
