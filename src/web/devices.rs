//! `/devices`: add, list, show.

use axum::Json;
use axum::extract::{Path, State};

use super::Shared;
use super::extract::Body;
use super::present;
use super::refusal::Refusal;
use crate::api::{DeviceView, ProblemFault, PutDevice};
use crate::store::devices;
use crate::vocab::device::is_plain_name;
use crate::vocab::{Device, DeviceId};

/// Most devices of one listing.
const MOST: i64 = 100_000;

pub async fn list(State(app): Shared) -> Result<Json<Vec<DeviceView>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let all = devices::device_list(&mut connection, MOST).await?;
    Ok(Json(all.iter().map(present::device).collect()))
}

pub async fn show(
    State(app): Shared,
    Path(name): Path<String>,
) -> Result<Json<DeviceView>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = devices::device_by_name(&mut connection, &name).await?;
    let device = found.ok_or_else(|| {
        Refusal::not_found(format!(
            "there is no device {name:?}; see `greenroom device list`"
        ))
    })?;
    Ok(Json(present::device(&device)))
}

pub async fn put(
    State(app): Shared,
    Body(order): Body<PutDevice>,
) -> Result<Json<DeviceView>, Refusal> {
    let faults = check(&order);
    if !faults.is_empty() {
        return Err(Refusal::invalid("the device cannot be added", faults));
    }
    let device = Device {
        id: DeviceId::fresh(),
        name: order.name,
        client: order.client,
        facts: order.facts,
        added_at: app.state.services.now(),
    };
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { devices::device_put(connection, &device).await })
    });
    Ok(Json(present::device(&write.await?)))
}

fn check(order: &PutDevice) -> Vec<ProblemFault> {
    let names = [("name", &order.name), ("client", &order.client)];
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
