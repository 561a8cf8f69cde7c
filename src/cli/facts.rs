//! Facts of devices as people write them: YAML or JSON documents, and `key=value`.

use serde_json::{Map, Value};

/// Reads a YAML or JSON document. `no` is a word and `0755` a text: serials look like that.
pub fn parse_document<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// Takes `key=value` into the facts. Dots in the key make objects. The value is JSON where it reads
/// as JSON (numbers, `true`, lists), else text; `'"5"'` insists on text.
pub fn set(facts: &mut Map<String, Value>, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment
        .split_once('=')
        .ok_or_else(|| format!("{assignment:?} is not of the form key=value"))?;
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("{key:?} is not a key such as serial or disk.size"));
    }
    let (last, path) = parts.split_last().expect("split gives at least one part");
    let mut place = facts;
    for part in path {
        let inner = place
            .entry(*part)
            .or_insert_with(|| Value::Object(Map::new()));
        place = match inner {
            Value::Object(inner) => inner,
            _ => {
                return Err(format!(
                    "{key:?} goes through {part:?}, which is not an object"
                ));
            }
        };
    }
    place.insert((*last).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_where_they_can_be_and_keys_nest() {
        let mut facts = Map::new();
        for assignment in [
            "memory_mib=2048",
            "serial=0042",
            "mac=52:54:00:12:34:56",
            "disk.size=5",
            "disk.kind=nvme",
            "rack=\"7\"",
            "note=a=b",
            "empty=",
        ] {
            set(&mut facts, assignment).unwrap();
        }
        let expected = serde_json::json!({
            "memory_mib": 2048, "serial": "0042", "mac": "52:54:00:12:34:56",
            "disk": {"size": 5, "kind": "nvme"}, "rack": "7", "note": "a=b", "empty": "",
        });
        assert_eq!(Value::Object(facts.clone()), expected);
        assert!(set(&mut facts, "memory_mib.x=1").is_err());
        assert!(set(&mut facts, "nothing").is_err());
        assert!(set(&mut facts, ".a=1").is_err());
    }

    #[test]
    fn documents_do_not_turn_words_into_booleans_or_serials_into_numbers() {
        let facts: Value = parse_document("country: no\nserial: 0755\nready: true\n").unwrap();
        assert_eq!(
            facts,
            serde_json::json!({"country": "no", "serial": "0755", "ready": true})
        );
    }
}
