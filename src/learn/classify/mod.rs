//! Which persona is this device to become? Multinomial logistic regression (linfa) on the facts, made
//! honest by a temperature, with the facts that spoke for the answer. Below the threshold it proposes
//! and people decide; what they decide is what it learns from next.

mod encode;
mod quality;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_logistic::MultiLogisticRegression;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

pub use encode::{Column, Encoder, Facts};
pub use quality::{Quality, judge};

/// A device whose persona is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub facts: Facts,
    pub persona: String,
    /// A person corrected what was proposed; counts [`CORRECTION`] times.
    pub corrected: bool,
}

/// A correction says more than an assignment nobody looked at.
pub const CORRECTION: usize = 3;

/// How a classifier is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Penalty on large weights.
    pub penalty: f64,
    /// Steps of the optimiser at most.
    pub steps: u64,
    /// Facts that matter together.
    pub pairs: Vec<(String, String)>,
    /// From this confidence on a persona may be assigned without asking …
    pub threshold: f64,
    /// … if at least this share of such assignments was right among the newest examples; otherwise the
    /// confidence asked for is raised until it is. A threshold chosen on examples flatters itself on them:
    /// ask for a point more than is meant.
    pub right: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            penalty: 1.0,
            steps: 100,
            pairs: Vec::new(),
            threshold: 0.8,
            right: 0.95,
        }
    }
}

/// Fewer examples than this are left to the rules.
pub const FEWEST: usize = 30;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    encoder: Encoder,
    personas: Vec<String>,
    /// Per persona a constant and a weight per column.
    weights: Vec<(f64, Vec<f64>)>,
    /// The scores are divided by this before they become probabilities.
    temperature: f64,
    threshold: f64,
    pub examples: usize,
}

/// Why there is no classifier.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotTrained {
    #[error(
        "a classifier needs at least {FEWEST} examples and there are {0}; until then rules decide"
    )]
    TooFew(usize),
    #[error("all examples have persona {0:?}; there is nothing to tell apart")]
    OnePersona(String),
    #[error("the optimiser gave up: {0}")]
    Optimiser(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// All personas with their probabilities, the likeliest first.
    pub ranked: Vec<(String, f64)>,
    pub decision: Decision,
    /// What spoke for (positive) or against the likeliest, strongest first: the fact and its part of
    /// the score, relative to the other personas.
    pub reasons: Vec<(String, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Sure enough to go ahead.
    Assign,
    /// People or rules decide among the likeliest.
    Propose,
}

impl Classifier {
    /// Learns from examples, oldest first. The newest fifth sets the temperature; then all are learned
    /// from.
    pub fn fit(examples: &[Example], plan: &Plan) -> Result<Self, NotTrained> {
        if examples.len() < FEWEST {
            return Err(NotTrained::TooFew(examples.len()));
        }
        let split = examples.len() - examples.len() / 5;
        let (temperature, threshold) = match Self::plain(&examples[..split], plan) {
            Ok(mut early) => {
                early.temperature = early.best_temperature(&examples[split..]);
                (early.temperature, early.sure_from(&examples[split..], plan))
            }
            // The newest fifth may hold the only second persona.
            Err(NotTrained::OnePersona(_)) => (1.0, plan.threshold),
            Err(other) => return Err(other),
        };
        Ok(Self {
            temperature,
            threshold,
            ..Self::plain(examples, plan)?
        })
    }

    /// The least confidence, from the plan's on, above which enough unseen examples were answered right.
    fn sure_from(&self, unseen: &[Example], plan: &Plan) -> f64 {
        let answers: Vec<(f64, bool)> = unseen
            .iter()
            .map(|e| {
                let answer = self.ask(&e.facts);
                (answer.ranked[0].1, answer.ranked[0].0 == e.persona)
            })
            .collect();
        let right_from = |threshold: f64| {
            let above = answers
                .iter()
                .filter(|(confidence, _)| *confidence >= threshold);
            let (right, all) = above.fold((0, 0), |(r, n), (_, ok)| (r + usize::from(*ok), n + 1));
            all == 0 || right as f64 >= plan.right * all as f64
        };
        (0..=20)
            .map(|step| plan.threshold + (0.99 - plan.threshold).max(0.0) * f64::from(step) / 20.0)
            .find(|threshold| right_from(*threshold))
            .unwrap_or(0.99)
    }

    fn plain(examples: &[Example], plan: &Plan) -> Result<Self, NotTrained> {
        let mut personas: Vec<String> = examples.iter().map(|e| e.persona.clone()).collect();
        personas.sort();
        personas.dedup();
        if personas.len() < 2 {
            return Err(NotTrained::OnePersona(personas.pop().unwrap_or_default()));
        }
        let facts: Vec<&Facts> = examples.iter().map(|e| &e.facts).collect();
        let encoder = Encoder::new(&facts, &plan.pairs);
        let width = encoder.columns.len();
        let mut values = Vec::new();
        let mut labels = Vec::new();
        for example in examples {
            let row = encoder.row(&example.facts);
            let label = personas.binary_search(&example.persona).unwrap_or(0);
            for _ in 0..if example.corrected { CORRECTION } else { 1 } {
                values.extend_from_slice(&row);
                labels.push(label);
            }
        }
        let failed = |error: &dyn std::fmt::Display| NotTrained::Optimiser(error.to_string());
        let records =
            Array2::from_shape_vec((labels.len(), width), values).map_err(|e| failed(&e))?;
        let dataset = DatasetBase::new(records, Array1::from(labels));
        let fitted = MultiLogisticRegression::default()
            .alpha(plan.penalty)
            .max_iterations(plan.steps)
            .fit(&dataset)
            .map_err(|e| failed(&e))?;
        let weights = (0..personas.len())
            .map(|persona| {
                // The order of linfa's classes is its own.
                let at = fitted.classes().iter().position(|class| *class == persona);
                match at {
                    Some(at) => (fitted.intercept()[at], fitted.params().column(at).to_vec()),
                    None => (f64::MIN / 1e6, vec![0.0; width]),
                }
            })
            .collect();
        Ok(Self {
            encoder,
            personas,
            weights,
            temperature: 1.0,
            threshold: plan.threshold,
            examples: examples.len(),
        })
    }

    /// The temperature with the least log loss on examples it was not trained on.
    fn best_temperature(&self, unseen: &[Example]) -> f64 {
        let scores: Vec<(Vec<f64>, Option<usize>)> = unseen
            .iter()
            .map(|e| {
                let label = self.personas.binary_search(&e.persona).ok();
                (self.scores(&self.encoder.row(&e.facts)), label)
            })
            .collect();
        let loss = |temperature: f64| -> f64 {
            scores
                .iter()
                .filter_map(|(scores, label)| {
                    Some(-softmax(scores, temperature)[(*label)?].max(1e-9).ln())
                })
                .sum()
        };
        (-20..=20)
            .map(|step| 1.05f64.powi(step))
            .min_by(|a, b| loss(*a).total_cmp(&loss(*b)))
            .unwrap_or(1.0)
    }

    fn scores(&self, row: &[f64]) -> Vec<f64> {
        self.weights
            .iter()
            .map(|(constant, weights)| {
                constant + weights.iter().zip(row).map(|(w, v)| w * v).sum::<f64>()
            })
            .collect()
    }

    /// From this confidence on it decides.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Probabilities, a decision and its reasons for one device.
    pub fn ask(&self, facts: &Facts) -> Answer {
        let row = self.encoder.row(facts);
        let probabilities = softmax(&self.scores(&row), self.temperature);
        let mut order: Vec<usize> = (0..self.personas.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        let best = order[0];
        let mut reasons: Vec<(String, f64)> = self
            .encoder
            .columns
            .iter()
            .enumerate()
            .filter(|(at, _)| row[*at] != 0.0)
            .map(|(at, column)| {
                let mean = self.weights.iter().map(|(_, w)| w[at]).sum::<f64>()
                    / self.weights.len() as f64;
                (column.told(), (self.weights[best].1[at] - mean) * row[at])
            })
            .collect();
        reasons.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let sure = probabilities[best] >= self.threshold;
        Answer {
            ranked: order
                .iter()
                .map(|at| (self.personas[*at].clone(), probabilities[*at]))
                .collect(),
            decision: if sure {
                Decision::Assign
            } else {
                Decision::Propose
            },
            reasons,
        }
    }
}

fn softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised: Vec<f64> = scores
        .iter()
        .map(|s| ((s - most) / temperature).exp())
        .collect();
    let total: f64 = raised.iter().sum();
    raised.iter().map(|r| r / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(role: &str, site: &str, persona: &str) -> Example {
        let words = [("role", role), ("site", site)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Example {
            facts: Facts {
                words: words.into(),
                ..Facts::default()
            },
            persona: persona.to_owned(),
            corrected: false,
        }
    }

    fn sample() -> Vec<Example> {
        (0..90)
            .map(|i| match i % 3 {
                0 => example("cook", "north", "kitchen"),
                1 => example("clerk", ["north", "south"][i / 3 % 2], "office"),
                _ => example("guard", "south", "kiosk"),
            })
            .collect()
    }

    #[test]
    fn it_tells_personas_apart_and_says_why() {
        let classifier = Classifier::fit(&sample(), &Plan::default()).unwrap();
        let answer = classifier.ask(&example("cook", "north", "").facts);
        assert_eq!(
            (answer.ranked[0].0.as_str(), answer.decision),
            ("kitchen", Decision::Assign)
        );
        assert_eq!(answer.reasons[0].0, "role cook");
        assert!(answer.reasons[0].1 > 0.0);
        let total: f64 = answer.ranked.iter().map(|r| r.1).sum();
        assert!((total - 1.0).abs() < 1e-9);
        assert!(judge(&classifier, &sample()).top1 > 0.99);
    }

    #[test]
    fn strangers_are_proposed_not_assigned() {
        let classifier = Classifier::fit(&sample(), &Plan::default()).unwrap();
        let answer = classifier.ask(&example("pilot", "moon", "").facts);
        assert_eq!(answer.decision, Decision::Propose);
        assert!(classifier.ask(&Facts::default()).reasons.is_empty());
    }

    #[test]
    fn corrections_win_over_what_was_assigned() {
        let mut examples = sample();
        let old: Vec<Example> = (0..6)
            .map(|_| example("porter", "north", "office"))
            .collect();
        examples.splice(0..0, old);
        let before = Classifier::fit(&examples, &Plan::default()).unwrap();
        let porter = example("porter", "north", "").facts;
        assert_eq!(before.ask(&porter).ranked[0].0, "office");
        examples.extend((0..6).map(|_| Example {
            corrected: true,
            ..example("porter", "north", "kiosk")
        }));
        let after = Classifier::fit(&examples, &Plan::default()).unwrap();
        assert_eq!(after.ask(&porter).ranked[0].0, "kiosk");
    }

    #[test]
    fn too_little_to_learn_is_said() {
        assert_eq!(
            Classifier::fit(&[], &Plan::default()),
            Err(NotTrained::TooFew(0))
        );
        let same = vec![example("cook", "north", "kitchen"); 40];
        assert_eq!(
            Classifier::fit(&same, &Plan::default()),
            Err(NotTrained::OnePersona("kitchen".to_owned()))
        );
    }

    #[test]
    fn a_stored_classifier_answers_the_same() {
        let classifier = Classifier::fit(&sample(), &Plan::default()).unwrap();
        let stored = serde_json::to_string(&classifier).unwrap();
        let read: Classifier = serde_json::from_str(&stored).unwrap();
        let facts = example("clerk", "south", "").facts;
        assert_eq!(
            classifier.ask(&facts).ranked[0].0,
            read.ask(&facts).ranked[0].0
        );
    }
}
