//! Webhooks and syslog, received by real listeners.

use std::time::Duration;

use base64::Engine as _;
use greenroom::api::AddWebhook;
use greenroom::outbound::syslog::{Collector, Transport};
use greenroom::outbound::{Settings, Targets};
use greenroom::vocab::access::Role;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use crate::ground::Ground;

struct Message {
    head: String,
    body: String,
}

impl Message {
    fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines();
        let found = lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

/// A receiver that gives these answers in turn, the last one for ever.
async fn receiver(answers: &'static [&'static str]) -> (u16, mpsc::UnboundedReceiver<Message>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, inbox) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut turn = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let mut buffer = [0; 4096];
            let message = loop {
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                text.push_str(&String::from_utf8_lossy(&buffer[..n]));
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.to_lowercase();
                    let length = length.split("content-length: ").nth(1).unwrap();
                    let length: usize = length.lines().next().unwrap().parse().unwrap();
                    if body.len() >= length {
                        break Message {
                            head: head.into(),
                            body: body.into(),
                        };
                    }
                }
                assert!(n > 0, "cut off: {text}");
            };
            let answer = answers[turn.min(answers.len() - 1)];
            turn += 1;
            let answer = format!(
                "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    (port, inbox)
}

fn open(first_wait_ms: u64, tries: i64) -> Settings {
    Settings {
        targets: Targets {
            hosts: vec!["127.0.0.1".into()],
            allow_private: true,
            allow_http: true,
        },
        first_wait: Duration::from_millis(first_wait_ms),
        tries,
        ..Settings::default()
    }
}

async fn next(inbox: &mut mpsc::UnboundedReceiver<Message>) -> Message {
    let message = tokio::time::timeout(Duration::from_secs(60), inbox.recv());
    message
        .await
        .expect("a message in time")
        .expect("a receiver")
}

fn hook(port: u16, kinds: &[&str], client: Option<&str>) -> AddWebhook {
    AddWebhook {
        name: "desk".into(),
        url: format!("http://127.0.0.1:{port}/hook?x=1"),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        client: client.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_webhook_is_told_with_a_signature_and_again_until_it_takes_it() {
    let (port, mut inbox) = receiver(&["503 Busy", "500 Oh", "204 Fine"]).await;
    let ground = Ground::with(open(20, 10), |_| {}).await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    ground.run("box").await;
    let added = ground
        .local
        .webhook_add(&hook(port, &["run_succeeded"], None))
        .await
        .unwrap();
    let run = ground.run("box").await;
    let tries = [
        next(&mut inbox).await,
        next(&mut inbox).await,
        next(&mut inbox).await,
    ];
    let key = added.secret.0.strip_prefix("whsec_").unwrap();
    let key = base64::engine::general_purpose::STANDARD
        .decode(key)
        .unwrap();
    for message in &tries {
        assert!(
            message.head.starts_with("POST /hook?x=1 HTTP/1.1"),
            "{}",
            message.head
        );
        assert_eq!(
            message.header("content-type"),
            "application/cloudevents+json"
        );
        let event: Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(event["type"], "greenroom.run.run_succeeded");
        assert_eq!(
            event["data"]["run"], run,
            "nothing from before it was added"
        );
        assert_eq!(event["id"], message.header("webhook-id"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let signed = format!(
            "{}.{}.{}",
            message.header("webhook-id"),
            message.header("webhook-timestamp"),
            message.body
        );
        mac.update(signed.as_bytes());
        let signature = message.header("webhook-signature");
        let signature = signature.strip_prefix("v1,").unwrap();
        let signature = base64::engine::general_purpose::STANDARD
            .decode(signature)
            .unwrap();
        mac.verify_slice(&signature).unwrap();
    }
    assert_eq!(
        tries[0].header("webhook-id"),
        tries[2].header("webhook-id"),
        "doubles are known by it"
    );
    let fate = settled(&ground).await;
    assert_eq!(
        (fate["state"].as_str(), fate["tries"].as_i64()),
        (Some("delivered"), Some(3))
    );
    assert!(
        !serde_json::to_string(&ground.local.webhook_list().await.unwrap())
            .unwrap()
            .contains("whsec")
    );
}

/// The newest delivery of `desk`, once it is settled.
async fn settled(ground: &Ground) -> Value {
    loop {
        let log = ground.local.webhook_deliveries("desk").await.unwrap();
        if let Some(newest) = log.first().filter(|one| one.state != "waiting") {
            return serde_json::to_value(newest).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_is_given_up_and_redirects_are_not_followed() {
    let (port, mut inbox) = receiver(&["302 Elsewhere"]).await;
    let ground = Ground::with(open(1, 3), |_| {}).await;
    ground.apply_chain().await;
    ground.add_device("ours", "lab").await;
    ground.add_device("theirs", "other").await;
    ground
        .local
        .webhook_add(&hook(port, &["run_succeeded"], Some("lab")))
        .await
        .unwrap();
    ground.run("theirs").await;
    ground.run("ours").await;
    let first: Value = serde_json::from_str(&next(&mut inbox).await.body).unwrap();
    assert_eq!(first["data"]["client"], "lab");
    let fate = settled(&ground).await;
    assert_eq!(
        (fate["state"].as_str(), fate["tries"].as_i64()),
        (Some("dead"), Some(3))
    );
    assert!(
        fate["error"]
            .as_str()
            .unwrap()
            .contains("redirects are not followed"),
        "{fate}"
    );
    let tested = ground.local.webhook_test("desk").await.unwrap();
    assert!(!tested.delivered && tested.status == Some(302));
    ground.local.webhook_remove("desk").await.unwrap();
    assert!(ground.local.webhook_test("desk").await.is_err());
}

#[tokio::test]
async fn targets_that_are_not_allowed_are_refused_when_added_and_when_called() {
    let ground = Ground::with(
        Settings {
            targets: Targets {
                hosts: vec![
                    "127.0.0.1".into(),
                    "localhost".into(),
                    "hooks.example.com".into(),
                ],
                allow_private: false,
                allow_http: true,
            },
            ..Settings::default()
        },
        |_| {},
    )
    .await;
    let (port, mut inbox) = receiver(&["200 Fine"]).await;
    let admin = ground.token(Role::Admin, None).await;
    for url in [
        format!("http://127.0.0.1:{port}/"),
        "https://elsewhere.example.com/".into(),
        "file:///etc/passwd".into(),
        "https://user:pass@hooks.example.com/".into(),
    ] {
        let body = json!({ "name": "desk", "url": url });
        let problem = ground
            .post("/api/v1/webhooks", body)
            .token(&admin)
            .send()
            .await
            .refused(422);
        assert_eq!(problem["errors"][0]["path"], "url", "{url}");
    }
    // A listed name whose address is private is found out when it is resolved.
    let body = json!({ "name": "desk", "url": format!("http://localhost:{port}/") });
    ground
        .post("/api/v1/webhooks", body)
        .token(&admin)
        .send()
        .await
        .fine(201);
    let tested = ground.local.webhook_test("desk").await.unwrap();
    assert!(tested.error.unwrap().contains("private"));
    assert!(inbox.try_recv().is_err(), "nothing arrived");
}

#[tokio::test]
async fn a_collector_hears_the_audit_log_over_udp() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        syslog: Some(Collector {
            address: socket.local_addr().unwrap().to_string(),
            transport: Transport::Udp,
            facility: 13,
        }),
        ..Settings::default()
    };
    let ground = Ground::with(settings, |_| {}).await;
    ground.add_device("box", "lab").await;
    let mut buffer = [0; 65536];
    let mut heard = String::new();
    while !heard.contains("action=\"device_put\"") || !heard.contains("status=\"200\"") {
        let read = tokio::time::timeout(Duration::from_secs(30), socket.recv(&mut buffer));
        let n = read.await.expect("a message").unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert!(text.starts_with("<1") && text.contains(">1 20"), "{text}");
        heard.push_str(&text);
    }
}

#[tokio::test]
async fn a_collector_hears_everything_in_order_over_tcp_and_after_it_was_away() {
    // A port on which nobody listens yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = Settings {
        syslog: Some(Collector {
            address: address.to_string(),
            transport: Transport::Tcp,
            facility: 13,
        }),
        ..Settings::default()
    };
    let ground = Ground::with(settings, |_| {}).await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    ground.run("box").await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("run_succeeded") {
        let read = tokio::time::timeout(Duration::from_secs(90), stream.read(&mut buffer));
        let n = read.await.expect("messages").unwrap();
        assert!(n > 0);
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap_or_default());
    }
    // Octet counting: each message is preceded by its length.
    let mut rest = text.as_bytes();
    let mut seqs = Vec::new();
    while let Some(space) = rest.iter().position(|byte| *byte == b' ') {
        let length: usize = std::str::from_utf8(&rest[..space])
            .unwrap()
            .parse()
            .unwrap();
        let Some(message) = rest.get(space + 1..space + 1 + length) else {
            break;
        };
        let message = std::str::from_utf8(message).unwrap();
        if let Some(seq) = message.split("seq=\"").nth(1) {
            seqs.push(seq.split('"').next().unwrap().parse::<i64>().unwrap());
        }
        rest = &rest[space + 1 + length..];
    }
    let expected: Vec<i64> = (1..=seqs.len() as i64).collect();
    assert!(seqs.len() >= 4);
    assert_eq!(seqs, expected, "each record once, in order");
}

#[tokio::test]
async fn a_webhook_over_tls_needs_a_certificate_that_is_believed() {
    let ground = Ground::with(open(20, 3), |_| {}).await;
    // The daemon's own listener as the target: it answers 405, and that it was reached is what counts.
    let url = format!("https://127.0.0.1:{}/healthz", ground.address.port());
    let order = AddWebhook {
        url,
        ..hook(1, &[], None)
    };
    ground.local.webhook_add(&order).await.unwrap();
    let tested = ground.local.webhook_test("desk").await.unwrap();
    assert_eq!(tested.status, Some(405), "{tested:?}");

    let stranger = tempfile::tempdir().unwrap();
    let (pem, _acceptor) = certificate(stranger.path());
    let settings = Settings {
        authorities: Some(pem),
        ..open(20, 3)
    };
    let ground = Ground::with(settings, |_| {}).await;
    let order = AddWebhook {
        url: format!("https://127.0.0.1:{}/healthz", ground.address.port()),
        ..hook(1, &[], None)
    };
    ground.local.webhook_add(&order).await.unwrap();
    let tested = ground.local.webhook_test("desk").await.unwrap();
    let error = tested.error.unwrap();
    assert!(error.contains("TLS"), "{error}");
}

fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, tokio_rustls::TlsAcceptor) {
    let own = greenroom::web::tls::Certificate::Own {
        folder: folder.to_owned(),
        names: vec!["127.0.0.1".into()],
    };
    let acceptor = greenroom::web::tls::acceptor(&own).unwrap();
    (folder.join("self-signed.pem"), acceptor)
}

#[tokio::test]
async fn a_collector_hears_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (pem, acceptor) = certificate(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        authorities: Some(pem),
        syslog: Some(Collector {
            address: listener.local_addr().unwrap().to_string(),
            transport: Transport::Tls,
            facility: 13,
        }),
        ..Settings::default()
    };
    let collector = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains("action=\"device_put\"") {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    let ground = Ground::with(settings, |_| {}).await;
    ground.add_device("box", "lab").await;
    let heard = tokio::time::timeout(Duration::from_secs(60), collector);
    heard.await.expect("a message in time").unwrap();
}
