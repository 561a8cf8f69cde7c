//! What a persona means: six facets and the performance that is expected, all defaults in place.
//!
//! Sizes are MiB, times seconds. This is what stages read as `persona`; fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub labels: BTreeMap<String, String>,
    pub os: Os,
    pub applications: Vec<Application>,
    pub security: Security,
    pub network: Network,
    pub preferences: Preferences,
    pub resources: Resources,
    pub expected: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// A variant of the catalogue, such as `debian-12`.
    pub variant: String,
    pub arch: String,
    /// Words that are added to the kernel's command line.
    pub cmdline: Vec<String>,
    pub locale: String,
    pub timezone: String,
    pub keyboard: String,
    /// Put cloud-init's seed on the disk too, for a system that has cloud-init: it then finds there
    /// what the files say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cloud_init: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub name: String,
    /// Such as `>= 1.22`; none: whichever the catalogue has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// `standard` or `hardened`: where ssh, sysctl and audit start from.
    pub profile: String,
    pub ssh: Ssh,
    pub firewall: Firewall,
    pub sysctl: BTreeMap<String, String>,
    /// Whether the kernel audits.
    pub audit: bool,
    pub secrets: Vec<Secret>,
}

/// Passwords and logins of root have no field: no persona can allow them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// `any`, or the network that may reach it.
    pub from: String,
    pub max_tries: u32,
    pub forwarding: bool,
    /// Seconds after which a silent client is asked whether it is still there; twice, then it is cut off.
    pub idle_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    pub allow: Vec<Allow>,
    /// Rules in nft's own words, for a chain that incoming packets pass before they are dropped.
    pub rules: Vec<String>,
}

/// One port that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    pub port: u16,
    /// `tcp` or `udp`.
    pub proto: String,
    /// `any` or an IPv4 network.
    pub from: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    pub name: String,
    /// Where it is kept, such as `vault:shop/tls-key`; never the secret itself.
    #[serde(rename = "ref")]
    pub reference: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Small letters, digits, hyphens and `{fact}`s, such as `web-{hardware.serial}`.
    pub hostname: String,
    pub interfaces: Vec<Interface>,
    pub bonds: Vec<Bond>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Matched with `role` of the device's network interfaces, else in their order.
    pub role: String,
    #[serde(flatten)]
    pub addressing: Addressing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    pub name: String,
    /// One of systemd.netdev's `Mode=` words.
    pub mode: String,
    /// Roles of interfaces.
    pub members: Vec<String>,
    #[serde(flatten)]
    pub addressing: Addressing,
}

/// How an interface or bond gets its addresses. IPv4 and IPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressing {
    /// None: when there is no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// `10.0.0.5/24`, or `{fact}` that has such a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(default)]
    pub dns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Addressing {
    pub fn by_dhcp(&self) -> bool {
        self.dhcp.unwrap_or(self.address.is_none())
    }

    /// Nothing but being there: a member of a bond.
    pub fn is_bare(&self) -> bool {
        let Self {
            dhcp,
            address,
            gateway,
            dns,
            vlan,
            mtu: _,
        } = self;
        *dhcp != Some(true)
            && address.is_none()
            && gateway.is_none()
            && dns.is_empty()
            && vlan.is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    pub desktop: String,
    /// Login shell of users that name none.
    pub shell: String,
    pub editor: String,
    /// What is said after a login.
    pub motd: String,
    pub users: Vec<User>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    #[serde(default)]
    pub sudo: bool,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Public keys, a line each as in `authorized_keys`, without options.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// What a device must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    pub vcpus: Range,
    pub memory_mib: Range,
    pub disk_mib: Range,
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub min: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// A partition besides those of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub mount: String,
    /// To start with; the last partition grows to the end of the device's disk.
    pub size_mib: u64,
}

/// What monitoring compares with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Power-on to all services up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_memory_mib: Option<u64>,
    /// Units that must run.
    pub services: Vec<String>,
}
