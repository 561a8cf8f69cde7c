//! Wiring: the one place that knows every part. Builds them, starts them and stops them in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::hypervisor::Hypervisor;
use crate::images::Images;
use crate::reconcile::Reconciler;
use crate::runs::capacity::{Capacity, Room};
use crate::runs::dispatch::Dispatch;
use crate::runs::fault::Faults;
use crate::runs::services::{RunSettings, Services};
use crate::store::Store;
use crate::store::artefacts::Artefacts;
use crate::store::meta;
use crate::vocab::Deployment;

/// How a daemon is to be, apart from the host it works on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of database, artefacts, images and disks.
    pub state: PathBuf,
    /// Runs that may be active at once.
    pub max_active: usize,
    /// What of the host the machines may use.
    pub room: Room,
    pub runs: RunSettings,
    /// How often rows and host are compared when nothing asks for it.
    pub reconcile_every: Duration,
}

/// A daemon at work, without its listeners.
pub struct Running {
    pub services: Services,
    pub dispatch: Arc<Dispatch>,
    pub reconciler: Arc<Reconciler>,
    pub images: Images,
    stop: CancellationToken,
}

/// The database and what it says about whose installation this is. Opened before the host, because
/// the host's connection needs the deployment's id for its tags.
pub struct Foundation {
    pub store: Store,
    pub deployment: Deployment,
}

impl Foundation {
    pub async fn lay(state: &std::path::Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(state)
            .with_context(|| format!("making the state folder {}", state.display()))?;
        let store = Store::open(&state.join("greenroom.db")).await?;
        let deployment = store
            .write(|connection| Box::pin(meta::deployment_get_or_make(connection)))
            .await?;
        Ok(Self { store, deployment })
    }
}

/// Starts everything on a host. Runs that were under way go on.
pub async fn start(
    foundation: Foundation,
    hypervisor: Arc<dyn Hypervisor>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    faults: Faults,
) -> anyhow::Result<Running> {
    std::fs::create_dir_all(&settings.runs.disks)
        .with_context(|| format!("making {}", settings.runs.disks.display()))?;
    let images = Images::open(&settings.state)?;
    let services = Services {
        store: foundation.store,
        artefacts: Artefacts::open(settings.state.join("artefacts"))?,
        hypervisor,
        clock,
        capacity: Arc::new(Capacity::new(settings.room)),
        settings: Arc::new(settings.runs),
        deployment: foundation.deployment,
        live: broadcast::channel(4096).0,
        faults,
    };
    let dispatch = Dispatch::start(services.clone(), settings.max_active).await?;
    let reconciler = Reconciler::new(services.clone(), dispatch.clone());
    let stop = CancellationToken::new();
    tokio::spawn(
        reconciler
            .clone()
            .run(settings.reconcile_every, stop.clone()),
    );
    Ok(Running {
        services,
        dispatch,
        reconciler,
        images,
        stop,
    })
}

impl Running {
    /// Ends the reconciler. Runs simply stop with the process: what they are doing may be repeated.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}
