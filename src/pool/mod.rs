//! The pool: machines that wait before they are asked for.
//!
//! A *template* is an image booted once, settled, warmed and captured; a *shell* is forked from it,
//! given an identity of its own, warmed and paused; a *claim* takes one shell for one use. This
//! module owns the rows of templates, shells and claims; everyone else asks [`Pool`].
//!
//! ```text
//!  plan (pure) ◄── rows (ledger), keys, verdict, breakers, time
//!    │ steps
//!    ▼
//!  drive ──► selftest   once per host version: may it fork at all
//!        ──► template   boot, settle, warm, capture, seal
//!        ──► shell      fork, load, identity, warm, pause; destroy
//!  claim ──► ledger (one write) ──► resize, resume, agent
//! ```
//!
//! [`ledger`] is the one way to change a row. [`plan`], [`size`], [`breaker`], [`fit`] and [`key`]
//! decide and know no host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::fault::Faults;
use crate::hypervisor::Hypervisor;
use crate::images::Images;
use crate::store::pool::{Wanted, template_list};
use crate::store::{Store, StoreError};
use crate::vocab::image::Image;
use crate::vocab::machine::Size;
use crate::vocab::pool::{
    Claim, Class, Shell, ShellState, Target, Template, TemplateState, Tier, TrustDomain,
};
use crate::vocab::{Deployment, MachineId};

mod adopt;
mod arrivals;
pub mod breaker;
mod claim;
mod core;
mod drive;
pub mod fit;
pub mod identity;
pub mod key;
pub mod ledger;
pub mod plan;
pub mod rehearse;
mod selftest;
mod shell;
pub mod size;
mod template;
mod view;

/// The fault points' words, in the order of a shell's life.
pub const WORDS: [&str; 10] = [
    "template_build",
    "template_capture",
    "template_seal",
    "template_remove",
    "shell_fork",
    "shell_load",
    "shell_warm",
    "claim",
    "shell_activate",
    "shell_destroy",
];

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
    /// On whose behalf.
    pub client: String,
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

impl From<StoreError> for PoolError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
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
    core: Arc<core::Core>,
    _stops_with_it: DropGuard,
}

impl Pool {
    /// Takes up what is there, and starts filling. The same code serves a first start and one after
    /// a crash.
    pub async fn start(services: PoolServices) -> Result<Arc<Self>, PoolError> {
        let ledger = ledger::Ledger::load(services.store.clone()).await?;
        let core = Arc::new(core::Core::new(services, ledger));
        let half_built = adopt::half_built(&core);
        let stop = CancellationToken::new();
        tokio::spawn(drive::drive(core.clone(), half_built, stop.clone()));
        Ok(Arc::new(Self {
            core,
            _stops_with_it: stop.drop_guard(),
        }))
    }

    pub fn settings(&self) -> &PoolSettings {
        &self.core.services.settings
    }

    /// Takes a shell: a hot one, else one that is forked now, else nothing. Idempotent by the want's
    /// key; when the shell of an earlier claim of this key is lost, another takes its place. Dropping
    /// the future leaves a claim that [`Pool::release`] ends.
    ///
    /// When this returns, the command that sets the guest's clock has begun, not necessarily ended.
    pub async fn claim(&self, want: &Want) -> Result<Answer, PoolError> {
        claim::claim(&self.core, want).await
    }

    /// Ends a claim: its shell is destroyed and its files are removed when this returns. A claim that
    /// is not there, or ended already, is a success. After an error the pool goes on trying by itself.
    pub async fn release(&self, key: &str) -> Result<(), PoolError> {
        claim::release(&self.core, key).await
    }

    /// Claims that are not released, oldest first.
    pub async fn claims(&self) -> Result<Vec<Claim>, PoolError> {
        let mut claims: Vec<Claim> = self
            .core
            .ledger
            .look(|rows| rows.claims.values().cloned().collect());
        claims.sort_by(|a, b| (a.made_at, &a.key).cmp(&(b.made_at, &b.key)));
        Ok(claims)
    }

    /// Sets what is wanted of a class; `None` lets it go.
    pub async fn set(&self, class: Class, target: Option<Target>) -> Result<(), PoolError> {
        if class.trust.0 == selftest::TRUST {
            return Err(PoolError::Refused(format!(
                "the trust domain {} is the self-test's; choose another",
                class.trust.0
            )));
        }
        self.core
            .ledger
            .change(|draft| {
                let by_use = draft
                    .rows
                    .wanted
                    .get(&class)
                    .and_then(|wanted| wanted.by_use);
                let wanted = target.map(|target| Wanted {
                    target: Some(target),
                    by_use,
                });
                draft.rows.in_vain.remove(&class);
                draft.put_wanted(&class, wanted);
            })
            .await;
        self.core.known().builds.remove(&class);
        self.nudge();
        Ok(())
    }

    pub async fn status(&self) -> Result<PoolStatus, PoolError> {
        Ok(view::status(&self.core).await?)
    }

    /// Shells that are not gone, oldest first.
    pub async fn shells(&self) -> Result<Vec<Shell>, PoolError> {
        let mut shells: Vec<Shell> = self
            .core
            .ledger
            .look(|rows| rows.shells.values().cloned().collect());
        shells.sort_by_key(|shell| shell.serial);
        Ok(shells)
    }

    /// Templates, newest first; `all` includes those that are gone.
    pub async fn templates(&self, all: bool) -> Result<Vec<Template>, PoolError> {
        if all {
            let mut connection = self.core.services.store.read().await?;
            return Ok(template_list(&mut connection, true, i64::MAX).await?);
        }
        let mut templates: Vec<Template> = self
            .core
            .ledger
            .look(|rows| rows.templates.values().cloned().collect());
        templates.sort_by_key(|template| std::cmp::Reverse((template.made_at, template.id)));
        Ok(templates)
    }

    /// Begins a new template of the class, or returns the one that is ready, or being built, with the
    /// same key. `force` builds in any case. Progress is in [`Pool::templates`]. A class without a
    /// target keeps it as long as one that is here by use.
    pub async fn build_template(&self, class: &Class, force: bool) -> Result<MachineId, PoolError> {
        let key = drive::current_key(&self.core, class)
            .await
            .ok_or_else(|| {
                PoolError::Refused(
                    "the host cannot be reached; start libvirtd, then try again".to_owned(),
                )
            })?
            .map_err(PoolError::NotFound)?;
        let now = self.core.now();
        let there = self
            .core
            .ledger
            .change(|draft| {
                let mut wanted = draft.rows.wanted.get(class).cloned().unwrap_or_default();
                if wanted.by_use.is_some() || !plan::wants_template(&wanted) {
                    wanted.by_use = Some(now);
                    draft.put_wanted(class, Some(wanted));
                }
                let same = draft.rows.templates.values().filter(|template| {
                    template.class == *class
                        && template.key == key.digest
                        && match template.state {
                            TemplateState::Ready => !force,
                            TemplateState::Building => true,
                            _ => false,
                        }
                });
                same.max_by_key(|template| template.generation)
                    .map(|template| template.id)
            })
            .await;
        let id = match there {
            Some(id) => id,
            None => drive::new_generation(&self.core, class)
                .await
                .map_err(PoolError::Refused)?,
        };
        self.nudge();
        Ok(id)
    }

    /// Reads a template's files and compares them with its seal. One that differs fails, with
    /// everything that was forked from it and not claimed.
    pub async fn verify_template(&self, template: MachineId) -> Result<Template, PoolError> {
        let row = self.template(template)?;
        let Some(seal) = &row.seal else {
            return Err(PoolError::Refused(format!(
                "template {template} is {} and was never sealed; there is nothing to compare",
                row.state
            )));
        };
        match template::check(&self.core, template, seal, true).await {
            Ok(()) => {}
            Err(template::Unfit::Damaged(words)) => {
                template::fail(&self.core, template, &words).await;
            }
            Err(template::Unfit::Unknown(error)) => return Err(error.into()),
        }
        self.template(template)
    }

    /// Nothing new is forked from it; it goes with its last shell.
    pub async fn retire_template(&self, template: MachineId) -> Result<Template, PoolError> {
        let row = self.template(template)?;
        if row.state == TemplateState::Building {
            return Err(PoolError::Refused(format!(
                "template {template} is still being built; retire it when it is ready"
            )));
        }
        self.core
            .ledger
            .change(|draft| {
                draft.template(template, |template| {
                    if template.state == TemplateState::Ready {
                        template.state = TemplateState::Draining;
                        template.reason = Some("retired by hand".to_owned());
                    }
                });
            })
            .await;
        self.nudge();
        Ok(self
            .core
            .ledger
            .look(|rows| rows.templates.get(&template).cloned())
            .unwrap_or(row))
    }

    fn template(&self, id: MachineId) -> Result<Template, PoolError> {
        self.core
            .ledger
            .look(|rows| rows.templates.get(&id).cloned())
            .ok_or_else(|| {
                PoolError::NotFound(format!(
                    "no template {id}; `greenroom pool templates` lists those there are"
                ))
            })
    }

    /// The machines on the host that are the pool's: whoever cleans up leaves them alone. Every row is
    /// on disk, and here, before its machine is made.
    pub fn owned(&self) -> Vec<MachineId> {
        self.core.ledger.look(|rows| {
            let shells = rows
                .shells
                .values()
                .filter(|shell| shell.state != ShellState::Gone);
            let templates = rows.templates.keys();
            shells
                .map(|shell| shell.id)
                .chain(templates.copied())
                .collect()
        })
    }

    /// The folders of templates that are the pool's.
    pub fn owned_folders(&self) -> Vec<PathBuf> {
        self.core.ledger.look(|rows| {
            let ids = rows.templates.keys();
            ids.map(|id| self.core.files_of(*id).folder).collect()
        })
    }

    /// Tells the pool that a machine of its own stopped, as the host or the reconciler saw it.
    pub async fn tell_lost(&self, machine: MachineId, why: &str) {
        drive::lost(&self.core, machine, why).await;
    }

    /// Who asked for a machine since the last time, served or not; an unused key that asks again within
    /// minutes came once. Whoever counts them fetches them when [`Pool::until_asked`] returns.
    pub fn take_arrivals(&self) -> Vec<crate::vocab::demand::Arrival> {
        self.core.arrivals.take()
    }

    /// Returns when somebody has asked for a machine.
    pub async fn until_asked(&self) {
        self.core.arrivals.came.notified().await;
    }

    /// Something changed: look again now.
    pub fn nudge(&self) {
        self.core.nudge.notify_one();
    }
}
