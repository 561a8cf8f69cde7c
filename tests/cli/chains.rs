//! `chain check`: offline, all faults, for people and for programs.

use std::path::Path;

use crate::command::greenroom;

fn examples() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("chains")
        .display()
        .to_string()
}

#[test]
fn the_examples_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let said = greenroom(
        folder.path(),
        &["chain", "check", &examples(), "-o", "json"],
    )
    .exits(0);
    let verdicts = said.json();
    let verdicts = verdicts.as_array().unwrap();
    assert!(verdicts.len() >= 3);
    assert!(verdicts.iter().all(|verdict| verdict["ok"] == true));
    assert!(verdicts.iter().any(|verdict| verdict["chain"] == "hello"));
}

const FAULTY: &str = "\
chain: broken
stages:
  - name: one
    kind: discovrey
    image: tiny
    run: exit 0
  - name: one
    image: tiny
    resources: { memory: 128 }
    run: exit 0
";

#[test]
fn all_faults_are_told_with_their_places_and_suggestions() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.yaml"), FAULTY).unwrap();
    let said = greenroom(folder.path(), &["chain", "check", "broken.yaml"]).exits(5);
    assert!(said.out.contains("broken.yaml"), "{}", said.out);
    for expected in [
        "broken.yaml:4:",
        "discovery",
        "broken.yaml:7:",
        "broken.yaml:9:",
    ] {
        assert!(
            said.err.contains(expected),
            "{expected} is not in\n{}",
            said.err
        );
    }
    let said = greenroom(
        folder.path(),
        &["chain", "check", "broken.yaml", "-o", "json"],
    )
    .exits(5);
    let faults = said.json()[0]["faults"]["faults"].clone();
    assert!(faults.as_array().unwrap().len() >= 3, "{faults}");
    assert!(faults[0]["line"].is_number());
}

#[test]
fn of_several_files_an_unreadable_one_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.yaml"), FAULTY).unwrap();
    let files = ["chain", "check", "nowhere.yaml", "broken.yaml"];
    let said = greenroom(folder.path(), &files).exits(5);
    assert!(said.out.contains("unreadable: "), "{}", said.out);
    assert!(said.err.contains("broken.yaml:4:"), "{}", said.err);
    let said = greenroom(folder.path(), &[&files[..], &["-o", "json"]].concat()).exits(5);
    let verdicts = said.json();
    assert_eq!(verdicts[0]["ok"], false);
    assert!(verdicts[0]["unreadable"].is_string(), "{verdicts}");
    assert!(verdicts[1]["faults"].is_object(), "{verdicts}");
}

#[test]
fn what_a_file_says_cannot_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let text = "chain: \"a\\e[2J\"\nstages: \x1b]0;owned\x07\n";
    std::fs::write(folder.path().join("evil.yaml"), text).unwrap();
    let said = greenroom(
        folder.path(),
        &["chain", "check", "evil.yaml", "--color", "always"],
    );
    let said = said.exits(5);
    assert!(
        !said.err.contains("\x1b]0;") && !said.err.contains("\x1b[2J"),
        "{:?}",
        said.err
    );
    assert!(!said.out.contains("\x1b]0;"), "{:?}", said.out);
}

#[test]
fn a_folder_without_chains_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let said = greenroom(folder.path(), &["chain", "check", "."]).exits(3);
    assert!(said.err.contains(".yaml"), "{}", said.err);
}
