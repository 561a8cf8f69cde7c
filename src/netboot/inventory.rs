//! A device's inventory: checked against its schema, and turned into facts for triggers and stages.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::untrusted;
use super::wire::{Claims, Disk, DiskKind, Inventory};

/// Largest inventory, bytes: 64 disks, 64 cards and 512 PCI devices fit four times.
pub const MAX_BYTES: usize = 256 << 10;

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| untrusted::schema(include_str!("inventory.schema.json")));

/// Reads and checks. The error says what is wrong without repeating what was sent.
pub fn read(bytes: &[u8]) -> Result<Inventory, String> {
    let value = untrusted::read(bytes, MAX_BYTES, "an inventory", &SCHEMA)?;
    serde_json::from_value(value).map_err(|_| "it does not fit the schema".to_owned())
}

/// What is known of a device before it came, as people write it: `hardware` of its facts.
pub fn declared(facts: &Map<String, Value>) -> Claims {
    let hardware = facts.get("hardware").unwrap_or(&Value::Null);
    let text = |key: &str| hardware[key].as_str().map(str::to_owned);
    let each = |list: &str, key: &str| {
        let items = hardware[list].as_array().into_iter().flatten();
        items
            .filter_map(|item| item[key].as_str().map(str::to_owned))
            .collect()
    };
    Claims {
        uuid: text("uuid"),
        serial: text("serial"),
        board_serial: None,
        macs: each("nics", "mac"),
        disks: Vec::new(),
    }
}

/// `hardware` of the device's facts is what it reported; everything else stays as people wrote it.
pub fn into_facts(facts: &mut Map<String, Value>, inventory: &Inventory) {
    let disks: Vec<Value> = inventory.disks.iter().map(disk).collect();
    let nics: Vec<Value> = inventory
        .nics
        .iter()
        .map(|nic| {
            let mut fact = json!({ "name": nic.name, "mac": nic.mac });
            if let Some(link) = nic.link {
                fact["link"] = json!(link);
            }
            if let Some(speed) = nic.speed_mbit {
                fact["speed_mbit"] = json!(speed);
            }
            fact
        })
        .collect();
    let mut hardware = json!({
        "arch": inventory.arch,
        "firmware": inventory.firmware,
        "cpu_model": inventory.cpu.model,
        "cpu_cores": inventory.cpu.cores,
        "cpu_threads": inventory.cpu.threads,
        "memory_mib": inventory.memory_mib,
        "disks": disks,
        "nics": nics,
        "pci_devices": inventory.pci.len(),
        "tpm": inventory.tpm.is_some(),
    });
    let system = &inventory.system;
    for (key, value) in [
        ("vendor", &system.vendor),
        ("model", &system.product),
        ("serial", &system.serial),
        ("uuid", &system.uuid),
        ("bios_version", &system.bios_version),
    ] {
        if let Some(value) = value {
            hardware[key] = json!(value);
        }
    }
    facts.insert("hardware".into(), hardware);
}

fn disk(disk: &Disk) -> Value {
    let mut fact = json!({
        "name": disk.name,
        "kind": disk.kind,
        "size_gib": disk.bytes >> 30,
    });
    if disk.removable {
        fact["removable"] = json!(true);
    }
    fact
}

/// The disk for the image: not removable, fast before slow, then the smallest of at least 2 GiB, as
/// the chain `onboard` chooses too.
pub fn disk_for_image(inventory: &Inventory) -> Option<&Disk> {
    inventory
        .disks
        .iter()
        .filter(|disk| !disk.removable && disk.bytes >= 2 << 30)
        .min_by_key(|disk| (disk.kind == DiskKind::Hdd, disk.bytes, disk.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Value {
        json!({
            "version": 1, "arch": "x86_64", "firmware": "bios", "kernel": "6.12",
            "cpu": { "model": "QEMU", "vendor": "AuthenticAMD", "sockets": 1, "cores": 1, "threads": 1 },
            "memory_mib": 1024,
            "system": { "vendor": "Greenroom", "product": "Lab device", "serial": "GR-1234", "uuid": "u", "board_serial": null, "chassis_serial": null, "bios_version": "1" },
            "disks": [
                { "name": "sda", "bytes": 4_000_000_000_000_u64, "kind": "hdd", "removable": false, "model": null, "serial": null, "wwn": null },
                { "name": "sdb", "bytes": 480_000_000_000_u64, "kind": "ssd", "removable": false, "model": null, "serial": "D1", "wwn": null },
                { "name": "sdc", "bytes": 30_000_000_000_u64, "kind": "ssd", "removable": true, "model": null, "serial": null, "wwn": null }
            ],
            "nics": [{ "name": "eth0", "mac": "52:54:00:01:02:03", "link": true, "speed_mbit": null, "driver": "virtio_net", "boot": true }],
            "pci": [{ "slot": "0000:00:00.0", "vendor": "8086", "device": "29c0", "class": "060000" }],
            "tpm": null
        })
    }

    #[test]
    fn an_inventory_becomes_facts_beside_what_people_wrote() {
        let inventory = read(sample().to_string().as_bytes()).unwrap();
        let mut facts = json!({ "wishes": { "timezone": "UTC" }, "hardware": { "serial": "old" } })
            .as_object()
            .unwrap()
            .clone();
        into_facts(&mut facts, &inventory);
        assert_eq!(facts["wishes"]["timezone"], "UTC");
        assert_eq!(facts["hardware"]["serial"], "GR-1234");
        assert_eq!(facts["hardware"]["firmware"], "bios");
        assert_eq!(facts["hardware"]["disks"][2]["removable"], true);
        assert_eq!(disk_for_image(&inventory).unwrap().name, "sdb");
        assert_eq!(declared(&facts).macs, ["52:54:00:01:02:03"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let breaks: [(&str, Value); 6] = [
            ("/version", json!(2)),
            ("/memory_mib", json!(-1)),
            ("/disks/0/name", json!("../sda")),
            ("/nics/0/mac", json!("52:54:00:01:02:03\n")),
            ("/system/serial", json!("a\u{1b}[31m")),
            ("/cpu/model", json!("x".repeat(129))),
        ];
        for (at, value) in breaks {
            let mut broken = sample();
            *broken.pointer_mut(at).unwrap() = value;
            assert!(read(broken.to_string().as_bytes()).is_err(), "{at}");
        }
        assert!(read(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err(), "deep");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        /// One value of a good inventory replaced by anything.
        #[test]
        fn any_value_is_read(key in "(/disks/0/|/cpu/|/nics/0/|/system/|/)(name|bytes|model|mac|serial|memory_mib|threads|pci)", text: String, number: i64, as_text: bool) {
            let mut value = sample();
            if let Some(place) = value.pointer_mut(&key) {
                *place = if as_text { json!(text) } else { json!(number) };
            }
            if let Ok(inventory) = read(value.to_string().as_bytes()) {
                into_facts(&mut Map::new(), &inventory);
                let _ = disk_for_image(&inventory);
            }
        }
    }
}
