//! The OpenAPI document, against the server that it describes.

use std::collections::BTreeSet;

use axum::http::Method;
use greenroom::outbound::Settings;
use greenroom::vocab::access::Role;
use serde_json::Value;

use crate::ground::Ground;

async fn document(ground: &Ground) -> Value {
    let reply = ground.get("/api/v1/openapi.json").send().await.fine(200);
    assert_eq!(reply.header("content-type"), "application/json");
    reply.json()
}

#[tokio::test]
async fn the_document_names_every_route_of_the_router_and_no_other() {
    let ground = Ground::new().await;
    let document = document(&ground).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let mut declared = BTreeSet::new();
    for routes in greenroom::web::all_routes() {
        for op in routes.ops {
            let path = format!("{}{}", routes.prefix, op.path);
            declared.insert((op.declared.method.to_string(), path));
        }
    }
    assert_eq!(described, declared);
    // For who wants to look at it, or to make a client of it.
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&document).unwrap()).unwrap();
    eprintln!(
        "the document: {}, {} operations",
        path.display(),
        described.len()
    );
    // And the running server has exactly these: asked without a token, a route that is there never says
    // that it is not, and a method that is not described is not there.
    let token = ground.token(Role::Viewer, None).await;
    for path in described
        .iter()
        .map(|(_, path)| path)
        .collect::<BTreeSet<_>>()
    {
        let concrete = path.replace("{word}", "nosuch").replace(['{', '}'], "");
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
        ] {
            let is_described = described.contains(&(method.to_string(), path.clone()));
            let (status, ..) = ground
                .ask(method.clone(), &concrete)
                .token(&token)
                .head()
                .await;
            assert_eq!(
                status != 405,
                is_described,
                "{method} {concrete} answered {status}"
            );
        }
    }
    ground
        .get("/api/v1/nosuch")
        .token(&token)
        .send()
        .await
        .refused(404);
}

#[tokio::test]
async fn answers_are_what_the_document_says() {
    let ground = Ground::with_pool(Settings::default()).await;
    ground.apply_chain().await;
    ground.apply_persona().await;
    ground.add_device("box", "lab").await;
    ground.put_on_network("box").await;
    let class = ground.warm("lab").await;
    ground.take("lab", "mine").await;
    let run = ground.run("box").await;
    let document = document(&ground).await;
    let admin = ground.token(Role::Admin, None).await;
    for (path, template) in [
        ("/api/v1/version".to_owned(), "/api/v1/version"),
        ("/api/v1/status".into(), "/api/v1/status"),
        ("/api/v1/images".into(), "/api/v1/images"),
        ("/api/v1/chains".into(), "/api/v1/chains"),
        ("/api/v1/chains/hello".into(), "/api/v1/chains/{name}"),
        ("/api/v1/devices".into(), "/api/v1/devices"),
        ("/api/v1/devices/box".into(), "/api/v1/devices/{name}"),
        ("/api/v1/runs".into(), "/api/v1/runs"),
        (format!("/api/v1/runs/{run}?journal=1"), "/api/v1/runs/{id}"),
        (
            format!("/api/v1/runs/{run}/output"),
            "/api/v1/runs/{id}/output",
        ),
        ("/api/v1/boot/devices".into(), "/api/v1/boot/devices"),
        ("/api/v1/boot/events".into(), "/api/v1/boot/events"),
        (
            "/api/v1/devices/box/boot".into(),
            "/api/v1/devices/{name}/boot",
        ),
        (
            "/api/v1/devices/box/telemetry?span_s=60&metric=cpu&step=fine".into(),
            "/api/v1/devices/{name}/telemetry",
        ),
        (
            "/api/v1/devices/box/persona".into(),
            "/api/v1/devices/{name}/persona",
        ),
        ("/api/v1/personas".into(), "/api/v1/personas"),
        ("/api/v1/personas/plain".into(), "/api/v1/personas/{name}"),
        (
            "/api/v1/personas/plain/history".into(),
            "/api/v1/personas/{name}/history",
        ),
        (
            "/api/v1/personas/plain/diff".into(),
            "/api/v1/personas/{name}/diff",
        ),
        (
            "/api/v1/persona-catalogue".into(),
            "/api/v1/persona-catalogue",
        ),
        (
            "/api/v1/persona-assignments".into(),
            "/api/v1/persona-assignments",
        ),
        ("/api/v1/persona-rules".into(), "/api/v1/persona-rules"),
        ("/api/v1/pools".into(), "/api/v1/pools"),
        (format!("/api/v1/pools/{class}"), "/api/v1/pools/{class}"),
        ("/api/v1/pool/status".into(), "/api/v1/pool/status"),
        ("/api/v1/templates?all=1".into(), "/api/v1/templates"),
        (
            format!("/api/v1/templates/{class}"),
            "/api/v1/templates/{id}",
        ),
        ("/api/v1/claims".into(), "/api/v1/claims"),
        ("/api/v1/session".into(), "/api/v1/session"),
        ("/api/v1/tokens".into(), "/api/v1/tokens"),
        ("/api/v1/users".into(), "/api/v1/users"),
        ("/api/v1/audit".into(), "/api/v1/audit"),
        ("/api/v1/audit/verify".into(), "/api/v1/audit/verify"),
        ("/api/v1/webhooks".into(), "/api/v1/webhooks"),
        ("/problems/stranger".into(), "/problems/{word}"),
        ("/readyz".into(), "/readyz"),
    ] {
        let answer = ground
            .get(&path)
            .token(&admin)
            .send()
            .await
            .fine(200)
            .json();
        let operation = &document["paths"][template]["get"];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(
            schema.is_object() || schema.is_boolean(),
            "{template} has no schema"
        );
        fits(&document, schema, &answer, &path);
    }
    let problem = ground
        .get("/api/v1/devices/nosuch")
        .token(&admin)
        .send()
        .await;
    let schema = &document["components"]["responses"]["Problem"]["content"]["application/problem+json"]
        ["schema"];
    fits(&document, schema, &problem.refused(404), "a problem");
}

fn fits(document: &Value, schema: &Value, answer: &Value, shown: &str) {
    let mut whole = schema.clone();
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("components".into(), document["components"].clone());
    }
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{shown}: {faults:#?}");
}

#[tokio::test]
async fn the_viewer_needs_no_other_network_and_its_policy_allows_none() {
    let ground = Ground::new().await;
    let page = ground.get("/api/v1/docs").send().await.fine(200);
    let policy = page.header("content-security-policy").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(
        !text.contains("http:") && !text.contains("https:") && !text.contains("//"),
        "{text}"
    );
    assert!(
        !text.contains("<style") && !text.contains(" style=") && !text.contains("onclick"),
        "{text}"
    );
    for (path, media_type) in [("page.js", "text/javascript"), ("page.css", "text/css")] {
        let asset = ground
            .get(&format!("/api/v1/docs/{path}"))
            .send()
            .await
            .fine(200);
        assert!(asset.header("content-type").starts_with(media_type));
        assert!(!asset.text().contains("innerHTML"));
    }
    let first = ground.get("/api/v1/openapi.json").send().await;
    let again = ground
        .get("/api/v1/openapi.json")
        .header("if-none-match", first.header("etag"))
        .send()
        .await;
    assert_eq!((again.status, again.body.len()), (304, 0));
}
