//! cloud-init's NoCloud seed: `user-data`, `meta-data`, `network-config`. Written as JSON, which is YAML, so that no
//! text can be read as anything but a text.

use serde_json::{Map, Value, json};

use super::{File, cmdline, packages};
use crate::personas::catalogue::Catalogue;
use crate::personas::resolve::Resolved;
use crate::vocab::persona::{Addressing, Document};

/// Settings that cloud-init has no word for travel as files.
pub fn files(
    document: &Document,
    resolved: &Resolved,
    catalogue: &Catalogue,
    instance: &str,
    device: &[File],
) -> Vec<File> {
    let shells = catalogue
        .variants
        .get(&document.os.variant)
        .map(|variant| &variant.shells);
    let program = |name: &str| {
        shells
            .and_then(|shells| shells.get(name))
            .cloned()
            .unwrap_or_else(|| "/bin/sh".into())
    };
    let users: Vec<Value> = document
        .preferences
        .users
        .iter()
        .map(|user| {
            let mut entry = json!({
                "name": user.name,
                "shell": program(user.shell.as_ref().unwrap_or(&document.preferences.shell)),
                "lock_passwd": true,
                "ssh_authorized_keys": user.keys,
            });
            // cloud-init refuses empty lists.
            if !user.groups.is_empty() {
                entry["groups"] = json!(user.groups);
            }
            if user.sudo {
                entry["sudo"] = json!("ALL=(ALL:ALL) NOPASSWD: ALL");
            }
            entry
        })
        .collect();
    let written: Vec<Value> = device
        .iter()
        .filter(|file| {
            file.path.starts_with('/')
                && !matches!(
                    file.path.as_str(),
                    "/etc/hostname"
                        | "/etc/timezone"
                        | "/etc/default/locale"
                        | "/etc/default/keyboard"
                )
        })
        .map(|file| json!({ "path": file.path, "permissions": file.mode, "content": file.text }))
        .collect();
    let mut user_data = json!({
        "hostname": resolved.hostname,
        "timezone": document.os.timezone,
        "locale": document.os.locale,
        "keyboard": { "layout": document.os.keyboard },
        "ssh_pwauth": false,
        "disable_root": true,
        "write_files": written,
    });
    if !users.is_empty() {
        user_data["users"] = json!(users);
    }
    let packages = packages(document, catalogue);
    if !packages.is_empty() {
        user_data["packages"] = json!(packages);
    }
    let words = cmdline(document);
    if !words.is_empty() {
        let text = format!(
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"\n",
            words.join(" ")
        );
        let file = json!({ "path": "/etc/default/grub.d/90-persona.cfg", "permissions": "0644", "content": text });
        if let Some(files) = user_data["write_files"].as_array_mut() {
            files.push(file);
        }
    }
    let meta_data = json!({ "instance-id": instance, "local-hostname": resolved.hostname });
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    vec![
        File::new(
            "nocloud/user-data",
            format!("#cloud-config\n{}\n", pretty(&user_data)),
        )
        .private(),
        File::new("nocloud/meta-data", format!("{}\n", pretty(&meta_data))),
        File::new(
            "nocloud/network-config",
            format!("{}\n", pretty(&network(resolved))),
        ),
    ]
}

/// Netplan's format, version 2. Links are called by their roles; a VLAN is a link of its own.
fn network(resolved: &Resolved) -> Value {
    let (mut ethernets, mut bonds, mut vlans) = (Map::new(), Map::new(), Map::new());
    for matched in &resolved.interfaces {
        let role = &matched.interface.role;
        let addressing = &matched.interface.addressing;
        let is_member = resolved
            .bonds
            .iter()
            .any(|bond| bond.members.contains(role));
        let mut link = match (is_member, addressing.vlan) {
            (true, _) => json!({ "dhcp4": false, "dhcp6": false }),
            (false, Some(vlan)) => {
                vlans.insert(format!("{role}.{vlan}"), tagged(role, vlan, addressing));
                json!({ "dhcp4": false, "dhcp6": false })
            }
            (false, None) => addresses(addressing),
        };
        // An interface that the device does not have is left out: it would match all others.
        if let Some(mac) = &matched.mac {
            link["match"] = json!({ "macaddress": mac });
            set_mtu(&mut link, addressing);
            ethernets.insert(role.clone(), link);
        }
    }
    for bond in &resolved.bonds {
        let mut link = match bond.addressing.vlan {
            Some(vlan) => {
                let name = format!("{}.{vlan}", bond.name);
                vlans.insert(name, tagged(&bond.name, vlan, &bond.addressing));
                json!({ "dhcp4": false, "dhcp6": false })
            }
            None => addresses(&bond.addressing),
        };
        link["interfaces"] = json!(bond.members);
        link["parameters"] = json!({ "mode": bond.mode, "mii-monitor-interval": 100 });
        set_mtu(&mut link, &bond.addressing);
        bonds.insert(bond.name.clone(), link);
    }
    let mut config = json!({ "version": 2 });
    for (kind, links) in [("ethernets", ethernets), ("bonds", bonds), ("vlans", vlans)] {
        if !links.is_empty() {
            config[kind] = Value::Object(links);
        }
    }
    config
}

fn tagged(of: &str, vlan: u16, addressing: &Addressing) -> Value {
    let mut link = addresses(addressing);
    link["id"] = json!(vlan);
    link["link"] = json!(of);
    link
}

fn set_mtu(link: &mut Value, addressing: &Addressing) {
    if let Some(mtu) = addressing.mtu {
        link["mtu"] = json!(mtu);
    }
}

fn addresses(addressing: &Addressing) -> Value {
    let dhcp = addressing.by_dhcp();
    let mut link = json!({ "dhcp4": dhcp, "dhcp6": dhcp });
    if let Some(address) = &addressing.address {
        link["addresses"] = json!([address]);
    }
    if let Some(gateway) = &addressing.gateway {
        let to = if gateway.contains(':') {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        link["routes"] = json!([{ "to": to, "via": gateway }]);
    }
    if !addressing.dns.is_empty() {
        link["nameservers"] = json!({ "addresses": addressing.dns });
    }
    link
}
