//! The persona editor: a form and the text side by side, checked while one writes.
//!
//! The text is what counts; the form shows what it says and changes it in place ([`super::super::yaml`]).

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::super::editor::{self, Field, Said};
use super::super::yaml::{self, Written};
use super::*;
use crate::personas::catalogue::Catalogue;
use crate::personas::compile::Source;
use crate::personas::library::{self, Act, Mode};
use crate::web::App;
use crate::web::personas::views;

/// What a new persona begins with.
const START: &str = "\
persona: my-persona
description: What a device becomes.

os:
  variant: debian-12
  timezone: UTC

network:
  hostname: node-{hardware.serial:6}

resources:
  memory: 1 GiB
";

pub fn routes(routes: Routes) -> Routes {
    let write = Access::whole_site(Role::Author);
    routes
        .with(Op::get("page_persona_new", "/personas/new", write, new).says("Where a persona is written"))
        .with(
            Op::get("page_persona_edit", "/personas/{name}/edit", write, edit)
                .says("Where a persona's next version is written"),
        )
        .with(
            Op::post("page_persona_check", "/personas/check", write, check)
                .says("Says what is wrong with a persona's text, and puts a field of the form into it")
                .form()
                .harmless(),
        )
        .with(
            Op::post("page_persona_save", "/personas/save", write, save)
                .says("Stores a persona's text as the next version, or previews it")
                .form(),
        )
}

/// How a field of the form is filled in.
enum Kind {
    Line,
    /// One of these.
    One(Vec<String>),
    /// Any of these: name and description.
    Many(Vec<(String, String)>),
}

struct Control {
    /// Where it stands in the text, such as `os.timezone`.
    place: &'static str,
    label: &'static str,
    hint: &'static str,
    kind: Kind,
    field: Field,
}

impl Control {
    fn one(&self) -> Option<&[String]> {
        match &self.kind {
            Kind::One(words) => Some(words),
            _ => None,
        }
    }

    fn many(&self) -> Option<&[(String, String)]> {
        match &self.kind {
            Kind::Many(things) => Some(things),
            _ => None,
        }
    }

    fn is_on(&self, name: &str) -> bool {
        self.field.value.split(',').any(|one| one == name)
    }

    /// What the text says that is not among the choices.
    fn is_strange(&self) -> bool {
        let known = self
            .one()
            .is_none_or(|words| words.contains(&self.field.value));
        !known && !self.field.value.is_empty()
    }
}

/// A facet of the form.
struct Facet {
    name: &'static str,
    controls: Vec<Control>,
}

/// Place, label and hint of a control.
type Entry = (&'static str, &'static str, &'static str);

/// The controls, by facet.
const FORM: &[(&str, &[Entry])] = &[
    (
        "Persona",
        &[
            ("persona", "Name", "small letters, digits and hyphens"),
            ("description", "Description", ""),
            (
                "parent",
                "Builds on",
                "another persona, or one version: base@3",
            ),
        ],
    ),
    (
        "System",
        &[
            ("os.variant", "Variant", ""),
            ("os.timezone", "Time zone", "such as Europe/Berlin"),
            ("os.locale", "Locale", ""),
        ],
    ),
    ("Applications", &[("applications", "", "")]),
    ("Security", &[("security.profile", "Profile", "")]),
    (
        "Network",
        &[(
            "network.hostname",
            "Host name",
            "may have facts in it: web-{hardware.serial:6}",
        )],
    ),
    (
        "Preferences",
        &[
            ("preferences.shell", "Login shell", ""),
            ("preferences.motd", "Said after a login", ""),
        ],
    ),
    (
        "Resources",
        &[
            ("resources.memory", "Memory at least", "such as 2 GiB"),
            ("resources.vcpus", "vCPUs at least", ""),
            ("resources.disk", "Disk at least", "such as 20 GiB"),
        ],
    ),
    (
        "Expected",
        &[("expected.boot", "Boots within", "such as 45s")],
    ),
];

/// Where the compiled document has what the text's place means.
const INHERITED: &[(&str, &str)] = &[
    ("os.variant", "/os/variant"),
    ("os.timezone", "/os/timezone"),
    ("os.locale", "/os/locale"),
    ("security.profile", "/security/profile"),
    ("network.hostname", "/network/hostname"),
    ("preferences.shell", "/preferences/shell"),
    ("preferences.motd", "/preferences/motd"),
    ("resources.memory", "/resources/memory_mib/min"),
    ("resources.vcpus", "/resources/vcpus/min"),
    ("resources.disk", "/resources/disk_mib/min"),
    ("expected.boot", "/expected/boot_s"),
];

fn kind(place: &str, variant: &str) -> Kind {
    let catalogue = Catalogue::shipped();
    let of = catalogue.variants.get(variant);
    match place {
        "os.variant" => Kind::One(catalogue.variants.keys().cloned().collect()),
        "os.locale" => Kind::One(of.map(|of| of.locales.clone()).unwrap_or_default()),
        "security.profile" => Kind::One(["standard", "hardened"].map(str::to_owned).into()),
        "preferences.shell" => Kind::One(
            of.map(|of| of.shells.keys().cloned().collect())
                .unwrap_or_default(),
        ),
        "applications" => Kind::Many(
            catalogue
                .applications
                .iter()
                .map(|(name, offer)| (name.clone(), offer.description.clone()))
                .collect(),
        ),
        _ => Kind::Line,
    }
}

/// What the form shows of a text, and of what it means, where it means something.
fn fields(text: &str, document: Option<&Value>) -> BTreeMap<String, Field> {
    let inherited = |place: &str| {
        let (_, pointer) = INHERITED.iter().find(|(known, _)| *known == place)?;
        let value = document?.pointer(pointer)?;
        let said = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if pointer.contains("_mib") => {
                marks::mib(&number.as_u64().unwrap_or(0))
            }
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(said)
    };
    FORM.iter()
        .flat_map(|(_, controls)| controls.iter())
        .map(|(place, _, _)| {
            let path: Vec<&str> = place.split('.').collect();
            let (value, written_otherwise) = match yaml::read(text, &path) {
                Written::Nothing => (String::new(), false),
                Written::Value(value) => (value, false),
                Written::Names(names) => (names.join(","), false),
                Written::Otherwise => (String::new(), true),
            };
            let field = Field {
                value,
                inherited: inherited(place).unwrap_or_default(),
                written_otherwise,
            };
            ((*place).to_owned(), field)
        })
        .collect()
}

fn form(fields: &BTreeMap<String, Field>) -> Vec<Facet> {
    let value = |place: &str| fields.get(place).cloned().unwrap_or_default();
    let variant = match value("os.variant") {
        field if field.value.is_empty() => field.inherited,
        field => field.value,
    };
    FORM.iter()
        .map(|(name, controls)| Facet {
            name,
            controls: controls
                .iter()
                .map(|(place, label, hint)| Control {
                    place,
                    label,
                    hint,
                    kind: kind(place, &variant),
                    field: value(place),
                })
                .collect(),
        })
        .collect()
}

/// Puts what the form says into the text.
fn filled(text: &str, place: &str, value: &str) -> String {
    let path: Vec<&str> = place.split('.').collect();
    if FORM
        .iter()
        .flat_map(|(_, controls)| *controls)
        .all(|(known, _, _)| *known != place)
    {
        return text.to_owned();
    }
    if place == "applications" {
        let names: Vec<&str> = value.split(',').filter(|name| !name.is_empty()).collect();
        return yaml::write_names(text, &path, &names);
    }
    yaml::write(text, &path, value.trim())
}

/// All of a form that was sent as a whole, without the script.
fn filled_whole(text: &str, sent: &Fields) -> String {
    let mut text = text.to_owned();
    for (place, _, _) in FORM.iter().flat_map(|(_, controls)| *controls) {
        let name = format!("set:{place}");
        let values: Vec<&str> = sent.all(&name).collect();
        if !values.is_empty() || *place == "applications" {
            text = filled(&text, place, &values.join(","));
        }
    }
    text
}

/// Checks a text as it would be stored.
async fn checked(app: &App, caller: &Caller, text: &str) -> Result<(Said, Option<Value>), Refusal> {
    let act = Act {
        by: caller.name(),
        reason: String::new(),
        now: app.state.services.now(),
    };
    let source = Source {
        file: String::new(),
        text: text.to_owned(),
    };
    let applied =
        library::apply(&app.state.services.store, vec![source], Mode::DryRun, act).await?;
    let Some(one) = applied.first() else {
        return Ok((Said::default(), None));
    };
    let document = one
        .version
        .as_ref()
        .and_then(|version| serde_json::to_value(&version.compiled.document).ok());
    let found = one.faults.iter().flat_map(|faults| &faults.faults);
    let faults: Vec<PersonaFault> = found.map(views::fault).collect();
    let warnings: Vec<PersonaFault> = one.warnings.iter().map(views::fault).collect();
    let fine = match &one.version {
        Some(version) if one.is_new => format!("no fault: would be version {}", version.version),
        Some(version) => format!("no fault: means the same as version {}", version.version),
        None => "no fault".into(),
    };
    let said = Said {
        source: None,
        verdict: Said::verdict_of(faults.len(), warnings.len(), &fine),
        faults,
        warnings,
        fields: fields(text, document.as_ref()),
    };
    Ok((said, document))
}

#[derive(Template)]
#[template(path = "persona-edit.html")]
struct Edit {
    frame: Frame,
    /// Empty for a new one.
    name: String,
    base: Option<i64>,
    source: String,
    facets: Vec<Facet>,
    said: Said,
    reason: String,
    device: String,
    preview: Option<PersonaPreview>,
    problem: String,
}

impl Edit {
    async fn of(
        app: &App,
        visitor: &Visitor,
        name: String,
        base: Option<i64>,
        source: String,
    ) -> Result<Self, Refusal> {
        let (said, _) = checked(app, &visitor.caller()?, &source).await?;
        let title = match name.as_str() {
            "" => "A new persona".to_owned(),
            name => format!("Edit {name}"),
        };
        Ok(Self {
            frame: visitor.frame(Part::Personas, title),
            name,
            base,
            facets: form(&said.fields),
            source,
            said,
            reason: String::new(),
            device: String::new(),
            preview: None,
            problem: String::new(),
        })
    }
}

async fn new(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    let page = Edit::of(&app, &visitor, String::new(), None, START.into()).await?;
    Ok(Page::of(page).into_response())
}

async fn edit(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
    Params(OfVersion { version }): Params<OfVersion>,
) -> Result<Response, Refusal> {
    let of = personas::OfVersion { version };
    let shown = personas::show(State(app.clone()), InPath(name), Params(of))
        .await?
        .0;
    let page = Edit::of(
        &app,
        &visitor,
        shown.name,
        Some(shown.version),
        shown.source,
    )
    .await?;
    Ok(Page::of(page).into_response())
}

async fn check(State(app): Shared, caller: Caller, sent: Fields) -> Result<Response, Refusal> {
    let mut text = sent.get("source").to_owned();
    let mut changed = false;
    for (place, value) in sent.under("set:") {
        text = filled(&text, place, value);
        changed = true;
    }
    let (mut said, _) = checked(&app, &caller, &text).await?;
    said.source = changed.then_some(text);
    Ok(editor::answer(said))
}

async fn save(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    sent: Fields,
) -> Result<Response, Refusal> {
    let mut source = sent.get("source").to_owned();
    if sent.get("do") == "fill" {
        source = filled_whole(&source, &sent);
    }
    let name = sent.get("name").to_owned();
    let mut page = Edit::of(&app, &visitor, name, sent.number("base")?, source.clone()).await?;
    page.reason = sent.get("reason").to_owned();
    page.device = sent.get("device").trim().to_owned();
    let asked = sent.get("do");
    let status = match asked {
        "save" | "promote" => {
            let order = ApplyPersonas {
                files: vec![PersonaFile {
                    file: String::new(),
                    source,
                }],
                reason: page.reason.trim().to_owned(),
                promote: asked == "promote",
                ..ApplyPersonas::default()
            };
            match personas::apply(State(app), caller, Body(order)).await {
                Ok((_, applied)) => return Ok(stored(applied.0)),
                Err(refusal) if matches!(refusal.why(), Why::Invalid | Why::Refused) => {
                    page.problem = refusal.detail().to_owned();
                    refusal.status()
                }
                Err(refusal) => return Err(refusal),
            }
        }
        "preview" if page.said.faults.is_empty() => {
            let order = PreviewPersona {
                source: Some(source),
                device: (!page.device.is_empty()).then(|| page.device.clone()),
                ..PreviewPersona::default()
            };
            match personas::preview(State(app), caller, Body(order)).await {
                Ok(made) => {
                    page.preview = Some(shortened(made.0));
                    StatusCode::OK
                }
                Err(refusal) => {
                    page.problem = refusal.detail().to_owned();
                    refusal.status()
                }
            }
        }
        _ => StatusCode::OK,
    };
    Ok(Page(status, page).into_response())
}

fn stored(applied: Vec<AppliedPersona>) -> Response {
    let Some(one) = applied.into_iter().next() else {
        return done("/personas", "saved");
    };
    let version = one.version.unwrap_or(1);
    let path = format!("/personas/{}?version={version}", part_of_path(&one.name));
    done(&path, if one.is_new { "saved" } else { "same" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_says_what_the_text_says_and_changes_it() {
        let text = filled(START, "os.timezone", "Europe/Berlin");
        let text = filled(&text, "applications", "nginx-light,nftables");
        let said = fields(&text, None);
        assert_eq!(said["os.timezone"].value, "Europe/Berlin");
        assert_eq!(said["applications"].value, "nginx-light,nftables");
        let text = filled(&text, "applications", "");
        let text = filled(&text, "os.timezone", "UTC");
        assert_eq!(text, START);
        assert_eq!(
            filled(START, "security.ssh.keys", "x"),
            START,
            "not of the form"
        );
    }
}
