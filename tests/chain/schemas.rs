//! JSON Schema: what is accepted as one, and what one says of a document.

use greenroom::chain::schema::{MAX_COUNT, MAX_VIOLATIONS, mistakes, violations};
use serde_json::json;

#[test]
fn usable_schemas() {
    for schema in [
        json!(true),
        json!({}),
        json!({ "type": "object", "properties": { "$ref": { "type": "string" } } }),
        json!({ "$defs": { "d": { "type": "string" } }, "properties": { "a": { "$ref": "#/$defs/d" } } }),
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "format": "date-time" }),
        json!({ "enum": [{ "$ref": "https://example.com" }] }),
    ] {
        assert_eq!(mistakes(&schema), [], "{schema}");
    }
}

#[test]
fn unusable_schemas() {
    for (schema, pointer) in [
        (json!("facts.json"), ""),
        (json!({ "type": "objekt" }), "/type"),
        (
            json!({ "properties": { "a": { "minLength": -1 } } }),
            "/properties/a/minLength",
        ),
        (
            json!({ "properties": { "a": { "$ref": "https://example.com/x" } } }),
            "/properties/a/$ref",
        ),
        (
            json!({ "items": { "$ref": "file:///etc/passwd" } }),
            "/items/$ref",
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#" }),
            "/$schema",
        ),
    ] {
        let found = mistakes(&schema);
        assert_eq!(found.len(), 1, "{schema}: {found:?}");
        assert_eq!(found[0].pointer, pointer, "{schema}");
    }
    for schema in [
        json!({ "pattern": "(" }),
        json!({ "$ref": "#/$defs/none" }),
        json!({ "format": "no-such-format" }),
    ] {
        assert!(!mistakes(&schema).is_empty(), "{schema}");
    }
}

#[test]
fn violations_are_listed_with_pointers_and_cut() {
    let schema = json!({ "type": "array", "items": { "type": "object", "required": ["a"] } });
    let (listed, count) =
        violations(&schema, &json!([1, {}, { "a": 1 }])).expect("a usable schema");
    assert_eq!(count, 2);
    assert_eq!(listed[0].pointer, "/0");
    assert_eq!(listed[1].pointer, "/1");
    let (listed, count) = violations(&schema, &json!(vec![1; 500])).expect("a usable schema");
    assert_eq!((listed.len(), count), (MAX_VIOLATIONS, 500));
    let (listed, count) = violations(&schema, &json!(vec![1; 5_000])).expect("a usable schema");
    assert_eq!((listed.len(), count), (MAX_VIOLATIONS, MAX_COUNT));
}

#[test]
fn patterns_take_linear_time() {
    let schema = json!({ "pattern": "^(a+)+$" });
    let start = std::time::Instant::now();
    let (_, count) =
        violations(&schema, &json!("a".repeat(50_000) + "!")).expect("a usable schema");
    assert_eq!(count, 1);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
        json!({ "properties": { "a": { "$ref": "#" } } }),
    ] {
        if mistakes(&schema).is_empty() {
            let _ = violations(&schema, &json!({ "a": { "a": { "a": 1 } } }));
        }
    }
}
