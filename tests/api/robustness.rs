//! Bad requests, big requests, slow requests, and what monitors see.

use std::time::Duration;

use greenroom::vocab::access::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ground::Ground;

#[tokio::test]
async fn every_answer_says_that_it_is_no_page_and_is_not_to_be_kept() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Viewer, None).await;
    for path in ["/api/v1/runs", "/api/v1/nosuch", "/healthz", "/"] {
        let reply = ground.get(path).token(&token).send().await;
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert!(
            reply
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        assert_eq!(reply.header("x-request-id").len(), 36);
    }
}

#[tokio::test]
async fn bad_requests_are_refused_by_problems() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Admin, None).await;
    let large = "x".repeat(5 << 20);
    let huge = ground
        .post("/api/v1/chains", json!({ "source": large }))
        .token(&token);
    huge.send().await.refused(413);
    let huge = ground
        .post("/api/v1/chains", json!({ "source": "x".repeat(5 << 20) }))
        .token(&token);
    huge.header("idempotency-key", "k")
        .send()
        .await
        .refused(413);
    let unknown = ground
        .post("/api/v1/devices", json!({ "name": "a", "colour": "red" }))
        .token(&token);
    unknown.send().await.refused(400);
    let text = ground
        .post("/api/v1/devices", json!({ "name": "a" }))
        .token(&token);
    text.header("content-type", "text/plain")
        .send()
        .await
        .refused(400);
    ground
        .get("/api/v1/runs/first")
        .token(&token)
        .send()
        .await
        .refused(404);
    ground
        .get("/api/v1/runs/1/artefacts/a%2Fb")
        .token(&token)
        .send()
        .await
        .refused(404);
    ground
        .get("/api/v1/devices/%FF")
        .token(&token)
        .send()
        .await
        .refused(404);
    ground.get("/problems/nosuch").send().await.refused(404);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut ask = ground.post("/api/v1/devices", json!(0)).token(&token);
    ask = ask.text(deep);
    ask.send().await.refused(400);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_not_http_is_no_ones_request() {
    let ground = Ground::new().await;
    for head in [
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "y".repeat(100 << 10)
        ),
        "SSH-2.0-x\r\n\r\n".to_owned(),
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
            "a: b\r\n".repeat(200)
        ),
    ] {
        let mut stream = ground.connect().await;
        // The server may close before it has read all.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    ground.get("/healthz").send().await.fine(200);
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Operator, None).await;
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut stream = ground.connect().await;
        let begun = if n % 2 == 0 {
            "GET /api/v1/runs HTTP/1.1\r\nhost: x\r\nx-very: slo".to_owned()
        } else {
            format!(
                "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
            )
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..20 {
        let ask = ground.get("/api/v1/devices").token(&token).send();
        tokio::time::timeout(Duration::from_secs(20), ask)
            .await
            .expect("an answer")
            .fine(200);
    }
}

#[tokio::test]
async fn who_hangs_up_does_not_undo_what_was_begun() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Operator, None).await;
    // At different moments of the request's way: some hang up before anything is begun.
    for n in 0..20u64 {
        let body = json!({ "name": format!("box-{n}") }).to_string();
        let mut stream = ground.connect().await;
        let request = format!(
            "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(n)).await;
        let _ = stream.shutdown().await;
    }
    let mut tries = 0;
    let log = loop {
        let log = ground
            .local
            .audit_list(None, Some("device_put"), 100)
            .await
            .unwrap();
        if !log.is_empty() && log.iter().all(|call| call.status == 200) {
            break log;
        }
        tries += 1;
        assert!(tries < 1000, "what was begun has no end: {log:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let there = ground.local.device_list().await.unwrap().len();
    assert!(there >= log.len(), "{there} devices, {} ends", log.len());
}

#[tokio::test]
async fn monitors_see_life_readiness_and_numbers() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    ground.run("box").await;
    assert_eq!(
        ground.get("/healthz").send().await.fine(200).text(),
        "alive\n"
    );
    let ready = ground.get("/readyz").send().await.fine(200).json();
    assert_eq!(
        ready,
        json!({ "ready": true, "database": true, "host": true })
    );
    ground.get("/metrics").send().await.refused(401);
    let token = ground.token(Role::Viewer, None).await;
    let text = ground
        .get("/metrics")
        .token(&token)
        .send()
        .await
        .fine(200)
        .text();
    for line in [
        "greenroom_runs{state=\"succeeded\"} 1",
        "greenroom_attempts_total{result=\"succeeded\"} 1",
        "greenroom_stage_duration_seconds_count{chain=\"hello\",stage=\"greet\"} 1",
        "greenroom_machines 0",
        "greenroom_api_request_duration_seconds_count{operation=\"readyz\",status=\"2xx\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in:\n{text}"
        );
    }
}
