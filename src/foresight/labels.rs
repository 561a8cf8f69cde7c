//! The persona classifier's side: facts of devices, what is learned from, and its proposals.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::book::ServingPersona;
use crate::learn::classify::{self, Answer, Classifier, Example, Facts, Plan};
use crate::learn::features::Hardware;
use crate::learn::judge::{self, Reason, Rules, Trial};
use crate::store::models::Label;
use crate::store::{Store, StoreError, devices, models, personas};
use crate::vocab::persona::Subject;
use crate::vocab::prediction::Proposal;

/// Name of the classifier among the models.
pub const PERSONA: &str = "persona";

/// Devices that are learned from: the newest.
const MOST: i64 = 20_000;
/// Facts of one device that count, and the longest word: what one device can say is bounded.
const MOST_FACTS: usize = 32;
const LONGEST: usize = 64;
/// Facts that name one device alone, so that nothing can be learned from them.
const NAMES: [&str; 12] = [
    "name",
    "hostname",
    "serial",
    "board_serial",
    "uuid",
    "mac",
    "ip",
    "address",
    "asset",
    "id",
    "persona",
    "user",
];

/// What the classifier reads of a device.
pub fn facts_of(client: &str, facts: &Map<String, Value>) -> Facts {
    let mut words = BTreeMap::from([("client".to_owned(), client.to_owned())]);
    let mut numbers = BTreeMap::new();
    let plain = facts
        .iter()
        .filter(|(key, _)| key.len() <= LONGEST && !NAMES.contains(&key.as_str()));
    for (key, value) in plain.take(MOST_FACTS) {
        match value {
            Value::String(text) if text.len() <= LONGEST => {
                words.insert(key.clone(), text.clone());
            }
            Value::Bool(yes) => {
                words.insert(key.clone(), yes.to_string());
            }
            Value::Number(number) => {
                numbers.insert(key.clone(), number.as_f64().unwrap_or(f64::NAN));
            }
            _ => {}
        }
    }
    let hardware = Hardware::of(facts);
    if !hardware.product.is_empty() && hardware.product.len() <= LONGEST {
        words.insert("product".to_owned(), hardware.product.clone());
    }
    for (name, value) in [
        ("cores", hardware.cores),
        ("memory_mib", hardware.memory_mib),
        ("disk_gib", hardware.disk_gib),
        ("disks", hardware.disks),
        ("nics", hardware.nics),
    ] {
        if value.is_finite() {
            numbers.insert(name.to_owned(), value);
        }
    }
    Facts { words, numbers }
}

/// What the classifier that serves says.
pub fn propose(serving: &ServingPersona, facts: &Facts) -> Option<Proposal> {
    let Answer {
        ranked, reasons, ..
    } = serving.classifier.ask(facts);
    let mut ranked = ranked.into_iter();
    let (persona, confidence) = ranked.next()?;
    Some(Proposal {
        persona,
        confidence,
        threshold: serving.classifier.threshold(),
        others: ranked.take(2).collect(),
        reasons: reasons.into_iter().take(6).collect(),
        model: format!("{}#{}", serving.row.name, serving.row.id),
        examples: serving.row.rows,
    })
}

/// Each device's last label, where people or rules decided it, oldest first. What a person assigned to a
/// device since goes before, and is a correction where it says otherwise.
pub async fn examples(store: &Store) -> Result<Vec<Example>, StoreError> {
    let mut connection = store.read().await?;
    let labels = models::label_list(&mut connection, MOST).await?;
    let mut by_device: BTreeMap<String, usize> = BTreeMap::new();
    let mut known: Vec<Label> = Vec::new();
    for (_, label) in labels {
        by_device.insert(label.device.clone(), known.len());
        known.push(label);
    }
    for assignment in personas::assignment_list(&mut connection).await? {
        let Subject::Device(name) = &assignment.subject else {
            continue;
        };
        let Some(device) = devices::device_by_name(&mut connection, name).await? else {
            continue;
        };
        let id = device.id.to_string();
        let before = by_device.get(&id).map(|at| &known[*at]);
        let label = Label {
            persona: assignment.persona.name.clone(),
            at: assignment.at,
            facts: facts_of(&device.client, &device.facts),
            proposed: false,
            corrected: before.is_some_and(|before| {
                before.corrected || before.persona != assignment.persona.name
            }),
            device: id.clone(),
        };
        match by_device.get(&id) {
            Some(at) => known[*at] = label,
            None => {
                by_device.insert(id, known.len());
                known.push(label);
            }
        }
    }
    known.sort_by_key(|label| label.at);
    Ok(known
        .into_iter()
        // What it decided itself would only confirm it.
        .filter(|label| !label.proposed)
        .map(|label| Example {
            facts: label.facts,
            persona: label.persona,
            corrected: label.corrected,
        })
        .collect())
}

pub struct Trained {
    pub classifier: Classifier,
    pub won: bool,
    pub judged: Value,
    pub verdict: String,
}

/// Trains and judges: trained on the older devices, judged on the newest quarter beside the share that
/// each persona has among devices of the same role.
pub fn fit(examples: &[Example]) -> Result<Trained, String> {
    let plan = Plan {
        pairs: vec![("location".to_owned(), "role".to_owned())],
        ..Plan::default()
    };
    let classifier = Classifier::fit(examples, &plan).map_err(|error| error.to_string())?;
    let cut = examples.len() - (examples.len() / 4).max(1);
    let (older, newest) = examples.split_at(cut);
    let (mut trial, mut quality) = (
        Trial {
            names: vec!["shares by role".to_owned(), "classifier".to_owned()],
            losses: Vec::new(),
        },
        classify::Quality::default(),
    );
    // Too few older ones are too few to judge by, and that is said below.
    if let Ok(early) = Classifier::fit(older, &plan) {
        let shares = Shares::of(older);
        quality = classify::judge(&early, newest);
        for example in newest {
            let answer = early.ask(&example.facts);
            let p = answer
                .ranked
                .iter()
                .find(|(persona, _)| *persona == example.persona)
                .map_or(1e-6, |(_, p)| p.max(1e-6));
            trial
                .losses
                .push(vec![-shares.chance(example).ln(), -p.ln()]);
        }
    }
    let verdict = judge::judge(&trial, 0, Rules::default());
    let won = verdict.reason == Reason::Promoted;
    let words = match verdict.reason {
        Reason::Promoted => "it beats the shares by role and proposes",
        Reason::TooFew => "too few newer devices to judge it; rules and people decide",
        _ => "it does not beat the shares by role; rules and people decide",
    };
    Ok(Trained {
        won,
        verdict: format!(
            "{words}: right for {:.0} % of {} newer devices, {:.0} % assigned without asking of which {:.0} % right",
            100.0 * quality.top1,
            trial.losses.len(),
            100.0 * quality.assigned,
            100.0 * quality.assigned_right
        ),
        judged: json!({ "quality": quality, "verdict": verdict, "judged": trial.losses.len() }),
        classifier,
    })
}

/// How often each persona is had, by role and in all: the plain rule.
struct Shares<'e> {
    by_role: BTreeMap<&'e str, BTreeMap<&'e str, f64>>,
    all: BTreeMap<&'e str, f64>,
}

fn role(example: &Example) -> &str {
    example.facts.words.get("role").map_or("", String::as_str)
}

impl<'e> Shares<'e> {
    fn of(examples: &'e [Example]) -> Self {
        let mut by_role: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
        let mut all: BTreeMap<&str, f64> = BTreeMap::new();
        for example in examples {
            let persona = example.persona.as_str();
            *by_role
                .entry(role(example))
                .or_default()
                .entry(persona)
                .or_default() += 1.0;
            *all.entry(persona).or_default() += 1.0;
        }
        Self { by_role, all }
    }

    /// Chance of what was right, backed off from the role to all and to one in a hundred.
    fn chance(&self, example: &Example) -> f64 {
        let share = |counts: Option<&BTreeMap<&str, f64>>, prior: f64| {
            let total: f64 = counts.map_or(0.0, |counts| counts.values().sum());
            let hits = counts
                .and_then(|counts| counts.get(example.persona.as_str()))
                .copied();
            (hits.unwrap_or(0.0) + 2.0 * prior) / (total + 2.0)
        };
        share(
            self.by_role.get(role(example)),
            share(Some(&self.all), 0.01),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(value: Value) -> Facts {
        facts_of("lab", value.as_object().expect("an object"))
    }

    #[test]
    fn names_of_one_device_and_nonsense_are_not_read() {
        let read = facts(json!({
            "serial": "X1", "role": "cook", "site": "x".repeat(1000), "tags": ["a"], "desk": true,
            "floor": 3, "hardware": { "memory_mib": 2048, "nics": [{}] }
        }));
        let words: Vec<&str> = read.words.keys().map(String::as_str).collect();
        assert_eq!(words, ["client", "desk", "role"]);
        assert_eq!(read.numbers["floor"], 3.0);
        assert_eq!(
            (read.numbers["memory_mib"], read.numbers["nics"]),
            (2048.0, 1.0)
        );
        let many: Map<String, Value> = (0..1000).map(|i| (format!("k{i}"), json!(i))).collect();
        assert!(facts_of("lab", &many).numbers.len() <= MOST_FACTS);
    }

    #[test]
    fn a_classifier_that_only_knows_the_role_does_not_serve_and_one_that_knows_more_does() {
        let example = |role: &str, site: &str, persona: &str| Example {
            facts: facts(json!({ "role": role, "site": site })),
            persona: persona.to_owned(),
            corrected: false,
        };
        // Site and role together decide.
        let telling: Vec<Example> = (0..240)
            .map(|i| {
                let (role, site) = (["cook", "clerk"][i % 2], ["north", "south"][i / 2 % 2]);
                example(role, site, &format!("{role}-{site}"))
            })
            .collect();
        let trained = fit(&telling).unwrap();
        assert!(trained.won, "{}", trained.verdict);
        let by_role: Vec<Example> = (0..240)
            .map(|i| example(["cook", "clerk"][i % 2], "x", ["kitchen", "office"][i % 2]))
            .collect();
        assert!(!fit(&by_role[..40]).unwrap().won, "too few");
        assert!(fit(&telling[..3]).is_err());
    }
}
