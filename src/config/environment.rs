//! Settings from environment variables, as a value: tests give their own, the program its process's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::{Config, ConfigFault};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

/// Every variable that is read, with what it sets.
pub const VARIABLES: &[(&str, &str)] = &[
    ("GREENROOM_CONFIG", "the configuration file"),
    ("GREENROOM_STATE", "state"),
    ("GREENROOM_SOCKET", "socket"),
    ("GREENROOM_SOCKET_GROUP", "socket_group"),
    ("GREENROOM_IMAGES", "recipes"),
    ("GREENROOM_HYPERVISOR", "hypervisor.kind"),
    ("GREENROOM_LIBVIRT_URI", "hypervisor.uri"),
    ("GREENROOM_ACCELERATOR", "hypervisor.accelerator"),
    ("GREENROOM_NETWORK", "hypervisor.network"),
    ("GREENROOM_MEMORY_MIB", "host.memory_mib"),
    ("GREENROOM_VCPUS", "host.vcpus"),
    ("GREENROOM_MAX_ACTIVE_RUNS", "runs.max_active"),
    ("GREENROOM_BOOT_DEADLINE_S", "runs.boot_deadline_s"),
    ("GREENROOM_SILENCE_S", "runs.silence_s"),
    ("GREENROOM_PATIENCE_S", "runs.patience_s"),
    ("GREENROOM_LOG_CAP_BYTES", "runs.log_cap_bytes"),
    ("GREENROOM_POOL", "pool.enabled"),
    ("GREENROOM_POOL_BUDGET_MIB", "pool.budget_mib"),
    ("GREENROOM_POOL_MAX_AGE", "pool.max_age"),
    ("GREENROOM_POOL_GROWTH_MIB", "pool.growth_mib"),
    ("GREENROOM_RECONCILE_INTERVAL_S", "reconcile.interval_s"),
    ("GREENROOM_API_ADDRESS", "api.address"),
];

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        let set = |(name, _): &(&str, &str)| {
            let value = std::env::var_os(name)?;
            Some(((*name).to_owned(), value.to_string_lossy().into_owned()))
        };
        Self(VARIABLES.iter().filter_map(set).collect())
    }

    /// Empty means not set, as in most shells' scripts.
    fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            VARIABLES.iter().any(|(known, _)| *known == name),
            "{name} is not listed"
        );
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn file(&self) -> Option<PathBuf> {
        self.get("GREENROOM_CONFIG").map(PathBuf::from)
    }

    pub(super) fn apply(&self, config: &mut Config, faults: &mut Vec<ConfigFault>) {
        if let Some(state) = self.get("GREENROOM_STATE") {
            config.state = PathBuf::from(state);
        }
        if let Some(socket) = self.get("GREENROOM_SOCKET") {
            config.socket = Some(PathBuf::from(socket));
        }
        if let Some(group) = self.get("GREENROOM_SOCKET_GROUP") {
            config.socket_group = Some(group.to_owned());
        }
        if let Some(recipes) = self.get("GREENROOM_IMAGES") {
            config.recipes = PathBuf::from(recipes);
        }
        if let Some(uri) = self.get("GREENROOM_LIBVIRT_URI") {
            uri.clone_into(&mut config.hypervisor.uri);
        }
        if let Some(network) = self.get("GREENROOM_NETWORK") {
            network.clone_into(&mut config.hypervisor.network);
        }
        self.word("GREENROOM_HYPERVISOR", faults, |kind| {
            config.hypervisor.kind = kind
        });
        self.word("GREENROOM_ACCELERATOR", faults, |choice| {
            config.hypervisor.accelerator = choice
        });
        self.number("GREENROOM_MEMORY_MIB", faults, |n| {
            config.host.memory_mib = Some(n)
        });
        self.number("GREENROOM_VCPUS", faults, |n| config.host.vcpus = Some(n));
        self.number("GREENROOM_MAX_ACTIVE_RUNS", faults, |n| {
            config.runs.max_active = n
        });
        self.number("GREENROOM_BOOT_DEADLINE_S", faults, |n| {
            config.runs.boot_deadline_s = n
        });
        self.number("GREENROOM_SILENCE_S", faults, |n| config.runs.silence_s = n);
        self.number("GREENROOM_PATIENCE_S", faults, |n| {
            config.runs.patience_s = n
        });
        self.number("GREENROOM_LOG_CAP_BYTES", faults, |n| {
            config.runs.log_cap_bytes = n
        });
        if let Some(address) = self.get("GREENROOM_API_ADDRESS") {
            match address.trim().parse() {
                Ok(address) => config.api.address = Some(address),
                Err(_) => faults.push(ConfigFault::new(
                    "GREENROOM_API_ADDRESS",
                    format!("{address:?} is not ADDRESS:PORT, such as 127.0.0.1:8443"),
                )),
            }
        }
        if let Some(age) = self.get("GREENROOM_POOL_MAX_AGE") {
            age.clone_into(&mut config.pool.max_age);
        }
        self.truth("GREENROOM_POOL", faults, |enabled| {
            config.pool.enabled = enabled
        });
        self.number("GREENROOM_POOL_BUDGET_MIB", faults, |n| {
            config.pool.budget_mib = Some(n)
        });
        self.number("GREENROOM_POOL_GROWTH_MIB", faults, |n| {
            config.pool.growth_mib = n
        });
        self.number("GREENROOM_RECONCILE_INTERVAL_S", faults, |n| {
            config.reconcile.interval_s = n
        });
    }

    fn number<T: FromStr>(&self, name: &str, faults: &mut Vec<ConfigFault>, set: impl FnOnce(T)) {
        let Some(text) = self.get(name) else { return };
        match text.trim().parse() {
            Ok(value) => set(value),
            Err(_) => faults.push(ConfigFault::new(
                name,
                format!("{text:?} is not a whole number"),
            )),
        }
    }

    fn truth(&self, name: &str, faults: &mut Vec<ConfigFault>, set: impl FnOnce(bool)) {
        let Some(text) = self.get(name) else { return };
        match text.trim() {
            "1" | "true" | "yes" | "on" => set(true),
            "0" | "false" | "no" | "off" => set(false),
            _ => faults.push(ConfigFault::new(
                name,
                format!("{text:?} is neither true nor false"),
            )),
        }
    }

    /// One of an enum's words, as its file form spells them.
    fn word<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
        faults: &mut Vec<ConfigFault>,
        set: impl FnOnce(T),
    ) {
        let Some(text) = self.get(name) else { return };
        let words: StrDeserializer<'_, WordError> = text.trim().into_deserializer();
        match T::deserialize(words) {
            Ok(value) => set(value),
            Err(error) => faults.push(ConfigFault::new(name, error.to_string())),
        }
    }
}
