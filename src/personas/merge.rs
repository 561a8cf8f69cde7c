//! Two layers become one. Pure, by the tables of [`super::facets`]; the rules stand in [`super`].
//!
//! Applying `c` onto (`b` onto `a`) is the same as applying (`c` composed with `b`) onto `a`: a test
//! with random layers holds that, order of lists included.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::facets::{LAYER, REMOVABLE, port_key};
use super::shape::Shape;

/// The facets of a parent, and a child's over them.
pub fn apply(base: &Value, facets: &Value, remove: &BTreeMap<String, Vec<String>>) -> Value {
    merge(&LAYER, &without(base, remove), facets)
}

/// One layer that does what first `under` and then `over` do.
pub fn compose(
    under: (&Value, &BTreeMap<String, Vec<String>>),
    over: (&Value, &BTreeMap<String, Vec<String>>),
) -> (Value, BTreeMap<String, Vec<String>>) {
    let facets = apply(under.0, over.0, over.1);
    let mut remove = under.1.clone();
    for (word, names) in over.1 {
        let all = remove.entry(word.clone()).or_default();
        for name in names {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
    }
    (facets, remove)
}

/// Names in `remove` that take nothing out of `base`: (word, name).
pub fn idle_removals<'r>(
    base: &Value,
    remove: &'r BTreeMap<String, Vec<String>>,
) -> Vec<(&'r str, &'r str)> {
    let mut idle = Vec::new();
    for (word, names) in remove {
        for name in names {
            let one = BTreeMap::from([(word.clone(), vec![name.clone()])]);
            if without(base, &one) == *base {
                idle.push((word.as_str(), name.as_str()));
            }
        }
    }
    idle
}

/// What could be removed under a word.
pub fn names_of(base: &Value, word: &str) -> Vec<String> {
    let Some((_, path)) = REMOVABLE.iter().find(|(known, _)| *known == word) else {
        return Vec::new();
    };
    match place(base, path) {
        Some(Value::Object(entries)) => entries.keys().cloned().collect(),
        Some(Value::Array(items)) => items.iter().map(|item| key_of(word, item)).collect(),
        _ => Vec::new(),
    }
}

fn without(base: &Value, remove: &BTreeMap<String, Vec<String>>) -> Value {
    let mut base = base.clone();
    for (word, names) in remove {
        let Some((_, path)) = REMOVABLE.iter().find(|(known, _)| known == word) else {
            continue;
        };
        let mut at = Some(&mut base);
        for part in *path {
            at = at.and_then(|value| value.get_mut(*part));
        }
        match at {
            Some(Value::Object(entries)) => entries.retain(|key, _| !names.contains(key)),
            Some(Value::Array(items)) => items.retain(|item| !is_named(word, item, names)),
            _ => {}
        }
    }
    base
}

fn place<'v>(base: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(base, |value, part| value.get(*part))
}

fn is_named(word: &str, item: &Value, names: &[String]) -> bool {
    let key = key_of(word, item);
    // An open port may be named without its source: all of that port go.
    names
        .iter()
        .any(|name| *name == key || (word == "allow" && key.split(' ').next() == Some(name)))
}

fn key_of(word: &str, item: &Value) -> String {
    let key = match word {
        "allow" => return port_key(item),
        "interfaces" => "role",
        "partitions" => "mount",
        _ => "name",
    };
    super::shape::text_of(item, key)
}

fn merge(shape: &Shape, base: &Value, own: &Value) -> Value {
    match (shape, base, own) {
        (Shape::Fields(table) | Shape::AtLeast(table), Value::Object(base), Value::Object(own)) => {
            let mut merged = base.clone();
            for (key, value) in own {
                let field = table.iter().find(|field| field.name == key);
                let value = match (field, base.get(key)) {
                    (Some(field), Some(base)) => merge(&field.shape, base, value),
                    _ => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Shape::Table { .. }, Value::Object(base), Value::Object(own)) => {
            let mut merged: Map<String, Value> = base.clone();
            merged.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::Object(merged)
        }
        (Shape::Named { key, fields, .. }, Value::Array(base), Value::Array(own)) => {
            let shape = Shape::Fields(fields);
            let mut merged = base.clone();
            for item in own {
                match merged.iter_mut().find(|there| key(there) == key(item)) {
                    Some(there) => *there = merge(&shape, there, item),
                    None => merged.push(item.clone()),
                }
            }
            Value::Array(merged)
        }
        _ => own.clone(),
    }
}
