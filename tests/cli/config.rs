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
    insta::assert_snapshot!(said.err, @r#"
    error: 9 values of the configuration cannot work:
      GREENROOM_POOL: "maybe" is neither true nor false
      pool.budget_mib: 1 is less than one waiting machine takes; give at least 64, or set pool.enabled to false
      pool.max_age: "soon" is not a span of time such as 90s, 30m or 1h30m
      pool.growth_mib: 100 is not a multiple of 128 up to 1048576; 128 is
      pool.trust.acme: "a b" is not a trust domain's name (letters, digits, `.`, `_`, `-`, at most 64)
      pool.targets[0].class: "tiny" is no class of shells: expected IMAGE:VCPUSxMEMORY, optionally followed by +net and @TRUST, such as toolbox:2x1024+net (there is no size)
      pool.targets[1].floor: "hot" is no floor; "warm" keeps a template, "cool" keeps none
      pool.targets[2]: give either class (such as toolbox:2x1024+net) or image (its smallest class)
      pool.targets[4]: the same is named before; give each once
    "#);
}
