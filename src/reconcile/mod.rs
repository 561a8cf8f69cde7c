//! Reconciling: what the database says against what host and file system have, all the time.
//!
//! An activation takes no hints: [`observe`] looks at everything, [`plan`] (pure) compares and names
//! what is to be done, [`apply`] does it. It runs on a timer and on a nudge, and a first activation
//! after a crash is the same code. What carries no tag of ours is never touched; what is nobody's
//! goes only after two complete listings said so.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::hypervisor::MachineEvent;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::Services;
use crate::vocab::Timestamp;

pub mod apply;
pub mod observe;
pub mod plan;

/// What the last activation saw and did, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub at: Timestamp,
    pub took_ms: f64,
    pub ours: usize,
    pub foreign: usize,
    /// Seen once without an owner; removed when the next complete listing says the same.
    pub suspects: Vec<String>,
    pub actions: Vec<String>,
    /// Why nothing could be compared, if so.
    pub problem: Option<String>,
}

pub struct Reconciler {
    services: Services,
    dispatch: Arc<Dispatch>,
    nudge: Notify,
    status: std::sync::Mutex<Status>,
}

impl Reconciler {
    pub fn new(services: Services, dispatch: Arc<Dispatch>) -> Arc<Self> {
        Arc::new(Self {
            services,
            dispatch,
            nudge: Notify::new(),
            status: std::sync::Mutex::default(),
        })
    }

    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub fn status(&self) -> Status {
        self.status
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Runs until cancelled: every `interval`, sooner when nudged or when the host reports that a
    /// machine stopped.
    pub async fn run(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        let mut suspects = plan::Suspects::default();
        let mut events = self.services.hypervisor.events();
        loop {
            suspects = self.activate(suspects).await;
            // With a suspect in sight the second look comes soon.
            let pause = if suspects.is_empty() {
                interval
            } else {
                interval.min(Duration::from_secs(3))
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.nudge.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = worth_a_look(&mut events) => {}
            }
        }
    }

    /// One look, one comparison, what follows from it. Returns who is suspected now.
    pub async fn activate(&self, suspects: plan::Suspects) -> plan::Suspects {
        let begun = tokio::time::Instant::now();
        let mut status = Status {
            at: self.services.now(),
            ..Status::default()
        };
        let next = match observe::observe(&self.services).await {
            Ok(seen) => {
                status.ours = seen
                    .machines
                    .iter()
                    .filter(|machine| seen.is_ours(machine))
                    .count();
                status.foreign = seen.machines.len() - status.ours;
                let (actions, next) = plan::compare(&seen, suspects);
                for action in &actions {
                    tracing::info!(%action, "reconciling");
                    status.actions.push(action.to_string());
                    if let Err(error) = apply::apply(&self.services, &self.dispatch, action).await {
                        tracing::warn!(%action, %error, "could not be done; the next activation looks again");
                        status.problem = Some(format!("{action}: {error}"));
                    }
                }
                next
            }
            // "Not listed" is never "gone": without a complete picture nothing is compared, and who
            // was suspected before is not any more.
            Err(error) => {
                tracing::warn!(%error, "no complete picture of the host; nothing is compared");
                status.problem = Some(error.to_string());
                plan::Suspects::default()
            }
        };
        status.suspects = next.names();
        status.took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        *self
            .status
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = status;
        next
    }
}

/// Returns on an event after which the picture may have changed without our doing. A slow listener
/// has missed some, which is as good a reason to look.
async fn worth_a_look(events: &mut tokio::sync::broadcast::Receiver<MachineEvent>) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match events.recv().await {
            Ok(MachineEvent::Stopped(..) | MachineEvent::Reconnected)
            | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
