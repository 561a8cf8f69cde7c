//! Nouns of power and boot order: what is asked of a device's baseboard controller (BMC), how it is
//! reached, and the order to boot a device from the network by it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DeviceId, Timestamp};

/// Whether a machine is on, as its BMC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    On,
    Off,
    /// On its way up.
    Rising,
    /// On its way down.
    Falling,
    /// The BMC says something else, or does not know.
    Unclear,
}

impl PowerState {
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Rising => "rising",
            Self::Falling => "falling",
            Self::Unclear => "unclear",
        }
    }
}

/// How a machine is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Off {
    /// Its system is asked to shut down, and may refuse.
    Graceful,
    /// As by a long press of the button.
    Forced,
}

/// What a machine boots from next, apart from its usual order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootTarget {
    /// The network, by PXE.
    Pxe,
    /// The network, by UEFI's own HTTP boot.
    UefiHttp,
    /// Virtual media of the BMC.
    Cd,
    Disk,
    /// Its usual order: nothing is set.
    Usual,
    /// Something else that firmware knows.
    Other,
}

impl BootTarget {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pxe => "pxe",
            Self::UefiHttp => "uefi_http",
            Self::Cd => "cd",
            Self::Disk => "disk",
            Self::Usual => "usual",
            Self::Other => "other",
        }
    }

    pub fn is_network(self) -> bool {
        matches!(self, Self::Pxe | Self::UefiHttp)
    }
}

/// For how many boots an override holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasts {
    /// The next one only.
    Once,
    /// Until it is changed: some BMCs know nothing else.
    UntilChanged,
    /// It is switched off.
    Never,
}

/// What a BMC says about the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootOverride {
    pub target: BootTarget,
    pub lasts: Lasts,
}

impl BootOverride {
    pub const USUAL: Self = Self {
        target: BootTarget::Usual,
        lasts: Lasts::Never,
    };

    /// The next boot is one from the network.
    pub fn is_network(self) -> bool {
        self.target.is_network() && self.lasts != Lasts::Never
    }
}

impl fmt::Display for BootOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lasts {
            Lasts::Never => f.write_str("usual order"),
            Lasts::Once => write!(f, "{} once", self.target.word()),
            Lasts::UntilChanged => write!(f, "{} until changed", self.target.word()),
        }
    }
}

/// What a BMC can be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The system is asked to shut down.
    pub graceful_off: bool,
    /// Off and on in one request.
    pub cycle: bool,
    /// What a boot can be asked for; empty: the BMC does not say.
    pub boot_targets: Vec<BootTarget>,
    /// A disk image can be put into a drive of the BMC.
    pub virtual_media: bool,
    /// What it says it is, for people.
    pub product: String,
}

/// Whose certificate a BMC may show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BmcTrust {
    /// One signed by the system's authorities, for the BMC's name.
    Authorities,
    /// Exactly this one: SHA-256 of its DER, 64 hexadecimal digits.
    Fingerprint(String),
    /// Any, and plain HTTP too. Said explicitly by a person.
    Insecure,
}

/// How a device's BMC is reached. The password is elsewhere (`power::vault`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BmcAddress {
    Redfish {
        /// `https://host[:port]`.
        url: String,
        user: String,
        trust: BmcTrust,
        /// Which of the BMC's systems: id, UUID, serial number or name. None: the only one.
        system: Option<String>,
    },
    Ipmi {
        host: String,
        /// UDP.
        port: u16,
        user: String,
        /// RMCP+ cipher suite; 17 (SHA-256) is the one to use, 3 (SHA-1) is for what knows no better.
        cipher: u8,
    },
    /// A person is its BMC.
    Manual {
        /// What they have to know: where it stands, whom to call.
        note: String,
    },
}

impl BmcAddress {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redfish { .. } => "redfish",
            Self::Ipmi { .. } => "ipmi",
            Self::Manual { .. } => "manual",
        }
    }

    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Redfish { user, .. } | Self::Ipmi { user, .. } => Some(user),
            Self::Manual { .. } => None,
        }
    }
}

/// A device's BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bmc {
    pub device: DeviceId,
    pub address: BmcAddress,
    /// Name of the password's file in the vault; none where no password is needed.
    pub secret: Option<String>,
    /// Logins that were refused one after the other.
    pub refused: u32,
    pub set_at: Timestamp,
}

/// Refused logins after which nobody logs in any more until a person has looked: BMCs lock an account
/// after three to ten (research of peers' incidents; the usual default is five).
pub const MOST_REFUSED: u32 = 2;

impl Bmc {
    pub fn is_locked(&self) -> bool {
        self.refused >= MOST_REFUSED
    }
}

/// How far the order to boot a device from the network has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStep {
    /// "Boot once from the network" is set, and read back.
    SetBoot,
    SwitchOff,
    SwitchOn,
    /// Its ramdisk has to register.
    Await,
    /// It came.
    Done,
    /// A person has to do something; see `OrderRow::said`.
    Failed,
}

impl OrderStep {
    pub fn word(self) -> &'static str {
        match self {
            Self::SetBoot => "set_boot",
            Self::SwitchOff => "switch_off",
            Self::SwitchOn => "switch_on",
            Self::Await => "await",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    pub fn is_open(self) -> bool {
        !matches!(self, Self::Done | Self::Failed)
    }
}

/// The intention to boot a device from the network by its BMC. There is one per device; a new one takes
/// the place of the old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOrder {
    pub device: DeviceId,
    pub name: String,
    pub step: OrderStep,
    /// When this step was begun.
    pub since: Timestamp,
    pub asked_at: Timestamp,
    /// Times that the machine was to come, and did not.
    pub tries: u32,
    /// Times that this step failed and may be tried again.
    pub failures: u32,
    /// Nothing is done before.
    pub not_before: Timestamp,
    /// When the step is given up.
    pub deadline: Timestamp,
    /// What is done next, or what a person has to do, in words.
    pub said: String,
    /// The kernel's id of the boot with which the device last registered: another one means that it came.
    pub boot_id: String,
}

impl NetworkOrder {
    /// A fresh one. `boot_id`: of the device's last boot; empty where it has never come.
    pub fn fresh(device: DeviceId, name: &str, boot_id: &str, now: Timestamp) -> Self {
        Self {
            device,
            name: name.to_owned(),
            step: OrderStep::SetBoot,
            since: now,
            asked_at: now,
            tries: 0,
            failures: 0,
            not_before: now,
            deadline: now.after(STEP_LASTS),
            said: "its BMC is told to boot it once from the network".into(),
            boot_id: boot_id.to_owned(),
        }
    }
}

/// Within this a BMC has to have done a step, all tries included.
pub const STEP_LASTS: std::time::Duration = std::time::Duration::from_secs(600);
