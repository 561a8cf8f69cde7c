//! The pool: machines that wait before they are asked for.
//!
//! A *template* is an image booted once, settled, warmed and captured; a *shell* is forked from it,
//! given an identity of its own, warmed and paused; a *claim* takes one shell for one use. This
//! module owns the rows of templates, shells and claims; everyone else asks [`Pool`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::fault::Faults;
use crate::hypervisor::Hypervisor;
use crate::images::Images;
use crate::store::Store;
use crate::vocab::image::Image;
use crate::vocab::machine::Size;
use crate::vocab::pool::{Claim, Class, Shell, Target, Template, Tier, TrustDomain};
use crate::vocab::{Deployment, MachineId};

/// What the pool needs from the rest of the program.
#[derive(Clone)]
pub struct PoolServices {
    pub store: Store,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub clock: Arc<dyn Clock>,
    pub images: Images,
    pub deployment: Deployment,
    pub settings: Arc<PoolSettings>,
    pub faults: Faults,
}

#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Folder of overlays, shared with the runs' machines.
    pub disks: PathBuf,
    /// A folder per template.
    pub templates: PathBuf,
    /// libvirt network of shells with a card.
    pub network: String,
    /// From the create call until the guest agent has to have answered.
    pub boot_deadline: Duration,
    /// What all shells together may take of the host's memory (PSS), MiB.
    pub budget_mib: u64,
    /// A shell that waited for so long is replaced.
    pub max_age: Duration,
    /// Memory that can be added to a shell at its claim, MiB.
    pub growth_mib: u64,
    /// Trust domains of clients that do not have one of their own; see [`PoolSettings::trust_of`].
    pub trust: BTreeMap<String, TrustDomain>,
}

impl PoolSettings {
    /// The trust domain of a client: what the settings say, else one of its own.
    pub fn trust_of(&self, client: &str) -> TrustDomain {
        self.trust
            .get(client)
            .cloned()
            .unwrap_or_else(|| TrustDomain(client.to_owned()))
    }
}

/// What somebody asks the pool for.
#[derive(Debug, Clone)]
pub struct Want {
    /// Chosen by the claimant; asked again with the same key, the pool gives the same shell.
    pub key: String,
    pub image: Image,
    pub size: Size,
    /// It needs a network card.
    pub network: bool,
    pub trust: TrustDomain,
    /// For people: `run 7, stage apply`.
    pub owner: String,
    /// The shell is taken away after this; none for a claim that ends with its owner.
    pub ttl: Option<Duration>,
}

/// What the pool has for it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A shell that runs and whose agent answers, sized as wanted or with `achieved` telling less.
    Claimed(Box<Claim>),
    /// Nothing can be forked for this; the claimant makes a machine of its own.
    Nothing { tier: Tier, reason: String },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PoolError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Host(#[from] crate::hypervisor::HvError),
    #[error("the database: {0}")]
    Store(String),
}

/// One class as it is now, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    pub class: Class,
    /// What somebody set; none for a class that is here by use only.
    pub target: Option<Target>,
    /// The best that a claim would get now.
    pub tier: Tier,
    /// Why it is not what the target says, where it is not.
    pub shortfall: Option<String>,
    pub template: Option<Template>,
    pub ready: u32,
    pub filling: u32,
    pub claimed: u32,
    /// Claims of the last 24 hours by tier that served them.
    pub served: BTreeMap<Tier, u64>,
    /// Mean of the shells that wait, MiB.
    pub pss_mib: Option<f64>,
    /// Failures in a row, and until when filling pauses because of them.
    pub failures: u32,
    pub pauses_until: Option<crate::vocab::Timestamp>,
}

/// The whole pool as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub pools: Vec<PoolView>,
    pub budget_mib: u64,
    pub used_mib: f64,
    /// Whether this host forks, and how that was found out.
    pub forks: bool,
    pub forks_reason: String,
    /// The last claims, newest first.
    pub recent: Vec<Claim>,
}

/// The pool at work. Its parts are asked for by everyone; it alone changes its rows.
pub struct Pool {
    services: PoolServices,
}

impl Pool {
    /// Takes up what is there, and starts filling. The same code serves a first start and one after
    /// a crash.
    pub async fn start(services: PoolServices) -> Result<Arc<Self>, PoolError> {
        Ok(Arc::new(Self { services }))
    }

    pub fn settings(&self) -> &PoolSettings {
        &self.services.settings
    }

    /// Takes a shell: a hot one, else one that is forked now, else nothing. Idempotent by the want's
    /// key. Dropping the future leaves a claim that [`Pool::release`] ends.
    pub async fn claim(&self, want: &Want) -> Result<Answer, PoolError> {
        let _ = want;
        Ok(Answer::Nothing {
            tier: Tier::Cool,
            reason: "the pool is not built yet".to_owned(),
        })
    }

    /// Ends a claim: its shell is destroyed and its files are removed when this returns. A claim that
    /// is not there, or ended already, is a success.
    pub async fn release(&self, key: &str) -> Result<(), PoolError> {
        let _ = key;
        Ok(())
    }

    /// Claims that are not released, oldest first.
    pub async fn claims(&self) -> Result<Vec<Claim>, PoolError> {
        Ok(Vec::new())
    }

    /// Sets what is wanted of a class; `None` lets it go.
    pub async fn set(&self, class: Class, target: Option<Target>) -> Result<(), PoolError> {
        let _ = (class, target);
        Ok(())
    }

    pub async fn status(&self) -> Result<PoolStatus, PoolError> {
        Err(PoolError::Refused("the pool is not built yet".to_owned()))
    }

    /// Shells that are not gone, oldest first.
    pub async fn shells(&self) -> Result<Vec<Shell>, PoolError> {
        Ok(Vec::new())
    }

    /// Templates, newest first; `all` includes those that are gone.
    pub async fn templates(&self, all: bool) -> Result<Vec<Template>, PoolError> {
        let _ = all;
        Ok(Vec::new())
    }

    /// Begins a new template of the class, or returns the one that is ready, or being built, with the
    /// same key. `force` builds in any case. Progress is in [`Pool::templates`].
    pub async fn build_template(&self, class: &Class, force: bool) -> Result<MachineId, PoolError> {
        let _ = (class, force);
        Err(PoolError::Refused("the pool is not built yet".to_owned()))
    }

    /// Reads a template's files and compares them with its seal. One that differs fails, with
    /// everything that was forked from it and not claimed.
    pub async fn verify_template(&self, template: MachineId) -> Result<Template, PoolError> {
        let _ = template;
        Err(PoolError::Refused("the pool is not built yet".to_owned()))
    }

    /// Nothing new is forked from it; it goes with its last shell.
    pub async fn retire_template(&self, template: MachineId) -> Result<Template, PoolError> {
        let _ = template;
        Err(PoolError::Refused("the pool is not built yet".to_owned()))
    }

    /// Tells the pool that a machine of its own stopped, as the host or the reconciler saw it.
    pub async fn tell_lost(&self, machine: MachineId, why: &str) {
        let _ = (machine, why);
    }

    /// Something changed: look again now.
    pub fn nudge(&self) {}
}
