//! Power and BMCs on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Shown, Time};

/// How a device's BMC is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SetBmc {
    Redfish {
        /// `https://host[:port]`; `http` only with `insecure`.
        url: String,
        user: String,
        password: Shown,
        /// SHA-256 of the one certificate that is believed, hexadecimal; none: the system's authorities.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fingerprint: Option<String>,
        /// Any certificate is believed, and plain HTTP is used where the URL says so.
        #[serde(default)]
        insecure: bool,
        /// Which system, where the BMC has several: its id, UUID, serial number or name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
    },
    Ipmi {
        host: String,
        /// 623 when not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        user: String,
        password: Shown,
        /// Cipher suite: 17 when not given, or 3 for BMCs that know no better.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cipher: Option<u8>,
    },
    /// A person switches it.
    Manual {
        /// What they have to know.
        #[serde(default)]
        note: String,
    },
}

/// A device's BMC; its password is shown nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BmcView {
    pub device: String,
    /// `redfish`, `ipmi` or `manual`.
    pub kind: String,
    /// URL, host and port, or the note.
    pub address: String,
    pub user: Option<String>,
    /// `authorities`, `fingerprint SHA-256`, `insecure`, or `cipher suite N`.
    pub trust: Option<String>,
    pub system: Option<String>,
    /// Logins that were refused one after the other.
    pub refused_logins: u32,
    /// There are no more logins until a person has looked.
    pub locked: bool,
    pub set_at: Time,
}

/// What a BMC says of itself and its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestedBmc {
    pub product: String,
    /// `on`, `off`, `rising`, `falling` or `unclear`.
    pub state: String,
    /// The next boot, in words.
    pub boot: String,
    /// What a boot can be asked for; empty: it does not say.
    pub boot_targets: Vec<String>,
    pub graceful_off: bool,
    pub cycle: bool,
    pub virtual_media: bool,
}

/// What is to be done with a machine's power or its next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangePower {
    On,
    Off {
        /// Without asking its system.
        #[serde(default)]
        force: bool,
    },
    Cycle,
    BootOnce {
        from: BootFrom,
    },
    /// Puts an image into the BMC's virtual optical drive, in the place of what is in there.
    InsertMedia {
        /// What the BMC fetches; without `?` and `&`, which BMCs mangle.
        url: String,
    },
    EjectMedia,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootFrom {
    Network,
    Disk,
    Cd,
    /// Its usual order again.
    Usual,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerView {
    pub device: String,
    /// `on`, `off`, `rising`, `falling` or `unclear`; none where it was not asked.
    pub state: Option<String>,
    /// The next boot, in words; none where it was not asked.
    pub boot: Option<String>,
    /// What is in the BMC's virtual drive, or empty; none where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
}
