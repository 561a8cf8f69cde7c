//! `/webhooks`: add, list, test, remove; what became of their messages.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Body, InPath};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::tokens::{fault, granted};
use super::{App, Shared};
use crate::access::{Access, Caller};
use crate::api::{AddWebhook, AddedWebhook, DeliveryView, Shown, TestedWebhook, Time, WebhookView};
use crate::outbound::{message, webhooks as outbound};
use crate::store::pages::event_newest;
use crate::store::webhooks::{self as rows, Delivery, Webhook};
use crate::vocab::WebhookId;
use crate::vocab::access::Role;
use crate::vocab::device::is_plain_name;

/// Newest deliveries that are shown.
const SHOWN: i64 = 200;
/// Most kinds of events that one webhook names.
const KINDS: usize = 50;

pub fn routes() -> Routes {
    let admin = Access::per_client(Role::Admin);
    Routes::of("webhooks", "Who outside is told what happens: CloudEvents, signed with HMAC-SHA256.")
        .with(
            Op::get("webhook_list", "/webhooks", admin, list)
                .says("Webhooks by name, without their secrets")
                .answers::<Vec<WebhookView>>(200),
        )
        .with(
            Op::post("webhook_add", "/webhooks", admin, add)
                .says("Adds a webhook, which is told what happens from now on; its secret is shown this once")
                .takes::<AddWebhook>()
                .answers::<AddedWebhook>(201)
                .secret(),
        )
        .with(
            Op::delete("webhook_remove", "/webhooks/{name}", admin, remove)
                .says("Removes a webhook and its messages")
                .answers_bytes(204, ""),
        )
        .with(
            Op::post("webhook_test", "/webhooks/{name}/test", admin, test)
                .says("Sends a test message now, and says how it fared")
                .answers::<TestedWebhook>(200),
        )
        .with(
            Op::get("webhook_deliveries", "/webhooks/{name}/deliveries", admin, deliveries)
                .says("The newest messages, and what became of them")
                .answers::<Vec<DeliveryView>>(200),
        )
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
) -> Result<Json<Vec<WebhookView>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let all = rows::webhook_list(&mut connection).await?;
    let own = all
        .iter()
        .filter(|webhook| caller.scope.contains(&webhook.scope));
    Ok(Json(own.map(view).collect()))
}

pub(crate) async fn add(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<AddWebhook>,
) -> Result<(StatusCode, Json<AddedWebhook>), Refusal> {
    let scope = granted(&caller, Role::Viewer, order.client.as_deref())?;
    let mut faults = Vec::new();
    if !is_plain_name(&order.name) {
        faults.push(fault("name", "a webhook's name is a letter or digit, then letters, digits, `.`, `_` and `-`, at most 64 in all"));
    }
    if let Err(error) = app.state.outbound.settings.targets.check(&order.url) {
        faults.push(fault("url", error.to_string()));
    }
    let is_kind = |kind: &String| {
        (1..=64).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    if order.kinds.len() > KINDS || !order.kinds.iter().all(is_kind) {
        faults.push(fault(
            "kinds",
            format!("kinds are words such as run_succeeded, at most {KINDS}"),
        ));
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid("the webhook cannot be added", faults));
    }
    let services = &app.state.services;
    let mut webhook = Webhook {
        id: WebhookId::fresh(),
        name: order.name,
        url: order.url,
        secret: message::fresh_key(),
        kinds: order.kinds,
        scope,
        created_by: caller.name(),
        created_at: services.now(),
        event: 0,
    };
    let write = services.store.write(move |connection| {
        Box::pin(async move {
            webhook.event = event_newest(connection).await?;
            rows::webhook_insert(connection, &webhook).await?;
            Ok(webhook)
        })
    });
    let webhook = write.await?;
    let added = AddedWebhook {
        webhook: view(&webhook),
        secret: Shown(webhook.secret.reveal().to_owned()),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

pub(crate) async fn remove(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let id = find(&app, &caller, &name).await?.id;
    let write = app
        .state
        .services
        .store
        .write(move |connection| Box::pin(rows::webhook_delete(connection, id)));
    write.await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn test(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<TestedWebhook>, Refusal> {
    let webhook = find(&app, &caller, &name).await?;
    let began = Instant::now();
    let fared = outbound::test(&app.state.outbound, &webhook).await;
    Ok(Json(TestedWebhook {
        delivered: fared.is_delivered(),
        status: fared.status,
        took_ms: began.elapsed().as_secs_f64() * 1e3,
        error: fared.error,
    }))
}

pub(crate) async fn deliveries(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<Json<Vec<DeliveryView>>, Refusal> {
    let id = find(&app, &caller, &name).await?.id;
    let mut connection = app.state.services.store.read().await?;
    let found = rows::delivery_list(&mut connection, id, SHOWN).await?;
    Ok(Json(found.into_iter().map(delivery).collect()))
}

pub(crate) async fn find(app: &App, caller: &Caller, name: &str) -> Result<Webhook, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = rows::webhook_get(&mut connection, name).await?;
    found
        .filter(|webhook| caller.scope.contains(&webhook.scope))
        .ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no webhook {name:?}; see `greenroom webhook list`"
            ))
        })
}

fn view(webhook: &Webhook) -> WebhookView {
    WebhookView {
        id: webhook.id.to_string(),
        name: webhook.name.clone(),
        url: webhook.url.clone(),
        kinds: webhook.kinds.clone(),
        client: webhook.scope.client().map(str::to_owned),
        created_by: webhook.created_by.clone(),
        created_at: Time::of(webhook.created_at),
    }
}

fn delivery(delivery: Delivery) -> DeliveryView {
    let is_waiting = delivery.state == "waiting";
    DeliveryView {
        id: delivery.id,
        event: delivery.event,
        state: delivery.state,
        tries: delivery.tries,
        created_at: Time::of(delivery.created_at),
        next_at: is_waiting.then(|| Time::of(delivery.next_at)),
        ended_at: delivery.ended_at.map(Time::of),
        status: delivery.status,
        error: delivery.error,
    }
}
