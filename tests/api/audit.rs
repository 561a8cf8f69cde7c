//! The audit log: every change is in it, and a log that was tampered with says so.

use greenroom::vocab::access::Role;
use serde_json::json;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::ground::Ground;

#[tokio::test]
async fn who_changed_what_from_where_and_how_it_went() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Operator, None).await;
    let viewer = ground.token(Role::Viewer, None).await;
    let reply = ground
        .post("/api/v1/devices", json!({ "name": "box" }))
        .token(&token)
        .send()
        .await
        .fine(200);
    let id = reply.header("x-request-id").to_owned();
    ground
        .post("/api/v1/devices", json!({ "name": "box" }))
        .token(&viewer)
        .send()
        .await
        .refused(403);
    ground
        .post("/api/v1/devices", json!({ "name": "a/b" }))
        .token(&token)
        .send()
        .await
        .refused(422);
    ground
        .post(
            "/api/v1/session",
            json!({ "name": "eve", "password": "hunter2hunter2" }),
        )
        .send()
        .await
        .refused(401);
    ground
        .get("/api/v1/devices")
        .token(&viewer)
        .send()
        .await
        .fine(200);
    let log = ground.local.audit_list(None, None, 100).await.unwrap();
    let found = log.iter().find(|call| call.request == id).unwrap();
    assert_eq!((found.action.as_str(), found.status), ("device_put", 200));
    assert_eq!(found.subject, "POST /api/v1/devices");
    assert_eq!(
        (found.origin.as_str(), found.role.as_str()),
        ("127.0.0.1", "operator")
    );
    assert!(
        found.who.starts_with("token:operator of None ("),
        "{}",
        found.who
    );
    let refused: Vec<_> = log
        .iter()
        .filter(|call| call.action == "device_put" && call.status >= 400)
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|call| !call.detail.is_empty()));
    let login = log
        .iter()
        .find(|call| call.action == "session_begin")
        .unwrap();
    assert_eq!((login.who.as_str(), login.status), ("stranger", 401));
    assert!(
        log.iter().all(|call| !call.action.ends_with("_list")),
        "reading is no change"
    );
    let all = serde_json::to_string(&log).unwrap();
    assert!(
        !all.contains("hunter2") && !all.contains(&token),
        "no secret"
    );
    let own = ground
        .local
        .audit_list(Some("token:operator"), Some("device_put"), 100)
        .await
        .unwrap();
    assert_eq!(own.len(), 2);
    let local = ground
        .local
        .audit_list(Some("socket:uid="), None, 100)
        .await
        .unwrap();
    assert_eq!(local.len(), 2, "the two tokens");
    let verdict = ground.local.audit_verify(None).await.unwrap();
    assert!(verdict.whole, "{verdict:?}");
}

#[tokio::test]
async fn a_log_that_was_tampered_with_is_not_whole() {
    for (what, sql) in [
        (
            "a changed row",
            "UPDATE audit SET who = 'user:somebody' WHERE seq = 3",
        ),
        ("a removed row", "DELETE FROM audit WHERE seq = 3"),
        ("a first row removed", "DELETE FROM audit WHERE seq = 1"),
        ("an end cut off", "DELETE FROM audit WHERE seq >= 5"),
        ("all removed", "DELETE FROM audit"),
        (
            "an answer made milder",
            "UPDATE audit SET status = 200 WHERE seq = 4",
        ),
        (
            "a hash repaired",
            "UPDATE audit SET hash = previous WHERE seq = 4",
        ),
    ] {
        let ground = Ground::new().await;
        for _ in 0..3 {
            ground.token(Role::Viewer, None).await;
        }
        let before = ground.local.audit_verify(None).await.unwrap();
        assert!(before.whole && before.records == 6, "{before:?}");
        let kept = ground.local.audit_verify(Some(&before.head)).await.unwrap();
        assert!(kept.whole);
        let path = ground.house.state.path().join("greenroom.db");
        let options = SqliteConnectOptions::new().filename(path);
        let mut forger = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query(sql).execute(&mut forger).await.unwrap();
        let verdict = ground.local.audit_verify(None).await.unwrap();
        assert!(!verdict.whole, "{what}");
        assert!(verdict.flaw.is_some());
    }
}
