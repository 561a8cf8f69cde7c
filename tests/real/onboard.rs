//! The main job: the shipped chain `onboard` builds a bootable disk for each of the shipped devices.

use std::path::{Path, PathBuf};

use greenroom::chain::check;
use greenroom::hypervisor::Hypervisor;
use greenroom::runs::plan::Request;
use greenroom::vocab::run::RunState;
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
    // The result is kept until somebody says otherwise.
    let disk = daemon.services.settings.handoff_disk(run.id);
    assert_eq!(yard.hypervisor.disks().await.expect("a listing"), [disk]);
    daemon
        .dispatch
        .request(run.id, Request::Discard)
        .await
        .expect("a kept disk");
    daemon.until(run.id, 30, |view| !view.run.has_disks).await;
    yard.check_nothing_left().await;
}
