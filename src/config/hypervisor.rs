//! Section `hypervisor`: what makes machines real.

use serde::{Deserialize, Serialize};

use super::ConfigFault;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HypervisorConfig {
    /// `libvirt`, or `simulated` for trying chains without any VM.
    pub kind: HypervisorKind,
    /// libvirt's connection URI; local only, because disks and consoles are files of this host.
    pub uri: String,
    /// `auto` lets a probe guest find out, `kvm` and `tcg` decide it.
    pub accelerator: AcceleratorChoice,
    /// The libvirt network that stages with `network: true` join.
    pub network: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HypervisorKind {
    Libvirt,
    Simulated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorChoice {
    Auto,
    Kvm,
    Tcg,
}

impl Default for HypervisorConfig {
    fn default() -> Self {
        Self {
            kind: HypervisorKind::Libvirt,
            uri: "qemu:///system".into(),
            accelerator: AcceleratorChoice::Auto,
            network: "default".into(),
        }
    }
}

impl HypervisorConfig {
    pub(super) fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if !self.uri.starts_with("qemu:") && !self.uri.starts_with("qemu+unix:") {
            faults.push(ConfigFault::new(
                "hypervisor.uri",
                format!(
                    "{:?} is not a QEMU libvirt of this host; the usual one is \"qemu:///system\"",
                    self.uri
                ),
            ));
        }
        if !crate::vocab::device::is_plain_name(&self.network) {
            faults.push(ConfigFault::new(
                "hypervisor.network",
                format!(
                    "{:?} is not a network's name (letters, digits, `.`, `_`, `-`, at most 64)",
                    self.network
                ),
            ));
        }
        faults
    }
}
