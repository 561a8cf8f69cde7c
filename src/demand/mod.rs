//! Demand at work: counts who asks for machines, forecasts it, and says how many shells are to wait.
//!
//! ```text
//!  pool ── arrivals ─► counts, spans watched ─► history ─► learn::forecast ─► told, stored
//!   ▲                                                              │
//!   └── targets ◄── decide (policies, costs, budget) ◄── learn::sizing ◄── learn::psim (replayed weeks)
//! ```
//!
//! [`Demand::look`] looks at everything, compares, acts, and is content to be called again; it runs at
//! each bucket's begin. What takes long is learned beside it, one class at a time ([`study`]).
//! [`history`], [`watch`], [`shares`], [`decide`], [`preview`] and [`compare`] are pure. The pool stays in charge of
//! shells and budget: only the target of a class whose policy says `forecast` comes from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::learn::forecast::Step;
use crate::learn::forecast::select::Choice;
use crate::learn::forecast::serve::{Basis, Learned, MODEL};
use crate::learn::psim::foresee::Foresight;
use crate::learn::series::Faults;
use crate::pool::{Pool, PoolError};
use crate::store::demand as rows;
use crate::store::{Store, StoreError};
use crate::vocab::Timestamp;
use crate::vocab::demand::{BUCKET_S, PlannedEvent, Policy, Series, Watched};
use crate::vocab::pool::Class;

pub mod compare;
pub mod decide;
mod foretell;
pub mod history;
pub mod level;
mod look;
mod months;
mod policies;
pub mod preview;
pub mod rehearsal;
pub mod shares;
mod size;
mod study;
pub mod watch;

pub use decide::Decision;
pub use policies::{ChangePolicy, PolicyNow};

/// Version of the model that is stored with what it says.
pub const MODEL_VERSION: &str = MODEL;
/// Steps of a forecast: hours of the coming day.
pub const HORIZON: usize = 24;
/// Seconds of a step.
pub const STEP_S: i64 = 3600;
/// Weeks of history that forecasts are made from; what they were judged with.
const WEEKS: i64 = 6;
/// Single arrivals, short counts and forecasts are kept for so long, hours for the other span.
const KEPT: Duration = Duration::from_secs(70 * 86_400);
const HOURS_KEPT: Duration = Duration::from_secs(800 * 86_400);
/// Arrivals are written together after this.
const GATHER: Duration = Duration::from_secs(1);

/// What it needs from the rest of the program.
#[derive(Clone)]
pub struct DemandServices {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub pool: Arc<Pool>,
}

/// What is expected of a series, as it was last told.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    pub series: Series,
    pub made_at: Timestamp,
    /// Hours from `made_at` on, with events and width applied.
    pub steps: Vec<Step>,
    pub basis: Basis,
    /// How the full path chose, when it last did, and when.
    pub choice: Option<(Timestamp, Choice)>,
    /// What was wrong with the history.
    pub faults: Faults,
    /// Hours of history, gaps among them.
    pub known_h: usize,
    /// Requests per hour of the last day, oldest first; NaN where nobody watched.
    pub last_day: Vec<f64>,
    /// Planned events that change it.
    pub events: Vec<String>,
    /// Of a persona: what it was made from.
    pub parent: Option<String>,
    /// Of a persona: the share of its machines that is of each class, the largest first.
    pub classes: Vec<(Class, f64)>,
    /// Of a class: the share of it that newcomers among its personas are expected to add.
    pub newcomers: f64,
}

impl Forecast {
    /// From what it was made, for people.
    pub fn because(&self) -> &'static str {
        match (self.basis, &self.series.class) {
            (Basis::Family, None) => "personas of its family, for want of a history of its own",
            (Basis::Everyone, None) => "all personas, for want of a history of its own",
            (basis, _) => basis.words(),
        }
    }
}

/// What is kept in memory of a class.
#[derive(Debug, Clone, Default)]
struct Standing {
    learned: Learned,
    forecast: Option<Forecast>,
    decision: Option<Decision>,
    foresight: Option<(Timestamp, Arc<Foresight>)>,
    /// What months do to it, and the Unix day on which that was reckoned.
    months: (i64, Vec<PlannedEvent>),
}

#[derive(Default)]
struct Inner {
    classes: BTreeMap<Class, Standing>,
    /// Of the personas, by name; the empty one is what comes without a persona.
    personas: Vec<Forecast>,
    watched: Option<Watched>,
    /// The bucket that was last looked at.
    bucket_s: Option<i64>,
    /// Day (Unix days) in which old rows were last forgotten.
    forgotten_day: i64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum DemandError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Demand at work; it alone writes its rows.
pub struct Demand {
    services: DemandServices,
    inner: Mutex<Inner>,
    /// One look, or one change of a policy, at a time.
    looking: tokio::sync::Mutex<()>,
    _stops_with_it: DropGuard,
}

impl Demand {
    /// Takes up what was learned earlier and begins to watch.
    pub async fn start(services: DemandServices) -> Result<Arc<Self>, DemandError> {
        let (this, stop) = Self::opened(services).await?;
        tokio::spawn(keep_looking(Arc::downgrade(&this), stop.clone()));
        tokio::spawn(keep_counting(Arc::downgrade(&this), stop));
        Ok(this)
    }

    /// The same without tasks of its own: it looks when it is told to.
    pub async fn open(services: DemandServices) -> Result<Arc<Self>, DemandError> {
        Ok(Self::opened(services).await?.0)
    }

    async fn opened(
        services: DemandServices,
    ) -> Result<(Arc<Self>, CancellationToken), DemandError> {
        let mut connection = services.store.read().await?;
        let mut inner = Inner::default();
        for (class, body) in rows::model_list(&mut connection, MODEL).await? {
            if let (Ok(class), Ok(learned)) = (class.parse(), serde_json::from_str(&body)) {
                let standing: &mut Standing = inner.classes.entry(class).or_default();
                standing.learned = learned;
            }
        }
        drop(connection);
        let stop = CancellationToken::new();
        let this = Arc::new(Self {
            services,
            inner: Mutex::new(inner),
            looking: tokio::sync::Mutex::default(),
            _stops_with_it: stop.clone().drop_guard(),
        });
        Ok((this, stop))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// What is expected of every class of which anything is known, by class.
    pub fn forecasts(&self) -> Vec<Forecast> {
        let inner = self.inner();
        let standings = inner.classes.values();
        standings.filter_map(|s| s.forecast.clone()).collect()
    }

    /// What is expected of every persona that is asked for or new, by name.
    pub fn personas(&self) -> Vec<Forecast> {
        self.inner().personas.clone()
    }

    pub fn decision(&self, class: &Class) -> Option<Decision> {
        self.inner().classes.get(class)?.decision.clone()
    }

    pub async fn events(&self) -> Result<Vec<PlannedEvent>, DemandError> {
        let mut connection = self.services.store.read().await?;
        Ok(rows::event_list(&mut connection).await?)
    }

    /// Adds a planned event, or replaces the one of its name. Forecasts know it at once.
    pub async fn add_event(&self, event: PlannedEvent) -> Result<(), DemandError> {
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::event_put(connection, &event).await })
            })
            .await?;
        self.look_again().await
    }

    pub async fn remove_event(&self, name: &str) -> Result<(), DemandError> {
        let of = name.to_owned();
        let there = self
            .services
            .store
            .write(move |connection| {
                Box::pin(async move { rows::event_delete(connection, &of).await })
            })
            .await?;
        if !there {
            return Err(DemandError::NotFound(format!(
                "there is no planned event {name:?}; see `greenroom forecast event list`"
            )));
        }
        self.look_again().await
    }

    /// Looks although the bucket has been looked at.
    pub async fn look_again(&self) -> Result<(), DemandError> {
        self.inner().bucket_s = None;
        self.look().await
    }

    /// The `hours` before now, each beside the last forecast that was made `ahead_s` before it.
    pub async fn compared(
        &self,
        of: &Series,
        hours: usize,
        ahead_s: i64,
    ) -> Result<(Vec<compare::Hour>, compare::Scores), DemandError> {
        let until_s = self.now().0.div_euclid(STEP_S * 1_000_000) * STEP_S;
        let since_s = until_s - (hours as i64 + 1) * STEP_S;
        let early = Timestamp((since_s - 2 * 86_400).saturating_mul(1_000_000));
        let since = Timestamp(since_s.saturating_mul(1_000_000));
        let mut connection = self.services.store.read().await?;
        let told = rows::forecast_list(&mut connection, of, early).await?;
        let counts = rows::count_list(&mut connection, of, STEP_S, since_s).await?;
        let spans = rows::watch_list(&mut connection, since).await?;
        let hours = compare::hours(&told, &counts, &spans, until_s, hours, ahead_s);
        let scores = compare::scores(&hours);
        Ok((hours, scores))
    }

    /// The policies that were set.
    pub async fn policies(&self) -> Result<BTreeMap<Class, Policy>, DemandError> {
        let mut connection = self.services.store.read().await?;
        let policies = rows::policy_list(&mut connection).await?;
        Ok(policies
            .into_iter()
            .map(|policy| (policy.class.clone(), policy))
            .collect())
    }
}

/// Looks at each bucket's begin, and learns in between.
async fn keep_looking(demand: std::sync::Weak<Demand>, stop: CancellationToken) {
    /// The clock may be put forward; a look in between is cheap.
    const AT_MOST: Duration = Duration::from_secs(60);
    loop {
        let Some(this) = demand.upgrade() else { return };
        if let Err(error) = this.look().await {
            tracing::warn!(%error, "demand cannot be looked at; tried again");
        }
        let more = match this.study_one().await {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(%error, "nothing could be learned of demand; tried again");
                false
            }
        };
        let now = this.now();
        let next = Timestamp((now.0.div_euclid(BUCKET_S * 1_000_000) + 1) * BUCKET_S * 1_000_000);
        drop(this);
        let pause = match more {
            true => Duration::from_millis(10),
            false => next.remaining(now).min(AT_MOST),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Writes arrivals soon after they came.
async fn keep_counting(demand: std::sync::Weak<Demand>, stop: CancellationToken) {
    loop {
        let Some(pool) = demand.upgrade().map(|this| this.services.pool.clone()) else {
            return;
        };
        tokio::select! {
            () = pool.until_asked() => {}
            () = stop.cancelled() => return,
        }
        drop(pool);
        tokio::time::sleep(GATHER).await;
        let Some(this) = demand.upgrade() else { return };
        this.count().await;
    }
}
