//! Forms as browsers send them: with a session's cookie, and the token that only our own pages know.

use axum::http::Method;
use greenroom::vocab::access::Role;

use crate::ground::{Ground, Reply};
use crate::sample::{PASSWORD, user};

const FORM: &str = "application/x-www-form-urlencoded";

async fn send(ground: &Ground, path: &str, cookie: &str, body: &str, from: Option<&str>) -> Reply {
    let mut ask = ground
        .ask(Method::POST, path)
        .header("content-type", FORM)
        .header("accept", "text/html")
        .text(body.to_owned());
    if !cookie.is_empty() {
        ask = ask.header("cookie", cookie);
    }
    if let Some(from) = from {
        ask = ask.header("origin", from);
    }
    ask.send().await
}

/// Logs in as a browser would; the cookie and the token of its forms.
async fn log_in(ground: &Ground, name: &str) -> (String, String) {
    let body = format!(
        "name={name}&password={}&next=%2Fruns",
        PASSWORD.replace(' ', "+")
    );
    let reply = send(ground, "/sign-in", "", &body, Some("https://localhost"))
        .await
        .fine(303);
    assert_eq!(reply.header("location"), "/runs");
    let cookie = reply
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let page = ground
        .get("/settings")
        .header("cookie", &cookie)
        .header("accept", "text/html")
        .send()
        .await
        .fine(200);
    let text = page.text();
    let (_, rest) = text
        .split_once("<meta name=\"csrf\" content=\"")
        .expect("a token");
    (cookie, rest.split('"').next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_counts_with_the_token_of_its_session_only() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Operator).await;
    let (cookie, csrf) = log_in(&ground, "ada").await;
    for token in ["", "csrf=", "csrf=wrong"] {
        let body = format!("name=box-1&{token}");
        let reply = send(&ground, "/devices", &cookie, &body, None)
            .await
            .fine(403);
        assert!(reply.header("content-type").starts_with("text/html"));
    }
    let body = format!("name=box-1&csrf={csrf}");
    let from_elsewhere = send(
        &ground,
        "/devices",
        &cookie,
        &body,
        Some("https://evil.example"),
    )
    .await;
    from_elsewhere.fine(403);
    let reply = send(&ground, "/devices", &cookie, &body, None)
        .await
        .fine(303);
    assert_eq!(reply.header("location"), "/devices/box-1?done=device");
    assert!(ground.local.device_show("box-1").await.is_ok());
    // Out, and the cookie is worth nothing any more.
    let reply = send(&ground, "/sign-out", &cookie, &format!("csrf={csrf}"), None)
        .await
        .fine(303);
    assert!(reply.header("set-cookie").contains("Max-Age=0"));
    let after = ground
        .get("/")
        .header("cookie", &cookie)
        .header("accept", "text/html")
        .send()
        .await;
    assert_eq!(after.fine(303).header("location"), "/sign-in?next=%2F");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_logs_nobody_in() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Admin).await;
    let body = format!("name=ada&password={}", PASSWORD.replace(' ', "+"));
    let reply = send(&ground, "/sign-in", "", &body, Some("https://evil.example")).await;
    assert!(reply.fine(403).headers.get("set-cookie").is_none());
    let wrong = send(&ground, "/sign-in", "", "name=ada&password=wrong", None)
        .await
        .fine(401);
    assert!(wrong.text().contains("the name or the password is wrong"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_admin_is_made_in_the_browser() {
    let ground = Ground::new().await;
    let code = greenroom::web::bootstrap_code(&ground.running.services)
        .await
        .unwrap()
        .unwrap();
    let short = format!("code={}&name=ada&password=short", code.reveal());
    let reply = send(&ground, "/first-admin", "", &short, None)
        .await
        .fine(422);
    assert!(reply.text().contains("12 characters"), "{}", reply.text());
    let body = format!(
        "code={}&name=ada&password={}",
        code.reveal(),
        PASSWORD.replace(' ', "+")
    );
    let reply = send(&ground, "/first-admin", "", &body, None)
        .await
        .fine(303);
    assert_eq!(reply.header("location"), "/sign-in?done=first");
    log_in(&ground, "ada").await;
    send(&ground, "/first-admin", "", &body, None)
        .await
        .fine(409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_while_writing_is_not_in_the_audit_log_and_a_change_is() {
    let ground = Ground::new().await;
    user(&ground, "ada", Role::Author).await;
    let (cookie, csrf) = log_in(&ground, "ada").await;
    let source = "persona%3A+web%0Aos%3A+%7B+variant%3A+debian-99+%7D%0A";
    let body = format!("csrf={csrf}&source={source}");
    let checked = send(&ground, "/personas/check", &cookie, &body, None)
        .await
        .fine(200)
        .json();
    assert_eq!(checked["faults"][0]["line"], 2, "{checked}");
    assert_eq!(checked["fields"]["persona"]["value"], "web");
    // The form changes the text where it stands.
    let text = "persona%3A+web%0Aos%3A%0A++variant%3A+debian-99%0A";
    let body = format!("csrf={csrf}&source={text}&set%3Aos.variant=debian-13");
    let filled = send(&ground, "/personas/check", &cookie, &body, None)
        .await
        .fine(200)
        .json();
    assert_eq!(
        filled["source"],
        "persona: web\nos:\n  variant: debian-13\n"
    );
    assert_eq!(filled["faults"].as_array().unwrap().len(), 0, "{filled}");
    let body = format!("csrf={csrf}&do=save&source=persona%3A+web%0A");
    send(&ground, "/personas/save", &cookie, &body, None)
        .await
        .fine(303);
    let log = ground.local.audit_list(None, None, 100).await.unwrap();
    let actions: Vec<&str> = log.iter().map(|record| record.action.as_str()).collect();
    assert!(actions.contains(&"page_persona_save"), "{actions:?}");
    assert!(!actions.contains(&"page_persona_check"), "{actions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn style_and_script_are_kept_by_browsers_for_good() {
    let ground = Ground::new().await;
    let page = ground
        .get("/sign-in")
        .header("accept", "text/html")
        .send()
        .await
        .fine(200)
        .text();
    for (start, media_type) in [
        ("href=\"/assets/", "text/css"),
        ("src=\"/assets/", "text/javascript"),
    ] {
        let (_, rest) = page.split_once(start).expect("a file");
        let path = format!("/assets/{}", rest.split('"').next().unwrap());
        let reply = ground.get(&path).send().await.fine(200);
        assert!(reply.header("content-type").starts_with(media_type));
        assert!(reply.header("cache-control").contains("immutable"));
        let tag = reply.header("etag").to_owned();
        ground
            .get(&path)
            .header("if-none-match", &tag)
            .send()
            .await
            .fine(304);
    }
    ground
        .get("/assets/page-000000000000.css")
        .send()
        .await
        .fine(404);
}
