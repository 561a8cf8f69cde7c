//! Settings: defaults, then the file, then the environment, then the command line; the later wins.
//!
//! The file is YAML, `/etc/greenroom/greenroom.yaml` unless named, and may be absent there. A struct
//! per section, each with its defaults and its check; [`load`] puts them together and reports every
//! value that cannot work. What the rest of the program needs is asked through the methods of
//! [`Config`], so that nobody else knows the folders' names.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pool::PoolSettings;
use crate::runs::services::RunSettings;

pub mod api;
pub mod boot;
pub mod environment;
pub mod host;
pub mod hypervisor;
pub mod pool;
pub mod reconcile;
pub mod runs;
pub mod telemetry;
pub mod traces;

pub use api::ApiConfig;
pub use boot::BootConfig;
pub use environment::Environment;
pub use host::HostShare;
pub use hypervisor::{AcceleratorChoice, HypervisorConfig, HypervisorKind};
pub use pool::{PoolConfig, StartTarget, TargetOf};
pub use reconcile::ReconcileConfig;
pub use runs::RunsConfig;
pub use telemetry::TelemetryConfig;
pub use traces::TracesConfig;

/// Read when no file is named; need not be there.
pub const DEFAULT_FILE: &str = "/etc/greenroom/greenroom.yaml";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of everything that Greenroom keeps: database, artefacts, images, disks of machines.
    pub state: PathBuf,
    /// The API's Unix socket; `greenroom.sock` in the state folder when not given.
    pub socket: Option<PathBuf>,
    /// The group that may use the API, which owns the socket; the daemon's own when not given.
    pub socket_group: Option<String>,
    /// Folder of the recipes that `image build` knows.
    pub recipes: PathBuf,
    /// What makes machines real, and how it is reached.
    pub hypervisor: HypervisorConfig,
    /// How much of the host machines may take.
    pub host: HostShare,
    /// Limits of runs.
    pub runs: RunsConfig,
    /// Machines that wait before they are asked for.
    pub pool: PoolConfig,
    /// The comparison of what is stored with what is there.
    pub reconcile: ReconcileConfig,
    /// The listener on the network, and who outside is told what happens.
    pub api: ApiConfig,
    /// The network boot of devices.
    pub boot: BootConfig,
    /// Where traces of the daemon's own work go.
    pub telemetry: TracesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/greenroom"),
            socket: None,
            socket_group: None,
            recipes: PathBuf::from("/usr/share/greenroom/images"),
            hypervisor: HypervisorConfig::default(),
            host: HostShare::default(),
            runs: RunsConfig::default(),
            pool: PoolConfig::default(),
            reconcile: ReconcileConfig::default(),
            api: ApiConfig::default(),
            boot: BootConfig::default(),
            telemetry: TracesConfig::default(),
        }
    }
}

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    pub file: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub recipes: Option<PathBuf>,
    pub hypervisor: Option<HypervisorKind>,
    pub no_pool: bool,
}

/// One value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigFault {
    /// Such as `runs.silence_s`, or the environment variable.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ConfigFault {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {path} cannot be read: {error}")]
    Unreadable { path: String, error: std::io::Error },
    /// The text is not YAML of the right shape; the message has line and column.
    #[error("{path}: {why}")]
    Malformed { path: String, why: String },
    #[error("{} of the configuration cannot work:\n{}", count(.0), listed(.0))]
    Faults(Vec<ConfigFault>),
}

fn count(faults: &[ConfigFault]) -> String {
    match faults.len() {
        1 => "one value".to_owned(),
        n => format!("{n} values"),
    }
}

fn listed(faults: &[ConfigFault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    lines.join("\n")
}

/// Puts defaults, file, environment and flags together and checks the result.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, ConfigError> {
    let mut faults = Vec::new();
    let named = flags.file.clone().or_else(|| environment.file());
    let mut config = match &named {
        Some(path) => read(path)?,
        None => match read(Path::new(DEFAULT_FILE)) {
            Err(ConfigError::Unreadable { error, .. })
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                Config::default()
            }
            other => other?,
        },
    };
    environment.apply(&mut config, &mut faults);
    flags.apply(&mut config);
    faults.extend(config.check());
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Faults(faults))
    }
}

fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.display().to_string(),
        error,
    })?;
    parse(&text).map_err(|why| ConfigError::Malformed {
        path: path.display().to_string(),
        why,
    })
}

/// Reads the text of a file; nothing in it means all defaults.
pub fn parse(text: &str) -> Result<Config, String> {
    let is_empty = text
        .lines()
        .all(|line| matches!(line.trim().chars().next(), None | Some('#')));
    if is_empty {
        return Ok(Config::default());
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

impl Flags {
    fn apply(&self, config: &mut Config) {
        if let Some(state) = &self.state {
            config.state.clone_from(state);
        }
        if let Some(socket) = &self.socket {
            config.socket = Some(socket.clone());
        }
        if let Some(recipes) = &self.recipes {
            config.recipes.clone_from(recipes);
        }
        if let Some(kind) = self.hypervisor {
            config.hypervisor.kind = kind;
        }
        if self.no_pool {
            config.pool.enabled = false;
        }
    }
}

impl Config {
    /// Everything that cannot work, whatever the host.
    pub fn check(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        if !self.state.is_absolute() {
            faults.push(ConfigFault::new(
                "state",
                format!(
                    "{:?} must be an absolute path: libvirt is told where the disks are",
                    self.state.display().to_string()
                ),
            ));
        }
        // sun_path of unix(7) holds 108 bytes, the ending NUL included; the socket is made as
        // `<name>.new` and renamed.
        let socket = self.socket();
        if socket.as_os_str().len() > 103 {
            faults.push(ConfigFault::new(
                "socket",
                format!(
                    "{} has {} bytes, and a socket's path may have 103; choose a shorter one",
                    socket.display(),
                    socket.as_os_str().len()
                ),
            ));
        }
        faults.extend(self.hypervisor.check());
        faults.extend(self.host.check());
        faults.extend(self.runs.check());
        faults.extend(self.pool.check());
        faults.extend(self.reconcile.check());
        faults.extend(self.api.check());
        faults.extend(self.boot.check());
        faults.extend(self.telemetry.check());
        faults
    }

    /// Path of the API's socket.
    pub fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .unwrap_or_else(|| self.state.join("greenroom.sock"))
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.state.join("greenroom.db")
    }

    /// Folder of the envelopes and binary outputs.
    pub fn artefacts(&self) -> PathBuf {
        self.state.join("artefacts")
    }

    /// Folder of the disks of machines and of handoff disks.
    pub fn disks(&self) -> PathBuf {
        self.state.join("vm")
    }

    /// Folder of the templates that shells are forked from.
    pub fn templates(&self) -> PathBuf {
        self.state.join("templates")
    }

    /// Folder of the machines' serial consoles.
    pub fn consoles(&self) -> PathBuf {
        self.state.join("consoles")
    }

    /// Folder of the certificate that is made where none is given.
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }

    /// Folder of short-lived files, and of what was found out about the host.
    pub fn scratch(&self) -> PathBuf {
        self.state.join("scratch")
    }

    /// What the runs are told.
    pub fn run_settings(&self) -> RunSettings {
        RunSettings {
            disks: self.disks(),
            network: self.hypervisor.network.clone(),
            boot_deadline: self.runs.boot_deadline(),
            silence: self.runs.silence(),
            patience: self.runs.patience(),
            log_cap: self.runs.log_cap_bytes,
        }
    }

    /// What the pool is told, on a host with so much memory.
    pub fn pool_settings(&self, host_memory_mib: u64) -> PoolSettings {
        PoolSettings {
            disks: self.disks(),
            templates: self.templates(),
            network: self.hypervisor.network.clone(),
            boot_deadline: self.runs.boot_deadline(),
            budget_mib: self.pool.budget_mib(host_memory_mib),
            max_age: self.pool.max_age(),
            growth_mib: self.pool.growth_mib,
            trust: self.pool.trust(),
        }
    }
}

#[cfg(test)]
mod tests;
