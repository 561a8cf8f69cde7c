//! The persona library: the list, one persona with its versions, and what changes which one devices get.
//! The editor is [`edit`].

mod edit;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::{Frame, Page, Part, Visitor, done, part_of_path};
use super::marks::{self, Markup};
use crate::access::{Access, Caller};
use crate::api::Time;
use crate::api::personas::*;
use crate::vocab::access::Role;
use crate::web::extract::{Body, InPath, Params, Part as Piece};
use crate::web::forms::Fields;
use crate::web::refusal::{Refusal, Why};
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, personas, present};

/// Of a text or a rendered file, characters.
const SHOWN: usize = 12_000;

pub fn routes() -> Routes {
    let (see, write) = (
        Access::shared(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    let routes = Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_personas", "/personas", see, list).says("The newest of each persona"))
        .with(Op::get("page_persona", "/personas/{name}", see, show).says("One persona"))
        .with(
            Op::get("page_persona_diff", "/personas/{name}/diff", see, compare)
                .says("Two versions compared"),
        )
        .with(
            Op::get(
                "page_persona_preview",
                "/personas/{name}/preview",
                Access::per_client(Role::Viewer),
                preview,
            )
            .says("What a version makes of a device"),
        )
        .with(
            Op::post(
                "page_persona_promote",
                "/personas/{name}/promote",
                write,
                promote,
            )
            .says("From now on devices get this version")
            .form(),
        )
        .with(
            Op::post(
                "page_persona_roll_back",
                "/personas/{name}/rollback",
                write,
                roll_back,
            )
            .says("Devices get the version before")
            .form(),
        );
    edit::routes(routes)
}

#[derive(Template)]
#[template(path = "personas.html")]
struct Personas {
    frame: Frame,
    now: Time,
    personas: Vec<PersonaSummary>,
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
    let piece = Piece {
        limit: Some(100),
        cursor,
    };
    let page = personas::list(State(app.clone()), Params(piece)).await?.0;
    Ok(Page::of(Personas {
        frame: visitor.frame(Part::Personas, "Personas"),
        now: present::time(app.state.services.now()),
        personas: page.items,
        next: page.next.map(|cursor| format!("/personas?cursor={cursor}")),
    })
    .into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
struct OfVersion {
    version: Option<i64>,
}

#[derive(Template)]
#[template(path = "persona.html")]
struct Shown {
    frame: Frame,
    now: Time,
    persona: PersonaView,
    history: PersonaHistory,
    facets: Vec<(String, Vec<(String, String)>)>,
    source: String,
}

impl Shown {
    fn is_shown(&self, version: &i64) -> bool {
        self.persona.version == *version
    }

    /// Some version was in use before the current one.
    fn can_roll_back(&self) -> bool {
        self.history
            .versions
            .iter()
            .any(|version| version.state == "former")
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

async fn show(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Response, Refusal> {
    let of = personas::OfVersion { version };
    let shown = personas::show(State(app.clone()), InPath(name.clone()), Params(of)).await?;
    let history = personas::history(State(app.clone()), InPath(name)).await?;
    let persona = shown.0;
    let facets = persona.document.as_object().map(|facets| {
        facets
            .iter()
            .map(|(facet, value)| {
                let mut rows = Vec::new();
                super::devices::flatten("", value, &mut rows);
                rows.retain(|(_, value)| !value.is_empty() && value != "null" && value != "{}");
                (facet.clone(), rows)
            })
            .filter(|(_, rows)| !rows.is_empty())
            .collect()
    });
    Ok(Page::of(Shown {
        frame: visitor.frame(Part::Personas, &persona.name),
        now: present::time(app.state.services.now()),
        facets: facets.unwrap_or_default(),
        source: cut(&persona.source),
        persona,
        history: history.0,
    })
    .into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
struct Between {
    from: Option<i64>,
    to: Option<i64>,
}

#[derive(Template)]
#[template(path = "persona-diff.html")]
struct Compared {
    frame: Frame,
    name: String,
    from: String,
    to: String,
    source: Markup,
    compiled: Markup,
    is_same: bool,
    means_same: bool,
}

async fn compare(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(Between { from, to }): Params<Between>,
) -> Result<Response, Refusal> {
    let between = personas::Between { from, to };
    let found = personas::difference(State(app), InPath(name.clone()), Params(between))
        .await?
        .0;
    Ok(Page::of(Compared {
        frame: visitor.frame(Part::Personas, format!("{} to {}", found.from, found.to)),
        name,
        from: found.from.to_string(),
        to: found.to.to_string(),
        is_same: found.source.is_empty(),
        means_same: found.compiled.is_empty(),
        source: marks::difference(&cut(&found.source)),
        compiled: marks::difference(&cut(&found.compiled)),
    })
    .into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
struct OnDevice {
    version: Option<i64>,
    device: Option<String>,
}

#[derive(Template)]
#[template(path = "persona-preview.html")]
struct Previewed {
    frame: Frame,
    name: String,
    version: Option<i64>,
    device: String,
    preview: PersonaPreview,
}

async fn preview(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(OnDevice { version, device }): Params<OnDevice>,
) -> Result<Response, Refusal> {
    let device = device.filter(|device| !device.trim().is_empty());
    let persona: crate::vocab::persona::PersonaRef = name
        .parse()
        .map_err(|_| Refusal::not_found(format!("there is no persona {name:?}")))?;
    let order = PreviewPersona {
        persona: Some(crate::vocab::persona::PersonaRef { version, ..persona }),
        device: device.clone(),
        ..PreviewPersona::default()
    };
    let caller = visitor.caller()?;
    let made = personas::preview(State(app), caller, Body(order)).await?.0;
    Ok(Page::of(Previewed {
        frame: visitor.frame(Part::Personas, format!("Preview of {name}")),
        name,
        version,
        device: device.unwrap_or_default(),
        preview: shortened(made),
    })
    .into_response())
}

/// So that a page stays small however long the files are.
fn shortened(mut preview: PersonaPreview) -> PersonaPreview {
    let mut left = SHOWN * 2;
    for file in &mut preview.files {
        let length = file.text.chars().count();
        if length > left {
            file.text = file.text.chars().take(left).collect();
            file.text.push_str("\n… (cut)");
        }
        left = left.saturating_sub(length);
    }
    preview
}

fn order(fields: &Fields) -> Result<MovePersona, Refusal> {
    Ok(MovePersona {
        version: fields.number("version")?,
        reason: fields.get("reason").trim().to_owned(),
        by: String::new(),
    })
}

/// The page of the version that is in use now.
fn at_version(name: &str, version: i64, word: &'static str) -> Response {
    done(
        &format!("/personas/{}?version={version}", part_of_path(name)),
        word,
    )
}

async fn promote(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let moved = personas::promote(
        State(app),
        caller,
        InPath(name.clone()),
        Body(order(&fields)?),
    )
    .await?;
    Ok(at_version(&name, moved.0.version, "promoted"))
}

async fn roll_back(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    let moved = personas::roll_back(
        State(app),
        caller,
        InPath(name.clone()),
        Body(order(&fields)?),
    )
    .await?;
    Ok(at_version(&name, moved.0.version, "rolled-back"))
}
