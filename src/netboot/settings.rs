//! How the network boot is to be.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decide;
use super::script::GiveUp;
use crate::vocab::telemetry::Keeping;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of dnsmasq's configuration, leases and boot files.
    pub state: PathBuf,
    pub plane: PlaneSettings,
    pub decision: decide::Settings,
    pub approve: Approve,
    pub give_up: GiveUp,
    /// Name of the image that devices boot into.
    pub image: String,
    /// Images that are sent at the same time.
    pub streams: usize,
    /// A device that works and says nothing for so long is taken for gone.
    pub silence: Duration,
    pub telemetry: Keeping,
    /// Folder of what devices' serial consoles say, where there is one.
    pub consoles: Option<PathBuf>,
}

/// What dnsmasq and the listener need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaneSettings {
    pub interface: String,
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    pub port: u16,
    pub dhcp: DhcpMode,
    /// First and last address given out in [`DhcpMode::Full`].
    pub range: (Ipv4Addr, Ipv4Addr),
    pub announce_ipv6: bool,
    /// Folder of iPXE's boot files.
    pub files: PathBuf,
}

/// Whose DHCP it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpMode {
    /// Another server gives addresses; we add boot files (proxyDHCP, PXE 2.1).
    Proxy,
    /// We are the only one there.
    Full,
}

/// Who may be provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approve {
    /// Whoever is on this network.
    Network,
    /// Whom a person approves.
    Operator,
}
