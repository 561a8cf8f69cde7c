//! Devices, and one device: where it stands, what it is, what happened to it, what a person can decide.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::frame::{Frame, Page, Part, Visitor, done, part_of_path};
use super::marks::{self, Markup};
use super::telemetry::{self, Reading};
use crate::access::{Access, Caller};
use crate::api::boot::{BootView, ChangeBoot};
use crate::api::personas::PersonaWhy;
use crate::api::{DeviceView, LogPiece, PutDevice, RunSummary, Time};
use crate::store::boot as boot_rows;
use crate::vocab::RunId;
use crate::vocab::access::Role;
use crate::web::etag::Conditions;
use crate::web::extract::{Body, InPath, Params};
use crate::web::forms::Fields;
use crate::web::personas::giving;
use crate::web::refusal::{Refusal, Why};
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, boot, devices, logs, present, runs};

const SHOWN: i64 = 50;
/// Facts that are shown of one device; each no longer than [`LONGEST`] characters.
const MOST_FACTS: usize = 200;
const LONGEST: usize = 300;
/// Of the newest run's log, bytes.
const TAIL: usize = 4 << 10;

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_devices", "/devices", see, list).says("Devices by name"))
        .with(
            Op::post("page_device_put", "/devices", change, put)
                .says("Adds a device, or replaces its client and facts")
                .form(),
        )
        .with(Op::get("page_device", "/devices/{name}", see, show).says("One device"))
        .with(
            Op::post("page_device_boot", "/devices/{name}/boot", change, decide)
                .says("Approves a device, puts it into quarantine, releases it, or provisions it anew")
                .form(),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
struct Which {
    name: Option<String>,
    client: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct Devices {
    frame: Frame,
    now: Time,
    rows: Vec<Row>,
    /// Addresses that are no device yet.
    strangers: Vec<BootView>,
    name: String,
    client: String,
    next: Option<String>,
}

struct Row {
    device: DeviceView,
    /// Phase of the network boot, where it came from there.
    phase: Option<&'static str>,
    next: String,
    heard_at: Option<Time>,
    kind: String,
}

async fn list(
    State(app): Shared,
    visitor: Visitor,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (name, client) = (said(which.name), said(which.client));
    let is_first = which.cursor.is_none() && name.is_none() && client.is_none();
    let asked = devices::Which {
        name: name.clone(),
        client: client.clone(),
        limit: Some(SHOWN),
        cursor: which.cursor,
    };
    let page = devices::list(State(app.clone()), caller.clone(), Params(asked))
        .await?
        .0;
    let mut rows = Vec::new();
    let mut connection = app.state.services.store.read().await?;
    for device in page.items {
        let id = device.id.parse();
        let boot = match id {
            Ok(id) => boot_rows::device_get(&mut connection, id).await?,
            Err(_) => None,
        };
        rows.push(Row {
            kind: kind(&device.facts),
            phase: boot.as_ref().map(|boot| boot.phase.word()),
            next: boot
                .as_ref()
                .map_or_else(String::new, |boot| boot.next.clone()),
            heard_at: boot.map(|boot| Time::of(boot.heard_at)),
            device,
        });
    }
    drop(connection);
    let strangers = match &app.state.netboot {
        Some(desk) if is_first && caller.scope.client().is_none() => {
            let strangers = desk.strangers().await?;
            strangers.iter().take(20).map(boot::stranger).collect()
        }
        _ => Vec::new(),
    };
    let [name, client] = [name, client].map(Option::unwrap_or_default);
    let next = page.next.map(|cursor| {
        let (name, client) = (part_of_path(&name), part_of_path(&client));
        format!("/devices?name={name}&client={client}&cursor={cursor}")
    });
    Ok(Page::of(Devices {
        frame: visitor.frame(Part::Devices, "Devices"),
        now: present::time(app.state.services.now()),
        rows,
        strangers,
        name,
        client,
        next,
    })
    .into_response())
}

/// Maker and model, where the facts have them.
fn kind(facts: &Map<String, Value>) -> String {
    let hardware = facts.get("hardware");
    let text = |key: &str| hardware.and_then(|hardware| hardware.get(key)?.as_str());
    let words = [text("vendor"), text("model")];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

async fn put(
    State(app): Shared,
    caller: Caller,
    conditions: Conditions,
    fields: Fields,
) -> Result<Response, Refusal> {
    let facts = fields.word("facts").map_or(Ok(Map::new()), |text| {
        serde_json::from_str(&text)
            .map_err(|error| Refusal::mistake(format!("the facts are not a JSON object: {error}")))
    })?;
    let order = PutDevice {
        name: fields.get("name").trim().to_owned(),
        client: fields.word("client"),
        facts,
    };
    let device = devices::store(&app, &caller, conditions, order).await?;
    Ok(done(
        &format!("/devices/{}", part_of_path(&device.name)),
        "device",
    ))
}

#[derive(Template)]
#[template(path = "device.html")]
struct Device {
    frame: Frame,
    now: Time,
    device: DeviceView,
    kind: String,
    facts: Vec<(String, String)>,
    facts_left_out: usize,
    boot: Option<BootView>,
    /// Why there is nothing to say of the network boot.
    no_boot: String,
    persona: PersonaWhy,
    runs: Vec<RunSummary>,
    timeline: Vec<Happened>,
    readings: Vec<Reading>,
    tail: Vec<LogPiece>,
}

struct Happened {
    at: Time,
    kind: String,
    message: String,
    link: Option<String>,
}

impl Device {
    fn written(&self) -> Option<(Markup, String)> {
        let boot = self.boot.as_ref().filter(|boot| boot.image_bytes > 0)?;
        let said = format!(
            "{} of {} written",
            marks::bytes(&boot.written_bytes),
            marks::bytes(&boot.image_bytes)
        );
        let bar = marks::meter_of(&boot.written_bytes, &boot.image_bytes, &said);
        Some((bar, said))
    }

    fn state(&self) -> &str {
        self.boot.as_ref().map_or("", |boot| boot.state.as_str())
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state(), "held" | "quarantined")
    }

    fn is_quarantined(&self) -> bool {
        self.state() == "quarantined"
    }

    fn is_busy(&self) -> bool {
        matches!(self.state(), "provisioning" | "installing")
    }

    fn can_be_approved(&self) -> bool {
        self.is_stopped() || matches!(self.state(), "discovered" | "registered")
    }
}

async fn show(
    State(app): Shared,
    visitor: Visitor,
    InPath(name): InPath<String>,
) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let device = devices::find(&app, &caller, &name).await?;
    let (id, name) = (device.id, device.name.clone());
    let boot = boot::show(State(app.clone()), caller.clone(), InPath(name.clone())).await;
    let (boot, no_boot) = match boot {
        Ok(boot) => (Some(boot.0), String::new()),
        Err(refusal) if refusal.why() == Why::Internal => return Err(refusal),
        Err(refusal) => (None, refusal.detail().to_owned()),
    };
    let persona = giving::why(State(app.clone()), caller.clone(), InPath(name.clone()))
        .await?
        .0;
    let asked = runs::Which {
        device: Some(name.clone()),
        limit: Some(10),
        ..runs::Which::default()
    };
    let runs = runs::list(State(app.clone()), caller, Params(asked))
        .await?
        .0
        .items;
    let tail = match runs.first() {
        Some(run) => logs::printed(&app, RunId(run.id), TAIL).await?.0,
        None => Vec::new(),
    };
    let readings = telemetry::of(&app, id).await?;
    let view = present::device(&device);
    let mut facts = Vec::new();
    flatten("", &Value::Object(view.facts.clone()), &mut facts);
    let facts_left_out = facts.len().saturating_sub(MOST_FACTS);
    facts.truncate(MOST_FACTS);
    Ok(Page::of(Device {
        frame: visitor.frame(Part::Devices, name).follows("/api/v1/events"),
        now: present::time(app.state.services.now()),
        kind: kind(&view.facts),
        timeline: timeline(boot.as_ref(), &runs),
        device: view,
        facts,
        facts_left_out,
        boot,
        no_boot,
        persona,
        runs,
        readings,
        tail,
    })
    .into_response())
}

/// A document as rows of path and value.
pub fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten(&below(key), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object()) => {
            for (n, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{n}]"), item, rows);
            }
        }
        Value::String(text) => rows.push((path.to_owned(), cut(text))),
        Value::Array(items) => {
            let words = items.iter().map(|item| match item {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            rows.push((path.to_owned(), cut(&words.collect::<Vec<_>>().join(", "))));
        }
        other => rows.push((path.to_owned(), cut(&other.to_string()))),
    }
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What the network boot and the runs have to tell, newest first.
fn timeline(boot: Option<&BootView>, runs: &[RunSummary]) -> Vec<Happened> {
    let mut all = Vec::new();
    for event in boot.into_iter().flat_map(|boot| &boot.events) {
        all.push(Happened {
            at: event.at,
            kind: event.kind.clone(),
            message: event.message.clone(),
            link: None,
        });
    }
    for run in runs {
        let link = Some(format!("/runs/{}", run.id));
        all.push(Happened {
            at: run.created_at,
            kind: "run".into(),
            message: format!("run {} of {} was made", run.id, run.chain),
            link: link.clone(),
        });
        if let Some(at) = run.finished_at {
            let message = match &run.failure {
                Some(failure) => format!("run {} {}: {failure}", run.id, run.state),
                None => format!("run {} {}", run.id, run.state),
            };
            all.push(Happened {
                at,
                kind: run.state.clone(),
                message,
                link,
            });
        }
    }
    all.sort_by_key(|happened| std::cmp::Reverse(happened.at));
    all.truncate(30);
    all
}

async fn decide(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    fields: Fields,
) -> Result<Response, Refusal> {
    // Before the form is read: what somebody may not see is not there, whatever they ask of it.
    let name = devices::find(&app, &caller, &name).await?.name;
    let (order, word) = match fields.get("verb") {
        "approve" => (ChangeBoot::Approve, "approved"),
        "quarantine" => {
            let reason = fields
                .word("reason")
                .ok_or_else(|| Refusal::mistake("say why the device goes into quarantine"))?;
            (ChangeBoot::Quarantine { reason }, "quarantined")
        }
        "release" => (ChangeBoot::Release, "released"),
        "reprovision" => (ChangeBoot::Reprovision, "reprovision"),
        other => {
            return Err(Refusal::mistake(format!(
                "{other:?} is not something to decide about a device"
            )));
        }
    };
    let _ = boot::change(State(app), caller, InPath(name.clone()), Body(order)).await?;
    Ok(done(&format!("/devices/{}", part_of_path(&name)), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_rows() {
        let facts = serde_json::json!({"a": {"b": [1, 2], "c": [{"d": "x"}]}, "e": null});
        let mut rows = Vec::new();
        flatten("", &facts, &mut rows);
        let rows: Vec<String> = rows.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(rows, ["a.b=1, 2", "a.c[0].d=x", "e=null"]);
    }
}
