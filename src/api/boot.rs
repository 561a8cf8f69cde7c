//! The network boot on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Shown, Time};

/// Where a device stands on its way from the network to its own system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BootView {
    /// The device's name; the address of a stranger.
    pub device: String,
    /// `seen` for a stranger, else the phase's word.
    pub state: String,
    pub since: Time,
    /// Why it is held or in quarantine.
    pub reason: Option<String>,
    /// `discovery`, `network`, `code` or `operator`; None for a stranger.
    pub trust: Option<String>,
    pub run: Option<i64>,
    /// When something happens by itself, and what.
    pub deadline: Option<Time>,
    pub next: String,
    pub heard_at: Time,
    /// Bytes of its image on its disk, of how many.
    pub written_bytes: u64,
    pub image_bytes: u64,
    pub macs: Vec<String>,
    /// What it last said of its own system, where it does.
    #[serde(default)]
    pub telemetry: Option<Value>,
    #[serde(default)]
    pub telemetry_at: Option<Time>,
    /// The latest events, oldest first.
    #[serde(default)]
    pub events: Vec<BootEventView>,
    /// The last lines of its serial console, where one is kept.
    #[serde(default)]
    pub console: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BootEventView {
    pub id: i64,
    /// A device's name or an address.
    pub subject: String,
    pub at: Time,
    pub kind: String,
    pub message: String,
}

/// What a person decides about a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangeBoot {
    Approve,
    Quarantine { reason: String },
    Release,
    Reprovision,
}

/// A code that lets a device be provisioned, once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateBootCode {
    /// Only this device may give it; none: whoever gives it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Minutes until it ends; 60 when not given, 30 days at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u64>,
}

/// The one time that a code is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedBootCode {
    /// To be typed at the device's console, or given as `greenroom.code=` on its kernel's command line
    /// or in an SMBIOS OEM string.
    pub code: Shown,
    pub device: Option<String>,
    pub expires_at: Time,
}

/// A client as it would say itself. Numbers are DHCP options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainBoot {
    /// 93
    pub arches: Vec<u16>,
    /// 77
    pub user_class: Option<String>,
    /// 60
    pub vendor_class: Option<String>,
    /// 175.19
    pub ipxe_http: Option<bool>,
}

/// The answer to one question of such a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedBoot {
    /// `dhcp`, `script` or `trust`.
    pub question: String,
    /// The answer in words.
    pub answer: String,
    pub reason: String,
}
