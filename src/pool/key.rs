//! A template's key: what it was made from, all of it. Pure.
//!
//! Two templates with one key are the same; a template whose key is not what it would be now is out of
//! date. Each input is also kept in words, so that people see which of them changed.

use super::Want;
use crate::hypervisor::HostFacts;
use crate::vocab::Digest;
use crate::vocab::image::Image;
use crate::vocab::pool::{Class, Template};

/// Counts changes of what this program does to a template before it is captured, or to a shell after.
/// Raised with every such change, it makes the templates of an older program out of date.
const PREPARATION: &str = "1";

#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub digest: Digest,
    pub inputs: Vec<(String, String)>,
    pub image: Image,
}

/// The key of a class's template, were it made now from this image on this host.
pub fn of(class: &Class, image: &Image, host: &HostFacts, growth_mib: u64) -> Key {
    let warm_up = serde_json::Value::from(
        image
            .warm_up
            .iter()
            .map(|argv| serde_json::Value::from(argv.clone()))
            .collect::<Vec<_>>(),
    );
    let inputs: Vec<(String, String)> = [
        ("image", image.name.clone()),
        ("image_digest", image.digest.to_string()),
        ("image_key", image.key.to_string()),
        ("kernel", image.kernel.digest.to_string()),
        ("initrd", image.initrd.digest.to_string()),
        ("disk", image.disk.digest.to_string()),
        ("disk_mib", image.disk_mib.to_string()),
        ("cmdline", image.cmdline.clone()),
        ("warm_up", warm_up.to_string()),
        ("vcpus", class.vcpus.to_string()),
        ("memory_mib", class.memory_mib.to_string()),
        ("growth_mib", growth_mib.to_string()),
        ("trust", class.trust.0.clone()),
        ("host", host.version.clone()),
        ("devices", host.devices.clone()),
        (
            "accelerator",
            format!("{:?}", host.accelerator).to_lowercase(),
        ),
        ("preparation", PREPARATION.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    Key {
        digest: Digest::of_document(&serde_json::json!(inputs)),
        inputs,
        image: image.clone(),
    }
}

/// Whether a template is what the want would have made for it now.
pub fn serves(template: &Template, want: &Want, host: &HostFacts, growth_mib: u64) -> bool {
    of(&template.class, &want.image, host, growth_mib).digest == template.key
}

/// What differs, for people: `host: QEMU 10.0.2 → QEMU 10.1.0`.
pub fn difference(old: &[(String, String)], new: &[(String, String)]) -> String {
    let short = |value: &str| value.chars().take(40).collect::<String>();
    let changed: Vec<String> = new
        .iter()
        .filter_map(|(name, value)| {
            let before = old
                .iter()
                .find(|(other, _)| other == name)
                .map_or("", |(_, value)| value);
            (before != value).then(|| format!("{name}: {} → {}", short(before), short(value)))
        })
        .collect();
    if changed.is_empty() {
        "nothing".to_owned()
    } else {
        changed.join(", ")
    }
}
