//! Machines of the pool, taken by callers who are bound to one client.

use axum::http::Method;
use greenroom::outbound::Settings;
use greenroom::vocab::access::Role;
use serde_json::json;

use crate::ground::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_operator_takes_machines_of_the_own_client_and_nobody_elses() {
    let ground = Ground::with_pool(Settings::default()).await;
    ground.warm("lab").await;
    ground.warm("other").await;
    let lab = ground.token(Role::Operator, Some("lab")).await;
    let other = ground.token(Role::Operator, Some("other")).await;
    let order =
        json!({ "image": "tiny", "key": "mine", "exec": { "argv": ["true"] }, "keep": true });
    let taken = ground
        .post("/api/v1/claims", order.clone())
        .token(&lab)
        .send()
        .await
        .fine(201)
        .json();
    assert_eq!(taken["claim"]["client"], "lab");
    assert!(
        taken["claim"]["class"].as_str().unwrap().ends_with("@lab"),
        "{taken}"
    );
    // Another's key is no way to another's machine: nothing runs there, and nothing is said of it.
    let refused = ground
        .post("/api/v1/claims", order)
        .token(&other)
        .send()
        .await
        .refused(409);
    assert_eq!(refused["detail"], "the key \"mine\" is taken; use another");
    for (token, seen) in [(&lab, 1), (&other, 0)] {
        let list = ground.get("/api/v1/claims").token(token).send().await;
        let list = list.fine(200).json();
        assert_eq!(list["items"].as_array().unwrap().len(), seen);
    }
    let release = |token: &str| {
        let ask = ground.ask(Method::DELETE, "/api/v1/claims/mine");
        ask.token(token).send()
    };
    release(&other).await.refused(404);
    release(&lab).await.fine(204);
    // What was released is a success again, for whose it was.
    release(&other).await.refused(404);
    release(&lab).await.fine(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_applied_a_persona_is_who_asked() {
    let ground = Ground::new().await;
    let author = ground.token(Role::Author, None).await;
    let order = json!({ "files": [{ "source": "persona: plain\n" }], "by": "somebody else" });
    ground
        .post("/api/v1/personas", order)
        .token(&author)
        .send()
        .await
        .fine(201);
    let shown = ground
        .get("/api/v1/personas/plain")
        .token(&author)
        .send()
        .await;
    let by = shown.fine(200).json()["applied_by"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(by.starts_with("token:author"), "{by}");
    let viewer = ground.token(Role::Viewer, None).await;
    let text = json!({ "source": "persona: other\n" });
    let preview = |token: String| {
        ground
            .post("/api/v1/persona-previews", text.clone())
            .token(&token)
            .send()
    };
    preview(viewer).await.refused(403);
    preview(author).await.fine(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_the_network_boot_are_walked_page_by_page_for_the_own_client() {
    let ground = Ground::new().await;
    for (name, client) in [("a", "lab"), ("b", "other"), ("c", "lab"), ("d", "other")] {
        ground.add_device(name, client).await;
        ground.put_on_network(name).await;
    }
    let bound = ground.token(Role::Viewer, Some("other")).await;
    let (mut subjects, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/boot/events?limit=1{cursor}");
        let page = ground
            .get(&path)
            .token(&bound)
            .send()
            .await
            .fine(200)
            .json();
        for event in page["items"].as_array().unwrap() {
            subjects.push(event["subject"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(subjects, ["b", "d"]);
}
