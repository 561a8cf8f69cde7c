//! The configuration file and the environment.

use crate::command::{command, greenroom};

#[test]
fn every_value_that_cannot_work_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(
        &path,
        "runs: { max_active: 0 }\nreconcile: { interval_s: 0 }\n",
    )
    .unwrap();
    let mut status = command(folder.path(), &["status", "--config", "c.yaml"]);
    let said: crate::command::Said = status
        .env("GREENROOM_SILENCE_S", "long")
        .output()
        .unwrap()
        .into();
    let said = said.exits(5);
    insta::assert_snapshot!(said.err, @r#"
    error: 3 values of the configuration cannot work:
      GREENROOM_SILENCE_S: "long" is not a whole number
      runs.max_active: 0 is not within 1 and 10000
      reconcile.interval_s: 0 is not within 1 and 3600
    "#);
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.yaml"), "runs:\n  max_actve: 3\n").unwrap();
    let said = greenroom(folder.path(), &["serve", "--config", "c.yaml"]).exits(5);
    assert!(
        said.err.contains("max_actve") && said.err.contains("max_active"),
        "{}",
        said.err
    );
    greenroom(folder.path(), &["status", "--config", "absent.yaml"]).exits(3);
}

#[test]
fn all_faults_of_the_pools_section_are_told_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
pool:
  budget_mib: 1
  max_age: soon
  growth_mib: 100
  trust: { acme: \"a b\" }
  targets:
    - { class: tiny, hot: 1 }
    - { image: tiny, floor: hot }
    - { hot: 1 }
    - { image: tiny }
    - { image: tiny, hot: 2 }
";
    std::fs::write(folder.path().join("c.yaml"), text).unwrap();
    let mut serve = command(folder.path(), &["serve", "--config", "c.yaml"]);
    let said: crate::command::Said = serve
        .env("GREENROOM_POOL", "maybe")
        .output()
        .unwrap()
        .into();
    let said = said.exits(5);
    insta::assert_snapshot!(said.err, @"");
}
