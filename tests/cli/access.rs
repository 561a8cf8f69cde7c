//! Who may do what, from the command line.

use crate::command::{greenroom, greenroom_fed};
use crate::daemon::Daemon;

const PASSWORD: &str = "correct horse battery\n";

#[test]
fn tokens_users_webhooks_and_the_log_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let _daemon = Daemon::start(here);

    let made = greenroom(
        here,
        &[
            "token", "create", "ci", "--role", "operator", "--client", "lab",
        ],
    )
    .exits(0);
    assert!(made.out.starts_with("grn_"), "{}", made.out);
    assert!(made.err.contains("not shown again"), "{}", made.err);
    let list = greenroom(here, &["token", "list", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(list[0]["client"], "lab");
    assert!(!list.to_string().contains(made.out.trim()));
    let id = list[0]["id"].as_str().unwrap();
    let gone = greenroom(here, &["token", "revoke", id]).exits(0);
    assert!(gone.out.contains("is revoked"), "{}", gone.out);
    greenroom(here, &["token", "revoke", "nosuch"]).exits(3);
    greenroom(here, &["token", "create", "x", "--role", "king"]).exits(2);

    greenroom_fed(
        here,
        &["user", "create", "ada", "--role", "admin"],
        PASSWORD,
    )
    .exits(0);
    let again = greenroom_fed(
        here,
        &["user", "create", "ada", "--role", "admin"],
        PASSWORD,
    )
    .exits(4);
    assert!(again.err.contains("already"), "{}", again.err);
    let poor = greenroom_fed(
        here,
        &["user", "create", "bob", "--role", "viewer"],
        "short\n",
    )
    .exits(5);
    assert!(poor.err.contains("12 characters"), "{}", poor.err);
    greenroom(here, &["user", "create", "bob", "--role", "viewer"]).exits(2);
    greenroom_fed(
        here,
        &["user", "password", "ada"],
        "another horse battery\n",
    )
    .exits(0);
    let users = greenroom(here, &["user", "list"]).exits(0);
    assert!(
        users.out.contains("ada") && users.out.contains("socket:uid="),
        "{}",
        users.out
    );
    greenroom(here, &["user", "remove", "ada"]).exits(0);
    greenroom(here, &["user", "remove", "ada"]).exits(3);

    let refused = greenroom(here, &["webhook", "add", "desk", "https://hooks.invalid/x"]).exits(5);
    assert!(
        refused.err.contains("api.webhooks.targets"),
        "{}",
        refused.err
    );
    greenroom(here, &["webhook", "test", "desk"]).exits(3);

    let log = greenroom(
        here,
        &["audit", "list", "--action", "user_create", "-o", "json"],
    )
    .exits(0)
    .json();
    let statuses: Vec<i64> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["status"].as_i64().unwrap())
        .collect();
    assert_eq!(statuses, [422, 409, 201], "newest first");
    assert!(!log.to_string().contains("horse"));
    let whole = greenroom(here, &["audit", "verify"]).exits(0);
    let head = whole
        .out
        .lines()
        .find_map(|line| line.strip_prefix("head "))
        .unwrap();
    greenroom(here, &["audit", "verify", "--head", head]).exits(0);
    let other = format!("1:{}", "0".repeat(64));
    greenroom(here, &["audit", "verify", "--head", &other]).exits(1);
    greenroom(here, &["audit", "verify", "--head", "nonsense"]).exits(2);
}
