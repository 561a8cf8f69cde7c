//! JSON Schema (draft 2020-12) for stage inputs and outputs.
//!
//! Nothing is ever fetched: a `$ref` may only point into its own schema. Patterns run on an
//! automaton whose time is linear in the text, because guests choose the text.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Most violations that are listed for one document.
pub const MAX_VIOLATIONS: usize = 20;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Counting ends here: a large document can have millions, each of which takes memory and time.
pub const MAX_COUNT: usize = 1_000;

/// Something that a schema says about a document, or a meta-schema about a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) to the offending value.
    pub pointer: String,
    pub message: String,
}

/// All that is wrong with a schema itself; empty when it can be used.
pub fn mistakes(schema: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    if !schema.is_object() && !schema.is_boolean() {
        return vec![Violation {
            pointer: String::new(),
            message: "a schema is a mapping (or true or false)".into(),
        }];
    }
    if let Some(draft) = schema.get("$schema")
        && draft.as_str().map(|uri| uri.trim_end_matches('#')) != Some(DRAFT)
    {
        let message = format!("schemas are read as draft 2020-12 ({DRAFT})");
        return vec![Violation {
            pointer: "/$schema".into(),
            message,
        }];
    }
    remote_references(schema, &mut String::new(), &mut found);
    for error in jsonschema::draft202012::meta::validator()
        .iter_errors(schema)
        .take(MAX_VIOLATIONS)
    {
        found.push(Violation {
            pointer: error.instance_path().to_string(),
            message: error.masked_with("the value").to_string(),
        });
    }
    if found.is_empty()
        && let Err(error) = build(schema)
    {
        found.push(Violation {
            pointer: error.instance_path().to_string(),
            message: cut(&error.to_string()),
        });
    }
    found
}

/// What the schema says against the document, at most [`MAX_VIOLATIONS`] and how many there are in
/// all, counted up to [`MAX_COUNT`]; `Err` when the schema itself cannot be used.
pub fn violations(schema: &Value, document: &Value) -> Result<(Vec<Violation>, usize), String> {
    let validator = build(schema).map_err(|error| cut(&error.to_string()))?;
    let mut listed = Vec::new();
    let mut count = 0;
    for error in validator.iter_errors(document).take(MAX_COUNT) {
        count += 1;
        if listed.len() < MAX_VIOLATIONS {
            listed.push(Violation {
                pointer: error.instance_path().to_string(),
                message: cut(&error.to_string()),
            });
        }
    }
    Ok((listed, count))
}

fn build(schema: &Value) -> Result<Validator, jsonschema::ValidationError<'static>> {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .build(schema)
}

/// References that do not begin with `#`. What stands under `enum`, `const` and the like is data.
fn remote_references(schema: &Value, pointer: &mut String, found: &mut Vec<Violation>) {
    let length = pointer.len();
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                if matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                    continue;
                }
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                if let ("$ref" | "$dynamicRef", Value::String(target)) = (key.as_str(), value)
                    && !target.starts_with('#')
                {
                    found.push(Violation {
                        pointer: pointer.clone(),
                        message: format!(
                            "{} points out of this schema; nothing is fetched",
                            super::faults::quoted(target)
                        ),
                    });
                }
                remote_references(value, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                remote_references(item, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Messages quote the document; a large one must not become a large message.
fn cut(message: &str) -> String {
    let mut short: String = message
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    if short.len() < message.len() && message.chars().count() > 300 {
        short.push('…');
    }
    short
}
