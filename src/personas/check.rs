//! What the values of a document mean together: consistency, and what the catalogue can give.
//!
//! Every check looks at the whole document, inherited values included. A fault stands at the first of
//! its values that the file itself wrote; when none of them was, it stands at `parent:` and says
//! whose value it is.

mod applications;
mod network;
mod people;
mod resources;
mod system;

use std::collections::BTreeMap;

use super::catalogue::{Catalogue, Offer, Variant};
use super::read::Places;
use crate::chain::faults::Fault;
use crate::chain::read::Span;
use crate::vocab::persona::{Application, Document};

/// What is checked, and against what.
pub struct Matter<'a> {
    pub document: &'a Document,
    pub places: &'a Places,
    /// The persona that wrote a value.
    pub origins: &'a BTreeMap<String, String>,
    pub catalogue: &'a Catalogue,
}

/// Faults refuse a version, warnings go with it.
#[derive(Debug, Default)]
pub struct Verdict {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

/// All checks. Pure.
pub fn check(matter: Matter<'_>) -> Verdict {
    let mut judge = Judge {
        matter,
        verdict: Verdict::default(),
    };
    judge.system();
    judge.applications();
    judge.network();
    judge.people();
    judge.resources();
    judge.verdict
}

struct Judge<'a> {
    matter: Matter<'a>,
    verdict: Verdict,
}

/// What is said about something.
struct Finding {
    message: String,
    expected: Option<String>,
    suggestion: Option<String>,
}

impl Finding {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            expected: None,
            suggestion: None,
        }
    }

    fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    fn suggesting(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    fn maybe(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion.or(self.suggestion);
        self
    }
}

impl<'a> Judge<'a> {
    fn document(&self) -> &'a Document {
        self.matter.document
    }

    fn variant(&self) -> Option<&'a Variant> {
        self.matter
            .catalogue
            .variants
            .get(&self.document().os.variant)
    }

    fn offer(&self, application: &Application) -> Option<&'a Offer> {
        self.matter.catalogue.applications.get(&application.name)
    }

    /// A fault about values at these places, the most telling first.
    fn fault(&mut self, at: &[&str], finding: Finding) {
        let fault = placed(&self.matter, at, finding);
        self.verdict.faults.push(fault);
    }

    fn warn(&mut self, at: &[&str], finding: Finding) {
        let fault = placed(&self.matter, at, finding);
        self.verdict.warnings.push(fault);
    }
}

fn placed(matter: &Matter<'_>, at: &[&str], finding: Finding) -> Fault {
    let Finding {
        mut message,
        expected,
        suggestion,
    } = finding;
    let own = at.iter().find_map(|at| matter.places.get(at));
    let (span, path) = match own {
        Some((span, path)) => (span, path.to_owned()),
        None => {
            let whose = at.iter().find_map(|at| origin(matter.origins, at));
            let span = match whose {
                Some(whose) => {
                    message.push_str(&format!(" (from {whose})"));
                    matter.places.get("parent")
                }
                None => {
                    message.push_str(" (by default)");
                    at.iter().find_map(|at| nearest(matter.places, at))
                }
            };
            let span = span.or_else(|| matter.places.get("persona"));
            let span = span.map_or_else(Span::default, |(span, _)| span);
            (span, at.first().copied().unwrap_or_default().to_owned())
        }
    };
    let mut fault = Fault::new(span, path, message);
    fault.expected = expected;
    fault.suggestion = suggestion;
    fault
}

/// Who wrote a value, or the thing that it belongs to.
fn origin<'o>(origins: &'o BTreeMap<String, String>, at: &str) -> Option<&'o str> {
    origins.get(at).map(String::as_str)
}

/// The innermost mapping of the file around a place that it does not have.
fn nearest<'p>(places: &'p Places, at: &str) -> Option<(Span, &'p str)> {
    let mut at = at;
    while let Some(cut) = at.rfind(['.', '[']) {
        at = &at[..cut];
        if let Some(found) = places.get(at) {
            return Some(found);
        }
    }
    None
}

/// "`a`, `b`"
fn listed<'w>(words: impl IntoIterator<Item = &'w String>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    if words.is_empty() {
        "nothing".into()
    } else {
        words.join(", ")
    }
}
