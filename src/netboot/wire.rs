//! What the device's agent and the device listener say to each other: JSON over HTTP/1.1.
//!
//! The agent compiles this file too, so it knows serde and nothing else. Fields are only ever added;
//! the agent sends the number of the protocol that it speaks.
//!
//! ```text
//!  POST /device/v1/register    Register    → Registered     who I am; a session for this boot
//!  POST /device/v1/inventory   Inventory   → {}             what I am made of
//!  POST /device/v1/heartbeat   Heartbeat   → Order          what I do; what to do next
//!  POST /device/v1/exchange    Exchange    → Credential     a token, once, for the right to an image
//!  GET  /device/v1/manifest                → Manifest       with that credential
//!  GET  /device/v1/data        Range       → bytes          with that credential
//!  POST /device/v1/telemetry   Telemetry   → {}             from the delivered system
//! ```
//!
//! All but `register` carry `Authorization: Bearer …`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The protocol's number.
pub const PROTOCOL: u32 = 1;

/// What tells one device from another. Claims: anybody can write them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// SMBIOS system UUID.
    #[serde(default)]
    pub uuid: Option<String>,
    /// SMBIOS system serial.
    #[serde(default)]
    pub serial: Option<String>,
    #[serde(default)]
    pub board_serial: Option<String>,
    /// Addresses of all network cards.
    #[serde(default)]
    pub macs: Vec<String>,
    /// World wide names, else serials, of all disks.
    #[serde(default)]
    pub disks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    pub protocol: u32,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// The card that it booted from.
    pub boot_mac: String,
    pub claims: Claims,
    /// Seconds from the kernel's start until now.
    #[serde(default)]
    pub uptime_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Its name.
    pub device: String,
    /// Its session: for this boot, never on its disk.
    pub session: String,
    pub heartbeat_ms: u64,
}

/// What a device is made of. `inventory.schema.json` beside this file says it in JSON Schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Version of the schema.
    pub version: u32,
    /// As `uname -m` says.
    pub arch: String,
    pub firmware: FirmwareKind,
    pub kernel: String,
    pub cpu: Cpu,
    pub memory_mib: u64,
    pub system: System,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub pci: Vec<Pci>,
    pub tpm: Option<String>,
}

impl Inventory {
    /// What of it identifies the device.
    pub fn claims(&self) -> Claims {
        Claims {
            uuid: self.system.uuid.clone(),
            serial: self.system.serial.clone(),
            board_serial: self.system.board_serial.clone(),
            macs: self.nics.iter().map(|nic| nic.mac.clone()).collect(),
            disks: self
                .disks
                .iter()
                .filter(|disk| !disk.removable)
                .filter_map(|disk| disk.wwn.clone().or_else(|| disk.serial.clone()))
                .collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareKind {
    Bios,
    Uefi,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    pub model: String,
    pub vendor: String,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

/// From SMBIOS. Absent where the firmware says nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    pub vendor: Option<String>,
    pub product: Option<String>,
    pub serial: Option<String>,
    pub uuid: Option<String>,
    pub board_serial: Option<String>,
    pub chassis_serial: Option<String>,
    pub bios_version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub name: String,
    pub bytes: u64,
    pub kind: DiskKind,
    pub removable: bool,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub wwn: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    Hdd,
    Ssd,
    Nvme,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    pub name: String,
    pub mac: String,
    /// Whether there is a link; None where the driver does not say.
    pub link: Option<bool>,
    pub speed_mbit: Option<u32>,
    pub driver: Option<String>,
    /// It booted from this one.
    pub boot: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pci {
    pub slot: String,
    /// Four hexadecimal digits each.
    pub vendor: String,
    pub device: String,
    /// Six hexadecimal digits: class, subclass, interface.
    pub class: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    pub boot_id: String,
    /// Grows by one with each.
    pub sequence: u64,
    pub doing: Doing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum Doing {
    Idle,
    /// Bytes of the image that are on the disk, of how many.
    Installing {
        run: i64,
        written: u64,
        of: u64,
    },
    /// Every byte was read back from the disk. `digest` is the manifest's.
    Installed {
        run: i64,
        digest: String,
    },
    /// What it was told to do failed.
    Failed {
        run: i64,
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    Wait {
        why: String,
    },
    /// Exchange the token, then write the image to the disk of this name.
    Install {
        run: i64,
        token: String,
        disk: String,
    },
    Reboot,
    PowerOff,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub credential: String,
    /// SHA-256 of the manifest's bytes.
    pub manifest: String,
    /// For the delivered system's reports; goes onto its disk.
    pub report: String,
}

/// What the image is, piece by piece. What is in no piece is zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub run: i64,
    /// Size of the image.
    pub disk_bytes: u64,
    /// Size of the stream of stored pieces.
    pub stored_bytes: u64,
    /// In the disk's order, and in the stream's.
    pub pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Where it belongs on the disk.
    pub at: u64,
    pub bytes: u64,
    /// Where it is in the stream, and how long: one zstd frame.
    pub from: u64,
    pub length: u64,
    /// SHA-256 of the stored bytes: checked before they are unpacked.
    pub stored: String,
    /// SHA-256 of the unpacked bytes: checked by reading the disk back.
    pub unpacked: String,
}

/// Largest piece: a device needs room for one stored and one unpacked.
pub const PIECE_BYTES: u64 = 4 << 20;

/// What a delivered system says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub boot_id: String,
    pub hostname: String,
    pub os: String,
    pub uptime_s: f64,
    pub load_1: f64,
    pub cpu_busy: f64,
    pub memory_mib: u64,
    pub memory_available_mib: u64,
    /// Bytes since boot.
    pub disk_read: u64,
    pub disk_written: u64,
    pub net_received: u64,
    pub net_sent: u64,
    /// Root file system.
    pub root_bytes: u64,
    pub root_free: u64,
    /// Units that run, by name.
    pub services: Vec<String>,
    /// Processes by name: how many.
    pub applications: BTreeMap<String, u32>,
}
