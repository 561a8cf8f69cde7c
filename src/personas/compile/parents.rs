//! Parents: in which order they come, and what can be wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Ancestor, Known, Source};
use crate::chain::faults::{Fault, quoted};
use crate::chain::read::Span;
use crate::personas::merge;
use crate::personas::read::{Layer, did_you_mean};
use crate::vocab::persona::PersonaRef;

/// Two files of one batch with one name.
pub(super) fn twins(sources: &[Source], readings: &mut [(Option<Layer>, Vec<Fault>)]) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (source, (layer, faults)) in sources.iter().zip(readings) {
        let Some(layer) = layer.as_ref().filter(|layer| !layer.name.is_empty()) else {
            continue;
        };
        if let Some(first) = seen.insert(layer.name.clone(), source.file.clone()) {
            let span = layer
                .places
                .get("persona")
                .map_or_else(Span::default, |(span, _)| span);
            let fault = Fault::new(
                span,
                "persona",
                format!(
                    "{} has the persona {} too",
                    quoted(&first),
                    quoted(&layer.name)
                ),
            );
            faults.push(fault.expecting("one file for a persona"));
        }
    }
}

/// Parents within the batch that lead back to where they started, each told in its own file.
pub(super) fn circles(readings: &mut [(Option<Layer>, Vec<Fault>)]) {
    let parents: BTreeMap<String, String> = readings
        .iter()
        .filter_map(|(layer, _)| {
            let layer = layer.as_ref()?;
            let parent = layer
                .parent
                .as_ref()
                .filter(|parent| parent.version.is_none())?;
            Some((layer.name.clone(), parent.name.clone()))
        })
        .collect();
    for (layer, faults) in readings {
        let Some(layer) = layer else { continue };
        let mut path = vec![layer.name.as_str()];
        while let Some(next) = path.last().and_then(|name| parents.get(*name)) {
            let seen = path.contains(&next.as_str());
            path.push(next);
            if seen {
                break;
            }
        }
        if path.len() > 1 && path.last() == path.first() {
            let span = layer
                .places
                .get("parent")
                .map_or_else(Span::default, |(span, _)| span);
            let fault = Fault::new(
                span,
                "parent",
                format!("the parents go in a circle: {}", path.join(" → ")),
            );
            faults.push(fault.suggesting("a persona cannot build on what builds on it"));
        }
    }
}

/// An order in which each parent within the batch comes before its children; members of a circle
/// come in any order.
pub(super) fn parents_first(readings: &[(Option<Layer>, Vec<Fault>)]) -> Vec<usize> {
    let index_of = |name: &str| {
        readings
            .iter()
            .position(|(layer, _)| layer.as_ref().is_some_and(|layer| layer.name == name))
    };
    let mut order = Vec::new();
    for start in 0..readings.len() {
        let mut path = vec![start];
        while let Some(parent) = path
            .last()
            .and_then(|at| readings[*at].0.as_ref()?.parent.as_ref())
            .and_then(|parent| index_of(&parent.name))
        {
            if path.contains(&parent) || order.contains(&parent) {
                break;
            }
            path.push(parent);
        }
        for at in path.into_iter().rev() {
            if !order.contains(&at) {
                order.push(at);
            }
        }
    }
    order
}

pub(super) fn find_parent(
    layer: &Layer,
    wanted: &PersonaRef,
    known: &Known,
    broken: &BTreeSet<String>,
) -> Result<Ancestor, Box<Fault>> {
    let span = layer
        .places
        .get("parent")
        .map_or_else(Span::default, |(span, _)| span);
    let fault = |message: String| Fault::new(span, "parent", message);
    if wanted.name == layer.name {
        return Err(fault(format!(
            "a persona cannot be its own parent: {0} → {0}",
            layer.name
        ))
        .suggesting("name another one, or leave `parent` out")
        .into());
    }
    if broken.contains(&wanted.name) {
        return Err(
            fault(format!("the parent {} has faults", quoted(&wanted.name)))
                .suggesting("mend the parent first")
                .into(),
        );
    }
    let Some(parent) = known.find(wanted) else {
        let names = known.versions.keys().map(String::as_str);
        let fault = match known.versions.get(&wanted.name) {
            Some(versions) => {
                let numbers: Vec<String> = versions.keys().map(i64::to_string).collect();
                fault(format!(
                    "{} has no version {}",
                    quoted(&wanted.name),
                    wanted.version.unwrap_or_default()
                ))
                .expecting(format!("one of {}", numbers.join(", ")))
            }
            None => {
                let fault = fault(format!("there is no persona {}", quoted(&wanted.name)));
                match did_you_mean(&wanted.name, names) {
                    Some(near) => fault.suggesting(near),
                    None => fault.suggesting("give its file too, or apply it first"),
                }
            }
        };
        return Err(fault.into());
    };
    let mut path = vec![layer.name.clone(), wanted.name.clone()];
    for ancestor in &parent.compiled.lineage {
        path.push(ancestor.name.clone());
        if ancestor.name == layer.name {
            return Err(
                fault(format!("the parents go in a circle: {}", path.join(" → ")))
                    .suggesting("a persona cannot build on what builds on it")
                    .into(),
            );
        }
    }
    Ok(parent)
}

pub(super) fn idle_removals(layer: &Layer, base: &Value) -> Vec<Fault> {
    merge::idle_removals(base, &layer.remove)
        .into_iter()
        .map(|(word, name)| {
            let at = format!("remove.{word}[{name}]");
            let (span, path) = layer.places.get(&at).unwrap_or((Span::default(), "remove"));
            let there = merge::names_of(base, word);
            let fault = Fault::new(
                span,
                path,
                format!("{} is not inherited, so it cannot be removed", quoted(name)),
            );
            match did_you_mean(name, there.iter().map(String::as_str)) {
                Some(near) => fault.suggesting(near),
                None if there.is_empty() => {
                    fault.suggesting(format!("nothing is inherited under `{word}`"))
                }
                None => fault.suggesting(format!("there are {}", there.join(", "))),
            }
        })
        .collect()
}
