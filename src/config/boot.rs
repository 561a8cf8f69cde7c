//! Section `boot`: the network boot of devices. Off unless switched on: it answers DHCP.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigFault, TelemetryConfig};
use crate::netboot::decide::{self, Unknown};
use crate::netboot::script::GiveUp;
use crate::netboot::settings::{Approve, DhcpMode, PlaneSettings, Settings};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootConfig {
    /// Whether devices are answered at all.
    pub enabled: bool,
    /// The network interface that devices are on, such as `eth1` or a bridge.
    pub interface: String,
    /// This host's address on it.
    pub address: Ipv4Addr,
    /// Bits of the network's part of the address.
    pub prefix_length: u8,
    /// TCP port of what devices may reach.
    pub port: u16,
    /// `proxy` adds boot files to what another DHCP server answers, `full` is the only one there.
    pub dhcp: DhcpMode,
    /// `full`: the first address given out.
    pub first: Ipv4Addr,
    /// `full`: the last address given out.
    pub last: Ipv4Addr,
    /// Announces an IPv6 router on the interface, where it has an IPv6 address: firmware waits 13 s
    /// for one otherwise.
    pub announce_ipv6: bool,
    /// Folder of iPXE's boot files, as Debian's package `ipxe` has them.
    pub files: PathBuf,
    /// Whether addresses that nobody knows are let into the ramdisk: `discover` or `ignore`.
    pub unknown: Unknown,
    /// Who is provisioned: `network` approves whoever is there, `operator` waits for
    /// `greenroom device approve`.
    pub approve: Approve,
    /// What a machine does when the network cannot help it: `firmware` (its next entry) or `power_off`.
    pub give_up: GiveUp,
    /// Name of the image that devices boot into.
    pub image: String,
    /// Images that are sent at the same time.
    pub streams: usize,
    /// A device that says nothing for so long while it works is taken for gone.
    pub silence_s: u64,
    /// Folder in which a device's serial console is kept as `NAME.console` or `MAC-WITH-HYPHENS.console`,
    /// for `device show`. Nothing is shown where there is none.
    pub consoles: Option<PathBuf>,
    /// What delivered devices report of themselves.
    pub telemetry: TelemetryConfig,
}

impl Default for BootConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            interface: "eth1".into(),
            address: Ipv4Addr::new(192, 168, 91, 1),
            prefix_length: 24,
            port: 8480,
            dhcp: DhcpMode::Proxy,
            first: Ipv4Addr::new(192, 168, 91, 10),
            last: Ipv4Addr::new(192, 168, 91, 250),
            announce_ipv6: true,
            files: PathBuf::from("/usr/lib/ipxe"),
            unknown: Unknown::Discover,
            approve: Approve::Operator,
            give_up: GiveUp::Firmware,
            image: "device".into(),
            streams: 4,
            silence_s: 60,
            consoles: None,
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl BootConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut wrong = |key: &str, why: String| {
            faults.push(ConfigFault::new(format!("boot.{key}"), why));
        };
        // IFNAMSIZ of net/if.h is 16, the ending NUL included.
        let interface_is_plain = !self.interface.is_empty()
            && self.interface.len() < 16
            && self
                .interface
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !interface_is_plain {
            wrong(
                "interface",
                format!(
                    "{:?} is not an interface's name, such as \"eth1\"",
                    self.interface
                ),
            );
        }
        if !(8..=30).contains(&self.prefix_length) {
            wrong(
                "prefix_length",
                format!("{} is not within 8 and 30", self.prefix_length),
            );
        } else if self.dhcp == DhcpMode::Full {
            let network =
                |address: Ipv4Addr| u32::from(address) >> (32 - u32::from(self.prefix_length));
            for (key, address) in [("first", self.first), ("last", self.last)] {
                if network(address) != network(self.address) {
                    wrong(
                        key,
                        format!(
                            "{address} is not in the network of boot.address, {}/{}",
                            self.address, self.prefix_length
                        ),
                    );
                }
            }
            if self.first > self.last {
                wrong(
                    "last",
                    format!("{} comes before boot.first, {}", self.last, self.first),
                );
            }
            if (self.first..=self.last).contains(&self.address) {
                wrong(
                    "address",
                    format!("{} would be given out to a device too", self.address),
                );
            }
        }
        if self.port == 0 {
            wrong("port", "0 is no port".into());
        }
        if !self.files.is_absolute() {
            wrong(
                "files",
                format!(
                    "{:?} must be an absolute path",
                    self.files.display().to_string()
                ),
            );
        }
        if !crate::vocab::device::is_plain_name(&self.image) {
            wrong("image", format!("{:?} is not an image's name", self.image));
        }
        if !(1..=1000).contains(&self.streams) {
            wrong(
                "streams",
                format!("{} is not within 1 and 1000", self.streams),
            );
        }
        if !(10..=86_400).contains(&self.silence_s) {
            wrong(
                "silence_s",
                format!("{} is not within 10 and 86400", self.silence_s),
            );
        }
        if let Some(folder) = self
            .consoles
            .as_ref()
            .filter(|folder| !folder.is_absolute())
        {
            wrong(
                "consoles",
                format!(
                    "{:?} must be an absolute path",
                    folder.display().to_string()
                ),
            );
        }
        faults.extend(self.telemetry.check());
        faults
    }

    /// What machines are told to fetch from.
    pub fn base_url(&self) -> String {
        format!("http://{}:{}", self.address, self.port)
    }

    /// What the decision needs of this.
    pub fn decision(&self) -> decide::Settings {
        decide::Settings {
            unknown: self.unknown,
            base_url: self.base_url(),
            most_boots_after_delivery: 3,
        }
    }

    /// What the network boot needs, with its folder below the daemon's state.
    pub fn settings(&self, state: &std::path::Path) -> Settings {
        Settings {
            state: state.join("boot"),
            plane: PlaneSettings {
                interface: self.interface.clone(),
                address: self.address,
                prefix_length: self.prefix_length,
                port: self.port,
                dhcp: self.dhcp,
                range: (self.first, self.last),
                announce_ipv6: self.announce_ipv6,
                files: self.files.clone(),
            },
            decision: self.decision(),
            approve: self.approve,
            give_up: self.give_up,
            image: self.image.clone(),
            streams: self.streams,
            silence: Duration::from_secs(self.silence_s),
            telemetry: self.telemetry.keeping(),
            consoles: self.consoles.clone(),
        }
    }
}
