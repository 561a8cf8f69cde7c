//! Looking: rows, machines and files, each complete or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::hypervisor::SeenMachine;
use crate::runs::services::Services;
use crate::store::runs;
use crate::vocab::machine::Machine;
use crate::vocab::pool::{ShellState, TemplateState};
use crate::vocab::{Deployment, MachineId, RunId};

/// Everything there is, at about one time.
#[derive(Debug, Clone)]
pub struct Seen {
    pub deployment: Deployment,
    /// What the host has, ours and others'.
    pub machines: Vec<SeenMachine>,
    /// What the database has that is not gone. Read *after* the host was listed, so that a machine
    /// made in between has its row.
    pub rows: BTreeMap<MachineId, Machine>,
    /// Machines of the pool that are to be there: shells, and templates that are being made. Read
    /// after the host was listed, too.
    pub pooled: BTreeMap<MachineId, Pooled>,
    /// Files in the folder of disks.
    pub disks: Vec<PathBuf>,
    /// Runs that may have a handoff disk.
    pub runs_with_disks: BTreeSet<RunId>,
}

impl Seen {
    pub fn is_ours(&self, machine: &SeenMachine) -> bool {
        machine
            .tag
            .as_ref()
            .is_some_and(|tag| tag.deployment == self.deployment)
    }
}

pub async fn observe(services: &Services) -> anyhow::Result<Seen> {
    // Rows are written before what they describe is made, so listing first and reading rows second
    // can miss a row's machine but never a machine's row.
    let machines = services.hypervisor.machines().await?;
    let disks = services.hypervisor.disks().await?;
    let mut connection = services.store.read().await?;
    let rows = runs::machine_alive(&mut connection).await?;
    let mentioned: BTreeSet<RunId> = disks.iter().filter_map(|path| run_of(path)).collect();
    let with_disks =
        runs::run_with_disks(&mut connection, &mentioned.into_iter().collect::<Vec<_>>()).await?;
    Ok(Seen {
        deployment: services.deployment,
        machines,
        rows: rows
            .into_iter()
            .map(|machine| (machine.domain(), machine))
            .collect(),
        pooled: pooled(services).await?,
        disks,
        runs_with_disks: with_disks.into_iter().collect(),
    })
}

/// A machine of the pool, as far as the comparison goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooled {
    pub name: String,
    /// It must be on the host: it is not being made or removed at the moment.
    pub settled: bool,
}

async fn pooled(services: &Services) -> anyhow::Result<BTreeMap<MachineId, Pooled>> {
    let Some(pool) = &services.pool else {
        return Ok(BTreeMap::new());
    };
    let shells = pool.shells().await?.into_iter().map(|shell| {
        let settled = matches!(shell.state, ShellState::Ready | ShellState::Claimed);
        let pooled = Pooled {
            name: shell.name,
            settled,
        };
        (shell.id, pooled)
    });
    let templates = pool.templates(false).await?.into_iter();
    let building = templates
        .filter(|template| template.state == TemplateState::Building)
        .map(|template| {
            let name = format!("template of {}", template.class);
            let pooled = Pooled {
                name,
                settled: false,
            };
            (template.id, pooled)
        });
    Ok(shells.chain(building).collect())
}

/// Which machine a disk belongs to, by its name: `machine-<uuid>.…`.
pub fn machine_of(path: &std::path::Path) -> Option<MachineId> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("machine-")?.get(..36)?.parse().ok()
}

/// Which run a handoff disk or checkpoint belongs to, by its name: `run-<number>.…`.
pub fn run_of(path: &std::path::Path) -> Option<RunId> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("run-")?.split('.').next()?.parse().ok()
}

/// Whether a row owns this disk now.
pub async fn is_owned(services: &Services, path: &std::path::Path) -> anyhow::Result<bool> {
    let mut connection = services.store.read().await?;
    Ok(match (machine_of(path), run_of(path)) {
        (Some(id), _) => {
            runs::machine_alive(&mut connection)
                .await?
                .iter()
                .any(|machine| machine.domain() == id)
                || pooled(services).await?.contains_key(&id)
        }
        (None, Some(run)) => !runs::run_with_disks(&mut connection, &[run])
            .await?
            .is_empty(),
        (None, None) => true,
    })
}
