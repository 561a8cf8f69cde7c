//! Documents: strict reading of JSON that a guest wrote, and merging it into a run's document.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::faults::quoted;
use super::model::{Merge, MergeHow};

/// Largest document of a run, and largest input or transformed output of a stage, bytes of compact JSON.
pub const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting of what a guest hands over or a transform gives.
pub const MAX_DEPTH: usize = 64;
/// Most steps of a merge pointer, so that a merged document stays well within what JSON readers
/// accept (128 levels).
pub const MAX_POINTER_STEPS: usize = 16;

/// Reads one JSON value: UTF-8, no duplicate keys, at most [`MAX_DEPTH`] deep, nothing after it.
pub fn parse_json(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"))?;
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.deeper()?)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {} occurs twice",
                    quoted(&key)
                )));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// How many lists and objects stand inside each other; 0 for a scalar.
pub fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(members) => open.extend(members.values().map(|item| (item, level + 1))),
            _ => continue,
        }
        deepest = deepest.max(level + 1);
    }
    deepest
}

/// Splits a JSON Pointer (RFC 6901) into its steps; `Err` says what is wrong with it.
pub fn pointer_steps(pointer: &str) -> Result<Vec<String>, String> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err("a JSON Pointer begins with `/`".into());
    };
    let steps: Vec<&str> = rest.split('/').collect();
    if steps.len() > MAX_POINTER_STEPS {
        return Err(format!("more than {MAX_POINTER_STEPS} steps"));
    }
    steps
        .into_iter()
        .map(|step| {
            let mut rest = step;
            while let Some(at) = rest.find('~') {
                rest = &rest[at + 1..];
                if !rest.starts_with(['0', '1']) {
                    return Err(
                        "`~` is written `~0` in a JSON Pointer, and `/` in a name `~1`".to_owned(),
                    );
                }
            }
            if step.is_empty() {
                return Err("a step of the pointer is empty".to_owned());
            }
            Ok(step.replace("~1", "/").replace("~0", "~"))
        })
        .collect()
}

/// Puts `value` into `document` as `merge` says. On `Err` the document is as it was.
pub fn merge_into(document: &mut Value, merge: &Merge, value: Value) -> Result<(), String> {
    let steps = pointer_steps(&merge.at)?;
    let mut merged = std::mem::take(document);
    // Work on the value itself, and put the old one back if it cannot be done: what is in the way
    // is found before anything is changed.
    let outcome = in_the_way(&merged, &steps, merge, &value);
    if outcome.is_ok() {
        put(&mut merged, &steps, merge.how, value);
    }
    *document = merged;
    outcome
}

fn in_the_way(
    document: &Value,
    steps: &[String],
    merge: &Merge,
    value: &Value,
) -> Result<(), String> {
    let mut here = Some(document);
    for (index, step) in steps.iter().enumerate() {
        here = match here {
            None => break,
            Some(Value::Object(members)) => members.get(step),
            Some(other) => {
                return Err(format!(
                    "{} is already {}, so nothing can be put at {}",
                    place(&steps[..index]),
                    describe(other),
                    quoted(&merge.at)
                ));
            }
        };
    }
    match (merge.how, here) {
        (MergeHow::Append, Some(found)) if !found.is_array() => Err(format!(
            "{} is {}, not a list to append to",
            place(steps),
            describe(found)
        )),
        (MergeHow::Patch | MergeHow::Replace, _) if steps.is_empty() && !value.is_object() => {
            Err(format!(
                "the run's document must stay an object, and the output is {}",
                describe(value)
            ))
        }
        _ => Ok(()),
    }
}

fn put(document: &mut Value, steps: &[String], how: MergeHow, value: Value) {
    let mut here = document;
    for step in steps {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        let members = here.as_object_mut().expect("made an object just above");
        here = members.entry(step.clone()).or_insert(Value::Null);
    }
    match how {
        MergeHow::Replace => *here = value,
        MergeHow::Patch => patch(here, value),
        MergeHow::Append => match here {
            Value::Array(items) => items.push(value),
            _ => *here = Value::Array(vec![value]),
        },
    }
}

/// JSON Merge Patch, RFC 7396 section 2.
pub fn patch(target: &mut Value, patch_value: Value) {
    let Value::Object(changes) = patch_value else {
        *target = patch_value;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().expect("made an object just above");
    for (key, change) in changes {
        if change.is_null() {
            members.remove(&key);
        } else {
            patch(members.entry(key).or_insert(Value::Null), change);
        }
    }
}

fn place(steps: &[String]) -> String {
    if steps.is_empty() {
        "the document".into()
    } else {
        quoted(&format!("/{}", steps.join("/")))
    }
}

/// "a list", "the number 5": a value in a message.
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => format!("{flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
