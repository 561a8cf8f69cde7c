//! Server-sent events: live, resumed, scoped, ended with the server.

use std::time::Duration;

use greenroom::vocab::access::Role;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::ground::{Ask, Ground};

/// Reads a stream's events.
struct Ear {
    body: Incoming,
    rest: String,
}

impl Ear {
    async fn open(ask: Ask<'_>) -> Self {
        let (status, headers, body) = ask.head().await;
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Self {
            body,
            rest: String::new(),
        }
    }

    /// The next event's id and data; none at the end of the stream.
    async fn next(&mut self) -> Option<(i64, Value)> {
        loop {
            if let Some((frame, rest)) = self.rest.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.rest = rest;
                let field = |name: &str| {
                    let line = frame.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim().to_owned())
                };
                if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                    return Some((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame());
            let bytes = frame.await.expect("news")?.ok()?.into_data().ok()?;
            self.rest.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn until(&mut self, kind: &str) -> Vec<(i64, Value)> {
        let mut heard = Vec::new();
        loop {
            let event = self.next().await.expect("not the end");
            let is_it = event.1["kind"] == kind;
            heard.push(event);
            if is_it {
                return heard;
            }
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_and_a_broken_stream_goes_on_where_it_was() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    ground.run("box").await;
    let token = ground.token(Role::Viewer, None).await;
    let mut live = Ear::open(ground.get("/api/v1/events").token(&token)).await;
    let run = ground.run("box").await;
    let heard = live.until("run_succeeded").await;
    assert!(
        heard.iter().all(|(_, event)| event["run"] == run),
        "nothing from before"
    );
    assert!(
        heard
            .iter()
            .all(|(id, event)| event["id"] == *id && event["device"] == "box")
    );
    drop(live);

    let half = &heard[heard.len() / 2];
    let ask = ground.get("/api/v1/events").token(&token);
    let mut resumed = Ear::open(ask.header("last-event-id", &half.0.to_string())).await;
    let again = resumed.until("run_succeeded").await;
    assert_eq!(
        again,
        heard[heard.len() / 2 + 1..],
        "each once, none left out"
    );

    let mut all = Ear::open(
        ground
            .get("/api/v1/events?after=0&kind=run_succeeded")
            .token(&token),
    )
    .await;
    let ends = [all.next().await.unwrap(), all.next().await.unwrap()];
    assert_eq!(
        ends.map(|(_, event)| event["run"].as_i64().unwrap()),
        [1, 2]
    );
    let bad = ground
        .get("/api/v1/events")
        .token(&token)
        .header("last-event-id", "x");
    bad.send().await.refused(400);
}

#[tokio::test]
async fn who_is_bound_to_a_client_hears_of_that_clients_runs() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("ours", "lab").await;
    ground.add_device("theirs", "other").await;
    let token = ground.token(Role::Viewer, Some("lab")).await;
    let mut ear = Ear::open(ground.get("/api/v1/events?after=0").token(&token)).await;
    ground.run("theirs").await;
    ground.run("ours").await;
    let heard = ear.until("run_succeeded").await;
    assert!(
        heard.iter().all(|(_, event)| event["client"] == "lab"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn streams_are_counted_and_places_come_back() {
    let ground = Ground::with(Default::default(), |doors| doors.limits.streams = 2).await;
    let token = ground.token(Role::Viewer, None).await;
    let open = || ground.get("/api/v1/events").token(&token);
    let first = Ear::open(open()).await;
    let _second = Ear::open(open()).await;
    let busy = open().send().await.refused(503);
    assert_eq!(busy["type"], "/problems/busy");
    drop(first);
    let mut tries = 0;
    while open().head().await.0 != 200 {
        tries += 1;
        assert!(tries < 1000, "the place did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_stops_listening() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Viewer, None).await;
    let id = ground.local.token_list().await.unwrap()[0].id.clone();
    let mut ear = Ear::open(ground.get("/api/v1/events").token(&token)).await;
    ground.local.token_revoke(&id).await.unwrap();
    assert!(
        ear.next().await.is_none(),
        "it ends within the time that the ear waits"
    );
}
