//! Training, off the way of everything else: one at a time, on a thread of its own with the lowest
//! priority, from rows up to a number that is pinned when it is asked for. What a restart cuts off is
//! begun again from the same rows, and comes to the same.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::book::{Kept, Serving, ServingPersona};
use super::labels::{self, PERSONA};
use super::{Core, shelf};
use crate::learn::features;
use crate::learn::judge::Reason;
use crate::learn::resources::model::FEWEST_ROWS;
use crate::learn::resources::observation::Observation;
use crate::learn::resources::trial::{self, Judged};
use crate::learn::robust;
use crate::store::models::{ModelRow, ModelState};
use crate::store::{StoreError, models, observations};
use crate::vocab::prediction::Resource;

/// What came of a training, to be stored and put to use.
struct Made {
    state: ModelState,
    rows: u64,
    judged: serde_json::Value,
    verdict: String,
    /// With its bytes as they are stored.
    serving: Option<(Ready, Vec<u8>)>,
}

enum Ready {
    Resource(Resource, Box<Kept>),
    Persona(Box<crate::learn::classify::Classifier>),
}

impl Made {
    /// One that serves, packed while there is time.
    fn serving(mut self, ready: Ready) -> Self {
        let packed = match &ready {
            Ready::Resource(_, kept) => shelf::pack(kept.as_ref()),
            Ready::Persona(classifier) => shelf::pack(classifier.as_ref()),
        };
        match packed {
            Ok(bytes) => self.serving = Some((ready, bytes)),
            Err(why) => (self.state, self.verdict) = (ModelState::Failed, why),
        }
        self
    }

    fn failed(rows: usize, why: String) -> Self {
        Self {
            state: ModelState::Failed,
            rows: rows as u64,
            judged: serde_json::Value::Null,
            verdict: why,
            serving: None,
        }
    }
}

/// Asks for the trainings that are due, if the daemon trains by itself.
pub async fn if_due(core: &Arc<Core>, due: Vec<(Resource, &'static str)>) {
    if !core.services.settings.trains {
        return;
    }
    for (resource, why) in due {
        if let Err(error) = ask(core, resource.word(), why).await {
            tracing::warn!(%error, model = resource.word(), "a training cannot be asked for");
        }
    }
}

/// Stores that a model is to be trained, and tells the trainer. One that is being trained is returned.
pub async fn ask(core: &Arc<Core>, name: &str, why: &str) -> Result<ModelRow, StoreError> {
    let is_new = core.book().begin_training(name);
    if !is_new {
        let mut connection = core.services.store.read().await?;
        let newest = models::model_list(&mut connection, Some(name), 1).await?;
        if let Some(row) = newest.into_iter().next() {
            return Ok(row);
        }
    }
    let row = ModelRow {
        id: 0,
        name: name.to_owned(),
        state: ModelState::Training,
        made_at: core.now(),
        why: why.to_owned(),
        features: features::VERSION,
        until: 0,
        rows: 0,
        took_ms: 0.0,
        digest: None,
        judged: serde_json::Value::Null,
        verdict: String::new(),
    };
    let written = core.services.store.write(move |connection| {
        Box::pin(async move {
            let (_, until) = observations::observation_count(connection).await?;
            models::model_insert(connection, ModelRow { until, ..row }).await
        })
    });
    match written.await {
        Ok(row) => {
            let _ = core.trainer.send(row.clone());
            Ok(row)
        }
        Err(error) => {
            core.book().end_training(name);
            Err(error)
        }
    }
}

pub async fn train_as_asked(core: Weak<Core>, mut asked: UnboundedReceiver<ModelRow>) {
    while let Some(row) = asked.recv().await {
        let Some(core) = core.upgrade() else { return };
        let name = row.name.clone();
        if let Err(error) = train(&core, row).await {
            tracing::warn!(%error, model = name, "a training came to nothing");
        }
        core.book().end_training(&name);
    }
}

async fn train(core: &Arc<Core>, mut row: ModelRow) -> Result<(), StoreError> {
    let begun = Instant::now();
    let made = match Resource::from_word(&row.name) {
        Some(resource) => {
            let known = {
                let mut connection = core.services.store.read().await?;
                let most = i64::try_from(trial::MOST_ROWS).unwrap_or(i64::MAX);
                observations::observations_newest(&mut connection, row.until, most).await?
            };
            let known: Vec<Observation> = known.into_iter().map(|(_, one)| one).collect();
            quietly(move || of_resource(&known, resource)).await
        }
        None if row.name == PERSONA => {
            let examples = labels::examples(&core.services.store).await?;
            quietly(move || of_personas(&examples)).await
        }
        None => Ok(Made::failed(0, format!("there is no model {:?}", row.name))),
    };
    let made = made.unwrap_or_else(|why| Made::failed(0, why));
    row.state = made.state;
    row.rows = made.rows;
    row.judged = made.judged;
    row.verdict = made.verdict;
    let mut serving = None;
    if let Some((ready, bytes)) = made.serving {
        match core.services.artefacts.put(bytes).await {
            Ok(digest) => (row.digest, serving) = (Some(digest), Some(ready)),
            Err(error) => (row.state, row.verdict) = (ModelState::Failed, error.to_string()),
        }
    }
    row.took_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let stored = row.clone();
    let switch_off = row.state == ModelState::Beaten;
    core.services
        .store
        .write(move |connection| {
            Box::pin(async move {
                if switch_off {
                    retire_all(connection, &stored.name).await?;
                }
                models::model_settle(connection, &stored).await
            })
        })
        .await?;
    tracing::info!(model = %format!("{}#{}", row.name, row.id), rows = row.rows, took_ms = row.took_ms as u64, verdict = row.verdict, "trained");
    put_to_use(core, row, serving);
    Ok(())
}

async fn retire_all(connection: &mut sqlx::SqliteConnection, name: &str) -> Result<(), StoreError> {
    for mut row in models::model_list(connection, Some(name), i64::MAX).await? {
        if row.state == ModelState::Serving {
            row.state = ModelState::Retired;
            models::model_update(connection, &row).await?;
        }
    }
    Ok(())
}

fn put_to_use(core: &Core, row: ModelRow, serving: Option<Ready>) {
    let mut book = core.book();
    match (row.state, serving) {
        (ModelState::Serving, Some(Ready::Resource(resource, kept))) => {
            book.serve(resource, Serving { row, kept: *kept });
        }
        (ModelState::Serving, Some(Ready::Persona(classifier))) => {
            book.persona = Some(Arc::new(ServingPersona {
                row,
                classifier: *classifier,
            }));
        }
        (ModelState::Beaten, _) => match Resource::from_word(&row.name) {
            Some(resource) => book.switch_off(resource),
            None => book.persona = None,
        },
        _ => {}
    }
}

/// Runs work that takes long on a thread that everything else goes before. The inner error is a panic's.
async fn quietly<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, waited) = oneshot::channel();
    let begun = std::thread::Builder::new()
        .name("greenroom-train".to_owned())
        .spawn(move || {
            step_back();
            let _ = done.send(work());
        });
    begun.map_err(|error| format!("no thread could be had: {error}"))?;
    waited
        .await
        .map_err(|_| "the training broke; please report it".to_owned())
}

/// Gives this thread the lowest priority (setpriority(2): in Linux it is each thread's own).
fn step_back() {
    // SAFETY: plain numbers; an error changes nothing.
    unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19) };
}

fn of_resource(known: &[Observation], resource: Resource) -> Made {
    let rows = trial::rows(known, resource);
    if rows.len() < FEWEST_ROWS {
        return Made::failed(
            rows.len(),
            format!(
                "a model needs {FEWEST_ROWS} observations of {} and there are {}; the plain rule serves",
                resource.word(),
                rows.len()
            ),
        );
    }
    let judged = trial::judge(&rows, resource);
    let verdict = told(&judged, resource);
    let judged_json = serde_json::to_value(&judged).unwrap_or_default();
    let won = judged.verdict.reason == Reason::Promoted;
    let kept = won.then(|| trial::fit(&rows)).flatten().map(|model| Kept {
        model,
        cost: trial::retry_cost(&rows),
        usual: usual(&rows),
    });
    let made = Made {
        state: match &kept {
            Some(_) => ModelState::Serving,
            None => ModelState::Beaten,
        },
        rows: rows.len() as u64,
        judged: judged_json,
        verdict,
        serving: None,
    };
    match kept {
        Some(kept) => made.serving(Ready::Resource(resource, Box::new(kept))),
        None => made,
    }
}

fn usual(rows: &[trial::Row]) -> Vec<Option<f64>> {
    let width = rows.first().map_or(0, |row| row.features.len());
    (0..width)
        .map(|at| {
            let column: Vec<f64> = rows.iter().map(|row| row.features[at]).collect();
            Some(robust::median(&column)).filter(|value| value.is_finite())
        })
        .collect()
}

fn told(judged: &Judged, resource: Resource) -> String {
    let means = &judged.verdict.means;
    let [rule, rival] = [0, 1].map(|at| means.get(at).copied().unwrap_or(f64::NAN));
    let what = match judged.verdict.reason {
        Reason::Promoted => "it beats the plain rule and serves",
        Reason::TooFew => "too few later observations to judge it; the plain rule serves",
        Reason::Kept | Reason::SwitchedOff => "it does not beat the plain rule, which serves",
    };
    format!(
        "{what}: loss {rival:.3} against {rule:.3} on {} later observations, enough in {:.0} % against {:.0} %, {:.0} against {:.0} {} given",
        judged.judged,
        100.0 * judged.enough[1],
        100.0 * judged.enough[0],
        judged.given[1],
        judged.given[0],
        resource.unit()
    )
}

fn of_personas(examples: &[crate::learn::classify::Example]) -> Made {
    let n = examples.len();
    let trained = match labels::fit(examples) {
        Ok(trained) => trained,
        Err(why) => return Made::failed(n, why),
    };
    let made = Made {
        state: match trained.won {
            true => ModelState::Serving,
            false => ModelState::Beaten,
        },
        rows: n as u64,
        judged: trained.judged,
        verdict: trained.verdict,
        serving: None,
    };
    match trained.won {
        true => made.serving(Ready::Persona(Box::new(trained.classifier))),
        false => made,
    }
}
