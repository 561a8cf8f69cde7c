//! `/boot` and `/devices/NAME/boot`: what operators see and decide of the network boot.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;

use super::Shared;
use super::extract::{Body, Params};
use super::refusal::{Refusal, Why};
use crate::api::Time;
use crate::api::boot::{BootEventView, BootView, ChangeBoot, ExplainBoot, ExplainedBoot};
use crate::netboot::client::{Client, IpxeFeatures};
use crate::netboot::decide::Request;
use crate::netboot::desk::{Desk, OperatorError};
use crate::store::boot::BootClient;
use crate::vocab::boot::{BootDevice, BootEvent, Mac};

/// Events of one device that are shown with it.
const SHOWN_EVENTS: usize = 12;
/// Events of one answer.
const MOST_EVENTS: i64 = 1000;

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotFound(why) => Self::not_found(why),
            OperatorError::Refused(why) => Self::new(Why::Refused, why),
            OperatorError::Store(error) => error.into(),
        }
    }
}

fn desk(app: &super::App) -> Result<&Arc<Desk>, Refusal> {
    app.state.netboot.as_ref().ok_or_else(|| {
        Refusal::new(
            Why::Refused,
            "this daemon answers no devices; set boot.enabled in its configuration",
        )
    })
}

pub async fn list(State(app): Shared) -> Result<Json<Vec<BootView>>, Refusal> {
    let desk = desk(&app)?;
    let strangers = desk.strangers().await?;
    let mut all: Vec<BootView> = strangers.iter().map(stranger).collect();
    all.extend(desk.boot_devices().await?.iter().map(view));
    Ok(Json(all))
}

pub async fn show(State(app): Shared, Path(name): Path<String>) -> Result<Json<BootView>, Refusal> {
    let desk = desk(&app)?;
    let device = desk.boot_device(&name).await?;
    let mut shown = view(&device);
    let events = desk.events(Some(&device.name), 0, i64::MAX).await?;
    let first = events.len().saturating_sub(SHOWN_EVENTS);
    shown.events = events[first..].iter().map(event).collect();
    if let Some((at, body)) = desk.telemetry_of(&device).await?.into_iter().next() {
        shown.telemetry = Some(body);
        shown.telemetry_at = Some(Time::of(at));
    }
    Ok(Json(shown))
}

pub async fn change(
    State(app): Shared,
    Path(name): Path<String>,
    Body(order): Body<ChangeBoot>,
) -> Result<Json<Option<BootView>>, Refusal> {
    let desk = desk(&app)?;
    let after = match order {
        ChangeBoot::Approve => desk.approve(&name).await?,
        ChangeBoot::Quarantine { reason } => desk.quarantine(&name, &reason).await?,
        ChangeBoot::Release => desk.release(&name).await?,
        ChangeBoot::Reprovision => desk.reprovision(&name).await?,
        ChangeBoot::Forget => {
            desk.forget(&name).await?;
            return Ok(Json(None));
        }
    };
    Ok(Json(Some(view(&after))))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(default)]
    after: i64,
    device: Option<String>,
}

pub async fn events(
    State(app): Shared,
    Params(query): Params<After>,
) -> Result<Json<Vec<BootEventView>>, Refusal> {
    let found = desk(&app)?
        .events(query.device.as_deref(), query.after, MOST_EVENTS)
        .await?;
    Ok(Json(found.iter().map(event).collect()))
}

pub async fn explain(
    State(app): Shared,
    Path(mac): Path<String>,
    Body(order): Body<ExplainBoot>,
) -> Result<Json<Vec<ExplainedBoot>>, Refusal> {
    let desk = desk(&app)?;
    let mac: Mac = mac
        .parse()
        .map_err(|error| Refusal::mistake(format!("{error}")))?;
    let client = Client {
        mac: Some(mac),
        arches: order.arches,
        user_class: order.user_class,
        vendor_class: order.vendor_class,
        ipxe: order
            .ipxe_http
            .map(|http| IpxeFeatures { http: Some(http) }),
        uuid_option: None,
    };
    let mut explained = Vec::new();
    for (question, request) in [("dhcp", Request::Dhcp), ("script", Request::Script)] {
        let decision = desk.decide(&client, &request).await?;
        explained.push(ExplainedBoot {
            question: question.to_owned(),
            answer: decision.answer.says(),
            reason: decision.reason,
        });
    }
    Ok(Json(explained))
}

fn stranger(client: &BootClient) -> BootView {
    BootView {
        device: client.mac.to_string(),
        state: "seen".to_owned(),
        since: Time::of(client.first_at),
        reason: None,
        trust: None,
        run: None,
        deadline: None,
        next: client.said.clone(),
        heard_at: Time::of(client.last_at),
        written_bytes: 0,
        image_bytes: 0,
        macs: vec![client.mac.to_string()],
        telemetry: None,
        telemetry_at: None,
        events: Vec::new(),
    }
}

fn view(device: &BootDevice) -> BootView {
    BootView {
        device: device.name.clone(),
        state: device.phase.word().to_owned(),
        since: Time::of(device.since),
        reason: device.phase.reason().map(str::to_owned),
        trust: Some(device.trust.word().to_owned()),
        run: device.run.map(|run| run.0),
        deadline: device.deadline.map(Time::of),
        next: device.next.clone(),
        heard_at: Time::of(device.heard_at),
        written_bytes: device.written,
        image_bytes: device.of,
        macs: device
            .fingerprint
            .macs
            .iter()
            .map(ToString::to_string)
            .collect(),
        telemetry: None,
        telemetry_at: None,
        events: Vec::new(),
    }
}

fn event(event: &BootEvent) -> BootEventView {
    BootEventView {
        id: event.id,
        subject: event.subject.clone(),
        at: Time::of(event.at),
        kind: event.kind.clone(),
        message: event.message.clone(),
    }
}
