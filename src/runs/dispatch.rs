//! Dispatch: queued runs get their turn, and requests find their run's driver.
//!
//! Clients take turns: the client with the fewest active runs goes next, then the one that has
//! waited longest. At most `max_active` runs are active at once; machines are further bounded by
//! [`crate::capacity`].

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::drive::{self, Handle, Message};
use super::plan::Request;
use super::services::Services;
use crate::store::{StoreError, runs};
use crate::vocab::RunId;

/// How long a driver may take to store that its run has begun.
const ADMISSION: Duration = Duration::from_secs(10);

pub struct Dispatch {
    services: Services,
    max_active: usize,
    drivers: Mutex<HashMap<RunId, Driving>>,
    nudge: Notify,
}

struct Driving {
    handle: Handle,
    client: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Dispatch {
    /// Takes up every run that is under way, then admits queued ones as places become free. The same
    /// code serves a first start and one after a crash.
    pub async fn start(services: Services, max_active: usize) -> Result<Arc<Self>, StoreError> {
        let this = Arc::new(Self {
            services,
            max_active: max_active.max(1),
            drivers: Mutex::default(),
            nudge: Notify::new(),
        });
        let unfinished = {
            let mut connection = this.services.store.read().await?;
            runs::run_unfinished(&mut connection).await?
        };
        for id in unfinished {
            // One run that cannot be read must not keep the others from going on.
            if let Err(error) = this.driver(id).await {
                tracing::error!(run = %id, %error, "this run cannot be taken up");
            }
        }
        tokio::spawn(admit(Arc::downgrade(&this)));
        this.nudge.notify_one();
        Ok(this)
    }

    /// A run was added or a place became free.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Hands a request to the run's driver and returns its answer once it is stored.
    pub async fn request(
        self: &Arc<Self>,
        id: RunId,
        request: Request,
    ) -> Result<(), RequestError> {
        if matches!(request, Request::Retry { .. }) {
            self.refuse_second(id).await?;
        }
        // A driver may end in the moment it is asked; the next one is started just for this.
        for _ in 0..3 {
            let handle = self.driver(id).await?.ok_or(RequestError::NoSuchRun(id))?;
            let (answer, answered) = oneshot::channel();
            let sent = handle
                .inbox
                .send(Message::Request(request.clone(), answer))
                .await;
            if sent.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            if let Ok(result) = answered.await {
                self.nudge();
                return result.map_err(RequestError::Refused);
            }
        }
        Err(RequestError::Refused(format!(
            "run {id} has just ended; ask again"
        )))
    }

    /// Tells the driver of a run, if it has one, that a machine is gone.
    pub async fn tell_lost(
        self: &Arc<Self>,
        id: RunId,
        machine: crate::vocab::MachineId,
        why: &str,
    ) {
        let handle = self
            .drivers()
            .get(&id)
            .map(|driving| driving.handle.clone());
        if let Some(handle) = handle {
            let (answer, _) = oneshot::channel();
            let request = Request::MachineLost {
                machine,
                why: why.to_owned(),
            };
            let _ = handle.inbox.send(Message::Request(request, answer)).await;
        }
    }

    /// Runs that have a driver now.
    pub fn driven(&self) -> Vec<RunId> {
        self.drivers().keys().copied().collect()
    }

    /// The driver of a run, started when it has none.
    async fn driver(self: &Arc<Self>, id: RunId) -> Result<Option<Handle>, StoreError> {
        if let Some(driving) = self.drivers().get(&id) {
            return Ok(Some(driving.handle.clone()));
        }
        let Some(view) = drive::load(&self.services, id).await? else {
            return Ok(None);
        };
        let mut drivers = self.drivers();
        // Loading was not under the lock: somebody may have been faster.
        if let Some(driving) = drivers.get(&id) {
            return Ok(Some(driving.handle.clone()));
        }
        let client = view.run.client.clone();
        let (weak, ending) = (Arc::downgrade(self), Arc::downgrade(self));
        let handle = drive::start(
            self.services.clone(),
            view,
            move || {
                if let Some(this) = weak.upgrade() {
                    this.nudge();
                }
            },
            move || {
                if let Some(this) = ending.upgrade() {
                    this.drivers().remove(&id);
                    this.nudge();
                }
            },
        );
        drivers.insert(
            id,
            Driving {
                handle: handle.clone(),
                client,
            },
        );
        Ok(Some(handle))
    }

    fn drivers(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Driving>> {
        self.drivers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many runs of each client are active, and all of them.
    fn active(&self) -> (HashMap<String, usize>, usize) {
        let mut by_client = HashMap::new();
        let mut all = 0;
        for driving in self.drivers().values() {
            if driving.handle.active.load(Ordering::SeqCst) {
                *by_client.entry(driving.client.clone()).or_default() += 1;
                all += 1;
            }
        }
        (by_client, all)
    }

    /// Admits runs until the places are full or nobody waits.
    async fn admit_some(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            let (by_client, active) = self.active();
            if active >= self.max_active {
                return Ok(());
            }
            let waiting = {
                let mut connection = self.services.store.read().await?;
                runs::run_first_queued(&mut connection).await?
            };
            let mut waiting: Vec<(usize, RunId)> = waiting
                .into_iter()
                .map(|(client, id)| (by_client.get(&client).copied().unwrap_or(0), id))
                .collect();
            waiting.sort_unstable();
            let mut admitted = false;
            for (_, id) in waiting {
                admitted = self.admit_one(id).await;
                if admitted {
                    break;
                }
            }
            if !admitted {
                return Ok(());
            }
        }
    }

    /// Whether the run took its turn. One that cannot be read, or whose driver ends or waits for the
    /// database, holds up nobody: the next tick looks again.
    async fn admit_one(self: &Arc<Self>, id: RunId) -> bool {
        let handle = match self.driver(id).await {
            Ok(Some(handle)) => handle,
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(run = %id, %error, "this run cannot be taken up");
                return false;
            }
        };
        let (answer, answered) = oneshot::channel();
        let admitted = async {
            handle.inbox.send(Message::Admit(answer)).await.is_ok() && answered.await.is_ok()
        };
        tokio::time::timeout(ADMISSION, admitted)
            .await
            .unwrap_or(false)
    }

    /// One run at a time changes a device.
    async fn refuse_second(&self, id: RunId) -> Result<(), RequestError> {
        let mut connection = self.services.store.read().await?;
        let Some(run) = runs::run_get(&mut connection, id).await? else {
            return Err(RequestError::NoSuchRun(id));
        };
        match runs::run_open_of_device(&mut connection, run.device).await? {
            Some(other) if other.id != id && run.replay_of.is_none() => {
                Err(RequestError::Refused(format!(
                    "device {} has run {} meanwhile, which is {}; end that one first",
                    run.device_name,
                    other.id,
                    other.state.word()
                )))
            }
            _ => Ok(()),
        }
    }
}

async fn admit(dispatch: Weak<Dispatch>) {
    loop {
        let Some(this) = dispatch.upgrade() else {
            return;
        };
        if let Err(error) = this.admit_some().await {
            tracing::warn!(%error, "queued runs cannot be read; trying again");
        }
        let nudged = async {
            tokio::select! {
                () = this.nudge.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        };
        nudged.await;
    }
}
