//! What the settings are made of, and what is refused.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    Environment(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

fn file(text: &str) -> (tempfile::TempDir, Flags) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("greenroom.yaml");
    std::fs::write(&path, text).unwrap();
    let flags = Flags {
        file: Some(path),
        ..Flags::default()
    };
    (folder, flags)
}

#[test]
fn defaults_can_work() {
    assert_eq!(Config::default().check(), Vec::new());
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let (_folder, mut flags) =
        file("state: /from/file\nrecipes: /from/file\nhypervisor: { network: from-file }\n");
    flags.recipes = Some("/from/flag".into());
    let environment = environment(&[
        ("GREENROOM_STATE", "/from/env"),
        ("GREENROOM_IMAGES", "/from/env"),
        ("GREENROOM_MAX_ACTIVE_RUNS", "3"),
        ("GREENROOM_ACCELERATOR", "tcg"),
        ("GREENROOM_SOCKET_GROUP", "adm"),
    ]);
    let config = load(&flags, &environment).unwrap();
    assert_eq!(config.state, Path::new("/from/env"));
    assert_eq!(config.recipes, Path::new("/from/flag"));
    assert_eq!(config.hypervisor.network, "from-file");
    assert_eq!(config.hypervisor.accelerator, AcceleratorChoice::Tcg);
    assert_eq!(config.runs.max_active, 3);
    assert_eq!(config.socket_group.as_deref(), Some("adm"));
    assert_eq!(config.socket(), Path::new("/from/env/greenroom.sock"));
}

#[test]
fn all_values_that_cannot_work_are_reported_at_once() {
    let (_folder, flags) = file("state: relative\nruns: { max_active: 0, silence_s: 1 }\n");
    let environment = environment(&[
        ("GREENROOM_VCPUS", "many"),
        ("GREENROOM_HYPERVISOR", "xen"),
        ("GREENROOM_LIBVIRT_URI", "xen:///"),
    ]);
    let error = load(&flags, &environment).unwrap_err().to_string();
    insta::assert_snapshot!(error, @r#"
    6 values of the configuration cannot work:
      GREENROOM_HYPERVISOR: unknown variant `xen`, expected `libvirt` or `simulated`
      GREENROOM_VCPUS: "many" is not a whole number
      state: "relative" must be an absolute path: libvirt is told where the disks are
      hypervisor.uri: "xen:///" is not a QEMU libvirt of this host; the usual one is "qemu:///system"
      runs.max_active: 0 is not within 1 and 10000
      runs.silence_s: 1 is not within 5 and 86400
    "#);
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let error = parse("runs:\n  max_actve: 3\n").unwrap_err();
    assert!(error.contains("max_actve"), "{error}");
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn a_named_file_has_to_be_there_and_an_empty_one_means_defaults() {
    let flags = Flags {
        file: Some("/nowhere/greenroom.yaml".into()),
        ..Flags::default()
    };
    let error = load(&flags, &Environment::default()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert_eq!(parse("# nothing yet\n\n").unwrap(), Config::default());
}

#[test]
fn a_share_that_is_not_given_follows_the_host() {
    let share = HostShare::default().room(10_000, 2);
    assert_eq!((share.memory_mib, share.vcpus), (7_000, 8));
}
