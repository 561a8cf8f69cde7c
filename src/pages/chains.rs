//! Chains: the list, one chain as a picture with its versions, and the editor that checks while one writes.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::editor::{self, Said};
use super::frame::{Frame, Page, Part, Visitor, done, part_of_path};
use super::marks::{self, Markup};
use super::picture;
use crate::access::Access;
use crate::api::personas::PersonaFault;
use crate::api::{ApplyChain, ChainSummary, RunSummary, Time};
use crate::chain::model::{Chain, Output, Work};
use crate::store::chains as rows;
use crate::vocab::access::Role;
use crate::vocab::{Digest, Timestamp};
use crate::web::chains;
use crate::web::etag::Conditions;
use crate::web::extract::{InPath, Params};
use crate::web::forms::Fields;
use crate::web::personas::views;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, present, runs};

/// What a new chain begins with.
const START: &str = "\
chain: my-chain
description: What it makes of a device.
stages:
  - name: greet
    kind: custom
    image: tiny
    resources: { memory: 128 MiB }
    run: |
      echo \"hello from $(hostname)\"
    output: { format: none }
";

pub fn routes() -> Routes {
    let (see, write) = (
        Access::shared(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_chains", "/chains", see, list).says("Chains by name"))
        .with(Op::get("page_chain_new", "/chains/new", write, new).says("Where a chain is written"))
        .with(
            Op::post("page_chain_check", "/chains/check", write, check)
                .says("Says what is wrong with a chain's text")
                .form()
                .harmless(),
        )
        .with(
            Op::post("page_chain_save", "/chains/save", write, save)
                .says("Stores a chain's text as the next version")
                .form(),
        )
        .with(Op::get("page_chain", "/chains/{name}", see, show).says("One chain"))
        .with(
            Op::get("page_chain_edit", "/chains/{name}/edit", write, edit)
                .says("Where a chain's next version is written"),
        )
}

#[derive(Template)]
#[template(path = "chains.html")]
struct Chains {
    frame: Frame,
    now: Time,
    chains: Vec<ChainSummary>,
    next: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
struct OfList {
    cursor: Option<String>,
}

async fn list(
    State(app): Shared,
    visitor: Visitor,
    Params(OfList { cursor }): Params<OfList>,
) -> Result<Response, Refusal> {
    let which = chains::Which {
        limit: Some(100),
        cursor,
    };
    let page = chains::list(State(app.clone()), Params(which)).await?.0;
    Ok(Page::of(Chains {
        frame: visitor.frame(Part::Chains, "Chains"),
        now: present::time(app.state.services.now()),
        chains: page.items,
        next: page.next.map(|cursor| format!("/chains?cursor={cursor}")),
    })
    .into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
struct OfVersion {
    version: Option<i64>,
}

#[derive(Template)]
#[template(path = "chain.html")]
struct Shown {
    frame: Frame,
    now: Time,
    chain: Chain,
    version: i64,
    applied_at: Timestamp,
    versions: Vec<(i64, Digest, Timestamp)>,
    picture: Markup,
    source: String,
    runs: Vec<RunSummary>,
}

impl Shown {
    fn work(&self, stage: &crate::chain::model::Stage) -> String {
        match &stage.work {
            Work::Command { argv } => argv.join(" "),
            Work::Script {
                file: Some(file), ..
            } => file.clone(),
            Work::Script { text, .. } => {
                format!(
                    "a script of {}",
                    marks::count(&text.lines().count(), "line")
                )
            }
        }
    }

    fn hands_on(&self, stage: &crate::chain::model::Stage) -> String {
        match &stage.output {
            Output::None => "nothing".into(),
            Output::Json { merge, schema, .. } => {
                format!("JSON at {}{}", merge.at, checked(schema.is_some()))
            }
            Output::Xml { merge, schema, .. } => {
                format!("XML at {}{}", merge.at, checked(schema.is_some()))
            }
            Output::Binary { media_type, .. } => media_type.clone(),
        }
    }

    fn hold(&self) -> String {
        marks::span(&(self.chain.on_failure.hold_s as f64))
    }

    fn is_shown(&self, version: &i64) -> bool {
        self.version == *version
    }
}

fn checked(has_schema: bool) -> &'static str {
    if has_schema {
        ", checked by a schema"
    } else {
        ""
    }
}

async fn show(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Response, Refusal> {
    let applied = chains::find(&app, &name, version).await?;
    let versions = {
        let mut connection = app.state.services.store.read().await?;
        rows::version_list(&mut connection, &name).await?
    };
    let asked = runs::Which {
        chain: Some(name),
        limit: Some(8),
        ..runs::Which::default()
    };
    let runs = runs::list(State(app.clone()), visitor.caller()?, Params(asked)).await?;
    Ok(Page::of(Shown {
        frame: visitor.frame(Part::Chains, &applied.chain.name),
        now: present::time(app.state.services.now()),
        picture: picture::draw(&applied.chain),
        version: applied.version,
        applied_at: applied.applied_at,
        chain: applied.chain,
        versions,
        source: applied.source,
        runs: runs.0.items,
    })
    .into_response())
}

#[derive(Template)]
#[template(path = "chain-edit.html")]
struct Edit {
    frame: Frame,
    /// Empty for a new one.
    name: String,
    /// The version that is changed.
    base: Option<i64>,
    source: String,
    files: BTreeMap<String, String>,
    faults: Vec<PersonaFault>,
    problem: String,
}

async fn new(visitor: Visitor) -> Response {
    Page::of(Edit {
        frame: visitor.frame(Part::Chains, "A new chain"),
        name: String::new(),
        base: None,
        source: START.into(),
        files: BTreeMap::new(),
        faults: Vec::new(),
        problem: String::new(),
    })
    .into_response()
}

async fn edit(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Response, Refusal> {
    let applied = chains::find(&app, &name, version).await?;
    Ok(Page::of(Edit {
        frame: visitor.frame(Part::Chains, format!("Edit {}", applied.chain.name)),
        name: applied.chain.name.clone(),
        base: Some(applied.version),
        files: files_of(&applied.source, &applied.chain),
        source: applied.source,
        faults: Vec::new(),
        problem: String::new(),
    })
    .into_response())
}

/// The files that a stored chain came with, by name: scripts as they were, schemas written anew. Where a
/// schema stands is found by the lines of the text, as a checked chain has schemas and no names of them.
fn files_of(source: &str, chain: &Chain) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for stage in &chain.stages {
        for work in [Some(&stage.work), stage.undo.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Work::Script {
                text,
                file: Some(file),
            } = work
            {
                files.insert(file.clone(), text.clone());
            }
        }
    }
    let (mut stage, mut part) = (None::<usize>, "");
    for line in source.lines() {
        let text = line.trim_start();
        let text = text.strip_prefix("- ").unwrap_or(text);
        if let Some(name) = text.strip_prefix("name:") {
            let name = name.trim().trim_matches(['"', '\'']);
            stage = chain.stage_index(name).or(stage);
        }
        for word in ["input", "output"] {
            if text.starts_with(&format!("{word}:")) {
                part = word;
            }
        }
        let Some((_, rest)) = text.split_once("schema_file:") else {
            continue;
        };
        let end = rest.find([',', '}', '#']).unwrap_or(rest.len());
        let file = rest[..end].trim().trim_matches(['"', '\'']);
        let schema = stage.and_then(|stage| schema_of(&chain.stages[stage], part));
        if let Some(schema) = schema {
            let text = serde_json::to_string_pretty(schema).unwrap_or_default();
            files.insert(file.to_owned(), text);
        }
    }
    files
}

fn schema_of<'a>(stage: &'a crate::chain::model::Stage, part: &str) -> Option<&'a Value> {
    match (part, &stage.output) {
        ("input", _) => stage.input.schema.as_ref(),
        (_, Output::Json { schema, .. } | Output::Xml { schema, .. }) => schema.as_ref(),
        _ => None,
    }
}

fn order(fields: &Fields) -> ApplyChain {
    let mut files: BTreeMap<String, String> = fields
        .under("file:")
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    if let Some(path) = fields.word("new_file") {
        files.insert(path, fields.get("new_text").to_owned());
    }
    ApplyChain {
        source: fields.get("source").to_owned(),
        files,
    }
}

async fn check(fields: Fields) -> Response {
    let (_, checked) = chains::checked(order(&fields)).await;
    let faults: Vec<PersonaFault> = match &checked {
        Ok(_) => Vec::new(),
        Err(faults) => faults.faults.iter().map(views::fault).collect(),
    };
    editor::answer(Said {
        verdict: Said::verdict_of(faults.len(), 0, "no fault"),
        faults,
        ..Said::default()
    })
}

async fn save(State(app): Shared, visitor: Visitor, fields: Fields) -> Result<Response, Refusal> {
    let order = order(&fields);
    match chains::store(&app, Conditions::default(), order.clone()).await {
        Ok((applied, is_new)) => {
            let path = format!("/chains/{}", part_of_path(&applied.chain.name));
            Ok(done(&path, if is_new { "saved" } else { "same" }))
        }
        Err(refusal) if !refusal.errors().is_empty() => {
            let page = Edit {
                frame: visitor.frame(Part::Chains, "Edit a chain"),
                name: fields.get("name").to_owned(),
                base: fields.number("base")?,
                source: order.source,
                files: order.files,
                faults: refusal.errors().iter().map(editor::placed).collect(),
                problem: refusal.detail().to_owned(),
            };
            Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::check;
    use crate::chain::files::FilesInMemory;

    #[test]
    fn what_a_new_chain_begins_with_is_a_chain() {
        assert!(check::check(START, &FilesInMemory::default()).is_ok());
    }

    #[test]
    fn a_stored_chain_is_edited_with_its_files() {
        let source = START
            .replace(
                "run: |\n      echo \"hello from $(hostname)\"",
                "script: greet.sh",
            )
            .replace(
                "{ format: none }",
                "{ format: json, schema_file: out.json }",
            );
        let files = [
            ("greet.sh", "#!/bin/sh\necho {}\n"),
            ("out.json", "{\"type\": \"object\"}"),
        ];
        let files: BTreeMap<String, Vec<u8>> = files
            .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
            .into();
        let chain = check::check(&source, &FilesInMemory(files.clone())).expect("a chain");
        let found = files_of(&source, &chain);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["greet.sh", "out.json"]);
        let again = found
            .into_iter()
            .map(|(name, text)| (name, text.into_bytes()));
        let again = check::check(&source, &FilesInMemory(again.collect())).expect("a chain");
        assert_eq!(again.digest(), chain.digest());
    }
}
