//! What is known right now, in memory: each stage's window, the histories that features are made of, and
//! the models that serve. Rebuilt from rows at the start.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::learn::classify::Classifier;
use crate::learn::features::{self, Case, STAGE_KEY};
use crate::learn::judge::drift::Drift;
use crate::learn::resources::history::History;
use crate::learn::resources::model::{Model, RetryCost};
use crate::learn::resources::observation::Observation;
use crate::learn::resources::trial;
use crate::learn::resources::window::{ENOUGH, Window};
use crate::store::models::ModelRow;
use crate::vocab::prediction::{Expected, Resource, Source, Spread, StageExpectation};

/// A model in use.
pub struct Serving {
    pub row: ModelRow,
    pub kept: Kept,
}

/// What is kept of a model of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub model: Model,
    pub cost: RetryCost,
    /// The middle of each feature, for explanations; none where it was never known.
    pub usual: Vec<Option<f64>>,
}

/// A classifier in use.
pub struct ServingPersona {
    pub row: ModelRow,
    pub classifier: Classifier,
}

#[derive(Default)]
pub struct Book {
    windows: HashMap<(Resource, u64), Window>,
    histories: HashMap<Resource, History>,
    pub models: HashMap<Resource, Arc<Serving>>,
    pub persona: Option<Arc<ServingPersona>>,
    /// Names of models that are being trained.
    training: HashSet<String>,
    /// Observations since a model of that name was last trained.
    unseen: HashMap<String, usize>,
    /// Of each model's errors since it serves.
    drifts: HashMap<Resource, Drift>,
}

/// Retraining is worth it after so many new observations, or this share of those it was trained on.
const NEW_ROWS: usize = 60;
const NEW_SHARE: f64 = 0.25;

impl Book {
    /// Takes an observation, in order of time.
    pub fn learn(&mut self, one: &Observation) {
        let keys = features::keys(&one.case);
        let at_s = one.at.0 as f64 / 1e6;
        for resource in Resource::ALL {
            let Some(need) = one.need(resource) else {
                continue;
            };
            let history = self.histories.entry(resource).or_default();
            history.ended(&keys, trial::log(need.value), at_s);
            self.windows
                .entry((resource, keys[STAGE_KEY]))
                .or_default()
                .add(
                    need.value,
                    one.given_of(resource),
                    need.short,
                    trial::device_of(&one.case.device),
                );
        }
    }

    /// Counts an observation that no training has seen; names the models for which it is time, and why.
    pub fn count_new(&mut self, one: &Observation) -> Vec<(Resource, &'static str)> {
        let mut due = Vec::new();
        for resource in Resource::ALL {
            let Some(need) = one.need(resource) else {
                continue;
            };
            let serving = self.models.get(&resource);
            if serving.is_some_and(|serving| one.at <= serving.row.made_at) {
                continue;
            }
            let unseen = self.unseen.entry(resource.word().to_owned()).or_default();
            *unseen += 1;
            let known = serving.map_or(0, |serving| serving.row.rows);
            let enough = NEW_ROWS.max((NEW_SHARE * known as f64) as usize);
            if *unseen >= enough {
                due.push((resource, "there is enough that is new"));
            }
            // Errors of what was said when the run was made, as factors.
            let said = one
                .expected
                .as_ref()
                .map(|expected| expected.of(resource))
                .filter(|said| said.source == Source::Model)
                .and_then(|said| said.spread);
            if let Some(said) = said {
                let error = (need.value.max(1e-3) / said.middle.max(1e-3)).ln().abs();
                let drift = self.drifts.entry(resource).or_default();
                if drift.learn(error.min(5.0)) {
                    due.push((resource, "its errors have changed"));
                }
            }
        }
        due
    }

    /// Counts a label; says whether there are enough new ones.
    pub fn count_label(&mut self) -> bool {
        let unseen = self.unseen.entry(super::PERSONA.to_owned()).or_default();
        *unseen += 1;
        let known = self.persona.as_ref().map_or(0, |serving| serving.row.rows);
        *unseen >= NEW_ROWS.max((NEW_SHARE * known as f64) as usize)
    }

    pub fn unseen(&self, name: &str) -> usize {
        self.unseen.get(name).copied().unwrap_or(0)
    }

    /// False where it is being trained already.
    pub fn begin_training(&mut self, name: &str) -> bool {
        self.training.insert(name.to_owned())
    }

    pub fn end_training(&mut self, name: &str) {
        self.training.remove(name);
        self.unseen.remove(name);
    }

    pub fn serve(&mut self, resource: Resource, serving: Serving) {
        self.drifts.remove(&resource);
        self.models.insert(resource, Arc::new(serving));
    }

    /// What a model of the resource is asked with.
    pub fn features(&mut self, resource: Resource, case: &Case, now_s: f64) -> Vec<f64> {
        let history = self.histories.entry(resource).or_default();
        features::row(case, history, now_s)
    }

    /// Nothing but the plain rule serves.
    pub fn switch_off(&mut self, resource: Resource) {
        self.models.remove(&resource);
    }
}

/// What a stage will use. The lock is held for the features only, not while models are asked.
pub fn expect(book: &Mutex<Book>, case: &Case, now_s: f64) -> StageExpectation {
    let of = |resource| {
        let (window, row, serving) = {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            let key = features::keys(case)[STAGE_KEY];
            let window = book
                .windows
                .get(&(resource, key))
                .cloned()
                .unwrap_or_default();
            let serving = book.models.get(&resource).cloned();
            (window, book.features(resource, case, now_s), serving)
        };
        expected(resource, &window, &row, serving.as_deref())
    };
    StageExpectation {
        memory: of(Resource::Memory),
        cpu: of(Resource::Cpu),
        network: of(Resource::Network),
        duration: of(Resource::Duration),
        features: features::VERSION,
    }
}

/// The model where one serves and the stage has been seen often enough to be known; else the plain rule;
/// else nothing.
fn expected(
    resource: Resource,
    window: &Window,
    row: &[f64],
    serving: Option<&Serving>,
) -> Expected {
    let seen = window.len();
    let Some(plain) = window.rule() else {
        return Expected {
            amount: 0.0,
            spread: None,
            source: Source::Chain,
            model: None,
            observations: seen as u64,
            reason: match seen {
                0 => "no history".to_owned(),
                _ => format!("only {seen} of the {ENOUGH} observations that the plain rule needs"),
            },
        };
    };
    let Some(serving) = serving.filter(|serving| serving.row.features == features::VERSION) else {
        return Expected {
            amount: plain,
            spread: window.spread(),
            source: Source::History,
            model: None,
            observations: seen as u64,
            reason: format!(
                "plain rule: 95 % quantile of {seen} observations and 15 %, no more than was always enough"
            ),
        };
    };
    let kept = &serving.kept;
    let asked = kept.model.ask(row);
    let (said, amount) = trial::answer(&asked, resource, kept.cost);
    let [middle, high, ..] = said.quantiles;
    // A model errs, too: what no observation of the stage comes near is not believed.
    let amount = amount.min(20.0 * plain.max(1.0));
    let name = format!("{}#{}", serving.row.name, serving.row.id);
    Expected {
        amount: window.no_more_than_enough(amount),
        spread: Some(Spread {
            low: asked.low().min(middle),
            middle,
            high,
        }),
        source: Source::Model,
        reason: format!("{name}, trained on {} observations", serving.row.rows),
        model: Some(name),
        observations: serving.row.rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::resources::observation::End;
    use crate::vocab::machine::Size;
    use crate::vocab::prediction::Used;
    use crate::vocab::run::AttemptPhases;
    use crate::vocab::{AttemptId, RunId, Timestamp};

    pub fn observed(memory_mib: f64, at_s: i64) -> Observation {
        Observation {
            attempt: AttemptId::fresh(),
            run: RunId(1),
            at: Timestamp(at_s * 1_000_000),
            case: Case::default(),
            features: features::VERSION,
            given: Size {
                vcpus: 1,
                memory_mib: 512,
                disk_mib: 64,
                network_kbytes_per_s: None,
            },
            end: End::Done,
            used: Used {
                memory_mib,
                cpu_peak_percent: 50.0,
                looks: 5,
                ..Used::default()
            },
            work_s: 4.0,
            phases: AttemptPhases::default(),
            expected: None,
            replay: false,
        }
    }

    #[test]
    fn nothing_then_the_plain_rule_and_it_says_so() {
        let mut book = Book::default();
        let at = |book: Book, now| {
            let book = Mutex::new(book);
            let expected = expect(&book, &Case::default(), now);
            (expected, book.into_inner().unwrap())
        };
        let (expected, emptied) = at(book, 0.0);
        assert_eq!(
            (expected.memory.source, expected.memory.reason.as_str()),
            (Source::Chain, "no history")
        );
        book = emptied;
        for i in 0..5 {
            book.learn(&observed(100.0, i));
        }
        let (expected, _) = at(book, 10.0);
        assert_eq!(expected.memory.source, Source::History);
        assert!(
            (expected.memory.amount - 115.0).abs() < 1e-6,
            "{expected:?}"
        );
        assert_eq!(expected.duration.spread.unwrap().middle, 4.0);
        assert_eq!(expected.network.source, Source::Chain, "it has no network");
    }

    #[test]
    fn training_is_due_when_there_is_enough_that_is_new() {
        let mut book = Book::default();
        let due: Vec<usize> = (0..2 * NEW_ROWS)
            .filter(|i| !book.count_new(&observed(100.0, *i as i64)).is_empty())
            .collect();
        assert_eq!(due.first(), Some(&(NEW_ROWS - 1)));
        assert!(book.begin_training("memory") && !book.begin_training("memory"));
        book.end_training("memory");
        assert_eq!(book.unseen("memory"), 0);
    }
}
