//! Templates, pools and claims on the simulated host.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{Said, greenroom};
use crate::daemon::Daemon;
use crate::images::{GOOD, recipe};

/// A folder with an image and a daemon.
fn with_image() -> (tempfile::TempDir, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "fake", GOOD);
    greenroom(folder.path(), &["image", "build", "fake"]).exits(0);
    let daemon = Daemon::start(folder.path());
    (folder, daemon)
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.extend(["-o", "json"]);
    greenroom(folder, &arguments).exits(0).json()
}

/// Asks until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_way_out(said: &Said, parts: &[&str]) {
    for part in parts {
        assert!(said.err.contains(part), "no {part:?} in: {}", said.err);
    }
}

#[test]
fn a_request_with_faults_hears_of_all_of_them() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    let build = [
        "template",
        "build",
        "fake",
        "--vcpus",
        "0",
        "--memory",
        "1",
        "--trust-domain",
        "a b",
    ];
    let said = greenroom(here, &build).exits(5);
    has_way_out(&said, &["3 faults", "vcpus:", "memory_mib:", "trust:"]);
    let said = greenroom(
        here,
        &["pool", "set", "fake:1", "--vcpus", "2", "--hot", "1"],
    )
    .exits(5);
    has_way_out(
        &said,
        &["2 faults", "toolbox:2x1024+net", "says it already"],
    );
    let claim = [
        "claim",
        "fake",
        "--ttl",
        "25h",
        "--key",
        "a b",
        "--exec",
        "true",
        "--deadline",
        "2h",
    ];
    let said = greenroom(here, &claim).exits(5);
    has_way_out(&said, &["ttl_s:", "key:", "exec.deadline_s:"]);
    let said = greenroom(here, &["claim", "fake", "--memory", "64000000"]).exits(5);
    has_way_out(&said, &["memory_mib:"]);
}

#[test]
fn what_is_not_there_is_3_and_what_there_is_is_told() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    for arguments in [
        &["claim", "debian"][..],
        &["template", "build", "debian"],
        &["pool", "set", "debian", "--hot", "1"],
        &["pool", "set", "debian:1x128", "--hot", "1"],
    ] {
        let said = greenroom(here, arguments).exits(3);
        has_way_out(&said, &["there are: fake", "greenroom image build"]);
    }
    let said = greenroom(here, &["template", "show", "0199"]).exits(3);
    has_way_out(&said, &["template list --all"]);
}

#[test]
fn a_pool_that_is_switched_off_says_how_to_switch_it_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    recipe(here, "fake", GOOD);
    greenroom(here, &["image", "build", "fake"]).exits(0);
    std::fs::write(here.join("off.yaml"), "pool: { enabled: false }\n").unwrap();
    let _daemon = Daemon::start_with(here, &["--config", "off.yaml"]);
    for arguments in [
        &["claim", "fake"][..],
        &["template", "build", "fake"],
        &["pool", "set", "fake", "--warm"],
    ] {
        let said = greenroom(here, arguments).exits(4);
        has_way_out(&said, &["pool.enabled"]);
    }
}

#[test]
fn where_nothing_is_there_every_listing_says_so() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    for (noun, nothing) in [
        ("template", "greenroom template build"),
        ("pool", "greenroom pool set"),
        ("claim", "greenroom claim IMAGE"),
    ] {
        let said = greenroom(here, &[noun, "list"]).exits(0);
        assert!(said.out.contains(nothing), "{}", said.out);
        assert_eq!(json(here, &[noun, "list"]), serde_json::json!([]));
    }
    let said = greenroom(here, &["release", "--all"]).exits(0);
    assert_eq!(said.out, "nothing was claimed\n");
    let said = greenroom(here, &["release", "nobody"]).exits(3);
    has_way_out(&said, &["greenroom claim list"]);
    greenroom(here, &["pool", "show", "fake"]).exits(3);
}

#[test]
fn a_template_is_built_once_and_found_by_its_beginning_or_its_class() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    let said = greenroom(here, &["template", "build", "fake"]).exits(0);
    assert!(
        said.out.contains("of fake:1x64 is ready after"),
        "{}",
        said.out
    );
    assert!(said.err.contains("template fake:1x64: "), "{}", said.err);
    let again = greenroom(here, &["template", "build", "fake"]).exits(0);
    assert!(again.out.contains("not out of date"), "{}", again.out);

    let listed = || -> Vec<Value> {
        // The host's self-test has a template of its own for a while.
        let all = json(here, &["template", "list"]);
        let ours = |template: &&Value| template["class"] == "fake:1x64";
        all.as_array()
            .unwrap()
            .iter()
            .filter(ours)
            .cloned()
            .collect()
    };
    let all = listed();
    let [one] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(one["state"], "ready");
    assert!(one["inputs"].as_array().unwrap().len() > 3, "{one}");
    assert!(one["seal"]["memory"]["digest"].is_string(), "{one}");
    let id = one["id"].as_str().unwrap();
    for which in [id, &id[..13], "fake", "fake:1x64"] {
        assert_eq!(json(here, &["template", "show", which])["id"], id);
    }
    let shown = greenroom(here, &["template", "show", "fake"]).exits(0);
    assert!(shown.out.contains("sealed memory"), "{}", shown.out);
    greenroom(here, &["template", "verify", "fake"]).exits(0);

    greenroom(here, &["template", "build", "fake", "--force"]).exits(0);
    assert_eq!(json(here, &["template", "show", "fake"])["generation"], 2);
    greenroom(here, &["template", "retire", "fake"]).exits(0);
    let retired = json(here, &["template", "list", "--all"])
        .as_array()
        .unwrap()
        .iter()
        .find(|template| template["class"] == "fake:1x64" && template["generation"] == 2)
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    until("the retired template is gone", || {
        json(here, &["template", "show", &retired])["state"] == "gone"
    });
}

#[test]
fn a_hot_machine_is_claimed_used_and_given_back() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    let set = [
        "pool",
        "set",
        "fake",
        "--hot",
        "1",
        "--wait",
        "--timeout",
        "30s",
    ];
    let said = greenroom(here, &set).exits(0);
    assert!(said.out.contains("1 hot"), "{}", said.out);
    let shown = json(here, &["pool", "show", "fake"]);
    assert_eq!(
        (&shown["tier"], &shown["ready"]),
        (&"hot".into(), &1.into())
    );
    assert_eq!(shown["shells"][0]["state"], "ready");

    let said = greenroom(
        here,
        &["claim", "fake", "--exec", "echo out; echo err >&2; exit 3"],
    )
    .exits(3);
    assert_eq!(said.out, "out\n");
    assert!(said.err.contains("err\n"), "{}", said.err);
    until("it is released", || {
        json(here, &["claim", "list"]) == serde_json::json!([])
    });

    let taken = json(
        here,
        &[
            "claim", "fake", "--key", "mine", "--ttl", "10m", "--exec", "echo hi", "--keep",
        ],
    );
    assert_eq!(taken["exec"]["out"], "hi\n");
    assert_eq!(taken["exec"]["exit_code"], 0);
    let claim = &taken["claim"];
    assert_eq!(claim["key"], "mine");
    assert!(
        claim["name"]
            .as_str()
            .unwrap()
            .starts_with("gr-shell-fake-"),
        "{claim}"
    );
    let phases: Vec<&str> = taken["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["phase"].as_str().unwrap())
        .collect();
    assert_eq!(
        (phases.first(), phases.last()),
        (Some(&"admit"), Some(&"exec"))
    );
    let again = json(here, &["claim", "fake", "--key", "mine"]);
    assert_eq!(
        again["claim"]["machine"], claim["machine"],
        "the same key, the same machine"
    );
    assert_eq!(json(here, &["status"])["capacity"]["machines"], 1);
    greenroom(here, &["release", "mine"]).exits(0);
    greenroom(here, &["release", "mine"]).exits(0);
    assert_eq!(json(here, &["status"])["capacity"]["machines"], 0);

    let top = greenroom(here, &["pool", "top"]).exits(0);
    assert!(
        top.out.contains("mine") && top.out.contains("RESUME"),
        "{}",
        top.out
    );
    let said = greenroom(here, &["pool", "set", "fake", "--hot", "0", "--cool"]).exits(0);
    assert_eq!(said.out, "fake:1x64 is let go\n");
}

#[test]
fn where_the_pool_has_nothing_it_says_why_and_takes_nothing() {
    let (folder, _daemon) = with_image();
    let here = folder.path();
    let said = greenroom(here, &["claim", "fake", "--exec", "echo never"]).exits(6);
    assert_eq!(said.out, "");
    has_way_out(
        &said,
        &[
            "the pool has no machine for this (it is cool)",
            "greenroom pool set fake",
        ],
    );
    assert_eq!(json(here, &["claim", "list"]), serde_json::json!([]));
    assert_eq!(json(here, &["status"])["capacity"]["machines"], 0);
}

#[test]
fn claims_outlive_the_daemon_with_their_room() {
    let (folder, daemon) = with_image();
    let here = folder.path();
    greenroom(here, &["template", "build", "fake"]).exits(0);
    greenroom(here, &["claim", "fake", "--key", "mine"]).exits(0);
    daemon.stop();
    let _again = Daemon::start(here);
    assert_eq!(json(here, &["claim", "list"])[0]["key"], "mine");
    assert_eq!(json(here, &["status"])["capacity"]["machines"], 1);
}

#[test]
fn configured_targets_are_kept_ready_from_the_first_start_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    recipe(here, "fake", GOOD);
    greenroom(here, &["image", "build", "fake"]).exits(0);
    std::fs::write(
        here.join("c.yaml"),
        "pool:\n  targets:\n    - { image: fake, hot: 2 }\n    - { image: absent, hot: 1 }\n",
    )
    .unwrap();
    let _daemon = Daemon::start_with(here, &["--config", "c.yaml"]);
    until("two are ready", || {
        json(here, &["pool", "list"])[0]["ready"] == 2
    });
    assert_eq!(json(here, &["pool", "list"]).as_array().unwrap().len(), 1);
    let status = greenroom(here, &["status"]).exits(0);
    assert!(status.out.contains("2 ready"), "{}", status.out);
}
