//! Telling webhooks: events become deliveries, deliveries are tried until they arrive or are dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Outbound, message, send};
use crate::store::pages::{self, EventOfClient, WhichEvents};
use crate::store::webhooks::{self as rows, Delivery, Webhook};
use crate::store::{StoreError, pages::event_newest};
use crate::vocab::{Timestamp, WebhookId};

/// Looks by itself so often, for deliveries whose next try is due.
const PULSE: Duration = Duration::from_secs(1);
/// Deliveries of one webhook that are under way at once: a slow one does not hold up the others.
const AT_ONCE: usize = 4;
/// Events that are turned into deliveries in one transaction.
const BATCH: i64 = 200;
/// Longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(3600);
/// Deliveries that have ended are kept for a week, microseconds.
const KEEP_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// How one try fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fared {
    pub status: Option<u16>,
    pub error: Option<String>,
}

impl Fared {
    pub fn is_delivered(&self) -> bool {
        self.error.is_none()
    }
}

/// How long to wait after `tries` tries: four times longer each time, and a different while for each
/// delivery (`chance` within 0 and 1), so that a target that was away is not met by all at once.
pub fn wait(first: Duration, tries: i64, chance: f64) -> Duration {
    let exponent = i32::try_from(tries.clamp(1, 20) - 1).unwrap_or(0);
    let seconds = (first.as_secs_f64() * 4f64.powi(exponent)).min(LONGEST.as_secs_f64());
    Duration::from_secs_f64(seconds * (0.5 + chance))
}

/// What becomes of a delivery after a try.
pub fn after_try(
    mut delivery: Delivery,
    fared: &Fared,
    now: Timestamp,
    most: i64,
    wait: Duration,
) -> Delivery {
    delivery.tries += 1;
    delivery.status = fared.status.map(i64::from);
    delivery.error = fared.error.clone().unwrap_or_default();
    // 410 Gone: the receiver wants no more of this.
    if fared.is_delivered() {
        delivery.state = "delivered".into();
        delivery.ended_at = Some(now);
    } else if delivery.tries >= most || fared.status == Some(410) {
        delivery.state = "dead".into();
        delivery.ended_at = Some(now);
    } else {
        delivery.next_at = now.after(wait);
    }
    delivery
}

/// Tells without end.
pub async fn tell(outbound: Arc<Outbound>) {
    let mut under_way: JoinSet<(WebhookId, String)> = JoinSet::new();
    let mut busy: HashMap<WebhookId, Vec<String>> = HashMap::new();
    loop {
        if let Err(error) = round(&outbound, &mut under_way, &mut busy).await {
            tracing::warn!(%error, "webhooks wait for the database");
        }
        tokio::select! {
            () = outbound.news.notified() => {}
            () = tokio::time::sleep(PULSE) => {}
            Some(done) = under_way.join_next() => {
                if let Ok((webhook, id)) = done {
                    busy.entry(webhook).or_default().retain(|other| *other != id);
                }
            }
        }
    }
}

async fn round(
    outbound: &Arc<Outbound>,
    under_way: &mut JoinSet<(WebhookId, String)>,
    busy: &mut HashMap<WebhookId, Vec<String>>,
) -> Result<(), StoreError> {
    let store = &outbound.store;
    let webhooks = rows::webhook_list(&mut *store.read().await?).await?;
    for webhook in &webhooks {
        spread(outbound, webhook).await?;
        let busy = busy.entry(webhook.id).or_default();
        let room = AT_ONCE.saturating_sub(busy.len());
        if room == 0 {
            continue;
        }
        let due = {
            let mut connection = store.read().await?;
            rows::delivery_due(&mut connection, webhook.id, outbound.now(), AT_ONCE as i64).await?
        };
        let ready: Vec<Delivery> = due
            .into_iter()
            .filter(|delivery| !busy.contains(&delivery.id))
            .take(room)
            .collect();
        for delivery in ready {
            busy.push(delivery.id.clone());
            let (outbound, webhook) = (outbound.clone(), webhook.clone());
            under_way.spawn(async move {
                let id = delivery.id.clone();
                deliver(&outbound, &webhook, delivery).await;
                (webhook.id, id)
            });
        }
    }
    busy.retain(|id, _| webhooks.iter().any(|webhook| webhook.id == *id));
    Ok(())
}

/// Turns the events that a webhook has not been told of into deliveries.
async fn spread(outbound: &Outbound, webhook: &Webhook) -> Result<(), StoreError> {
    let mut after = webhook.event;
    loop {
        let which = WhichEvents {
            client: webhook.scope.client().unwrap_or("").to_owned(),
            run: None,
        };
        let (newest, events) = {
            let mut connection = outbound.store.read().await?;
            let newest = event_newest(&mut connection).await?;
            (
                newest,
                pages::event_page(&mut connection, &which, after, BATCH).await?,
            )
        };
        let is_all = (events.len() as i64) < BATCH;
        let last = events.last().map_or(after, |last| last.event.id);
        // Events of others are passed over too, so that they are not read again each time: all up to
        // `newest` were there when the page was read.
        let until = if is_all { last.max(newest) } else { last };
        if until == after {
            return Ok(());
        }
        let now = outbound.now();
        let deliveries: Vec<Delivery> = events
            .iter()
            .filter(|told| wants(webhook, told))
            .map(|told| fresh(outbound, webhook.id, told, now))
            .collect();
        let id = webhook.id;
        let write = outbound.store.write(move |connection| {
            Box::pin(async move {
                rows::delivery_sweep(connection, Timestamp(now.0.saturating_sub(KEEP_US))).await?;
                rows::webhook_advance(connection, id, until, &deliveries).await
            })
        });
        write.await?;
        after = until;
        if is_all {
            return Ok(());
        }
    }
}

fn wants(webhook: &Webhook, told: &EventOfClient) -> bool {
    webhook.kinds.is_empty() || webhook.kinds.contains(&told.event.kind)
}

fn fresh(
    outbound: &Outbound,
    webhook: WebhookId,
    told: &EventOfClient,
    now: Timestamp,
) -> Delivery {
    let id = uuid::Uuid::now_v7().to_string();
    Delivery {
        body: message::of_event(outbound.deployment, &id, told),
        id,
        webhook,
        event: told.event.id,
        state: "waiting".into(),
        tries: 0,
        next_at: now,
        created_at: now,
        ended_at: None,
        status: None,
        error: String::new(),
    }
}

async fn deliver(outbound: &Outbound, webhook: &Webhook, delivery: Delivery) {
    let fared = try_once(outbound, webhook, &delivery.id, delivery.body.clone()).await;
    let settings = &outbound.settings;
    let pause = wait(settings.first_wait, delivery.tries + 1, rand::random());
    let delivery = after_try(delivery, &fared, outbound.now(), settings.tries, pause);
    if delivery.state == "dead" {
        tracing::warn!(webhook = %webhook.name, delivery = %delivery.id, tries = delivery.tries, error = %delivery.error, "a message was given up");
    }
    let write = outbound.store.write(move |connection| {
        Box::pin(async move { rows::delivery_update(connection, &delivery).await })
    });
    // What could not be written down is tried again: receivers know doubles by their id.
    if let Err(error) = write.await {
        tracing::warn!(%error, "a message's fate was not stored");
    }
}

/// Sends a message that only shows whether messages arrive.
pub async fn test(outbound: &Outbound, webhook: &Webhook) -> Fared {
    let id = uuid::Uuid::now_v7().to_string();
    let body = message::of_test(outbound.deployment, &id, outbound.now());
    try_once(outbound, webhook, &id, body).await
}

async fn try_once(outbound: &Outbound, webhook: &Webhook, id: &str, body: String) -> Fared {
    let targets = &outbound.settings.targets;
    let target = match targets.check(&webhook.url) {
        Ok(target) => target,
        Err(error) => {
            return Fared {
                status: None,
                error: Some(error.to_string()),
            };
        }
    };
    let headers = message::headers(&webhook.secret, id, outbound.now(), &body);
    match send::post(targets, &outbound.trust, &target, &headers, body).await {
        Ok(status @ 200..=299) => Fared {
            status: Some(status),
            error: None,
        },
        Ok(status @ 300..=399) => Fared {
            status: Some(status),
            error: Some(
                "the target redirects, and redirects are not followed; give its own address".into(),
            ),
        },
        Ok(status) => Fared {
            status: Some(status),
            error: Some(format!("the target answered {status}")),
        },
        Err(error) => Fared {
            status: None,
            error: Some(format!("{error:#}").chars().take(500).collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery {
        Delivery {
            id: "d".into(),
            webhook: WebhookId::fresh(),
            event: 1,
            body: "{}".into(),
            state: "waiting".into(),
            tries: 0,
            next_at: Timestamp(0),
            created_at: Timestamp(0),
            ended_at: None,
            status: None,
            error: String::new(),
        }
    }

    fn failed(status: Option<u16>) -> Fared {
        Fared {
            status,
            error: Some("no".into()),
        }
    }

    #[test]
    fn a_delivery_is_tried_less_and_less_often_and_then_is_dead() {
        let first = Duration::from_secs(5);
        let mut now = Timestamp(0);
        let mut one = delivery();
        let mut waits = Vec::new();
        while one.state == "waiting" {
            let pause = wait(first, one.tries + 1, 0.5);
            one = after_try(one, &failed(Some(500)), now, 10, pause);
            waits.push(one.next_at.since(now).as_secs());
            now = one.next_at;
        }
        assert_eq!(waits[..6], [5, 20, 80, 320, 1280, 3600]);
        assert_eq!((one.state.as_str(), one.tries), ("dead", 10));
        assert!(wait(first, 3, 0.0) < wait(first, 3, 0.9), "with jitter");
    }

    #[test]
    fn delivered_and_gone_are_final() {
        let fine = Fared {
            status: Some(204),
            error: None,
        };
        let pause = Duration::from_secs(1);
        assert_eq!(
            after_try(delivery(), &fine, Timestamp(1), 10, pause).state,
            "delivered"
        );
        let gone = after_try(delivery(), &failed(Some(410)), Timestamp(1), 10, pause);
        assert_eq!(gone.state, "dead");
    }
}
