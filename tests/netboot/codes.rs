//! Codes: good once, within their time, for their device, and not to be guessed.

use std::time::Duration;

use greenroom::netboot::settings::Approve;
use serde_json::json;

use crate::station::{Agent, Said, Station};
use crate::way::{with_chain, with_disk};

const HOUR: Duration = Duration::from_secs(3600);

async fn give(agent: &Agent, code: &str) -> Said {
    agent
        .post("/device/v1/code", &agent.session, &json!({ "code": code }))
        .await
}

async fn discovered(station: &Station, n: u8) -> Agent {
    let mut agent = station.agent(n);
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    assert_eq!(agent.idle().await["order"], "wait");
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_lets_one_device_on_once() {
    let station = Station::open(Approve::Operator).await;
    with_chain(&station).await;
    with_disk(&station);
    let first = discovered(&station, 1).await;
    let second = discovered(&station, 2).await;
    let (code, _) = station.desk.make_code(None, HOUR, "ada").await.unwrap();
    let typed = code.reveal().to_lowercase().replace('-', " ");
    assert_eq!(give(&first, &typed).await.status, 200);
    assert_eq!(
        give(&second, code.reveal()).await.status,
        403,
        "it is used up"
    );
    station.until(&first.name(), "installing").await;
    assert_eq!(station.device(&first.name()).await.trust.word(), "code");
    assert_eq!(
        station.device(&second.name()).await.trust.word(),
        "discovery"
    );
    assert_eq!(station.events("wrong_code").await.len(), 1);
    let mac = first.mac().parse().unwrap();
    let (tier, why) = station.desk.explain_trust(mac).await.unwrap();
    assert!(
        tier.starts_with("code") && why.contains("one-time"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_give_a_code_at_once_have_one_winner() {
    let station = Station::open(Approve::Operator).await;
    let (one, other) = (discovered(&station, 1).await, discovered(&station, 2).await);
    let (code, _) = station.desk.make_code(None, HOUR, "ada").await.unwrap();
    let (a, b) = tokio::join!(give(&one, code.reveal()), give(&other, code.reveal()));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_and_is_for_the_device_that_it_names() {
    let station = Station::open(Approve::Operator).await;
    let (one, other) = (discovered(&station, 1).await, discovered(&station, 2).await);
    let desk = &station.desk;
    let (code, _) = desk
        .make_code(Some(&one.name()), HOUR, "ada")
        .await
        .unwrap();
    assert_eq!(give(&other, code.reveal()).await.status, 403);
    assert_eq!(
        give(&one, code.reveal()).await.status,
        200,
        "another's try does not use it up"
    );
    let (late, _) = desk
        .make_code(None, Duration::from_secs(60), "ada")
        .await
        .unwrap();
    station.pass(Duration::from_secs(61));
    assert_eq!(give(&other, late.reveal()).await.status, 403);
    assert!(desk.make_code(Some("nobody"), HOUR, "ada").await.is_err());
    for lasts in [Duration::ZERO, Duration::from_secs(31 * 86_400)] {
        assert!(desk.make_code(None, lasts, "ada").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_slowed_down_and_a_quarantine_has_no_code() {
    let station = Station::open(Approve::Operator).await;
    let agent = discovered(&station, 1).await;
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(give(&agent, &"A".repeat(25)).await.status == 429);
    }
    assert_eq!(refused, 35, "five, then one a minute");
    assert_eq!(station.events("wrong_code").await.len(), 5);
    let (code, _) = station.desk.make_code(None, HOUR, "ada").await.unwrap();
    assert_eq!(
        give(&agent, code.reveal()).await.status,
        429,
        "a good one too, so that nothing is learnt"
    );
    station.pass(Duration::from_secs(61));
    station
        .desk
        .quarantine(&agent.name(), "to be looked at")
        .await
        .unwrap();
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    assert_eq!(give(&agent, code.reveal()).await.status, 403);
    let trust = station.device(&agent.name()).await.trust;
    assert_eq!(trust.word(), "discovery");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_stored_as_hashes() {
    let station = Station::open(Approve::Operator).await;
    let (code, _) = station.desk.make_code(None, HOUR, "ada").await.unwrap();
    let plain = code.reveal().replace('-', "");
    for suffix in ["", "-wal"] {
        let path = station
            .house
            .state
            .path()
            .join(format!("greenroom.db{suffix}"));
        let bytes = std::fs::read(path).unwrap_or_default();
        for secret in [code.reveal(), &plain] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a code is in the database");
        }
    }
}
