//! Good files: what they mean.

use crate::{batch, library, persona, persona_over};
use greenroom::personas::compile::Known;
use greenroom::personas::diff;
use greenroom::vocab::persona::PersonaRef;

const BASE: &str = include_str!("broken/parents/base.yaml");

#[test]
fn defaults_are_in_place() {
    let document = persona("persona: plain\n").document;
    assert_eq!(document.os.variant, "debian-12");
    assert_eq!(document.network.hostname, "{name}");
    assert_eq!(document.security.ssh.max_tries, 3);
    assert_eq!(document.security.sysctl["kernel.yama.ptrace_scope"], "1");
    assert_eq!(document.resources.memory_mib.min, 512);
}

#[test]
fn a_profile_is_where_logins_and_kernel_start_from_and_a_value_of_ones_own_wins() {
    let hardened = persona("persona: p\nsecurity: { profile: hardened, sysctl: { kernel.yama.ptrace_scope: 3 }, ssh: { max_tries: 5 } }\n").document;
    assert!(hardened.security.audit);
    assert_eq!(hardened.security.ssh.idle_s, 120);
    assert_eq!(hardened.security.ssh.max_tries, 5);
    assert_eq!(hardened.security.sysctl["kernel.yama.ptrace_scope"], "3");
    assert_eq!(hardened.security.sysctl["kernel.kexec_load_disabled"], "1");
}

#[test]
fn a_childs_profile_is_not_held_back_by_what_the_parents_profile_meant() {
    let child = persona_over(
        &library(&[BASE]),
        "persona: child\nparent: base\nsecurity: { profile: hardened }\n",
    );
    assert_eq!(child.document.security.ssh.max_tries, 2);
}

#[test]
fn named_things_merge_by_name_and_plain_lists_are_replaced() {
    let child = persona_over(
        &library(&[BASE]),
        "persona: child
parent: base
applications: [{ name: nginx-light, settings: { site_title: Hello } }, { name: sudo }]
network:
  interfaces: [{ role: uplink, mtu: 9000, dns: [10.0.0.2] }, { role: storage, address: 10.9.0.2/24 }]
preferences: { users: [{ name: anna, groups: [adm] }] }
security: { firewall: { allow: [{ port: 8080 }] } }
",
    );
    let document = &child.document;
    let names: Vec<&str> = document
        .applications
        .iter()
        .map(|application| application.name.as_str())
        .collect();
    assert_eq!(names, ["nginx-light", "sudo"]);
    assert_eq!(document.applications[0].version.as_deref(), Some(">= 1.20"));
    assert_eq!(document.applications[0].settings["site_title"], "Hello");
    let uplink = &document.network.interfaces[0].addressing;
    assert_eq!(
        (uplink.address.as_deref(), uplink.mtu),
        (Some("10.0.0.5/24"), Some(9000))
    );
    assert!(document.preferences.users[0].sudo && document.preferences.users[0].keys.len() == 1);
    assert_eq!(document.security.firewall.allow.len(), 3);
    assert_eq!(child.lineage, [PersonaRef::exact("base", 2)]);
    assert_eq!(
        child.origins["network.interfaces[uplink].address"],
        "base@2"
    );
    assert_eq!(child.origins["network.interfaces[uplink].mtu"], "child");
}

#[test]
fn what_is_removed_is_gone_and_may_come_back_as_something_else() {
    let child = persona_over(
        &library(&[BASE]),
        "persona: child
parent: base
remove: { applications: [nginx-light], allow: [443/tcp], interfaces: [uplink], labels: [team] }
network: { interfaces: [{ role: uplink, dhcp: true }] }
",
    );
    let document = &child.document;
    assert!(document.applications.is_empty() && document.labels.is_empty());
    assert_eq!(document.security.firewall.allow.len(), 1);
    assert!(document.network.interfaces[0].addressing.address.is_none());
    assert!(
        !child
            .origins
            .keys()
            .any(|at| at.starts_with("applications[nginx-light]")),
        "{:?}",
        child.origins
    );
    assert!(
        !child
            .origins
            .contains_key("network.interfaces[uplink].address")
    );
}

#[test]
fn layout_and_comments_make_no_new_meaning() {
    let one = persona("persona: p\nos: { timezone: UTC }\nresources: { memory: 1 GiB }\n");
    let two = persona("# a comment\nresources:\n  memory: { min: 1024 MiB }\nos: {}\npersona: p\n");
    assert_eq!(one.digest, two.digest);
    assert_eq!(one.document, two.document);
    let three = persona("persona: p\nresources: { memory: 2 GiB }\n");
    assert_ne!(one.digest, three.digest);
    let difference = diff::compiled(Some((&one, "p@1")), (&three, "p@2"));
    assert!(
        difference.contains("-    min: 1024\n+    min: 2048\n"),
        "{difference}"
    );
    assert_eq!(diff::compiled(Some((&one, "a")), (&two, "b")), "");
}

#[test]
fn a_child_may_come_before_its_parent_in_a_batch() {
    let files = [
        ("web.yaml", "persona: web\nparent: base\n"),
        ("base.yaml", BASE),
    ];
    let outcomes = batch(&files, &Known::default());
    assert_eq!(outcomes[0].name, "web");
    let web = outcomes[0].compiled.as_ref().expect("no faults");
    assert_eq!(web.lineage, [PersonaRef::exact("base", 1)]);
}

#[test]
fn a_parents_name_means_the_batch_then_the_promoted_version_then_the_newest() {
    let mut known = library(&["persona: base\nos: { timezone: Europe/Rome }\n"]);
    let newer = persona("persona: base\nos: { timezone: Europe/Oslo }\n");
    known
        .versions
        .get_mut("base")
        .expect("there")
        .insert(3, newer);
    let child = "persona: child\nparent: base\n";
    assert_eq!(
        persona_over(&known, child).document.os.timezone,
        "Europe/Rome"
    );
    assert_eq!(
        persona_over(&known, "persona: child\nparent: base@3\n")
            .document
            .os
            .timezone,
        "Europe/Oslo"
    );
    let outcomes = batch(
        &[
            ("c", child),
            ("b", "persona: base\nos: { timezone: Europe/Paris }\n"),
        ],
        &known,
    );
    assert_eq!(
        outcomes[0]
            .compiled
            .as_ref()
            .expect("good")
            .document
            .os
            .timezone,
        "Europe/Paris"
    );
    known.current.clear();
    assert_eq!(
        persona_over(&known, child).document.os.timezone,
        "Europe/Oslo"
    );
}

#[test]
fn json_is_as_good_as_yaml() {
    let yaml = persona("persona: p\nlabels: { a: b }\n");
    assert_eq!(
        yaml.digest,
        persona(r#"{"persona": "p", "labels": {"a": "b"}}"#).digest
    );
}
