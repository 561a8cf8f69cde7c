//! The main job: the shipped chain `onboard` builds a bootable disk for each of the shipped devices.

use std::path::{Path, PathBuf};

use greenroom::chain::check;
use greenroom::hypervisor::Hypervisor;
use greenroom::personas::compile::Source;
use greenroom::personas::library::{self, Act, Mode, Wanted};
use greenroom::runs::plan::Request;
use greenroom::vocab::persona::Subject;
use greenroom::vocab::run::RunState;
use greenroom::vocab::{Digest, RunId};
use serde_json::Value;

use crate::support::verbs::Verbs;
use crate::support::yard::Yard;

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("chains")
        .join(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onboard_builds_a_disk_that_passes_its_own_verification() {
    let Some(yard) = Yard::open("onboard").await else {
        return;
    };
    let daemon = &yard.daemon;
    let chain = check::check_file(&shipped("onboard.yaml"))
        .expect("a file")
        .expect("a chain without faults");
    daemon.apply(&chain).await;
    let device: Value = serde_saphyr::from_str(
        &std::fs::read_to_string(shipped("devices/web-1.yaml")).expect("a file"),
    )
    .expect("a device");
    daemon
        .add_device_with(
            "web-1",
            "shop",
            device["facts"].as_object().expect("facts").clone(),
        )
        .await;

    let run = daemon.start("web-1", "onboard").await;
    let view = daemon.finished_within(run.id, 900).await;
    assert_eq!(
        view.run.state,
        RunState::Succeeded,
        "{}\n{view:#?}",
        daemon.log_of(run.id).await
    );
    assert_eq!(view.attempts.len(), 5);

    let bytes = daemon
        .services
        .artefacts
        .get(view.run.head)
        .await
        .expect("the last envelope");
    let envelope: Value = serde_json::from_slice(&bytes).expect("JSON");
    let verdict = envelope["document"]["verify"]["verdict"]
        .as_str()
        .or(envelope["document"]["verdict"].as_str());
    assert_eq!(verdict, Some("ready"));
    assert_eq!(envelope["artefacts"][0]["stage"], "security");
    for machine in &view.machines {
        assert!(
            yard.hypervisor
                .machine(machine.id)
                .await
                .expect("an answer")
                .is_none(),
            "{} is still there",
            machine.name
        );
    }
    clean_up(&yard, run.id).await;
}

/// The shipped personas `base` and `db-node`, given to the shipped database host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onboard_builds_what_the_persona_says() {
    let Some(yard) = Yard::open("onboard with a persona").await else {
        return;
    };
    let daemon = &yard.daemon;
    let text = |file: &str| std::fs::read_to_string(shipped(file)).expect("a file");
    let chain = check::check_file(&shipped("onboard.yaml"))
        .expect("a file")
        .expect("a chain without faults");
    daemon.apply(&chain).await;
    let device: Value = serde_saphyr::from_str(&text("devices/db-1.yaml")).expect("a device");
    let facts = device["facts"].as_object().expect("facts").clone();
    daemon.add_device_with("db-1", "ledger", facts).await;
    let store = &daemon.services.store;
    let act = || Act {
        by: "test".into(),
        reason: "to see".into(),
        now: daemon.services.now(),
    };
    let sources = ["personas/base.yaml", "personas/db-node.yaml"].map(|file| Source {
        file: file.into(),
        text: text(file),
    });
    let applied = library::apply(store, sources.into(), Mode::StoreAndPromote, act())
        .await
        .expect("an answer");
    assert!(applied.iter().all(|one| one.faults.is_none()));
    let wanted = Wanted {
        subject: Subject::Role("db".into()),
        persona: "db-node".parse().expect("a persona"),
        precedence: 0,
        until: None,
    };
    library::assign(store, wanted, act())
        .await
        .expect("assigned");

    let run = daemon.start("db-1", "onboard").await;
    let view = daemon.finished_within(run.id, 900).await;
    assert_eq!(
        view.run.state,
        RunState::Succeeded,
        "{}\n{view:#?}",
        daemon.log_of(run.id).await
    );
    let pinned = view.plan.persona.as_ref().expect("a persona");
    assert_eq!((pinned.name.as_str(), pinned.version), ("db-node", 1));
    let bytes = daemon
        .services
        .artefacts
        .get(view.run.head)
        .await
        .expect("the last envelope");
    let envelope: Value = serde_json::from_slice(&bytes).expect("JSON");
    let document = &envelope["document"];
    assert_eq!(document["plan"]["hostname"], "db-xk2m93");
    assert_eq!(document["verify"]["verdict"], "ready");
    assert_eq!(
        document["verify"]["compliance"]["must_fail"],
        Value::Array(vec![])
    );
    // What the preview shows is what is on the disk, by digest.
    let network = "/etc/systemd/network/20-uplink.network";
    let files = document["persona"]["files"].as_array().expect("files");
    let shown = files
        .iter()
        .find(|file| file["path"] == network)
        .expect("the uplink");
    let written = document["system"]["files"].as_array().expect("files");
    let there = written
        .iter()
        .find(|file| file["path"] == network)
        .expect("the uplink");
    let digest = Digest::of(shown["text"].as_str().expect("text").as_bytes());
    assert_eq!(there["sha256"], digest.to_string());
    clean_up(&yard, run.id).await;
}

async fn clean_up(yard: &Yard, id: RunId) {
    let daemon = &yard.daemon;
    // The result is kept until somebody says otherwise.
    let disk = daemon.services.settings.handoff_disk(id);
    assert_eq!(yard.hypervisor.disks().await.expect("a listing"), [disk]);
    daemon
        .dispatch
        .request(id, Request::Discard)
        .await
        .expect("a kept disk");
    daemon.until(id, 30, |view| !view.run.has_disks).await;
    yard.check_nothing_left().await;
}
