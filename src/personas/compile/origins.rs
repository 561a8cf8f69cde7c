//! Who wrote which value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Ancestor;
use crate::personas::read::Layer;
use crate::vocab::persona::PersonaRef;

/// Who wrote each value of the merged layer: this file where it has a place for it, else whoever wrote
/// it for the parent.
pub(super) fn origins(
    layer: &Layer,
    parent: Option<&Ancestor>,
    merged: &Value,
) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    if let Some(parent) = parent {
        let name = PersonaRef::exact(&parent.compiled.name, parent.version).to_string();
        for (at, whose) in &parent.compiled.origins {
            // Its own values are known there by its bare name: the version is given when it is stored.
            let whose = if *whose == parent.compiled.name {
                &name
            } else {
                whose
            };
            origins.insert(at.clone(), whose.clone());
        }
        let gone = |at: &str| {
            layer
                .remove
                .iter()
                .any(|(word, names)| names.iter().any(|name| is_below(at, word, name)))
        };
        origins.retain(|at, _| !gone(at));
    }
    for at in layer.places.keys() {
        if !at.starts_with("remove") && !matches!(at, "persona" | "parent") {
            // A plain list is replaced as a whole: what is left of a longer one is not there any more.
            let list = format!("{at}[");
            if is_plain_list(merged, at) {
                origins.retain(|there, _| !there.starts_with(&list));
            }
            origins.insert(at.to_owned(), layer.name.clone());
        }
    }
    origins
}

pub(super) fn is_below(at: &str, word: &str, name: &str) -> bool {
    let Some((_, path)) = crate::personas::facets::REMOVABLE
        .iter()
        .find(|(known, _)| *known == word)
    else {
        return false;
    };
    let list = path.join(".");
    at.starts_with(&format!("{list}[{name}]"))
        || at == format!("{list}.{name}")
        || at.starts_with(&format!("{list}[{name} from "))
}

pub(super) fn is_plain_list(merged: &Value, at: &str) -> bool {
    let pointer = format!("/{}", at.replace('.', "/"));
    merged
        .pointer(&pointer)
        .and_then(Value::as_array)
        .is_some_and(|items| items.iter().any(Value::is_string))
}
