//! Why an expectation is what it is: what it would be if one fact were as usual.

use std::sync::{Mutex, PoisonError};

use super::book::Book;
use crate::learn::features::{self, Case};
use crate::vocab::prediction::Resource;

/// One feature's part in an expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Influence {
    pub feature: String,
    /// As it is here; none where it is not known.
    pub value: Option<f64>,
    /// The expected middle, divided by what it would be with the feature as usual: 2 means that it doubles.
    pub factor: f64,
}

/// Influences under this are left out: one percent.
const LEAST: f64 = 0.01;

/// Strongest first; none where no model serves.
pub fn explain(
    book: &Mutex<Book>,
    resource: Resource,
    case: &Case,
    now_s: f64,
) -> Option<Vec<Influence>> {
    let (row, serving) = {
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = book.models.get(&resource).cloned()?;
        (book.features(resource, case, now_s), serving)
    };
    let kept = &serving.kept;
    let here = kept.model.predict(&row).quantiles[0].max(1e-6);
    let mut found: Vec<Influence> = features::names()
        .into_iter()
        .enumerate()
        .filter_map(|(at, feature)| {
            let mut other = row.clone();
            *other.get_mut(at)? = kept.usual.get(at).copied().flatten().unwrap_or(f64::NAN);
            let factor = here / kept.model.predict(&other).quantiles[0].max(1e-6);
            Some(Influence {
                feature,
                value: Some(row[at]).filter(|value| value.is_finite()),
                factor,
            })
        })
        .filter(|influence| (influence.factor - 1.0).abs() >= LEAST)
        .collect();
    found.sort_by(|a, b| b.factor.ln().abs().total_cmp(&a.factor.ln().abs()));
    Some(found)
}
