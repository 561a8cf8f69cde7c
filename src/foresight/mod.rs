//! The daemon's side of what is learned: watches machines at work, keeps what they used, trains models
//! from it, and says what the next ones will need.
//!
//! ```text
//!  runs ── watch ──► watch: a look a second ──► observations (rows) ──► book: windows, histories
//!                                                                        │  ▲
//!  runs ◄─ expect ── book: model, else plain rule, else the chain's ◄────┘  │ models in use
//!  runs ◄─ propose ─ book: classifier                                       │
//!                                        train: own thread, judged ─────────┘ rows and artefacts
//! ```
//!
//! The arithmetic is all in `learn`; here is what touches the host, the database and the clock. Nothing
//! of this can fail a run: where it knows nothing the chain's own sizes serve, and it says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::hypervisor::Hypervisor;
use crate::learn::features::Case;
use crate::store::artefacts::Artefacts;
use crate::store::models::{ModelRow, ModelState};
use crate::store::{Store, StoreError, models, observations};
use crate::vocab::Timestamp;
use crate::vocab::prediction::{Proposal, Resource, StageExpectation};

mod age;
mod book;
mod explain;
mod labels;
mod record;
mod shelf;
mod train;
mod watch;

pub use self::explain::Influence;
pub use self::labels::{PERSONA, facts_of};
pub use self::watch::{Watched, Watching};

use self::book::Book;

/// How it works, apart from the host it works on.
#[derive(Debug, Clone)]
pub struct ForesightSettings {
    /// Between two looks at machines at work.
    pub look_every: Duration,
    /// Trains by itself when there is enough that is new.
    pub trains: bool,
}

impl Default for ForesightSettings {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(1),
            trains: true,
        }
    }
}

/// What it needs from the rest of the program.
pub struct ForesightServices {
    pub store: Store,
    pub artefacts: Artefacts,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub clock: Arc<dyn Clock>,
    pub settings: ForesightSettings,
}

/// Shared by its tasks.
struct Core {
    services: ForesightServices,
    book: Mutex<Book>,
    trainer: mpsc::UnboundedSender<ModelRow>,
}

impl Core {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    fn now_s(&self) -> f64 {
        self.now().0 as f64 / 1e6
    }
}

/// Why a model cannot be had or made.
#[derive(Debug, thiserror::Error)]
pub enum ForesightError {
    #[error("there is no model {0:?}; the models are memory, cpu, network, duration and persona")]
    NoSuchModel(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Foresight {
    core: Arc<Core>,
    notes: mpsc::UnboundedSender<watch::Note>,
    /// What came of predictions, as it was last reckoned.
    record: record::Last,
}

/// Observations that are read at the start: what the windows and histories of the stages hold.
const READ_AT_START: i64 = 20_000;

impl Foresight {
    /// Reads what is known, and goes on with trainings that were under way. Its tasks end with the last
    /// user of what is returned.
    pub async fn start(services: ForesightServices) -> Result<Arc<Self>, StoreError> {
        let (trainer, asked) = mpsc::unbounded_channel();
        let (notes, heard) = mpsc::unbounded_channel();
        let mut book = Book::default();
        let unfinished = {
            let mut connection = services.store.read().await?;
            let known =
                observations::observations_newest(&mut connection, i64::MAX, READ_AT_START).await?;
            for (_, one) in &known {
                book.learn(one);
            }
            for row in models::model_of_state(&mut connection, ModelState::Serving).await? {
                shelf::take_down(&services.artefacts, row, &mut book).await;
            }
            for (_, one) in &known {
                book.count_new(one);
            }
            models::model_of_state(&mut connection, ModelState::Training).await?
        };
        let core = Arc::new(Core {
            services,
            book: Mutex::new(book),
            trainer,
        });
        for row in unfinished {
            core.book().begin_training(&row.name);
            let _ = core.trainer.send(row);
        }
        let weak = Arc::downgrade(&core);
        tokio::spawn(train::train_as_asked(weak.clone(), asked));
        tokio::spawn(watch::watch(core.clone(), heard));
        tokio::spawn(age::age(weak));
        Ok(Arc::new(Self {
            core,
            notes,
            record: record::Last::default(),
        }))
    }

    /// Watches a machine while it works, until the returned value is told of the end or dropped. Costs
    /// the caller nothing: looks are taken elsewhere.
    pub fn watch(&self, watched: Watched) -> Watching {
        watch::begin(&self.notes, watched)
    }

    /// What a stage will use.
    pub fn expect(&self, case: &Case) -> StageExpectation {
        book::expect(&self.core.book, case, self.core.now_s())
    }

    /// What spoke for an expectation, strongest first; none where no model serves.
    pub fn explain(&self, resource: Resource, case: &Case) -> Option<Vec<Influence>> {
        explain::explain(&self.core.book, resource, case, self.core.now_s())
    }

    /// Which persona the classifier sees in a device; none while there is no classifier.
    pub fn propose(&self, client: &str, facts: &Map<String, Value>) -> Option<Proposal> {
        let serving = self.core.book().persona.clone()?;
        labels::propose(&serving, &facts_of(client, facts))
    }

    /// A device's persona was decided once more, which the classifier may learn from.
    pub fn labelled(&self) {
        let is_due = self.core.book().count_label();
        if is_due && self.core.services.settings.trains {
            let core = self.core.clone();
            tokio::spawn(async move {
                let why = "there are enough new devices";
                if let Err(error) = train::ask(&core, PERSONA, why).await {
                    tracing::warn!(%error, "the classifier's training cannot be asked for");
                }
            });
        }
    }

    /// Trains a model, or says that it is being trained already.
    pub async fn train(&self, name: &str, why: &str) -> Result<ModelRow, ForesightError> {
        if name != PERSONA && Resource::from_word(name).is_none() {
            return Err(ForesightError::NoSuchModel(name.to_owned()));
        }
        Ok(train::ask(&self.core, name, why).await?)
    }

    /// Trainings, newest first.
    pub async fn models(
        &self,
        name: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ModelRow>, StoreError> {
        let mut connection = self.core.services.store.read().await?;
        models::model_list(&mut connection, name, limit).await
    }

    /// Observations that a model has not seen yet.
    pub fn unseen(&self, name: &str) -> usize {
        self.core.book().unseen(name)
    }
}
