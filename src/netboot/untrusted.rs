//! What devices send, before anything is made of it: bounded, of the right shape, and without control
//! characters. Pure.

use serde_json::Value;

/// The JSON, checked. `what` begins the error, such as `an inventory`; what was sent is never repeated in
/// one, nor are its members' names: only places of our own schema are said.
pub fn read(
    bytes: &[u8],
    most: usize,
    what: &str,
    schema: &jsonschema::Validator,
) -> Result<Value, String> {
    if bytes.len() > most {
        return Err(format!(
            "{what} has at most {most} bytes, not {}",
            bytes.len()
        ));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "it is no JSON: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    if let Some(error) = schema.iter_errors(&value).next() {
        return Err(format!(
            "it does not fit the schema at {:?}",
            error.schema_path().to_string()
        ));
    }
    refuse_controls(&value)?;
    Ok(value)
}

/// A schema that is part of the program.
pub fn schema(text: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("the schema in the program is no JSON: {error}"));
    jsonschema::validator_for(&schema)
        .unwrap_or_else(|error| panic!("the schema in the program is none: {error}"))
}

/// Control characters have no place in what ends up on terminals, in logs and in documents.
fn refuse_controls(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if text.chars().any(char::is_control) => {
            Err("a text in it has control characters".to_owned())
        }
        Value::Array(items) => items.iter().try_for_each(refuse_controls),
        Value::Object(members) if members.keys().any(|key| key.chars().any(char::is_control)) => {
            Err("a name in it has control characters".to_owned())
        }
        Value::Object(members) => members.values().try_for_each(refuse_controls),
        _ => Ok(()),
    }
}
