//! cloud-init's NoCloud seed: `user-data`, `meta-data`. Written as JSON, which is YAML, so that no
//! text can be read as anything but a text.

use serde_json::{Value, json};

use super::{File, cmdline, packages};
use crate::personas::catalogue::Catalogue;
use crate::personas::resolve::Resolved;
use crate::vocab::persona::Document;

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
                "groups": user.groups,
                "shell": program(user.shell.as_ref().unwrap_or(&document.preferences.shell)),
                "lock_passwd": true,
                "ssh_authorized_keys": user.keys,
            });
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
        "users": users,
        "packages": packages(document, catalogue),
        "write_files": written,
    });
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
    ]
}
