//! What holds where nobody says anything: the defaults, and what a security profile starts from.

use serde_json::{Value, json};

use super::merge;
use crate::vocab::persona::Document;

/// A merged layer with all defaults in place.
///
/// # Errors
/// Says which part of the layer has not the shape of a document; the tables keep that from happening.
pub fn fill(layer: &Value) -> Result<Document, String> {
    let profile = layer
        .pointer("/security/profile")
        .and_then(Value::as_str)
        .unwrap_or("standard");
    let none = std::collections::BTreeMap::new();
    let start = merge::apply(&everything(), &profile_of(profile), &none);
    let mut full = merge::apply(&start, layer, &none);
    for place in ["/network/interfaces", "/network/bonds"] {
        for item in full
            .pointer_mut(place)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            complete(item, &json!({ "dns": [] }));
            if place == "/network/bonds" {
                complete(item, &json!({ "mode": "active-backup", "members": [] }));
            }
        }
    }
    for item in full
        .pointer_mut("/security/firewall/allow")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        complete(item, &json!({ "proto": "tcp", "from": "any" }));
    }
    serde_json::from_value(full).map_err(|error| error.to_string())
}

fn complete(item: &mut Value, with: &Value) {
    if let (Value::Object(item), Value::Object(with)) = (item, with) {
        for (key, value) in with {
            item.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn everything() -> Value {
    json!({
        "labels": {},
        "os": { "variant": "debian-12", "arch": "x86_64", "cmdline": [], "locale": "C.UTF-8", "timezone": "UTC", "keyboard": "us" },
        "applications": [],
        "security": { "profile": "standard", "firewall": { "allow": [], "rules": [] }, "secrets": [] },
        "network": { "hostname": "{name}", "interfaces": [], "bonds": [] },
        "preferences": { "desktop": "none", "shell": "bash", "editor": "none", "motd": "", "users": [] },
        "resources": { "vcpus": { "min": 1 }, "memory_mib": { "min": 512 }, "disk_mib": { "min": 8192 }, "partitions": [] },
        "expected": { "services": [] },
    })
}

/// Kernel settings of both profiles: the list that the chain `onboard` measures against.
fn kernel_settings() -> Value {
    json!({
        "fs.protected_fifos": "2", "fs.protected_hardlinks": "1", "fs.protected_regular": "2", "fs.protected_symlinks": "1",
        "fs.suid_dumpable": "0", "kernel.dmesg_restrict": "1", "kernel.kptr_restrict": "2", "kernel.randomize_va_space": "2",
        "kernel.sysrq": "0", "kernel.unprivileged_bpf_disabled": "1", "kernel.yama.ptrace_scope": "1",
        "net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.conf.all.accept_source_route": "0",
        "net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.conf.default.accept_redirects": "0", "net.ipv4.conf.default.send_redirects": "0",
        "net.ipv4.icmp_echo_ignore_broadcasts": "1", "net.ipv4.tcp_syncookies": "1",
        "net.ipv6.conf.all.accept_redirects": "0", "net.ipv6.conf.default.accept_redirects": "0",
    })
}

fn profile_of(profile: &str) -> Value {
    let mut settings = kernel_settings();
    let hardened = profile == "hardened";
    if hardened {
        complete(
            &mut settings,
            &json!({
                "dev.tty.ldisc_autoload": "0", "kernel.kexec_load_disabled": "1", "kernel.perf_event_paranoid": "3",
                "net.core.bpf_jit_harden": "2", "net.ipv4.conf.all.log_martians": "1",
            }),
        );
        // Debuggers may follow nobody but their own children.
        settings["kernel.yama.ptrace_scope"] = json!("2");
    }
    json!({ "security": {
        "sysctl": settings,
        "audit": hardened,
        "ssh": {
            "from": "any", "forwarding": false,
            "max_tries": if hardened { 2 } else { 3 }, "idle_s": if hardened { 120 } else { 300 },
        },
    } })
}
