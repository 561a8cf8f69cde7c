//! What others are told: webhooks ([`webhooks`]), a syslog collector ([`syslog`]), and how the work goes
//! ([`traces`]).
//!
//! The first two read tables that are written anyway (events, audit) from a stored place on, so nothing is lost
//! when the daemon or the other side is away. A target is somebody's text: [`target`] decides where
//! the daemon may connect to, and [`send`] connects to the very address that was decided about.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::runs::services::Live;
use crate::store::Store;
use crate::vocab::{Deployment, Timestamp};

pub mod message;
pub mod send;
pub mod syslog;
pub mod target;
pub mod traces;
pub mod webhooks;

pub use send::Trust;
pub use target::Targets;

#[derive(Debug, Clone)]
pub struct Settings {
    pub targets: Targets,
    /// File of certificate authorities to trust beside the system's, PEM.
    pub authorities: Option<PathBuf>,
    pub syslog: Option<syslog::Collector>,
    /// Wait after the first try of a delivery; each further one waits four times as long, up to an hour.
    pub first_wait: Duration,
    /// Tries after which a delivery is dead.
    pub tries: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets: Targets::default(),
            authorities: None,
            syslog: None,
            // 5 s, 20 s, 80 s, 5 min, 21 min, then an hour each: given up after about 5 hours.
            first_wait: Duration::from_secs(5),
            tries: 10,
        }
    }
}

/// Shared by what tells and what asks to tell.
pub struct Outbound {
    pub settings: Settings,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deployment: Deployment,
    pub(crate) trust: Trust,
    news: Notify,
    log_news: Notify,
}

impl Outbound {
    pub fn new(
        settings: Settings,
        store: Store,
        clock: Arc<dyn Clock>,
        deployment: Deployment,
    ) -> anyhow::Result<Arc<Self>> {
        let trust = Trust::load(settings.authorities.as_deref())?;
        Ok(Arc::new(Self {
            settings,
            store,
            clock,
            deployment,
            trust,
            news: Notify::new(),
            log_news: Notify::new(),
        }))
    }

    /// Tells until `stopping`.
    pub fn start(self: &Arc<Self>, live: broadcast::Sender<Live>, stopping: &CancellationToken) {
        let ear = self.clone();
        let mut heard = live.subscribe();
        tokio::spawn(stopping.clone().run_until_cancelled_owned(async move {
            loop {
                match heard.recv().await {
                    Ok(Live::Event(_)) | Err(broadcast::error::RecvError::Lagged(_)) => ear.nudge(),
                    Ok(Live::Log(..)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }));
        tokio::spawn(
            stopping
                .clone()
                .run_until_cancelled_owned(webhooks::tell(self.clone())),
        );
        if let Some(collector) = self.settings.syslog.clone() {
            tokio::spawn(
                stopping
                    .clone()
                    .run_until_cancelled_owned(syslog::tell(self.clone(), collector)),
            );
        }
    }

    /// Something was written that others may want to know.
    pub fn nudge(&self) {
        self.news.notify_one();
        self.log_news.notify_one();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
