//! The API's description: OpenAPI 3.1, made of the routes' declarations and the wire types. Pure.
//!
//! Requests are described as they are read, answers as they are written (a default makes a field optional
//! in one and certain in the other), so the two have a generator each and share a name only where they
//! agree.

use axum::http::Method;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::routes::{Answer, Op, Routes, SchemaOf};
use crate::access::Reach;
use crate::api::Problem;
use crate::api::problem::MEDIA_TYPE;

/// The document.
pub fn document(all: &[Routes]) -> Value {
    let mut types = Types::new();
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: Vec<Value> = Vec::new();
    for routes in all {
        if !tags.iter().any(|tag| tag["name"] == routes.tag) {
            tags.push(json!({ "name": routes.tag, "description": routes.about }));
        }
        for op in &routes.ops {
            let path = format!("{}{}", routes.prefix, op.path);
            let item = paths.entry(path).or_insert_with(|| json!({}));
            let method = op.declared.method.as_str().to_ascii_lowercase();
            item[method] = operation(routes.tag, op, &mut types);
        }
    }
    let problem = types.written(SchemaGenerator::subschema_for::<Problem>);
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Greenroom",
            "version": "1",
            "description": "Turns devices that boot from the network into what they are meant to be. Fields are only ever added.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": types.all(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "From `greenroom token create`." },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": crate::access::session::COOKIE,
                    "description": "From `POST /api/v1/session`. Changes need the header X-CSRF-Token too.",
                },
            },
            "responses": {
                "Problem": {
                    "description": "Why not (RFC 9457).",
                    "content": { MEDIA_TYPE: { "schema": problem } },
                },
            },
        },
    })
}

fn operation(tag: &str, op: &Op, types: &mut Types) -> Value {
    let declared = &op.declared;
    let mut value = json!({
        "operationId": declared.id,
        "tags": [tag],
        "summary": op.summary,
        "description": who_may(op),
        "parameters": parameters(op, types),
        "responses": responses(op, types),
        "security": match declared.access.role {
            None => json!([]),
            Some(_) => json!([{ "token": [] }, { "session": [] }]),
        },
    });
    if let Some(body) = op.body {
        value["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": types.read(body) } },
        });
    }
    value
}

fn who_may(op: &Op) -> String {
    let Some(role) = op.declared.access.role else {
        return "Open to anyone.".into();
    };
    let reach = match op.declared.access.reach {
        Reach::Shared => "the same for every client",
        Reach::PerClient => "who is bound to a client has to do with that client's only",
        Reach::WholeSite => "not for who is bound to a client",
    };
    format!("Needs the role {role}; {reach}.")
}

fn parameters(op: &Op, types: &mut Types) -> Vec<Value> {
    let mut found = Vec::new();
    for segment in op.path.split('/') {
        if let Some(name) = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            found.push(json!({
                "name": name, "in": "path", "required": true, "schema": { "type": "string" },
            }));
        }
    }
    if let Some(query) = op.query {
        found.extend(query_parameters(query, types));
    }
    let header = |name: &str, says: &str| json!({ "name": name, "in": "header", "required": false, "description": says, "schema": { "type": "string" } });
    if op.conditional {
        found.push(header(
            "If-None-Match",
            "ETags that the caller has already; `*`: any.",
        ));
        if op.declared.mutates() {
            found.push(header(
                "If-Match",
                "The ETag of what the caller has read: refused with 412 when it has changed.",
            ));
        }
    }
    if op.declared.method == Method::POST && op.declared.access.role.is_some() {
        found.push(header(
            "Idempotency-Key",
            "Done once in 24 hours for this key; repeated requests get the same answer.",
        ));
    }
    if op.declared.id == "event_stream" {
        found.push(header(
            "Last-Event-ID",
            "Go on after the event with this id.",
        ));
    }
    found
}

fn query_parameters(query: SchemaOf, types: &mut Types) -> Vec<Value> {
    let schema = types.read(query);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, property)| {
            let mut property = property.clone();
            let says = property
                .as_object_mut()
                .and_then(|property| property.remove("description"));
            // A query has no null: what is not given is left out.
            if let Some(kinds) = property["type"].as_array() {
                property["type"] = kinds
                    .iter()
                    .find(|kind| *kind != "null")
                    .cloned()
                    .unwrap_or_default();
            }
            json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)),
                "description": says.unwrap_or_default(), "schema": property,
            })
        })
        .collect()
}

fn responses(op: &Op, types: &mut Types) -> Value {
    let mut found = Map::new();
    for answer in &op.answers {
        found.insert(answer.status.to_string(), response(answer, op, types));
    }
    if op.conditional && !op.declared.mutates() {
        found.insert(
            "304".into(),
            json!({ "description": "The caller has it already." }),
        );
    }
    found.insert(
        "default".into(),
        json!({ "$ref": "#/components/responses/Problem" }),
    );
    Value::Object(found)
}

fn response(answer: &Answer, op: &Op, types: &mut Types) -> Value {
    let says = match answer.status {
        201 => "Made.",
        202 => "Accepted; `Location` says where to look how far it has come.",
        204 => "Done; there is nothing to say.",
        503 => "Not now.",
        _ => "Done.",
    };
    let mut value = json!({ "description": says });
    if !answer.media_type.is_empty() {
        let content = match answer.schema {
            Some(schema) => json!({ "schema": types.written(schema) }),
            None => json!({ "schema": { "type": "string" } }),
        };
        value["content"] = json!({ answer.media_type: content });
    }
    let mut headers = Map::new();
    let text = |says: &str| json!({ "description": says, "schema": { "type": "string" } });
    if op.conditional {
        headers.insert("ETag".into(), text("Names this state of the thing."));
    }
    if answer.status == 202 {
        headers.insert("Location".into(), text("The run."));
    }
    if !headers.is_empty() {
        value["headers"] = Value::Object(headers);
    }
    value
}

/// The wire types that were met.
struct Types {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Types {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }

    fn read(&mut self, of: SchemaOf) -> Value {
        of(&mut self.read).to_value()
    }

    fn written(&mut self, of: SchemaOf) -> Value {
        of(&mut self.written).to_value()
    }

    /// All definitions, by name. A type whose two forms differ appears in one role only, or both forms
    /// would need names of their own: `tests` hold this.
    fn all(&mut self) -> Value {
        let mut all = self.read.take_definitions(true);
        for (name, written) in self.written.take_definitions(true) {
            if let Some(read) = all.get(&name) {
                debug_assert_eq!(
                    read, &written,
                    "{name} is read otherwise than it is written"
                );
            }
            all.insert(name, written);
        }
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn described() -> Value {
        document(&crate::web::all_routes())
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (key, inner) in object {
                    if let (true, Some(text)) = (key == "$ref", inner.as_str()) {
                        found.insert(text.to_owned());
                    }
                    references(inner, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = described();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_is_named_once_says_what_it_does_and_what_it_answers() {
        let mut ids = BTreeSet::new();
        for routes in crate::web::all_routes() {
            for op in routes.ops {
                let id = op.declared.id;
                assert!(ids.insert(id), "{id} twice");
                assert!(!op.summary.is_empty(), "{id} does not say what it does");
                assert!(!op.answers.is_empty(), "{id} has no answer");
                let takes = op.body.is_some();
                assert!(
                    op.declared.mutates() || !takes,
                    "{id} reads a body and changes nothing"
                );
            }
        }
    }

    #[test]
    fn paths_that_people_rely_on_are_there() {
        let document = described();
        let mut list: Vec<String> = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let role = operation["description"].as_str().unwrap();
                list.push(format!("{} {path}: {id}. {role}", method.to_uppercase()));
            }
        }
        insta::assert_snapshot!(list.join("\n"));
    }
}
