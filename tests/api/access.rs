//! Tokens, users, sessions, the first admin, Idempotency-Key.

use axum::http::Method;
use greenroom::api::{CreateToken, CreateUser, Shown};
use greenroom::vocab::access::Role;
use greenroom::web;
use serde_json::json;

use crate::ground::{Ground, Reply};

const PASSWORD: &str = "correct horse battery";

async fn user(ground: &Ground, name: &str, role: Role) {
    let order = CreateUser {
        name: name.into(),
        password: Shown(PASSWORD.into()),
        role,
        client: None,
    };
    ground.local.user_create(&order).await.unwrap();
}

async fn login(ground: &Ground, name: &str, password: &str) -> Reply {
    let body = json!({ "name": name, "password": password });
    ground.post("/api/v1/session", body).send().await
}

/// The cookie as a browser sends it back, and the token against cross-site requests.
fn session(reply: &Reply) -> (String, String) {
    let cookie = reply.header("set-cookie");
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert!(pair.starts_with("__Host-greenroom="), "{cookie}");
    for attribute in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(attributes.contains(attribute), "{cookie}");
    }
    assert!(!attributes.contains("Domain"), "{cookie}");
    let csrf = reply.json()["csrf"].as_str().unwrap().to_owned();
    (pair.to_owned(), csrf)
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked_and_only_its_digest_is_stored() {
    let ground = Ground::new().await;
    let order = CreateToken {
        name: "ci".into(),
        role: Role::Operator,
        client: None,
        expires_in_s: Some(3600),
    };
    let created = ground.local.token_create(&order).await.unwrap();
    let secret = &created.secret.0;
    assert!(secret.starts_with("grn_") && secret.len() == 47);
    let me = ground
        .get("/api/v1/session")
        .token(secret)
        .send()
        .await
        .fine(200)
        .json();
    assert_eq!(me["role"], "operator");
    assert!(me["who"].as_str().unwrap().starts_with("token:ci ("));
    let mut kept = std::fs::read(ground.house.state.path().join("greenroom.db")).unwrap();
    kept.extend(std::fs::read(ground.house.state.path().join("greenroom.db-wal")).unwrap());
    let holds = |text: &str| kept.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(&created.token.id) && !holds(secret) && !holds(&secret[4..]));
    let order = CreateToken {
        expires_in_s: Some(1),
        ..order
    };
    assert!(
        ground.local.token_create(&order).await.is_err(),
        "shorter than a minute"
    );
    ground.local.token_revoke(&created.token.id).await.unwrap();
    let refused = ground.get("/api/v1/session").token(secret).send().await;
    refused.refused(401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"));
    let listed = ground.local.token_list().await.unwrap();
    assert_eq!(listed[0].state, "revoked");
    for bad in ["Bearer nonsense", "Basic YTpi", "Bearer grn_x"] {
        let ask = ground.get("/api/v1/runs").header("authorization", bad);
        ask.send().await.refused(401);
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let ground = Ground::new().await;
    let bound = ground.token(Role::Admin, Some("lab")).await;
    let make = |body| ground.post("/api/v1/tokens", body).token(&bound).send();
    let own = make(json!({ "name": "a", "role": "admin" }))
        .await
        .fine(201)
        .json();
    assert_eq!(own["client"], "lab", "without a client: the maker's own");
    make(json!({ "name": "a", "role": "viewer", "client": "other" }))
        .await
        .refused(403);
    make(json!({ "name": "", "role": "viewer" }))
        .await
        .refused(422);
    make(json!({ "name": "a", "role": "king" }))
        .await
        .refused(400);
    // A password is not set over the head of who may do more.
    user(&ground, "root", Role::Admin).await;
    let ask = ground
        .ask(Method::PUT, "/api/v1/users/root/password")
        .token(&bound);
    ask.json(json!({ "password": "another horse battery" }))
        .send()
        .await
        .refused(404);
}

#[tokio::test]
async fn a_browser_logs_in_changes_things_with_its_token_and_logs_out() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Operator).await;
    login(&ground, "ada", "wrong horse battery")
        .await
        .refused(401);
    let unknown = login(&ground, "nobody", PASSWORD).await.refused(401);
    assert_eq!(unknown["detail"], "the name or the password is wrong");
    let reply = login(&ground, "ada", PASSWORD).await.fine(200);
    let (cookie, csrf) = session(&reply);
    let me = ground
        .get("/api/v1/session")
        .header("cookie", &cookie)
        .send()
        .await
        .fine(200);
    assert_eq!(me.json()["who"], "user:ada");
    assert_eq!(
        me.json()["csrf"],
        csrf,
        "a page that was loaded anew finds it here"
    );

    let change = || {
        ground
            .post("/api/v1/devices", json!({ "name": "box" }))
            .header("cookie", &cookie)
    };
    change().send().await.refused(403);
    change()
        .header("x-csrf-token", "x")
        .send()
        .await
        .refused(403);
    change()
        .header("x-csrf-token", &csrf)
        .send()
        .await
        .fine(200);

    // A new login ends the old session: what was there before does not become a logged-in one.
    let again = ground
        .post(
            "/api/v1/session",
            json!({ "name": "ada", "password": PASSWORD }),
        )
        .header("cookie", &cookie)
        .send()
        .await
        .fine(200);
    let (next, csrf) = session(&again);
    assert_ne!(next, cookie);
    ground
        .get("/api/v1/session")
        .header("cookie", &cookie)
        .send()
        .await
        .refused(401);

    let ask = ground
        .ask(Method::DELETE, "/api/v1/session")
        .header("cookie", &next);
    let out = ask.header("x-csrf-token", &csrf).send().await.fine(204);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    ground
        .get("/api/v1/session")
        .header("cookie", &next)
        .send()
        .await
        .refused(401);
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_and_needs_the_old_one() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Viewer).await;
    let (cookie, csrf) = session(&login(&ground, "ada", PASSWORD).await);
    let set = |body| {
        ground
            .ask(Method::PUT, "/api/v1/users/ada/password")
            .header("cookie", &cookie)
            .header("x-csrf-token", &csrf)
            .json(body)
            .send()
    };
    set(json!({ "password": "another horse battery" }))
        .await
        .refused(422);
    set(json!({ "password": "short", "current": PASSWORD }))
        .await
        .refused(422);
    set(json!({ "password": "another horse battery", "current": PASSWORD }))
        .await
        .fine(204);
    ground
        .get("/api/v1/session")
        .header("cookie", &cookie)
        .send()
        .await
        .refused(401);
    login(&ground, "ada", PASSWORD).await.refused(401);
    login(&ground, "ada", "another horse battery")
        .await
        .fine(200);
    ground.local.user_remove("ada").await.unwrap();
    login(&ground, "ada", "another horse battery")
        .await
        .refused(401);
}

#[tokio::test]
async fn guessing_is_slowed() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Viewer).await;
    let mut statuses = Vec::new();
    for _ in 0..14 {
        statuses.push(login(&ground, "ada", "wrong horse battery").await.status);
    }
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[13], 429);
    let reply = login(&ground, "ada", PASSWORD).await;
    reply.refused(429);
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
    // Whoever is let in already is not kept out by the guesser at the same address.
    let token = ground.token(Role::Viewer, None).await;
    for _ in 0..20 {
        ground
            .get("/api/v1/session")
            .token("grn_wrong")
            .send()
            .await;
    }
    ground
        .get("/api/v1/session")
        .token("grn_wrong")
        .send()
        .await
        .refused(429);
    ground
        .get("/api/v1/session")
        .token(&token)
        .send()
        .await
        .fine(200);
}

#[tokio::test]
async fn an_allowance_is_each_callers_own() {
    let ground = Ground::with(Default::default(), |doors| {
        doors.limits.rate.per_s = 0.01;
        doors.limits.rate.burst = 3;
    })
    .await;
    let (one, two) = (
        ground.token(Role::Viewer, None).await,
        ground.token(Role::Viewer, None).await,
    );
    for _ in 0..3 {
        ground
            .get("/api/v1/runs")
            .token(&one)
            .send()
            .await
            .fine(200);
    }
    ground
        .get("/api/v1/runs")
        .token(&one)
        .send()
        .await
        .refused(429);
    ground
        .get("/api/v1/runs")
        .token(&two)
        .send()
        .await
        .fine(200);
}

#[tokio::test]
async fn the_first_admin_is_made_with_the_code_once() {
    let ground = Ground::new().await;
    let services = &ground.running.services;
    let old = web::bootstrap_code(services).await.unwrap().unwrap();
    let code = web::bootstrap_code(services).await.unwrap().unwrap();
    let use_code = |code: String| {
        let body = json!({ "code": code, "name": "ada", "password": PASSWORD });
        ground.post("/api/v1/bootstrap", body).send()
    };
    use_code("AAAAA-AAAAA-AAAAA-AAAAA-AAAAA".into())
        .await
        .refused(409);
    use_code(old.reveal().into()).await.refused(409);
    let made = use_code(code.reveal().to_lowercase())
        .await
        .fine(201)
        .json();
    assert_eq!(made["role"], "admin");
    use_code(code.reveal().into()).await.refused(409);
    assert!(
        web::bootstrap_code(services).await.unwrap().is_none(),
        "there is a user"
    );
    login(&ground, "ada", PASSWORD).await.fine(200);
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    let token = ground.token(Role::Operator, None).await;
    let start = |key: &'static str, body| {
        ground
            .post("/api/v1/runs", body)
            .token(&token)
            .header("idempotency-key", key)
            .send()
    };
    let body = || json!({ "device": "box", "chain": "hello" });
    let first = start("k1", body()).await.fine(202);
    assert_eq!(first.header("location"), "/api/v1/runs/1");
    let again = start("k1", body()).await.fine(202);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("location"), "/api/v1/runs/1");
    let runs = ground.get("/api/v1/runs").token(&token).send().await.json();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    let problem = start("k1", json!({ "device": "box" })).await.refused(422);
    assert_eq!(problem["type"], "/problems/key-reused");
    start("not a key", body()).await.refused(400);
    // A key is its caller's own.
    let other = ground.token(Role::Operator, None).await;
    let ask = ground
        .post("/api/v1/devices", json!({ "name": "b2" }))
        .token(&other);
    ask.header("idempotency-key", "k1").send().await.fine(200);
    // A refusal is an answer, too, and is given again.
    let refused = start("k2", json!({ "device": "nosuch" })).await;
    refused.refused(404);
    let again = start("k2", json!({ "device": "nosuch" })).await;
    assert_eq!((again.status, again.body), (404, refused.body));
    // What is shown once is not kept to be shown again.
    let admin = ground.token(Role::Admin, None).await;
    let make = || {
        let body = json!({ "name": "t", "role": "viewer" });
        let ask = ground.post("/api/v1/tokens", body).token(&admin);
        ask.header("idempotency-key", "k3").send()
    };
    make().await.fine(201);
    make().await.refused(409);
}

#[tokio::test]
async fn requests_with_one_key_at_the_same_time_are_done_once() {
    let ground = Ground::new().await;
    ground.apply_chain().await;
    ground.add_device("box", "lab").await;
    let token = ground.token(Role::Operator, None).await;
    let asks = (0..8).map(|_| {
        let body = json!({ "device": "box", "chain": "hello" });
        let ask = ground.post("/api/v1/runs", body).token(&token);
        ask.header("idempotency-key", "same").send()
    });
    let replies = futures::future::join_all(asks).await;
    assert!(
        replies
            .iter()
            .all(|reply| matches!(reply.status, 202 | 409))
    );
    assert!(replies.iter().any(|reply| reply.status == 202));
    let runs = ground.get("/api/v1/runs").token(&token).send().await.json();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
}
