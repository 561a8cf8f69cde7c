//! Exit codes, and what is said with them.

use crate::command::{command, greenroom};

#[test]
fn usage_is_2_and_goes_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run", "start"],
        &["run", "show", "seven"],
        &["run", "start", "--device", "x", "--hold", "soon"],
        &["run", "start", "--device", "x", "--engine", "warp"],
        &["run", "start", "--device", "x", "--wait", "--dry-run"],
        &["device", "add"],
        &["device", "add", "x", "--fact", "no-value"],
        &["claim"],
        &["claim", "x", "--keep"],
        &["claim", "x", "--ttl", "soon"],
        &["release"],
        &["release", "x", "--all"],
        &["pool", "set", "x"],
        &["pool", "set", "x", "--warm", "--cool"],
        &["pool", "set", "x", "--hot", "1", "--timeout", "1s"],
        &["template", "build"],
    ] {
        let said = greenroom(folder.path(), arguments).exits(2);
        assert!(said.out.is_empty(), "{arguments:?}: {}", said.out);
        assert!(!said.err.is_empty(), "{arguments:?}");
    }
    let said = greenroom(folder.path(), &["run", "show", "abc"]).exits(2);
    assert!(said.err.contains("greenroom run list"), "{}", said.err);
}

#[test]
fn a_daemon_that_is_not_there_is_8_and_the_way_out_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["status"][..],
        &["run", "list"],
        &["chain", "list"],
        &["device", "add", "box"],
        &["run", "logs", "1", "--follow"],
        &["claim", "tiny", "--exec", "true"],
        &["pool", "top"],
        &["template", "build", "tiny"],
    ] {
        let said = greenroom(folder.path(), arguments).exits(8);
        assert!(said.err.contains("greenroom serve"), "{}", said.err);
        assert!(said.out.is_empty());
    }
}

#[test]
fn files_that_are_not_there_are_3_and_faulty_ones_5() {
    let folder = tempfile::tempdir().unwrap();
    greenroom(folder.path(), &["chain", "check", "nowhere.yaml"]).exits(3);
    greenroom(folder.path(), &["device", "add", "-f", "nowhere.yaml"]).exits(3);
    std::fs::write(folder.path().join("box.yaml"), "name: [box\n").unwrap();
    let said = greenroom(folder.path(), &["device", "add", "-f", "box.yaml"]).exits(5);
    assert!(said.err.contains("box.yaml"), "{}", said.err);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["image", "list", "-o", "json"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn doctor_finds_what_is_missing_and_says_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = greenroom(folder.path(), &["doctor", "-o", "json"]).exits(1);
    let findings = said.json();
    let found = |check: &str| {
        let all = findings.as_array().unwrap();
        all.iter()
            .find(|finding| finding["check"] == check)
            .unwrap_or_else(|| panic!("no finding about {check}"))
            .clone()
    };
    assert_eq!(found("daemon")["level"], "bad");
    assert_eq!(found("images")["level"], "bad");
    assert_eq!(found("state")["level"], "ok");
    for finding in findings.as_array().unwrap() {
        let is_ok = finding["level"] == "ok";
        assert!(is_ok || finding["repair"].is_string(), "{finding}");
    }
}
