//! Rendered files: whatever a persona or a device says, no text leaves its place in its file.

use greenroom::personas::compile::{Known, Source, compile};
use greenroom::personas::library::{Preview, preview};
use greenroom::personas::render::Page;
use greenroom::personas::resolve::hostname;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Texts that mean something somewhere: to a shell, to nft, to sshd, to YAML, to INI files.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = vec![
        "a",
        "Z9",
        "-",
        ".",
        "\n",
        "\r",
        "\t",
        "\0",
        "\u{1b}[31m",
        " ",
        "\"",
        "'",
        "`",
        "$(id)",
        ";",
        "#",
        "}",
        "{",
        "\\",
        "|",
        "&",
        "<x>",
        "%h",
        "[Match]",
        "=",
        ":",
        ",",
        "/../",
        "é",
        "\u{202e}",
        "\u{85}",
        "\u{2028}",
        "PermitRootLogin yes",
        "accept",
        "0",
        "10.0.0.1",
        "/24",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..6).prop_map(|pieces| pieces.concat())
}

fn facts(texts: &[String]) -> Map<String, Value> {
    let at = |index: usize| json!(texts[index % texts.len()]);
    let facts = json!({
        "serial": at(0), "address": at(1), "gateway": at(2),
        "hardware": {
            "arch": at(3), "cpu_cores": 4, "memory_mib": 8192, "serial": at(4),
            "disks": [{ "name": at(5), "size_gib": 100 }],
            "nics": [{ "name": at(6), "mac": at(7), "role": at(8) }, { "name": "eno1", "mac": "52:54:00:a1:00:01" }],
        },
    });
    facts.as_object().expect("an object").clone()
}

const PERSONA: &str = r#"
persona: facts
network:
  hostname: "h{serial}-{hardware.serial:4}"
  interfaces:
    - { role: uplink, address: "{address}", gateway: "{gateway}" }
    - { role: tagged, vlan: 7, mtu: 1400 }
preferences: { motd: "first\nsecond" }
"#;

fn check(preview: &Preview) -> Result<(), TestCaseError> {
    for file in &preview.files {
        prop_assert!(
            !file.text.chars().any(|c| c != '\n' && c.is_control()),
            "{}: {:?}",
            file.path,
            file.text
        );
        prop_assert!(
            file.path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)),
            "{:?}",
            file.path
        );
    }
    let text = |path: &str| {
        preview
            .files
            .iter()
            .find(|file| file.path == path)
            .map_or("", |file| file.text.as_str())
    };
    prop_assert_eq!(text("/etc/hostname").lines().count(), 1);
    for line in text("/etc/ssh/sshd_config.d/10-policy.conf").lines() {
        prop_assert!(line.split(' ').count() >= 2, "{line:?}");
        prop_assert!(!line.starts_with("PermitRootLogin yes"));
    }
    for line in text("/etc/sysctl.d/zz-policy.conf").lines() {
        prop_assert!(line.split(" = ").count() == 2, "{line:?}");
    }
    for file in preview
        .files
        .iter()
        .filter(|file| file.path.starts_with("/etc/systemd/network/"))
    {
        for line in file
            .text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let is_section = [
                "[Match]",
                "[Network]",
                "[Link]",
                "[NetDev]",
                "[VLAN]",
                "[Bond]",
            ]
            .contains(&line);
            prop_assert!(
                is_section
                    || line
                        .split_once('=')
                        .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_alphanumeric())),
                "{line:?}"
            );
        }
    }
    let user_data = text("nocloud/user-data")
        .strip_prefix("#cloud-config\n")
        .expect("its first line");
    let parsed: Value = serde_json::from_str(user_data).expect("JSON");
    prop_assert_eq!(&parsed["hostname"], &json!(preview.resolved.hostname));
    // What cloud-init reads is YAML: it reads the same.
    let as_yaml: Value = serde_saphyr::from_str(user_data).expect("YAML");
    prop_assert_eq!(as_yaml, parsed);
    Ok(())
}

proptest! {
    #[test]
    fn no_fact_leaves_its_place(texts in prop::collection::vec(nasty(), 9)) {
        let compiled = crate::persona(PERSONA);
        check(&preview(&compiled, "box", &facts(&texts)))?;
    }

    /// What a file may say is either refused or harmless.
    #[test]
    fn no_text_of_a_file_leaves_its_place(text in nasty(), slot in 0_usize..15) {
        let quoted = serde_json::to_string(&text).expect("a string");
        let file = match slot {
            0 => format!("persona: p\npreferences: {{ motd: {quoted} }}\n"),
            1 => format!("persona: p\nnetwork: {{ hostname: {quoted} }}\n"),
            2 => format!("persona: p\nsecurity: {{ sysctl: {{ kernel.x: {quoted} }} }}\n"),
            3 => format!("persona: p\nsecurity: {{ sysctl: {{ {quoted}: 1 }} }}\n"),
            4 => format!("persona: p\nsecurity: {{ ssh: {{ from: {quoted} }} }}\n"),
            5 => format!("persona: p\nsecurity: {{ firewall: {{ rules: [{quoted}] }} }}\n"),
            6 => format!("persona: p\nnetwork: {{ interfaces: [{{ role: {quoted} }}] }}\n"),
            7 => format!("persona: p\nnetwork: {{ interfaces: [{{ role: a, address: {quoted} }}] }}\n"),
            8 => format!("persona: p\nnetwork: {{ interfaces: [{{ role: a, dns: [{quoted}] }}] }}\n"),
            9 => format!("persona: p\nos: {{ cmdline: [{quoted}] }}\n"),
            10 => format!("persona: p\nos: {{ timezone: {quoted} }}\n"),
            11 => format!("persona: p\npreferences: {{ users: [{{ name: {quoted}, keys: [] }}] }}\n"),
            12 => format!("persona: p\npreferences: {{ users: [{{ name: a, keys: [{quoted}] }}] }}\n"),
            13 => format!("persona: p\napplications: [{{ name: nginx-light, settings: {{ site_title: {quoted} }} }}]\n"),
            _ => format!("persona: p\nnetwork: {{ bonds: [{{ name: {quoted} }}] }}\n"),
        };
        let source = Source { file: String::new(), text: file };
        let outcome = compile(&[source], &Known::default(), &crate::means(), &|_| 1).remove(0);
        if let Ok(compiled) = outcome.compiled {
            let texts = vec!["X1".to_owned(); 9];
            let preview = preview(&compiled, "box", &facts(&texts));
            check(&preview)?;
            let nft = preview.files.iter().find(|file| file.path == "/etc/nftables.conf").expect("a firewall");
            prop_assert_eq!(nft.text.matches('{').count(), nft.text.matches('}').count());
            prop_assert!(!nft.text.contains(';') || !text.contains(';') || slot != 5);
            prop_assert!(nft.text.contains("type filter hook input priority filter; policy drop;"));
        }
    }

    #[test]
    fn host_names_are_host_names_or_refused(pattern in "[a-z0-9{}:.-]{0,20}", fact in nasty()) {
        let facts = json!({ "a": fact }).as_object().expect("facts").clone();
        if let Ok(name) = hostname(&pattern, "Box_1", &facts) {
            prop_assert!(!name.is_empty() && name.len() <= 63, "{name:?}");
        }
        if let Ok(name) = hostname("x-{a}", "Box_1", &facts) {
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name:?}");
            prop_assert!(!name.ends_with('-'), "{name:?}");
        }
    }

    #[test]
    fn a_part_never_begins_a_line(text in nasty()) {
        let page = Page::default().line(&["Key=", &text]).done();
        prop_assert_eq!(page.matches('\n').count(), 1);
    }
}

#[test]
fn roles_meet_interfaces_by_name_and_then_in_order() {
    let compiled = crate::persona(
        "persona: p\nnetwork: { interfaces: [{ role: first }, { role: storage, mtu: 9000 }, { role: second }, { role: third }] }\n",
    );
    let facts = json!({ "hardware": { "nics": [
        { "name": "eno1", "mac": "52:54:00:00:00:01" }, { "name": "eno2", "mac": "52:54:00:00:00:0B", "role": "storage" },
        { "name": "eno3", "mac": "52:54:00:00:00:03" },
    ] } });
    let preview = preview(&compiled, "box", facts.as_object().expect("facts"));
    let found: Vec<Option<&str>> = preview
        .resolved
        .interfaces
        .iter()
        .map(|one| one.nic.as_deref())
        .collect();
    assert_eq!(found, [Some("eno1"), Some("eno2"), Some("eno3"), None]);
    assert_eq!(
        preview.resolved.interfaces[1].mac.as_deref(),
        Some("52:54:00:00:00:0b")
    );
    assert_eq!(
        preview.resolved.problems,
        ["no network interface for the role third: the device has 3 network interfaces, all taken"]
    );
}

#[test]
fn a_device_that_is_too_small_is_told_with_figures() {
    let compiled = crate::persona(
        "persona: p\nresources: { vcpus: { min: 2, max: 4 }, memory: 4 GiB, disk: 32 GiB }\n",
    );
    let facts = json!({ "hardware": { "arch": "aarch64", "cpu_cores": 8, "memory_mib": 2048, "disks": [{ "size_gib": 100, "removable": true }] } });
    let preview = preview(&compiled, "Box 1", facts.as_object().expect("facts"));
    assert_eq!(preview.resolved.hostname, "box-1");
    assert_eq!(
        preview.resolved.problems,
        [
            "the device has 8 processor cores, the persona is for at most 4",
            "the device has 2048 MiB of memory, the persona needs 4096 MiB",
            "the device is `aarch64`, the persona for x86_64",
        ]
    );
    assert_eq!(
        preview.resolved.unknown,
        ["whether the device has 32768 MiB of disk"]
    );
}

#[test]
fn a_bond_over_vlans_becomes_the_files_of_networkd() {
    let compiled = crate::persona(
        "persona: p
network:
  interfaces: [{ role: left, mtu: 9000 }, { role: right, mtu: 9000 }, { role: office, vlan: 100, address: 10.1.0.2/24, gateway: 10.1.0.1, dns: [10.1.0.3] }]
  bonds: [{ name: bond0, mode: 802.3ad, members: [left, right], address: 10.2.0.2/24, vlan: 200 }]
",
    );
    let facts = json!({ "hardware": { "nics": [
        { "name": "a", "mac": "52:54:00:00:00:01" }, { "name": "b", "mac": "52:54:00:00:00:02" }, { "name": "c", "mac": "52:54:00:00:00:03" },
    ] } });
    let preview = preview(&compiled, "box", facts.as_object().expect("facts"));
    let text = preview
        .files
        .iter()
        .filter(|file| file.path.contains("network/") || file.path.contains("resolv"))
        .fold(String::new(), |text, file| {
            format!("{text}=== {}\n{}\n", file.path, file.text)
        });
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "shipped" }, {
        insta::assert_snapshot!("bond", text);
    });
}

const WITH_SEED: &str = "persona: p
os: { cloud_init: true, cmdline: [quiet] }
applications: [{ name: nginx-light }]
security: { firewall: { allow: [{ port: 80 }] } }
preferences: { users: [{ name: anna, sudo: true, keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICchiKTfl5D0hOOTVF9PrFYENPtpw0LyvkLgrpHKhjvR a'] }] }
network:
  interfaces: [{ role: left }, { role: right }, { role: office, vlan: 100, address: 10.1.0.2/24, gateway: 10.1.0.1, dns: [10.1.0.3] }, { role: absent }]
  bonds: [{ name: bond0, members: [left, right], address: '2001:db8::2/64', gateway: '2001:db8::1', mtu: 9000 }]
";

fn seeded() -> Preview {
    let facts = json!({ "hardware": { "nics": [
        { "name": "a", "mac": "52:54:00:00:00:01" }, { "name": "b", "mac": "52:54:00:00:00:02" }, { "name": "c", "mac": "52:54:00:00:00:03" },
    ] } });
    preview(
        &crate::persona(WITH_SEED),
        "box",
        facts.as_object().expect("facts"),
    )
}

fn seed_file(preview: &Preview, name: &str) -> String {
    let path = format!("nocloud/{name}");
    let file = preview.files.iter().find(|file| file.path == path);
    file.expect("a file of the seed").text.clone()
}

#[test]
fn the_seed_says_the_same_network_as_the_files() {
    let config: Value =
        serde_saphyr::from_str(&seed_file(&seeded(), "network-config")).expect("YAML");
    assert_eq!(
        config,
        json!({
            "version": 2,
            "ethernets": {
                "left": { "match": { "macaddress": "52:54:00:00:00:01" }, "dhcp4": false, "dhcp6": false },
                "right": { "match": { "macaddress": "52:54:00:00:00:02" }, "dhcp4": false, "dhcp6": false },
                "office": { "match": { "macaddress": "52:54:00:00:00:03" }, "dhcp4": false, "dhcp6": false },
            },
            "bonds": { "bond0": {
                "interfaces": ["left", "right"], "parameters": { "mode": "active-backup", "mii-monitor-interval": 100 },
                "dhcp4": false, "dhcp6": false, "addresses": ["2001:db8::2/64"], "routes": [{ "to": "::/0", "via": "2001:db8::1" }], "mtu": 9000,
            } },
            "vlans": { "office.100": {
                "id": 100, "link": "office", "dhcp4": false, "dhcp6": false, "addresses": ["10.1.0.2/24"],
                "routes": [{ "to": "0.0.0.0/0", "via": "10.1.0.1" }], "nameservers": { "addresses": ["10.1.0.3"] },
            } },
        })
    );
}

/// cloud-init's own checker, where there is one.
#[test]
fn cloud_init_finds_nothing_wrong_with_the_seed() {
    let is_there = std::process::Command::new("cloud-init")
        .arg("--version")
        .output()
        .is_ok();
    if !is_there {
        eprintln!("skipped, because there is no cloud-init; run `apt-get install cloud-init`");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let seeded = seeded();
    let bare = preview(&crate::persona("persona: p\n"), "box", &Map::new());
    let plain = "persona: p\npreferences: { users: [{ name: b, keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICchiKTfl5D0hOOTVF9PrFYENPtpw0LyvkLgrpHKhjvR b'] }] }\n";
    let plain = preview(&crate::persona(plain), "box", &Map::new());
    for (preview, name, kind) in [
        (&seeded, "user-data", "cloud-config"),
        (&bare, "user-data", "cloud-config"),
        (&plain, "user-data", "cloud-config"),
        (&seeded, "network-config", "network-config"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, seed_file(preview, name)).expect("a file");
        let mut checker = std::process::Command::new("cloud-init");
        checker.args(["schema", "--config-file"]).arg(&path);
        // Versions before 23.4 know one kind only.
        let help = std::process::Command::new("cloud-init")
            .args(["schema", "--help"])
            .output();
        let knows_kinds =
            help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--schema-type"));
        match (knows_kinds, kind) {
            (true, kind) => {
                checker.args(["--schema-type", kind]);
            }
            (false, "cloud-config") => {}
            (false, _) => continue,
        }
        let output = checker.output().expect("cloud-init");
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
