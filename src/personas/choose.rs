//! Which persona a device gets, and why. Pure.
//!
//! ```text
//! assignments: device > user > role > group; within one kind the higher precedence
//!   └─ none ──► rules: the higher priority ──► none ──► the classifier, where it is sure ──► else
//!               the default ──► none ──► nothing
//! equals that name different personas ──► conflict: a person has to say
//! ```

use serde_json::{Map, Value};

use crate::chain::trigger::Trigger;
use crate::vocab::Timestamp;
use crate::vocab::persona::{
    Assignment, Because, Candidate, Choice, Given, PersonaRef, RuleSet, Subject,
};
use crate::vocab::prediction::Proposal;

/// What a device is known by.
#[derive(Debug, Clone, Copy)]
pub struct Who<'d> {
    pub name: &'d str,
    pub facts: &'d Map<String, Value>,
}

impl Who<'_> {
    /// Whether an assignment is for this device.
    fn is(&self, subject: &Subject) -> bool {
        let has = |one: &str, many: &str, wanted: &str| {
            [one, many].iter().any(|key| match self.facts.get(*key) {
                Some(Value::String(text)) => text == wanted,
                Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(wanted)),
                _ => false,
            })
        };
        match subject {
            Subject::Device(name) => name == self.name,
            Subject::User(name) => has("user", "users", name),
            Subject::Role(name) => has("role", "roles", name),
            Subject::Group(name) => has("group", "groups", name),
        }
    }
}

/// Chooses. `assignments` are all that were made and not ended; those past their `until` do not count.
/// `proposal` is what the classifier says, where there is one.
pub fn choose(
    who: Who<'_>,
    assignments: &[Assignment],
    rules: &RuleSet,
    proposal: Option<&Proposal>,
    now: Timestamp,
) -> Choice {
    let mut candidates = Vec::new();
    let mut fitting: Vec<&Assignment> = assignments
        .iter()
        .filter(|assignment| who.is(&assignment.subject))
        .collect();
    fitting.sort_by_key(|assignment| {
        (
            assignment.subject.rank(),
            -assignment.precedence,
            -assignment.at.0,
            -assignment.id,
        )
    });
    let (live, over): (Vec<_>, Vec<_>) = fitting
        .into_iter()
        .partition(|assignment| assignment.until.is_none_or(|until| until > now));
    let mut decided: Option<Decided> = None;
    for assignment in live {
        let rank = (assignment.subject.rank(), -assignment.precedence);
        let verdict = weigh(
            &mut decided,
            rank,
            &assignment.persona,
            &of_assignment(assignment),
        );
        candidates.push(candidate(&assignment.persona, because(assignment), verdict));
    }
    let (matching, undecided) = rules_that_hold(who, rules);
    for rule in matching {
        // All rules come after all assignments.
        let verdict = weigh(
            &mut decided,
            (Subject::KINDS.len(), -rule.priority),
            &rule.persona,
            &format!("rule {}", rule.name),
        );
        let because = Because::Rule {
            name: rule.name.clone(),
            when: rule.when.clone(),
            priority: rule.priority,
        };
        candidates.push(candidate(&rule.persona, because, verdict));
    }
    if let Some(proposal) = proposal {
        let persona = PersonaRef {
            name: proposal.persona.clone(),
            version: None,
        };
        let verdict = match proposal.is_sure() {
            true => weigh(
                &mut decided,
                (Subject::KINDS.len() + 1, 0),
                &persona,
                &format!("the classifier: {}", proposal.told()),
            ),
            false => format!(
                "{:.0} % is less than the {:.0} % that are asked for",
                100.0 * proposal.confidence,
                100.0 * proposal.threshold
            ),
        };
        let because = Because::Classifier {
            model: proposal.model.clone(),
            confidence_percent: (100.0 * proposal.confidence).round() as u32,
            facts: proposal
                .reasons
                .iter()
                .map(|(fact, _)| fact.clone())
                .collect(),
        };
        candidates.push(candidate(&persona, because, verdict));
    }
    if let Some(default) = &rules.default {
        let verdict = weigh(
            &mut decided,
            (Subject::KINDS.len() + 2, 0),
            default,
            "the default",
        );
        candidates.push(candidate(default, Because::Default, verdict));
    }
    for assignment in over {
        let until = assignment.until.unwrap_or_default();
        candidates.push(candidate(
            &assignment.persona,
            because(assignment),
            format!("it ended {until}"),
        ));
    }
    conclude(decided, candidates, undecided)
}

struct Decided {
    rank: (usize, i64),
    persona: PersonaRef,
    by: String,
    /// Equals that say otherwise.
    against: Vec<(PersonaRef, String)>,
}

/// Candidates come best first, so the first one decides and its equals may object.
fn weigh(
    decided: &mut Option<Decided>,
    rank: (usize, i64),
    persona: &PersonaRef,
    by: &str,
) -> String {
    match decided {
        None => {
            *decided = Some(Decided {
                rank,
                persona: persona.clone(),
                by: by.to_owned(),
                against: Vec::new(),
            });
            "it decides".into()
        }
        Some(first) if first.rank == rank && first.persona == *persona => {
            format!("it says the same as {}", first.by)
        }
        Some(first) if first.rank == rank => {
            first.against.push((persona.clone(), by.to_owned()));
            format!("it counts as much as {}, and says otherwise", first.by)
        }
        Some(first) => format!("{} comes first", first.by),
    }
}

fn conclude(
    decided: Option<Decided>,
    candidates: Vec<Candidate>,
    undecided: Vec<String>,
) -> Choice {
    let (given, reason) = match decided {
        None => (
            Given::Nothing,
            "no assignment and no rule speaks of this device, and there is no default".to_owned(),
        ),
        Some(first) if !first.against.is_empty() => {
            let mut sides = vec![format!("{} says {}", first.by, first.persona)];
            sides.extend(
                first
                    .against
                    .iter()
                    .map(|(persona, by)| format!("{by} says {persona}")),
            );
            let what = if first.rank.0 < Subject::KINDS.len() {
                "precedence"
            } else {
                "priority"
            };
            (
                Given::Conflict,
                format!(
                    "{}; both count the same: end one of them, or give one a higher {what}",
                    sides.join(", ")
                ),
            )
        }
        Some(first) => (
            Given::Persona {
                persona: first.persona,
            },
            first.by,
        ),
    };
    Choice {
        given,
        reason,
        candidates,
        undecided,
    }
}

fn rules_that_hold<'r>(
    who: Who<'_>,
    rules: &'r RuleSet,
) -> (Vec<&'r crate::vocab::persona::Rule>, Vec<String>) {
    let mut matching = Vec::new();
    let mut undecided = Vec::new();
    for rule in &rules.rules {
        match Trigger::parse(&rule.when).and_then(|trigger| trigger.holds(who.facts)) {
            Ok(true) => matching.push(rule),
            Ok(false) => {}
            Err(error) => undecided.push(format!("rule {}: {error}", rule.name)),
        }
    }
    matching.sort_by_key(|rule| -rule.priority);
    (matching, undecided)
}

fn of_assignment(assignment: &Assignment) -> String {
    format!(
        "assignment {} to {} by {} ({})",
        assignment.id, assignment.subject, assignment.by, assignment.reason
    )
}

fn because(assignment: &Assignment) -> Because {
    Because::Assignment {
        id: assignment.id,
        subject: assignment.subject.to_string(),
        precedence: assignment.precedence,
        by: assignment.by.clone(),
        reason: assignment.reason.clone(),
    }
}

fn candidate(persona: &PersonaRef, because: Because, verdict: impl Into<String>) -> Candidate {
    Candidate {
        persona: persona.clone(),
        because,
        verdict: verdict.into(),
    }
}
