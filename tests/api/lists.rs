//! Pages, filters, conditional changes.

use axum::http::Method;
use greenroom::vocab::access::Role;
use serde_json::json;

use crate::ground::{CHAIN, Ground};

#[tokio::test]
async fn a_list_is_walked_page_by_page_while_things_are_added() {
    let ground = Ground::new().await;
    for n in 0..7 {
        let client = if n % 2 == 0 { "lab" } else { "other" };
        ground.add_device(&format!("box-{n}"), client).await;
    }
    let token = ground.token(Role::Viewer, None).await;
    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/api/v1/devices?limit=3{cursor}");
        let page = ground
            .get(&path)
            .token(&token)
            .send()
            .await
            .fine(200)
            .json();
        for item in page["items"].as_array().unwrap() {
            names.push(item["name"].as_str().unwrap().to_owned());
        }
        pages += 1;
        ground.add_device("a-new-one-before", "lab").await;
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(
        names,
        (0..7).map(|n| format!("box-{n}")).collect::<Vec<_>>()
    );
    assert_eq!(pages, 3);
    let lab = ground
        .get("/api/v1/devices?client=lab")
        .token(&token)
        .send()
        .await
        .json();
    assert_eq!(lab["items"].as_array().unwrap().len(), 5);
    let bound = ground.token(Role::Viewer, Some("other")).await;
    let own = ground
        .get("/api/v1/devices")
        .token(&bound)
        .send()
        .await
        .json();
    assert_eq!(own["items"].as_array().unwrap().len(), 3);
    let foreign = ground
        .get("/api/v1/devices?client=lab")
        .token(&bound)
        .send()
        .await
        .json();
    assert_eq!(foreign["items"], json!([]));
    ground
        .get("/api/v1/devices?cursor=xyz")
        .token(&token)
        .send()
        .await
        .refused(400);
    ground
        .get("/api/v1/devices?colour=red")
        .token(&token)
        .send()
        .await
        .refused(400);
    ground
        .get("/api/v1/runs?limit=many")
        .token(&token)
        .send()
        .await
        .refused(400);
}

#[tokio::test]
async fn runs_are_filtered() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("one", "lab").await;
    ground.add_device("two", "other").await;
    let first = ground.run("one").await;
    ground.run("two").await;
    let third = ground.run("one").await;
    let token = ground.token(Role::Viewer, None).await;
    let ids = |query: &str| {
        let ask = ground.get(&format!("/api/v1/runs?{query}")).token(&token);
        async move {
            let page = ask.send().await.fine(200).json();
            let items = page["items"].as_array().unwrap().clone();
            items
                .iter()
                .map(|run| run["id"].as_i64().unwrap())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(ids("device=one").await, [third, first], "newest first");
    assert_eq!(ids("client=other").await.len(), 1);
    assert_eq!(ids("chain=hello&state=succeeded").await.len(), 3);
    assert!(ids("chain=nosuch").await.is_empty());
    assert_eq!(ids("limit=1&below=3").await, [2]);
    let bad = ground
        .get("/api/v1/runs?state=tired")
        .token(&token)
        .send()
        .await
        .refused(400);
    assert!(bad["detail"].as_str().unwrap().contains("succeeded"));
}

#[tokio::test]
async fn a_change_of_what_has_changed_since_is_refused() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Operator, None).await;
    let put = |headers: Vec<(&'static str, String)>, facts| {
        let mut ask = ground
            .ask(Method::PUT, "/api/v1/devices/box")
            .token(&token)
            .json(json!({ "facts": facts }));
        for (name, value) in headers {
            ask = ask.header(name, &value);
        }
        ask.send()
    };
    let made = put(vec![("if-none-match", "*".into())], json!({}))
        .await
        .fine(200);
    put(vec![("if-none-match", "*".into())], json!({}))
        .await
        .refused(412);
    let read = ground
        .get("/api/v1/devices/box")
        .token(&token)
        .send()
        .await
        .fine(200);
    let tag = read.header("etag").to_owned();
    assert_eq!(made.header("etag"), tag);
    let known = ground
        .get("/api/v1/devices/box")
        .token(&token)
        .header("if-none-match", &tag);
    assert_eq!(known.send().await.status, 304);
    let changed = put(vec![("if-match", tag.clone())], json!({ "serial": "X1" }))
        .await
        .fine(200);
    assert_ne!(changed.header("etag"), tag);
    let problem = put(vec![("if-match", tag)], json!({ "serial": "X2" }))
        .await
        .refused(412);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains(changed.header("etag").trim_matches('"'))
    );
    let now = ground
        .get("/api/v1/devices/box")
        .token(&token)
        .send()
        .await
        .json();
    assert_eq!(now["facts"]["serial"], "X1");
}

#[tokio::test]
async fn of_two_who_read_the_same_one_changes_it() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Operator, None).await;
    ground.add_device("box", "default").await;
    let tag = ground.get("/api/v1/devices/box").token(&token).send().await;
    let tag = tag.header("etag");
    let asks = (0..6).map(|n| {
        let ask = ground.ask(Method::PUT, "/api/v1/devices/box").token(&token);
        let ask = ask
            .header("if-match", tag)
            .json(json!({ "facts": { "writer": n } }));
        ask.send()
    });
    let mut statuses: Vec<u16> = futures::future::join_all(asks)
        .await
        .iter()
        .map(|reply| reply.status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn a_chain_is_applied_over_the_version_that_was_read() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Author, None).await;
    let apply = |source: String, tag: Option<String>| {
        let mut ask = ground
            .post("/api/v1/chains", json!({ "source": source }))
            .token(&token);
        if let Some(tag) = tag {
            ask = ask.header("if-match", &tag);
        }
        ask.send()
    };
    let first = apply(CHAIN.into(), None).await.fine(201);
    let tag = first.header("etag").to_owned();
    assert_eq!(first.header("location"), "/api/v1/chains/hello");
    let shown = ground
        .get("/api/v1/chains/hello")
        .token(&token)
        .send()
        .await
        .fine(200);
    assert_eq!(shown.header("etag"), tag);
    let next = CHAIN.replace("greetings", "hello");
    let second = apply(next.clone(), Some(tag.clone())).await.fine(201);
    assert_eq!(second.json()["version"], 2);
    apply(next, Some(tag)).await.refused(412);
    let faults = apply("chain: x\nstages: []\n".into(), None)
        .await
        .refused(422);
    assert!(!faults["errors"].as_array().unwrap().is_empty());
}
