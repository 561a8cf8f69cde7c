//! What the pool's parts share: services, rows, what is known about the host, who is at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::PoolServices;
use super::arrivals::Arrivals;
use super::breaker::Breaker;
use super::ledger::Ledger;
use crate::fault::Window;
use crate::hypervisor::guest::Guest;
use crate::hypervisor::{HostFacts, HvError, Hypervisor, TemplateFiles};
use crate::store::pool::Verdict;
use crate::vocab::pool::Class;
use crate::vocab::{MachineId, Timestamp};

/// After a claim nothing is filled for a moment: its claimant's first command is about to run.
pub const QUIET: Duration = Duration::from_millis(500);

pub struct Core {
    pub services: PoolServices,
    pub ledger: Ledger,
    pub nudge: Notify,
    /// Who asked for something.
    pub arrivals: Arrivals,
    /// Claims that are being activated. Nothing is filled meanwhile.
    claiming: AtomicUsize,
    last_claim: Mutex<Option<tokio::time::Instant>>,
    known: Mutex<Known>,
    /// One claim or release at a time by key.
    keys: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// What was found out and need not be kept.
#[derive(Debug, Default)]
pub struct Known {
    pub host: Option<HostFacts>,
    pub verdict: Option<Verdict>,
    /// What is wrong with the host's self-test when it could not even be made.
    pub untested: Option<String>,
    /// Failures of filling, by template.
    pub fills: BTreeMap<MachineId, Breaker>,
    /// Failures of building, by class; of the self-test, of destroying.
    pub builds: BTreeMap<Class, Breaker>,
    pub selftest: Breaker,
    pub removals: BTreeMap<MachineId, Breaker>,
    /// Shells and templates that somebody works on.
    pub busy: BTreeSet<MachineId>,
    pub shortfalls: BTreeMap<Class, String>,
}

impl Core {
    pub fn new(services: PoolServices, ledger: Ledger) -> Self {
        Self {
            services,
            ledger,
            nudge: Notify::new(),
            arrivals: Arrivals::default(),
            claiming: AtomicUsize::new(0),
            last_claim: Mutex::default(),
            known: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    pub fn hypervisor(&self) -> &dyn Hypervisor {
        &*self.services.hypervisor
    }

    pub fn guest(&self, machine: MachineId) -> Guest<'_> {
        Guest {
            hypervisor: self.hypervisor(),
            machine,
        }
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn files_of(&self, template: MachineId) -> TemplateFiles {
        TemplateFiles {
            folder: self.services.settings.templates.join(template.to_string()),
        }
    }

    /// The file's name says whose it is, as those of the runs' machines do.
    pub fn disk_of(&self, shell: MachineId) -> PathBuf {
        self.services
            .settings
            .disks
            .join(format!("machine-{shell}.qcow2"))
    }

    pub async fn point(&self, action: &str, window: Window) {
        self.services.faults.point(action, window).await;
    }

    /// The host's facts as last seen; asked for where they are not known.
    pub async fn host(&self) -> Result<HostFacts, HvError> {
        if let Some(host) = self.known().host.clone() {
            return Ok(host);
        }
        self.look_at_host().await
    }

    pub async fn look_at_host(&self) -> Result<HostFacts, HvError> {
        let host = self.hypervisor().host().await?;
        self.known().host = Some(host.clone());
        Ok(host)
    }

    /// Waits while claims are being activated, so that filling is never in their way; but not for ever.
    pub async fn give_way(&self) {
        let begun = tokio::time::Instant::now();
        while let Some(pause) = self.quiet_for()
            && begun.elapsed() < QUIET * 4
        {
            tokio::time::sleep(pause).await;
        }
    }

    /// How long nothing should be filled, because somebody claims; asked again after it.
    pub fn quiet_for(&self) -> Option<Duration> {
        if self.claiming.load(Ordering::SeqCst) > 0 {
            return Some(QUIET);
        }
        let last = *self
            .last_claim
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.and_then(|last| QUIET.checked_sub(last.elapsed()))
            .filter(|pause| !pause.is_zero())
    }

    pub fn claiming(&self) -> Claiming<'_> {
        self.claiming.fetch_add(1, Ordering::SeqCst);
        Claiming(self)
    }

    /// Marks a shell or template as worked on; `None` when somebody else does already.
    pub fn take_up(self: &Arc<Self>, id: MachineId) -> Option<Busy> {
        self.known().busy.insert(id).then(|| Busy {
            core: self.clone(),
            id,
        })
    }

    /// The lock of a claim's key.
    pub async fn key_lock(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|_, lock| lock.strong_count() > 0);
            match keys.get(key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    keys.insert(key.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

/// A claim is being activated for as long as this lives.
pub struct Claiming<'a>(&'a Core);

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        let now = tokio::time::Instant::now();
        *self
            .0
            .last_claim
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.0.claiming.fetch_sub(1, Ordering::SeqCst);
        self.0.nudge.notify_one();
    }
}

/// Somebody works on a shell or template for as long as this lives.
pub struct Busy {
    core: Arc<Core>,
    id: MachineId,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.core.known().busy.remove(&self.id);
        self.core.nudge.notify_one();
    }
}

/// How long each phase took, in order, and when the present one began.
pub struct Phases {
    begun: tokio::time::Instant,
    pub done: Vec<(String, f64)>,
}

impl Phases {
    pub fn begin() -> Self {
        Self {
            begun: tokio::time::Instant::now(),
            done: Vec::new(),
        }
    }

    /// The present phase has ended, the next begins.
    pub fn end(&mut self, name: &str) {
        let now = tokio::time::Instant::now();
        let took = now.duration_since(self.begun).as_secs_f64() * 1000.0;
        self.done.push((name.to_owned(), took));
        self.begun = now;
    }
}

/// Repeats a call while the host cannot be reached, for a while: a restarted libvirtd is back in seconds.
pub async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, HvError>
where
    F: Future<Output = Result<T, HvError>>,
{
    let mut pause = Duration::from_millis(100);
    for _ in 0..8 {
        match call().await {
            Err(HvError::Unreachable(_)) => tokio::time::sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    call().await
}
