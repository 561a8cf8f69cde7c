//! `/boot` and `/devices/NAME/boot`: what operators see and decide of the network boot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::extract::{Body, InPath, Params, Part};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, devices};
use crate::access::{Access, Caller};
use crate::api::boot::{
    BootEventView, BootView, ChangeBoot, CreateBootCode, CreatedBootCode, ExplainBoot,
    ExplainedBoot,
};
use crate::api::{Page, Shown, Time};
use crate::netboot::client::{Client, IpxeFeatures};
use crate::netboot::decide::Request;
use crate::netboot::desk::{Desk, OperatorError};
use crate::store::boot::BootClient;
use crate::store::pages;
use crate::vocab::access::Role;
use crate::vocab::boot::{BootDevice, BootEvent, Mac};
use crate::vocab::power::NetworkOrder;

/// Events of one device that are shown with it.
const SHOWN_EVENTS: usize = 12;

/// Minutes that a code is good for when nothing else is said.
const CODE_MINUTES: u64 = 60;

/// A device is its client's; an address that is nobody's yet is for those who may see everyone's.
pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of(
        "boot",
        "Devices on their way from the network to their own system.",
    )
    .with(
        Op::get("boot_list", "/boot/devices", see, list)
            .says("Where every device stands; addresses that are no device yet come first")
            .query::<Part>()
            .answers::<Page<BootView>>(200),
    )
    .with(
        Op::get("boot_events", "/boot/events", see, events)
            .says("What happened, oldest first")
            .query::<Which>()
            .answers::<Page<BootEventView>>(200),
    )
    .with(
        Op::post(
            "boot_explain",
            "/boot/explain/{mac}",
            Access::whole_site(Role::Viewer),
            explain,
        )
        .says("What a client with this address would be answered, and why; nothing is done")
        .takes::<ExplainBoot>()
        .answers::<Vec<ExplainedBoot>>(200),
    )
    .with(
        Op::post(
            "boot_code_create",
            "/boot/codes",
            Access::whole_site(Role::Operator),
            code_create,
        )
        .says("Makes a code that lets one device be provisioned; it is shown this once")
        .takes::<CreateBootCode>()
        .answers::<CreatedBootCode>(201)
        .secret(),
    )
    .with(
        Op::get("boot_show", "/devices/{name}/boot", see, show)
            .says("Where one device stands, with its latest events, telemetry and lines of its console")
            .answers::<BootView>(200),
    )
    .with(
        Op::post("boot_change", "/devices/{name}/boot", change, self::change)
            .says("Approves a device, puts it into quarantine, releases it, or provisions it anew")
            .takes::<ChangeBoot>()
            .answers::<BootView>(200),
    )
    .with(
        Op::delete(
            "boot_forget",
            "/devices/{name}/boot",
            Access::per_client(Role::Admin),
            forget,
        )
        .says("Forgets what the network boot knows of a device; its facts and runs stay")
        .answers_bytes(204, ""),
    )
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotFound(why) => Self::not_found(why),
            OperatorError::Refused(why) => Self::new(Why::Refused, why),
            OperatorError::Store(error) => error.into(),
        }
    }
}

pub(super) fn desk(app: &App) -> Result<&Arc<Desk>, Refusal> {
    app.state.netboot.as_ref().ok_or_else(|| {
        Refusal::new(
            Why::Refused,
            "this daemon answers no devices; set boot.enabled in its configuration",
        )
    })
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
    Params(part): Params<Part>,
) -> Result<Json<Page<BootView>>, Refusal> {
    let desk = desk(&app)?;
    let mut known = desk.boot_devices().await?;
    let mut all = Vec::new();
    match own_names(&app, &caller).await? {
        Some(own) => known.retain(|device| own.contains(&device.name)),
        None => all.extend(desk.strangers().await?.iter().map(stranger)),
    }
    let orders = desk.network_orders().await?;
    all.extend(known.iter().map(|device| view(device, &orders)));
    let key = |view: &BootView| format!("{} {}", u8::from(view.trust.is_some()), view.device);
    let (limit, cursor) = (part.limit, part.cursor.as_deref());
    cursor::cut("boot", all, limit, cursor, key, BootView::clone).map(Json)
}

/// Names of the devices of a caller who is bound to one client; none: all devices.
pub(crate) async fn own_names(
    app: &App,
    caller: &Caller,
) -> Result<Option<BTreeSet<String>>, Refusal> {
    let Some(client) = caller.scope.client() else {
        return Ok(None);
    };
    let mut connection = app.state.services.store.read().await?;
    let own = pages::device_page(&mut connection, Some(client), "", "", i64::MAX).await?;
    Ok(Some(own.into_iter().map(|device| device.name).collect()))
}

pub(crate) async fn show(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<BootView>, Refusal> {
    let name = devices::find(&app, &caller, &name).await?.name;
    let desk = desk(&app)?;
    let device = desk.boot_device(&name).await?;
    let mut shown = view(&device, &desk.network_orders().await?);
    let events = desk.events(Some(&device.name), 0, i64::MAX).await?;
    let first = events.len().saturating_sub(SHOWN_EVENTS);
    shown.events = events[first..].iter().map(event).collect();
    if let Some(report) = desk.latest_report(device.device).await? {
        shown.telemetry = Some(report.body);
        shown.telemetry_at = Some(Time::of(report.at));
    }
    shown.console = desk.console(&device).await;
    Ok(Json(shown))
}

pub(crate) async fn change(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<ChangeBoot>,
) -> Result<Json<BootView>, Refusal> {
    let name = devices::find(&app, &caller, &name).await?.name;
    let desk = desk(&app)?;
    let after = match order {
        ChangeBoot::Approve => desk.approve(&name).await?,
        ChangeBoot::Quarantine { reason } => desk.quarantine(&name, &reason).await?,
        ChangeBoot::Release => desk.release(&name).await?,
        ChangeBoot::Reprovision => desk.reprovision(&name).await?,
    };
    Ok(Json(view(&after, &desk.network_orders().await?)))
}

pub(crate) async fn forget(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let name = devices::find(&app, &caller, &name).await?.name;
    desk(&app)?.forget(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Only those with a larger number.
    #[serde(default)]
    pub(crate) after: i64,
    /// Only of this device; its name, or an address.
    pub(crate) device: Option<String>,
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

pub(crate) async fn events(
    State(app): Shared,
    caller: Caller,
    Params(which): Params<Which>,
) -> Result<Json<Page<BootEventView>>, Refusal> {
    let limit = cursor::limit(which.limit);
    let after = cursor::read_number("boot-events", which.cursor.as_deref(), which.after)?;
    let own = own_names(&app, &caller).await?;
    let found = desk(&app)?
        .events(which.device.as_deref(), after, limit + 1)
        .await?;
    let key = |event: &BootEvent| event.id.to_string();
    let mut page = cursor::page("boot-events", found, limit, key, event);
    if let Some(own) = own {
        // The next page begins where this one ended, whoever's its events were.
        page.items.retain(|event| own.contains(&event.subject));
    }
    Ok(Json(page))
}

async fn code_create(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<CreateBootCode>,
) -> Result<(StatusCode, Json<CreatedBootCode>), Refusal> {
    let minutes = order.minutes.unwrap_or(CODE_MINUTES);
    let lasts = Duration::from_secs(minutes.saturating_mul(60));
    let (code, expires_at) = desk(&app)?
        .make_code(order.device.as_deref(), lasts, &caller.name())
        .await?;
    let created = CreatedBootCode {
        code: Shown(code.reveal().to_owned()),
        device: order.device,
        expires_at: Time::of(expires_at),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(crate) async fn explain(
    State(app): Shared,
    InPath(mac): InPath<String>,
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
    let (answer, reason) = desk.explain_trust(mac).await?;
    explained.push(ExplainedBoot {
        question: "trust".to_owned(),
        answer,
        reason,
    });
    Ok(Json(explained))
}

pub(crate) fn stranger(client: &BootClient) -> BootView {
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
        console: Vec::new(),
    }
}

/// Where a device stands. What its BMC is about to do, or could not do, is what happens next.
fn view(device: &BootDevice, orders: &[NetworkOrder]) -> BootView {
    let order = orders
        .iter()
        .find(|order| order.device == device.device && order.boot_id == device.boot_id);
    let (deadline, next) = match order {
        Some(order) if order.step.is_open() => (Some(order.deadline), order.said.clone()),
        Some(order) => (None, order.said.clone()),
        None => (device.deadline, device.next.clone()),
    };
    BootView {
        device: device.name.clone(),
        state: device.phase.word().to_owned(),
        since: Time::of(device.since),
        reason: device.phase.reason().map(str::to_owned),
        trust: Some(device.trust.word().to_owned()),
        run: device.run.map(|run| run.0),
        deadline: deadline.map(Time::of),
        next,
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
        console: Vec::new(),
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
