//! Machines that come back as others: with another card, with a card that was another's, again during
//! their run, again and again under made-up names.

use std::time::Duration;

use greenroom::netboot::settings::Approve;
use serde_json::{Value, json};

use crate::station::{Agent, Station};
use crate::way::{until_ordered, with_chain, with_disk};

/// Registers with these cards, booted from the first.
async fn register_with(agent: &mut Agent, macs: &[&str]) -> Value {
    let mut words = agent.registration();
    words["boot_mac"] = json!(macs[0]);
    words["claims"]["macs"] = json!(macs);
    let said = agent.post("/device/v1/register", "", &words).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let registered = said.json();
    agent.session = registered["session"].as_str().unwrap().to_owned();
    registered
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_card_takes_nothing_along() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut device = station.agent(1);
    until_ordered(&station, &mut device).await;
    let name = device.name();
    // Its card is changed: it is still itself.
    station.pass(Duration::from_secs(30));
    device.boot = "44444444-0000-4000-8000-000000000001".into();
    let again = register_with(&mut device, &["52:54:00:aa:00:01"]).await;
    assert_eq!(again["device"], name.as_str());
    assert_eq!(station.events("changed").await.len(), 1);
    assert_eq!(station.device(&name).await.phase.word(), "installing");
    // The old card is in another machine now, which nobody knows.
    let mut stranger = station.agent(9);
    let old_card = device.mac();
    let other = register_with(&mut stranger, &[&old_card]).await;
    assert_ne!(other["device"], name.as_str(), "it is not who had the card");
    let order = stranger.idle().await;
    assert_ne!(order["order"], "install", "another's image");
    let victim = station.device(&name).await;
    assert_eq!(victim.phase.word(), "installing");
    assert_eq!(victim.fingerprint.serial, Some("sn-0001".into()));
    // The same stranger keeps the row that it got.
    station.pass(Duration::from_secs(30));
    stranger.boot = "55555555-0000-4000-8000-000000000001".into();
    let twice = register_with(&mut stranger, &[&old_card]).await;
    assert_eq!(twice["device"], other["device"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_boot_starts_no_second_run() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut device = station.agent(1);
    until_ordered(&station, &mut device).await;
    let old = device.session.clone();
    for n in 1..4 {
        station.pass(Duration::from_secs(30));
        device.boot = format!("66666666-0000-4000-8000-00000000000{n}");
        until_ordered(&station, &mut device).await;
        assert_eq!(
            station.device(&device.name()).await.run.map(|run| run.0),
            Some(1)
        );
    }
    assert_eq!(station.events("rebooted").await.len(), 3);
    let before = Agent {
        session: old,
        ..station.agent(1)
    };
    assert_eq!(
        before.heartbeat(json!({ "doing": "idle" })).await.status,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_whole_image_counts_as_delivered() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut device = station.agent(1);
    until_ordered(&station, &mut device).await;
    let odd = "it \u{1b}[2Jfailed\n".to_owned() + &"x".repeat(5000);
    device
        .heartbeat(json!({ "doing": "failed", "run": 1, "why": odd }))
        .await;
    let told = station.events("install_failed").await;
    assert!(!told[0].message.chars().any(char::is_control));
    assert!(told[0].message.len() <= 500);
    // Of another run, and of another image.
    let digest = "0".repeat(64);
    device
        .heartbeat(json!({ "doing": "installed", "run": 2, "digest": digest }))
        .await;
    assert_eq!(
        station.device(&device.name()).await.phase.word(),
        "installing"
    );
    device
        .heartbeat(json!({ "doing": "installed", "run": 1, "digest": digest }))
        .await;
    assert_eq!(station.device(&device.name()).await.phase.word(), "held");
}

/// Installed, and allowed to report.
async fn delivered(station: &Station) -> (Agent, String) {
    let mut device = station.agent(1);
    let order = until_ordered(station, &mut device).await;
    let right = device.exchange(crate::way::token(&order)).await.json();
    device
        .heartbeat(json!({ "doing": "installed", "run": 1, "digest": right["manifest"] }))
        .await;
    let report = right["report"].as_str().unwrap().to_owned();
    (device, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_report_lives_by_reports() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let (device, report) = delivered(&station).await;
    let mut telemetry = json!({ "boot_id": "b", "hostname": "h", "os": "o", "uptime_s": 1.0, "load_1": 0.1, "cpu_busy": 0.1, "memory_mib": 1, "memory_available_mib": 1,
        "disk_read": 1, "disk_written": 1, "net_received": 1, "net_sent": 1, "root_bytes": 1, "root_free": 1, "services": [], "applications": {} });
    let day = Duration::from_secs(86_400);
    for (days, status) in [(0, 200), (20, 200), (20, 200), (31, 401)] {
        station.pass(day * days);
        let said = device.post("/device/v1/telemetry", &report, &telemetry);
        assert_eq!(said.await.status, status, "after {days} days more");
    }
    telemetry["hostname"] = json!("\u{1b}[2J");
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let (device, report) = delivered(&station).await;
    let said = device.post("/device/v1/telemetry", &report, &telemetry);
    assert_eq!(said.await.status, 422, "control characters");
}
