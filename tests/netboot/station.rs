//! A desk with its listener on the loopback, on a simulated host, with a clock that tests move; and
//! agents that speak its protocol over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use greenroom::clock::Clock;
use greenroom::daemon::Running;
use greenroom::fault::Faults;
use greenroom::netboot::decide::{self, Unknown};
use greenroom::netboot::desk::Desk;
use greenroom::netboot::listener;
use greenroom::netboot::script::GiveUp;
use greenroom::netboot::settings::{Approve, DhcpMode, PlaneSettings, Settings};
use greenroom::vocab::Timestamp;
use greenroom::vocab::boot::{BootDevice, BootEvent};
use greenroom::vocab::telemetry::Keeping;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::house::{House, build_images};

/// A clock that stands still until it is moved.
pub struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub struct Station {
    pub house: House,
    pub daemon: Running,
    pub desk: Arc<Desk>,
    hands: Arc<Hands>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Station {
    pub async fn open(approve: Approve) -> Self {
        let house = House::new();
        build_images(house.state.path(), &["tiny", "device"]);
        let daemon = house.daemon(Faults::none()).await;
        let hands = Arc::new(Hands(AtomicI64::new(1_800_000_000_000_000)));
        let mut services = daemon.services.clone();
        services.clock = hands.clone();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            state: house.state.path().join("boot"),
            plane: PlaneSettings {
                interface: "lo".into(),
                address: "127.0.0.1".parse().unwrap(),
                prefix_length: 8,
                port: address.port(),
                dhcp: DhcpMode::Proxy,
                range: ("127.0.0.10".parse().unwrap(), "127.0.0.20".parse().unwrap()),
                announce_ipv6: false,
                files: "/nowhere".into(),
            },
            decision: decide::Settings {
                unknown: Unknown::Discover,
                base_url: format!("http://{address}"),
                most_boots_after_delivery: 3,
            },
            approve,
            give_up: GiveUp::Firmware,
            image: "device".into(),
            streams: 2,
            silence: Duration::from_secs(60),
            telemetry: Keeping::default(),
            consoles: None,
        };
        let desk = Desk::new(
            services,
            daemon.dispatch.clone(),
            daemon.images.clone(),
            settings,
        );
        let stop = CancellationToken::new();
        tokio::spawn(listener::serve(listener, desk.clone(), stop.clone()));
        tokio::spawn(desk.clone().run(stop.clone()));
        Self {
            house,
            daemon,
            desk,
            hands,
            address,
            stop,
        }
    }

    pub fn pass(&self, span: Duration) {
        self.hands
            .0
            .fetch_add(span.as_micros() as i64, Ordering::SeqCst);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn agent(&self, n: u8) -> Agent {
        Agent {
            address: self.address,
            n,
            boot: format!("00000000-0000-4000-8000-0000000000{n:02x}"),
            session: String::new(),
        }
    }

    pub async fn device(&self, name: &str) -> BootDevice {
        self.desk.boot_device(name).await.unwrap()
    }

    pub async fn events(&self, kind: &str) -> Vec<BootEvent> {
        let mut all = self.desk.events(None, 0, 1000).await.unwrap();
        all.retain(|event| event.kind == kind);
        all
    }

    /// Until the device is there. The sweep works by itself; nothing here is timed but the patience.
    pub async fn until(&self, name: &str, word: &str) -> BootDevice {
        for _ in 0..600 {
            let device = self.device(name).await;
            if device.phase.word() == word {
                return device;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} is not {word} but {:?}", self.device(name).await);
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub struct Said {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A device as the listener sees it.
pub struct Agent {
    pub address: SocketAddr,
    pub n: u8,
    pub boot: String,
    pub session: String,
}

impl Agent {
    pub fn mac(&self) -> String {
        format!("52:54:00:00:00:{:02x}", self.n)
    }

    /// What it is called where nobody has declared it.
    pub fn name(&self) -> String {
        format!("device-{}", self.mac().replace(':', ""))
    }

    pub fn serial(&self) -> String {
        format!("SN-{:04}", self.n)
    }

    pub fn uuid(&self) -> String {
        format!("4c4c4544-0000-1000-8000-0000000000{:02x}", self.n)
    }

    pub fn claims(&self) -> Value {
        json!({ "uuid": self.uuid(), "serial": self.serial(), "board_serial": null, "macs": [self.mac()], "disks": [format!("disk-{:04}", self.n)] })
    }

    pub fn registration(&self) -> Value {
        json!({ "protocol": 1, "boot_id": self.boot, "boot_mac": self.mac(), "claims": self.claims() })
    }

    pub fn inventory(&self) -> Value {
        json!({
            "version": 1, "arch": "x86_64", "firmware": "bios", "kernel": "6.12",
            "cpu": { "model": "QEMU", "vendor": "AuthenticAMD", "sockets": 1, "cores": 1, "threads": 1 },
            "memory_mib": 1024,
            "system": { "vendor": "Greenroom", "product": "Lab device", "serial": self.serial(), "uuid": self.uuid() },
            "disks": [{ "name": "vda", "bytes": 9_u64 << 30, "kind": "hdd", "removable": false, "serial": format!("disk-{:04}", self.n) }],
            "nics": [{ "name": "eth0", "mac": self.mac(), "link": true, "boot": true }],
            "pci": [], "tpm": null
        })
    }

    pub async fn register(&mut self) -> u16 {
        let said = self
            .post("/device/v1/register", "", &self.registration())
            .await;
        if said.status == 200 {
            self.session = said.json()["session"].as_str().unwrap().to_owned();
        }
        said.status
    }

    pub async fn tell_inventory(&self) -> u16 {
        self.post("/device/v1/inventory", &self.session, &self.inventory())
            .await
            .status
    }

    pub async fn heartbeat(&self, doing: Value) -> Said {
        let body = json!({ "boot_id": self.boot, "sequence": 1, "doing": doing });
        self.post("/device/v1/heartbeat", &self.session, &body)
            .await
    }

    pub async fn idle(&self) -> Value {
        self.heartbeat(json!({ "doing": "idle" })).await.json()
    }

    pub async fn exchange(&self, token: &str) -> Said {
        self.post(
            "/device/v1/exchange",
            &self.session,
            &json!({ "token": token }),
        )
        .await
    }

    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Said {
        let body = body.to_string();
        let bearer = if bearer.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {bearer}\r\n")
        };
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{bearer}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ).into_bytes())
        .await
    }

    pub async fn get(&self, path: &str, bearer: &str, range: &str) -> Said {
        let bearer = if bearer.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {bearer}\r\n")
        };
        let range = if range.is_empty() {
            String::new()
        } else {
            format!("Range: {range}\r\n")
        };
        self.send(
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{bearer}{range}\r\n")
                .into_bytes(),
        )
        .await
    }

    /// These bytes, then everything that comes back.
    pub async fn send(&self, bytes: Vec<u8>) -> Said {
        let address = self.address;
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            // A server that has heard enough may close before all is sent.
            let _ = stream.write_all(&bytes);
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            let end = all
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(all.len(), |at| at + 4);
            let head = String::from_utf8_lossy(&all[..end]).into_owned();
            Said {
                status: head
                    .get(9..12)
                    .and_then(|digits| digits.parse().ok())
                    .unwrap_or(0),
                head,
                body: all[end..].to_vec(),
            }
        })
        .await
        .unwrap()
    }
}
