//! Nouns of the network boot: addresses, kinds of firmware, and where a device stands on its way.
//!
//! ```text
//!  seen ─► registered ─► discovered ─► provisioning ─► installing ─► delivered ─► booted ─► reporting
//!               │             │              │               │             │          │
//!               ▼             ▼              ▼               ▼             ▼          ▼
//!          quarantined  (who is it?)                held  (needs a person, with the reason)
//! ```
//!
//! `seen` is a network address and no device yet; the others are [`BootPhase`]s of a device.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AttemptId, DeviceId, Digest, RunId, Timestamp};

/// A network card's address: EUI-48, six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// With hyphens, for URLs and file names: some firmware refuses colons there.
    pub fn dashed(&self) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join("-")
    }

    /// Can be one card's address: neither zero nor a group's (IEEE 802, lowest bit of the first byte).
    pub fn is_single(&self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl fmt::Display for Mac {
    /// Lower case, colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network card's address; expected one such as 52:54:00:12:34:56")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    /// Twelve hexadecimal digits in pairs with `:`, `-`, in fours with `.`, or bare.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let wrong = || NotAMac(text.chars().take(40).collect());
        let separator = text.chars().find(|c| !c.is_ascii_hexdigit());
        let parts: Vec<&str> = match separator {
            None => vec![text],
            Some(c @ (':' | '-' | '.')) => text.split(c).collect(),
            Some(_) => return Err(wrong()),
        };
        let width = match parts.len() {
            1 => 12,
            3 => 4,
            6 => 2,
            _ => return Err(wrong()),
        };
        if parts.iter().any(|part| part.len() != width) {
            return Err(wrong());
        }
        let mut bytes = [0; 6];
        hex::decode_to_slice(parts.concat(), &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where a device stands. Each value holds what is true there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum BootPhase {
    /// Its ramdisk runs and has said who it is; its inventory is awaited.
    Registered,
    /// Its inventory is stored as its facts. A chain is looked for.
    Discovered,
    /// A run makes its image.
    Provisioning { run: RunId },
    /// The image is being sent and written to its disk.
    Installing { run: RunId },
    /// The whole image was read back from its disk. It boots from there from now on.
    Delivered { run: RunId },
    /// It was told to boot from its own disk and has gone there.
    Booted { run: RunId },
    /// Its own system reports.
    Reporting { run: RunId },
    /// It is not certain who it is. It may only say that it is there.
    Quarantined { reason: String },
    /// Nothing happens until a person decides.
    Held { reason: String },
}

impl BootPhase {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Discovered => "discovered",
            Self::Provisioning { .. } => "provisioning",
            Self::Installing { .. } => "installing",
            Self::Delivered { .. } => "delivered",
            Self::Booted { .. } => "booted",
            Self::Reporting { .. } => "reporting",
            Self::Quarantined { .. } => "quarantined",
            Self::Held { .. } => "held",
        }
    }

    /// The run that this phase is about.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Provisioning { run }
            | Self::Installing { run }
            | Self::Delivered { run }
            | Self::Booted { run }
            | Self::Reporting { run } => Some(*run),
            _ => None,
        }
    }

    /// Its own disk is whole, so the network has nothing to offer it.
    pub fn boots_from_disk(&self) -> bool {
        matches!(
            self,
            Self::Delivered { .. } | Self::Booted { .. } | Self::Reporting { .. }
        )
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Quarantined { reason } | Self::Held { reason } => Some(reason),
            _ => None,
        }
    }
}

/// How far a device is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// It may tell what it is made of, and nothing else.
    Discovery,
    /// The settings approve whoever is on this network.
    Network,
    /// It gave a one-time code that a person made.
    Code,
    /// A person approved it.
    Operator,
}

impl Trust {
    pub fn may_be_provisioned(self) -> bool {
        self != Self::Discovery
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Network => "network",
            Self::Code => "code",
            Self::Operator => "operator",
        }
    }
}

/// What tells one device from another, with everything left out that many devices share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub uuid: Option<String>,
    pub serial: Option<String>,
    pub board_serial: Option<String>,
    pub macs: Vec<Mac>,
    pub disks: Vec<String>,
}

/// A device on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootDevice {
    pub device: DeviceId,
    pub name: String,
    pub phase: BootPhase,
    /// When it entered this phase.
    pub since: Timestamp,
    /// When something happens by itself.
    pub deadline: Option<Timestamp>,
    /// What then happens, in words.
    pub next: String,
    pub trust: Trust,
    pub fingerprint: Fingerprint,
    /// The kernel's id of the boot that it last registered with.
    pub boot_id: String,
    /// When it last said anything.
    pub heard_at: Timestamp,
    /// The run whose image it gets; stays while the device is held because of that run.
    pub run: Option<RunId>,
    /// Digest of the manifest of that run's image, once it is packed.
    pub manifest: Option<Digest>,
    /// The disk that the image goes to.
    pub disk: String,
    /// Bytes of the image that are on its disk, of how many.
    pub written: u64,
    pub of: u64,
    /// Times that the installation was begun.
    pub tries: u32,
    /// Times that it asked the network after its image was delivered.
    pub boots_since_delivery: u32,
    /// When it was last sent to its own disk.
    #[serde(default)]
    pub sent_at: Timestamp,
    /// Its run waits for it to report from the image that this attempt finished.
    #[serde(default)]
    pub awaited: Option<AttemptId>,
}

impl BootDevice {
    /// Its ramdisk says who it is, for the first time.
    pub fn registered(device: DeviceId, name: String, trust: Trust, now: Timestamp) -> Self {
        Self {
            device,
            name,
            phase: BootPhase::Registered,
            since: now,
            deadline: None,
            next: String::new(),
            trust,
            fingerprint: Fingerprint::default(),
            boot_id: String::new(),
            heard_at: now,
            run: None,
            manifest: None,
            disk: String::new(),
            written: 0,
            of: 0,
            tries: 0,
            boots_since_delivery: 0,
            sent_at: Timestamp(0),
            awaited: None,
        }
    }

    /// Only its own word is known of it: it has told no inventory that counted, and had no run.
    pub fn is_nobodys(&self) -> bool {
        self.run.is_none()
            && matches!(
                self.phase,
                BootPhase::Registered | BootPhase::Quarantined { .. }
            )
    }
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Saying things during one boot of the ramdisk.
    Session,
    /// To be exchanged once for the right to one image.
    Delivery,
    /// Fetching one image.
    Image,
    /// Telemetry of a delivered system.
    Report,
}

impl TokenKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Delivery => "delivery",
            Self::Image => "image",
            Self::Report => "report",
        }
    }

    pub fn by_word(word: &str) -> Option<Self> {
        [Self::Session, Self::Delivery, Self::Image, Self::Report]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// A right of a device. The token itself is nowhere kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub hash: Digest,
    pub device: DeviceId,
    pub kind: TokenKind,
    pub run: Option<RunId>,
    pub boot_id: String,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

/// A code that lets a device be provisioned, once. The code itself is nowhere kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCode {
    pub hash: Digest,
    /// Only this device may give it; none: any.
    pub device: Option<DeviceId>,
    pub made_by: String,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

impl BootCode {
    /// Whether this device may use it now.
    pub fn is_good(&self, by: DeviceId, now: Timestamp) -> bool {
        self.used_at.is_none()
            && self.expires_at > now
            && self.device.is_none_or(|device| device == by)
    }
}

/// Something that was noticed about a device or an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootEvent {
    /// Grows; 0 before it is stored.
    pub id: i64,
    /// The device's name, or the address where there is no device yet.
    pub subject: String,
    pub at: Timestamp,
    /// A short word such as `registered`, `token_replayed`.
    pub kind: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_all_usual_spellings_and_written_in_one() {
        for text in [
            "52:54:00:AB:00:01",
            "52-54-00-ab-00-01",
            "5254.00ab.0001",
            "525400ab0001",
        ] {
            assert_eq!(
                text.parse::<Mac>().unwrap().to_string(),
                "52:54:00:ab:00:01"
            );
        }
        for text in [
            "",
            "52:54:00",
            "52:54:00:ab:00:01:02",
            "5:254:00:ab:00:01",
            "52:54:00:ab:00:0g",
            "52:54-00:ab:00:01",
            "٣٣:54:00:ab:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
