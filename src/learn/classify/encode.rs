//! Facts about a device and its user as numbers: a column per word that was seen often enough, per
//! pair of words that belong together, and per number. What is unknown has columns of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known: words (role, department, device class …) and numbers (cores, memory …). A fact that
/// is not known is left out or empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub words: BTreeMap<String, String>,
    pub numbers: BTreeMap<String, f64>,
}

/// What a column stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    Word {
        fact: String,
        word: String,
    },
    Pair {
        facts: (String, String),
        words: (String, String),
    },
    /// log₂(1 + number), less the median, ÷ 4.
    Number {
        fact: String,
        middle: NotNan,
    },
    Missing {
        fact: String,
    },
}

/// A number that compares; the middle of a column.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NotNan(pub f64);

impl PartialEq for NotNan {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for NotNan {}

impl PartialOrd for NotNan {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NotNan {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Column {
    /// The fact or facts it is about, in words for people.
    pub fn told(&self) -> String {
        match self {
            Self::Word { fact, word } => format!("{fact} {word}"),
            Self::Pair { facts, words } => {
                format!("{} {} with {} {}", facts.0, words.0, facts.1, words.1)
            }
            Self::Number { fact, .. } => fact.clone(),
            Self::Missing { fact } => format!("{fact} not known"),
        }
    }
}

/// The columns of a model and where to find them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    pub columns: Vec<Column>,
}

/// Pairs seen less often say nothing that their words do not.
const FEWEST_PAIRS: usize = 8;
/// More columns than this are not learned; the most frequent stay. Bounds what one source of nonsense
/// words can cost.
const MOST_COLUMNS: usize = 600;

impl Encoder {
    /// Chooses the columns for these examples; `pairs` names facts that matter together.
    pub fn new(examples: &[&Facts], pairs: &[(String, String)]) -> Self {
        let mut counts: BTreeMap<Column, usize> = BTreeMap::new();
        let mut numbers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for facts in examples {
            for (fact, word) in &facts.words {
                let column = match word.is_empty() {
                    true => Column::Missing { fact: fact.clone() },
                    false => Column::Word {
                        fact: fact.clone(),
                        word: word.clone(),
                    },
                };
                *counts.entry(column).or_default() += 1;
            }
            for (fact, number) in &facts.numbers {
                match number.is_finite() {
                    true => numbers.entry(fact).or_default().push(scaled(*number)),
                    false => {
                        *counts
                            .entry(Column::Missing { fact: fact.clone() })
                            .or_default() += 1
                    }
                }
            }
            for pair in pairs {
                if let Some(column) = pair_of(facts, pair) {
                    *counts.entry(column).or_default() += 1;
                }
            }
        }
        let mut ranked: Vec<(Column, usize)> = counts
            .into_iter()
            .filter(|(column, count)| {
                !matches!(column, Column::Pair { .. }) || *count >= FEWEST_PAIRS
            })
            .collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(MOST_COLUMNS);
        let mut columns: Vec<Column> = ranked.into_iter().map(|(column, _)| column).collect();
        columns.extend(numbers.into_iter().map(|(fact, values)| Column::Number {
            fact: fact.to_owned(),
            middle: NotNan(super::super::robust::median(&values)),
        }));
        columns.sort();
        Self { columns }
    }

    /// The value of each column; unseen words have none.
    pub fn row(&self, facts: &Facts) -> Vec<f64> {
        self.columns
            .iter()
            .map(|column| {
                let holds = |yes: bool| f64::from(u8::from(yes));
                match column {
                    Column::Word { fact, word } => holds(facts.words.get(fact) == Some(word)),
                    Column::Pair {
                        facts: (a, b),
                        words,
                    } => holds(
                        facts.words.get(a) == Some(&words.0)
                            && facts.words.get(b) == Some(&words.1),
                    ),
                    Column::Number { fact, middle } => match facts.numbers.get(fact) {
                        Some(number) if number.is_finite() => {
                            ((scaled(*number) - middle.0) / 4.0).clamp(-8.0, 8.0)
                        }
                        _ => 0.0,
                    },
                    Column::Missing { fact } => holds(
                        facts.words.get(fact).is_some_and(String::is_empty)
                            || facts.numbers.get(fact).is_some_and(|n| !n.is_finite()),
                    ),
                }
            })
            .collect()
    }
}

fn scaled(number: f64) -> f64 {
    (1.0 + number.clamp(0.0, 1e18)).log2()
}

fn pair_of(facts: &Facts, (a, b): &(String, String)) -> Option<Column> {
    let words = (facts.words.get(a)?.clone(), facts.words.get(b)?.clone());
    (!words.0.is_empty() && !words.1.is_empty()).then(|| Column::Pair {
        facts: (a.clone(), b.clone()),
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(role: &str, site: &str, cores: f64) -> Facts {
        Facts {
            words: [("role", role), ("site", site)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            numbers: [("cores".to_owned(), cores)].into(),
        }
    }

    #[test]
    fn words_pairs_numbers_and_the_unknown_have_columns() {
        let examples: Vec<Facts> = (0..20)
            .map(|i| facts(if i % 2 == 0 { "cook" } else { "" }, "north", f64::from(i)))
            .collect();
        let refs: Vec<&Facts> = examples.iter().collect();
        let encoder = Encoder::new(&refs, &[("role".to_owned(), "site".to_owned())]);
        let told: Vec<String> = encoder.columns.iter().map(Column::told).collect();
        assert_eq!(
            told,
            [
                "role cook",
                "site north",
                "role cook with site north",
                "cores",
                "role not known"
            ]
        );
        assert_eq!(encoder.row(&facts("cook", "north", 1e300))[..3], [1.0; 3]);
        let unseen = encoder.row(&facts("pilot", "south", f64::NAN));
        assert_eq!(unseen, [0.0; 5]);
        assert_eq!(encoder.row(&facts("", "north", 3.0))[4], 1.0);
    }
}
