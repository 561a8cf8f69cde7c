//! Devices that lie, repeat, flood, and resemble others. None may stall or harm another.

use std::time::Duration;

use greenroom::netboot::settings::Approve;
use serde_json::json;

use crate::station::Station;
use crate::way::{token, until_ordered, with_chain, with_disk};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_used_twice_stops_its_device() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let right = agent.exchange(token(&order)).await;
    assert_eq!(right.status, 200);
    assert_eq!(agent.exchange(token(&order)).await.status, 403);
    assert_eq!(station.device(&agent.name()).await.phase.word(), "held");
    assert_eq!(station.events("token_replayed").await.len(), 1);
    let credential = right.json()["credential"].as_str().unwrap().to_owned();
    assert_eq!(
        agent.get("/device/v1/data", &credential, "").await.status,
        403
    );
    assert_eq!(agent.idle().await["order"], "wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_exchanges_at_once_have_one_winner() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let (one, other) = tokio::join!(agent.exchange(token(&order)), agent.exchange(token(&order)));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_anothers_token_or_session() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut victim = station.agent(1);
    let order = until_ordered(&station, &mut victim).await;
    let mut thief = station.agent(2);
    assert_eq!(thief.register().await, 200);
    assert_eq!(thief.exchange(token(&order)).await.status, 403);
    assert_eq!(
        victim.exchange(token(&order)).await.status,
        200,
        "it was not spent"
    );
    // A session is not a credential, and a token of one kind is none of another.
    assert_eq!(
        thief
            .get("/device/v1/data", &thief.session, "")
            .await
            .status,
        401
    );
    assert_eq!(
        thief
            .get("/device/v1/manifest", &"0".repeat(64), "")
            .await
            .status,
        401
    );
    assert_eq!(
        thief
            .post("/device/v1/telemetry", &thief.session, &json!({}))
            .await
            .status,
        422
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_and_are_stored_as_hashes() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    station.pass(Duration::from_secs(121));
    assert_eq!(agent.exchange(token(&order)).await.status, 401);
    for suffix in ["", "-wal"] {
        let path = station
            .house
            .state
            .path()
            .join(format!("greenroom.db{suffix}"));
        let bytes = std::fs::read(path).unwrap_or_default();
        for secret in [&agent.session, &token(&order).to_owned()] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a token is in the database");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_is_refused_while_the_device_is_there() {
    let station = Station::open(Approve::Network).await;
    let mut device = station.agent(1);
    assert_eq!(device.register().await, 200);
    assert_eq!(device.tell_inventory().await, 200);
    let mut twin = station.agent(1);
    twin.boot = "22222222-0000-4000-8000-000000000001".into();
    assert_eq!(twin.register().await, 409);
    assert_eq!(station.events("twin").await.len(), 1);
    assert_eq!(
        device.idle().await["order"],
        "wait",
        "the device itself goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_borrows_an_address_becomes_nobody_and_harms_nobody() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut victim = station.agent(1);
    until_ordered(&station, &mut victim).await;
    let before = station.device(&victim.name()).await;
    // Another machine with the victim's card address.
    let mut liar = station.agent(9);
    let mut words = liar.registration();
    words["boot_mac"] = json!(victim.mac());
    words["claims"]["macs"] = json!([victim.mac()]);
    let said = liar.post("/device/v1/register", "", &words).await;
    assert_eq!(said.status, 200);
    let name = said.json()["device"].as_str().unwrap().to_owned();
    assert_ne!(name, victim.name());
    liar.session = said.json()["session"].as_str().unwrap().to_owned();
    assert_eq!(station.device(&name).await.phase.word(), "quarantined");
    assert_eq!(liar.tell_inventory().await, 200);
    assert_eq!(liar.idle().await["order"], "wait");
    let after = station.device(&victim.name()).await;
    assert_eq!(
        (before.phase, before.fingerprint),
        (after.phase, after.fingerprint)
    );
    assert_eq!(
        station
            .desk
            .standing(victim.mac().parse().unwrap())
            .await
            .unwrap(),
        greenroom::netboot::decide::Standing::Known {
            phase: after_phase(&station, &victim.name()).await,
            boots_since_delivery: 0,
        }
    );
}

async fn after_phase(station: &Station, name: &str) -> greenroom::vocab::boot::BootPhase {
    station.device(name).await.phase
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_the_next_is_served() {
    let station = Station::open(Approve::Network).await;
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    // Megabytes of inventory, control characters, another version, another machine's protocol.
    let huge = json!({ "version": 1, "x": "y".repeat(3 << 20) });
    assert_eq!(
        agent
            .post("/device/v1/inventory", &agent.session, &huge)
            .await
            .status,
        413
    );
    let mut odd = agent.inventory();
    odd["system"]["product"] = json!("\u{1b}[2J");
    assert_eq!(
        agent
            .post("/device/v1/inventory", &agent.session, &odd)
            .await
            .status,
        422
    );
    let mut odd = agent.registration();
    odd["protocol"] = json!(99);
    assert_eq!(
        agent.post("/device/v1/register", "", &odd).await.status,
        422
    );
    let mut odd = agent.registration();
    odd["boot_mac"] = json!("ff:ff:ff:ff:ff:ff");
    assert_eq!(
        agent.post("/device/v1/register", "", &odd).await.status,
        422
    );
    let mut odd = agent.registration();
    odd["boot_id"] = json!("../../x");
    assert_eq!(
        agent.post("/device/v1/register", "", &odd).await.status,
        422
    );
    assert_eq!(
        agent
            .post("/device/v1/heartbeat", &agent.session, &json!("["))
            .await
            .status,
        422
    );
    // Paths that lead elsewhere, and what is only for operators.
    for path in [
        "/boot/files/..%2f..%2fgreenroom.db",
        "/boot/files/%2e%2e/greenroom.db",
        "/boot/files/",
        "/boot/device/zz",
        "/boot/device/..%2f",
        "/boot/ramdisk/x/kernel",
        "/api/v1/status",
        "/api/v1/devices",
        "/device/v1/",
        "/",
        "/boot/device/52-54-00-00-00-01/x",
        "/%00",
        "/boot/files/undionly.kpxe%00",
    ] {
        assert_eq!(agent.get(path, "", "").await.status, 404, "{path}");
    }
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET",
        b"GET / HTTP/9\r\n\r\n",
        b"POST /device/v1/register HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ] {
        let stream = bytes.to_vec();
        let address = agent.address;
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let _ = std::net::TcpStream::connect(address)
                .unwrap()
                .write_all(&stream);
        })
        .await
        .unwrap();
    }
    assert_eq!(agent.tell_inventory().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_of_another_machine_leads_into_quarantine() {
    let station = Station::open(Approve::Network).await;
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    let other = station.agent(2).inventory();
    assert_eq!(
        agent
            .post("/device/v1/inventory", &agent.session, &other)
            .await
            .status,
        200
    );
    assert_eq!(
        station.device(&agent.name()).await.phase.word(),
        "quarantined"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_images_are_sent_at_once() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let credential = agent.exchange(token(&order)).await.json()["credential"]
        .as_str()
        .unwrap()
        .to_owned();
    let places = station
        .desk
        .streams
        .clone()
        .acquire_many_owned(2)
        .await
        .unwrap();
    assert_eq!(
        agent.get("/device/v1/data", &credential, "").await.status,
        503
    );
    assert_eq!(
        agent.idle().await["order"],
        "install",
        "everything else is served"
    );
    drop(places);
    assert_eq!(
        agent.get("/device/v1/data", &credential, "").await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_database() {
    let station = Station::open(Approve::Network).await;
    for n in 0..4200_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        station
            .desk
            .heard(
                greenroom::vocab::boot::Mac([2, 0, 0, a, b, c]),
                "asked".into(),
            )
            .await
            .unwrap();
        station.pass(Duration::from_millis(1));
    }
    assert_eq!(
        station.desk.strangers().await.unwrap().len(),
        1000,
        "of those shown"
    );
    let path = station.house.state.path().join("greenroom.db");
    let database = greenroom::store::Store::open(&path).await.unwrap();
    let mut connection = database.read().await.unwrap();
    let all = greenroom::store::boot::client_strangers(&mut connection, i64::MAX)
        .await
        .unwrap();
    assert_eq!(all.len(), 4096);
}
