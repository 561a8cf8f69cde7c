//! Traces of a daemon, as a collector on loopback gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use crate::command::{greenroom, greenroom_fed};
use crate::daemon::Daemon;
use crate::images::{GOOD, recipe};

const CHAIN: &str = "\
chain: traced
stages:
  - name: only
    kind: custom
    image: fake
    resources: { memory: 64 MiB }
    run: |
      echo done
    output: { format: none }
";

/// What was sent: path, media type, body.
struct Export {
    path: String,
    media_type: String,
    body: Vec<u8>,
}

/// Takes one request and says that all of it was taken.
fn answer(stream: TcpStream) -> std::io::Result<Export> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut media_type) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().expect("a number"),
            "content-type" => value.clone_into(&mut media_type),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut stream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(Export {
        path,
        media_type,
        body,
    })
}

/// Whether protobuf's encoding of a text is in it: its length, then its bytes.
fn says(body: &[u8], text: &str) -> bool {
    let mut wanted = vec![u8::try_from(text.len()).expect("a short text")];
    wanted.extend(text.as_bytes());
    body.windows(wanted.len()).any(|part| part == wanted)
}

#[test]
fn runs_their_actions_and_requests_are_told_to_a_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (taken, exports) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(export) = answer(stream)
                && taken.send(export).is_err()
            {
                return;
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    recipe(here, "fake", GOOD);
    greenroom(here, &["image", "build", "fake"]).exits(0);
    std::fs::write(here.join("traced.yaml"), CHAIN).unwrap();
    let config = format!("telemetry: {{ otlp: 'http://127.0.0.1:{port}' }}\n");
    std::fs::write(here.join("c.yaml"), config).unwrap();
    let daemon = Daemon::start_with(here, &["--config", "c.yaml"]);
    greenroom(here, &["chain", "apply", "traced.yaml"]).exits(0);
    greenroom_fed(here, &["device", "add", "box", "--facts", "-"], "{}").exits(0);
    let start = [
        "run", "start", "--device", "box", "--chain", "traced", "--wait",
    ];
    greenroom(here, &start).exits(0);
    // What is left is sent before the end.
    daemon.stop();
    let exports: Vec<Export> = exports.try_iter().collect();
    assert!(!exports.is_empty(), "nothing was sent");
    for export in &exports {
        assert_eq!(export.path, "/v1/traces");
        assert_eq!(export.media_type, "application/x-protobuf");
    }
    let all: Vec<u8> = exports.into_iter().flat_map(|export| export.body).collect();
    for text in [
        "service.name",
        "greenroom",
        "run",
        "act",
        "request",
        "traced",
        "/api/v1/runs",
    ] {
        assert!(says(&all, text), "no span says {text:?}");
    }
    // A daemon whose collector is away works all the same: nobody listens at port 1.
    let config = "telemetry: { otlp: 'http://127.0.0.1:1' }\n";
    std::fs::write(here.join("away.yaml"), config).unwrap();
    let daemon = Daemon::start_with(here, &["--config", "away.yaml"]);
    greenroom(here, &start).exits(0);
    daemon.stop();
}
