//! The way of a device through the listener, with everything real but the device and the host.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use greenroom::chain::model::Chain;
use greenroom::netboot::settings::Approve;
use greenroom::store::power;
use greenroom::vocab::power::{Bmc, BmcAddress, OrderStep};
use greenroom::vocab::{Digest, Timestamp};
use serde_json::{Value, json};

use crate::station::{Agent, Station};
use crate::support::verbs::Verbs;
use crate::support::{StageExt, chain, says, stage};

/// A chain for every x86 device, that keeps its disk.
pub async fn with_chain(station: &Station) {
    let mut chain = chain("any", vec![stage("one", &says("hi")).on_disk()]);
    chain.when = Some("device.hardware.arch | default('') == 'x86_64'".into());
    chain.handoff_disk.as_mut().unwrap().keep = true;
    station.daemon.apply(&chain).await;
}

/// The simulated host's disks are only names: here is the file of run 1's.
pub fn with_disk(station: &Station) {
    let folder = station.house.state.path().join("vm");
    std::fs::create_dir_all(&folder).unwrap();
    let disk = std::fs::File::create(folder.join("run-1.handoff.raw")).unwrap();
    disk.set_len(16 << 20).unwrap();
    for piece in 0..3_u64 {
        let bytes: Vec<u8> = (0..65_536_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8 ^ piece as u8)
            .collect();
        disk.write_all_at(&bytes, piece * (5 << 20)).unwrap();
    }
}

/// Registers and is told to install.
pub async fn until_ordered(station: &Station, agent: &mut Agent) -> Value {
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    station.until(&agent.name(), "installing").await;
    let order = agent.idle().await;
    assert_eq!(order["order"], "install", "{order}");
    order
}

pub fn token(order: &Value) -> &str {
    order["token"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_word_to_the_first_report() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let script = format!("/boot/device/{}", agent.mac().replace(':', "-"));
    assert!(
        agent
            .get(&script, "", "")
            .await
            .text()
            .contains("greenroom.url=")
    );
    let order = until_ordered(&station, &mut agent).await;
    assert_eq!(order["disk"], "vda");
    let right = agent.exchange(token(&order)).await.json();
    let credential = right["credential"].as_str().unwrap().to_owned();
    let manifest = agent.get("/device/v1/manifest", &credential, "").await;
    assert_eq!(
        Digest::of(&manifest.body).to_string(),
        right["manifest"].as_str().unwrap()
    );
    let pieces = manifest.json()["pieces"].as_array().unwrap().clone();
    assert_eq!(pieces.len(), 3, "the holes are left out");
    // The connection breaks after the first piece: the rest comes from there on.
    let whole = agent.get("/device/v1/data", &credential, "").await.body;
    let from = pieces[1]["from"].as_u64().unwrap();
    let rest = agent
        .get("/device/v1/data", &credential, &format!("bytes={from}-"))
        .await;
    assert_eq!(rest.status, 206);
    assert!(
        rest.head.contains(&format!(
            "content-range: bytes {from}-{}/{}",
            whole.len() - 1,
            whole.len()
        )),
        "{}",
        rest.head
    );
    assert!(rest.body == whole[from as usize..]);
    assert_eq!(
        agent
            .get("/device/v1/data", &credential, "bytes=99999999999-")
            .await
            .status,
        416
    );
    agent
        .heartbeat(json!({ "doing": "installing", "run": 1, "written": 1, "of": 2 }))
        .await;
    assert_eq!(station.device(&agent.name()).await.written, 1);
    let done = agent
        .heartbeat(json!({ "doing": "installed", "run": 1, "digest": right["manifest"] }))
        .await;
    assert_eq!(done.json()["order"], "reboot");
    assert_eq!(
        agent.get("/device/v1/data", &credential, "").await.status,
        403,
        "it has its image"
    );
    assert!(
        agent.get(&script, "", "").await.text().contains("exit 0"),
        "netboot is off"
    );
    station.until(&agent.name(), "booted").await;
    let telemetry = json!({ "boot_id": "b", "hostname": "h", "os": "o", "uptime_s": 1.0, "load_1": 0.1, "cpu_busy": 0.1, "memory_mib": 1, "memory_available_mib": 1,
        "disk_read": 1, "disk_written": 1, "net_received": 1, "net_sent": 1, "root_bytes": 1, "root_free": 1, "services": [], "applications": {} });
    let report = right["report"].as_str().unwrap();
    assert_eq!(
        agent
            .post("/device/v1/telemetry", report, &telemetry)
            .await
            .status,
        200
    );
    station.until(&agent.name(), "reporting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_approved_waits_until_a_person_approves() {
    let station = Station::open(Approve::Operator).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    assert_eq!(agent.idle().await["order"], "wait");
    assert_eq!(
        station.device(&agent.name()).await.phase.word(),
        "discovered"
    );
    station.desk.approve(&agent.name()).await.unwrap();
    station.until(&agent.name(), "installing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_in_mid_stream_ends_the_rights_of_that_boot() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let right = agent.exchange(token(&order)).await.json();
    let old = (
        agent.session.clone(),
        right["credential"].as_str().unwrap().to_owned(),
    );
    station.pass(Duration::from_secs(30));
    agent.boot = "11111111-0000-4000-8000-000000000001".into();
    let order = until_ordered(&station, &mut agent).await;
    assert_eq!(agent.get("/device/v1/data", &old.1, "").await.status, 401);
    let again = Agent {
        session: old.0,
        ..station.agent(1)
    };
    assert_eq!(
        again.heartbeat(json!({ "doing": "idle" })).await.status,
        401
    );
    let right = agent.exchange(token(&order)).await.json();
    let credential = right["credential"].as_str().unwrap();
    assert_eq!(
        agent.get("/device/v1/data", credential, "").await.status,
        200
    );
    assert_eq!(station.device(&agent.name()).await.tries, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_from_its_disk_again_and_again_is_held() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let right = agent.exchange(token(&order)).await.json();
    agent
        .heartbeat(json!({ "doing": "installed", "run": 1, "digest": right["manifest"] }))
        .await;
    let script = format!("/boot/device/{}", agent.mac().replace(':', "-"));
    for _ in 0..4 {
        station.pass(Duration::from_secs(20));
        assert!(agent.get(&script, "", "").await.text().contains("exit 0"));
    }
    assert!(agent.get(&script, "", "").await.text().contains("sleep 60"));
    station.until(&agent.name(), "held").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_have_it_done_anew_and_forgotten() {
    let station = Station::open(Approve::Network).await;
    with_chain(&station).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let name = agent.name();
    assert!(
        station.desk.reprovision(&name).await.is_err(),
        "it is being provisioned already"
    );
    let right = agent.exchange(token(&order)).await.json();
    agent
        .heartbeat(json!({ "doing": "installed", "run": 1, "digest": right["manifest"] }))
        .await;
    station.until(&name, "delivered").await;
    let script = format!("/boot/device/{}", agent.mac().replace(':', "-"));
    assert!(agent.get(&script, "", "").await.text().contains("exit 0"));
    let told = station.desk.reprovision(&name).await.unwrap();
    assert!(
        told.next.contains("a person has to switch it off and on"),
        "{}",
        told.next
    );
    assert!(station.desk.network_orders().await.unwrap().is_empty());
    assert!(
        agent
            .get(&script, "", "")
            .await
            .text()
            .contains("greenroom.url="),
        "netboot is on again"
    );
    station.pass(Duration::from_secs(30));
    agent.boot = "33333333-0000-4000-8000-000000000001".into();
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    let run = station.device(&name).await.run.map(|run| run.0);
    assert_eq!(run, Some(2), "another run makes another image");
    // In quarantine its session ends, and it stays there however often it registers.
    station
        .desk
        .quarantine(&name, "to be looked at")
        .await
        .unwrap();
    assert_eq!(
        agent.heartbeat(json!({ "doing": "idle" })).await.status,
        401
    );
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    assert_eq!(station.device(&name).await.phase.word(), "quarantined");
    station.desk.release(&name).await.unwrap();
    assert_eq!(agent.register().await, 200);
    assert_eq!(agent.tell_inventory().await, 200);
    assert_ne!(station.device(&name).await.phase.word(), "quarantined");
    station.desk.quarantine(&name, "once more").await.unwrap();
    station.desk.forget(&name).await.unwrap();
    assert!(station.desk.boot_device(&name).await.is_err());
    station.pass(Duration::from_secs(30));
    assert_eq!(agent.register().await, 200);
    assert_eq!(station.device(&name).await.phase.word(), "registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_bmc_is_booted_by_it_when_it_is_to_be_done_anew() {
    let station = Station::open(Approve::Operator).await;
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    let name = agent.name();
    let device = station.device(&name).await;
    let bmc = Bmc {
        device: device.device,
        address: BmcAddress::Manual {
            note: "room 12".into(),
        },
        secret: None,
        refused: 0,
        set_at: Timestamp(1),
    };
    let store = &station.daemon.services.store;
    store
        .write(move |connection| Box::pin(async move { power::bmc_put(connection, &bmc).await }))
        .await
        .unwrap();
    station.desk.reprovision(&name).await.unwrap();
    let orders = station.desk.network_orders().await.unwrap();
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (orders[0].step, &orders[0].boot_id),
        (OrderStep::SetBoot, &device.boot_id)
    );
    // What is forgotten is not booted.
    station.desk.forget(&name).await.unwrap();
    assert!(station.desk.network_orders().await.unwrap().is_empty());
}

fn report(n: u32) -> Value {
    json!({ "version": 2, "boot_id": "b", "hostname": "box", "os": "o", "uptime_s": 10.0 + f64::from(n), "load_1": 0.1, "cpu_busy": 0.1, "memory_mib": 100, "memory_available_mib": 60,
        "disk_read": 1000 * n, "disk_written": 1, "net_received": 1, "net_sent": 1, "root_bytes": 10, "root_free": 5, "processes": 3, "services": [], "applications": {},
        "details": { "units": { "ssh.service": "active" }, "packages": {}, "firewall": null } })
}

/// Makes a disk, and looks at what its device reports.
fn watched() -> Chain {
    let mut chain = chain(
        "watched",
        vec![
            stage("one", &says("hi")).on_disk(),
            stage("look", &says("seen")).after_delivery(3600),
        ],
    );
    chain.when = Some("device.hardware.arch | default('') == 'x86_64'".into());
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_until_its_device_reports_and_then_looks_at_what_it_says() {
    let station = Station::open(Approve::Network).await;
    station.daemon.apply(&watched()).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let id = greenroom::vocab::RunId(order["run"].as_i64().unwrap());
    let view = station.daemon.view(id).await;
    assert_eq!(view.run.state.word(), "waiting");
    let right = agent.exchange(token(&order)).await.json();
    agent
        .heartbeat(json!({ "doing": "installed", "run": id.0, "digest": right["manifest"] }))
        .await;
    let script = format!("/boot/device/{}", agent.mac().replace(':', "-"));
    assert!(agent.get(&script, "", "").await.text().contains("exit 0"));
    station.until(&agent.name(), "booted").await;
    station.pass(Duration::from_secs(40));
    let bearer = right["report"].as_str().unwrap();
    for n in 1..4 {
        let said = agent.post("/device/v1/telemetry", bearer, &report(n)).await;
        assert_eq!(
            (said.status, said.json()["every_s"].as_u64()),
            (200, Some(15))
        );
        station.pass(Duration::from_secs(10));
    }
    let absurd = json!({ "boot_id": "b\u{1b}[2J" });
    let said = agent.post("/device/v1/telemetry", bearer, &absurd).await;
    assert_eq!(said.status, 422);
    let view = station
        .daemon
        .until(id, 60, |view| view.run.state.is_terminal())
        .await;
    assert_eq!(view.run.state.word(), "succeeded", "{view:#?}");
    let bytes = station.daemon.services.artefacts.get(view.run.head).await;
    let envelope: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
    let document = &envelope["document"];
    assert_eq!(document["look"]["said"], "seen");
    let telemetry = &document["telemetry"];
    assert_eq!(telemetry["boot_s"], 40.0);
    assert_eq!(telemetry["latest"]["hostname"], "box");
    assert_eq!(
        telemetry["latest"]["details"]["units"]["ssh.service"],
        "active"
    );
    assert_eq!(telemetry["metrics"]["memory"]["mean"], 40.0);
    assert_eq!(
        telemetry["metrics"]["disk_read"]["mean"], 100.0,
        "1000 bytes in 10 s"
    );
    // Nobody waits for it any more, and a second word of it changes nothing.
    for _ in 0..600 {
        if station.device(&agent.name()).await.awaited.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is still awaited");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_run_is_aborted_is_sent_no_further() {
    let station = Station::open(Approve::Network).await;
    station.daemon.apply(&watched()).await;
    with_disk(&station);
    let mut agent = station.agent(1);
    let order = until_ordered(&station, &mut agent).await;
    let right = agent.exchange(token(&order)).await.json();
    let id = greenroom::vocab::RunId(order["run"].as_i64().unwrap());
    let reason = "not wanted".to_owned();
    let abort = greenroom::runs::plan::Request::Abort { reason };
    station.daemon.dispatch.request(id, abort).await.unwrap();
    station.until(&agent.name(), "held").await;
    let credential = right["credential"].as_str().unwrap();
    assert_eq!(
        agent.get("/device/v1/data", credential, "").await.status,
        403
    );
}
