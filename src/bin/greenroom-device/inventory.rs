//! What the device is made of, from /proc and /sys.

use std::collections::BTreeSet;
use std::path::Path;

use crate::sys::{kernel_argument, names, number, read, word};
use crate::wire::{Cpu, Disk, DiskKind, FirmwareKind, Inventory, Nic, Pci, System};

pub fn print() -> Result<(), String> {
    let text = serde_json::to_string_pretty(&take()).map_err(|error| error.to_string())?;
    println!("{text}");
    Ok(())
}

pub fn take() -> Inventory {
    Inventory {
        version: 1,
        arch: std::env::consts::ARCH.to_owned(),
        firmware: if Path::new("/sys/firmware/efi").exists() {
            FirmwareKind::Uefi
        } else {
            FirmwareKind::Bios
        },
        kernel: word("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cpu: cpu(&read("/proc/cpuinfo").unwrap_or_default()),
        memory_mib: memory_mib(),
        system: system(),
        disks: disks(),
        nics: nics(),
        pci: pci(),
        tpm: tpm(),
    }
}

fn cpu(text: &str) -> Cpu {
    let values = |key: &str| {
        let key = key.to_owned();
        text.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().chars().take(128).collect::<String>())
        })
    };
    let threads = values("processor").count().max(1) as u32;
    let sockets: BTreeSet<String> = values("physical id").collect();
    let cores: BTreeSet<(String, String)> = values("physical id").zip(values("core id")).collect();
    Cpu {
        model: values("model name").next().unwrap_or_default(),
        vendor: values("vendor_id").next().unwrap_or_default(),
        sockets: (sockets.len() as u32).max(1),
        cores: if cores.is_empty() {
            threads
        } else {
            cores.len() as u32
        },
        threads,
    }
}

/// What the kernel has; what firmware and kernel keep for themselves is not in it, so it is rounded
/// up to the next 64 MiB, as memory is sold.
fn memory_mib() -> u64 {
    let text = read("/proc/meminfo").unwrap_or_default();
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    (kib / 1024).next_multiple_of(64)
}

fn system() -> System {
    let dmi = |name: &str| word(format!("/sys/class/dmi/id/{name}"));
    System {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid").map(|uuid| uuid.to_ascii_lowercase()),
        board_serial: dmi("board_serial"),
        chassis_serial: dmi("chassis_serial"),
        bios_version: dmi("bios_version"),
    }
}

fn disks() -> Vec<Disk> {
    let is_disk = |name: &String| {
        ["sd", "vd", "hd", "xvd", "nvme", "mmcblk"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            && !name.contains("boot")
            && !name.contains("rpmb")
    };
    let of = |name: String| {
        let folder = format!("/sys/block/{name}");
        let bytes = number(format!("{folder}/size")).unwrap_or(0) * 512;
        let rotational = number(format!("{folder}/queue/rotational")) == Some(1);
        let kind = match (name.starts_with("nvme"), rotational) {
            (true, _) => DiskKind::Nvme,
            (_, true) => DiskKind::Hdd,
            _ => DiskKind::Ssd,
        };
        Disk {
            bytes,
            kind,
            removable: number(format!("{folder}/removable")) == Some(1),
            model: word(format!("{folder}/device/model")),
            // virtio has it beside the queue, NVMe and SCSI below the device.
            serial: word(format!("{folder}/serial"))
                .or_else(|| word(format!("{folder}/device/serial")))
                .or_else(|| scsi_serial(&folder)),
            wwn: word(format!("{folder}/wwid")).or_else(|| word(format!("{folder}/device/wwid"))),
            name,
        }
    };
    names("/sys/block")
        .into_iter()
        .filter(is_disk)
        .map(of)
        .filter(|disk| disk.bytes > 0)
        .collect()
}

/// Page 0x80 of SCSI's vital product data: four bytes, then the serial.
fn scsi_serial(folder: &str) -> Option<String> {
    let bytes = std::fs::read(format!("{folder}/device/vpd_pg80")).ok()?;
    let text: String = bytes
        .get(4..)?
        .iter()
        .map(|byte| char::from(*byte))
        .filter(char::is_ascii_graphic)
        .take(128)
        .collect();
    (!text.is_empty()).then_some(text)
}

fn nics() -> Vec<Nic> {
    let boot = kernel_argument("greenroom.mac").map(|mac| mac.replace('-', ":"));
    let of = |name: String| {
        let folder = format!("/sys/class/net/{name}");
        // Bridges, tunnels and the loopback have no device behind them.
        if !Path::new(&format!("{folder}/device")).exists() {
            return None;
        }
        let mac = word(format!("{folder}/address"))?.to_ascii_lowercase();
        let driver = std::fs::read_link(format!("{folder}/device/driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Some(Nic {
            boot: boot.as_deref() == Some(mac.as_str()),
            link: number(format!("{folder}/carrier")).map(|carrier| carrier == 1),
            speed_mbit: word(format!("{folder}/speed")).and_then(|speed| speed.parse().ok()),
            driver,
            mac,
            name,
        })
    };
    names("/sys/class/net").into_iter().filter_map(of).collect()
}

fn pci() -> Vec<Pci> {
    let of = |slot: String| {
        let folder = format!("/sys/bus/pci/devices/{slot}");
        let hex = |name: &str| {
            word(format!("{folder}/{name}")).map(|value| value.trim_start_matches("0x").to_owned())
        };
        Some(Pci {
            vendor: hex("vendor")?,
            device: hex("device")?,
            class: hex("class")?,
            slot,
        })
    };
    names("/sys/bus/pci/devices")
        .into_iter()
        .filter_map(of)
        .take(512)
        .collect()
}

fn tpm() -> Option<String> {
    names("/sys/class/tpm").into_iter().next().map(|name| {
        match number(format!("/sys/class/tpm/{name}/tpm_version_major")) {
            Some(major) => format!("{major}.x"),
            None => "present".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_socket_and_core() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: X\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                    processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: X\nphysical id\t: 0\ncore id\t\t: 0\n";
        let found = cpu(text);
        assert_eq!((found.sockets, found.cores, found.threads), (1, 1, 2));
        assert_eq!(found.model, "X");
        assert_eq!(cpu("").threads, 1);
    }
}
