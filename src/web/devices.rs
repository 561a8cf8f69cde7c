//! `/devices`: add, replace, list, show.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::etag::{Conditions, Tag};
use super::extract::{Body, InPath, Params};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, present};
use crate::access::{Access, Caller};
use crate::api::devices::DEFAULT_CLIENT;
use crate::api::{DeviceView, Page, ProblemFault, PutDevice, ReplaceDevice};
use crate::store::{devices, pages};
use crate::vocab::access::Role;
use crate::vocab::device::is_plain_name;
use crate::vocab::{Device, DeviceId};

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("devices", "What is provisioned.")
        .with(
            Op::get("device_list", "/devices", see, list)
                .says("Devices by name")
                .query::<Which>()
                .answers::<Page<DeviceView>>(200),
        )
        .with(
            Op::post("device_put", "/devices", change, put)
                .says("Adds a device, or replaces client and facts of the one of that name")
                .takes::<PutDevice>()
                .answers::<DeviceView>(200)
                .conditional(),
        )
        .with(
            Op::get("device_show", "/devices/{name}", see, show)
                .says("One device, by name or id")
                .answers::<DeviceView>(200)
                .conditional(),
        )
        .with(
            Op::put("device_replace", "/devices/{name}", change, replace)
                .says("Adds a device, or replaces its client and facts; If-None-Match: * only adds")
                .takes::<ReplaceDevice>()
                .answers::<DeviceView>(200)
                .conditional(),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Only those whose names have this in them.
    pub(crate) name: Option<String>,
    /// Only of this client.
    pub(crate) client: Option<String>,
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
    Params(which): Params<Which>,
) -> Result<Json<Page<DeviceView>>, Refusal> {
    let limit = cursor::limit(which.limit);
    let after = cursor::read("devices", which.cursor.as_deref(), "")?;
    let client = which.client.as_deref().or(caller.scope.client());
    let name = which.name.as_deref().unwrap_or("");
    let found = match client {
        Some(client) if !caller.scope.covers(client) => Vec::new(),
        client => {
            let mut connection = app.state.services.store.read().await?;
            pages::device_page(&mut connection, client, name, &after, limit + 1).await?
        }
    };
    let key = |device: &Device| device.name.clone();
    Ok(Json(cursor::page(
        "devices",
        found,
        limit,
        key,
        present::device,
    )))
}

pub(crate) async fn show(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    conditions: Conditions,
) -> Result<Response, Refusal> {
    let device = find(&app, &caller, &name).await?;
    Ok(conditions.answer(present::device(&device)))
}

/// A device within the caller's reach, by name or id.
pub async fn find(app: &App, caller: &Caller, name: &str) -> Result<Device, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = devices::device_by_name(&mut connection, name).await?;
    found
        .filter(|device| caller.scope.covers(&device.client))
        .ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Refusal {
    Refusal::not_found(format!(
        "there is no device {name:?}; see `greenroom device list`, or add it with `greenroom device add`"
    ))
}

pub(crate) async fn put(
    State(app): Shared,
    caller: Caller,
    conditions: Conditions,
    Body(order): Body<PutDevice>,
) -> Result<Response, Refusal> {
    store(&app, &caller, conditions, order).await.map(tagged)
}

fn tagged(view: DeviceView) -> Response {
    ([Tag::of(&view).header()], Json(view)).into_response()
}

pub(crate) async fn replace(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    conditions: Conditions,
    Body(order): Body<ReplaceDevice>,
) -> Result<Response, Refusal> {
    let ReplaceDevice { client, facts } = order;
    let order = PutDevice {
        name,
        client,
        facts,
    };
    store(&app, &caller, conditions, order).await.map(tagged)
}

/// Adds a device, or replaces client and facts of the one of that name.
pub(crate) async fn store(
    app: &App,
    caller: &Caller,
    conditions: Conditions,
    order: PutDevice,
) -> Result<DeviceView, Refusal> {
    let own = caller.scope.client().unwrap_or(DEFAULT_CLIENT);
    let client = order.client.unwrap_or_else(|| own.to_owned());
    let faults = check(&order.name, &client);
    if !faults.is_empty() {
        return Err(Refusal::invalid("the device cannot be added", faults));
    }
    if !caller.scope.covers(&client) {
        return Err(Refusal::new(
            Why::Forbidden,
            format!("you are bound to the client {own}, and the device is to be {client}'s"),
        ));
    }
    let device = Device {
        id: DeviceId::fresh(),
        name: order.name,
        client,
        facts: order.facts,
        added_at: app.state.services.now(),
    };
    let scope = caller.scope.clone();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move {
            // By its exact name: an id in its place would name another device.
            let now = devices::device_by_name(connection, &device.name).await?;
            let now = now.filter(|now| now.name == device.name);
            if now.as_ref().is_some_and(|now| !scope.covers(&now.client)) {
                return Ok(Err(absent(&device.name)));
            }
            let tag = now.as_ref().map(|now| Tag::of(&present::device(now)));
            if let Err(changed) = conditions.hold(tag.as_ref()) {
                return Ok(Err(changed));
            }
            Ok(Ok(devices::device_put(connection, &device).await?))
        })
    });
    Ok(present::device(&write.await??))
}

fn check(name: &str, client: &str) -> Vec<ProblemFault> {
    let names = [("name", name), ("client", client)];
    names
        .into_iter()
        .filter(|(_, value)| !is_plain_name(value))
        .map(|(path, value)| ProblemFault {
            path: path.into(),
            line: None,
            column: None,
            detail: format!("{value:?} is not a plain name"),
            expected: Some(
                "a letter or digit, then letters, digits, `.`, `_` and `-`, at most 64 in all"
                    .into(),
            ),
            suggestion: None,
        })
        .collect()
}
