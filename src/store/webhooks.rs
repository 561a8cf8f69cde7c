//! Webhooks and what is to be delivered to them.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::access::secret::Secret;
use crate::vocab::access::Scope;
use crate::vocab::{Timestamp, WebhookId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub id: WebhookId,
    pub name: String,
    pub url: String,
    /// Signs the messages.
    pub secret: Secret,
    /// Kinds of events it is told; empty: all.
    pub kinds: Vec<String>,
    /// Whose runs it is told about.
    pub scope: Scope,
    pub created_by: String,
    pub created_at: Timestamp,
    /// The last event that was turned into deliveries.
    pub event: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Also the message's id: the same for every try.
    pub id: String,
    pub webhook: WebhookId,
    pub event: i64,
    pub body: String,
    /// `waiting`, `delivered`, `dead`.
    pub state: String,
    pub tries: i64,
    pub next_at: Timestamp,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// HTTP status of the last answer.
    pub status: Option<i64>,
    /// What went wrong the last time.
    pub error: String,
}

/// Refused where the name is taken.
pub async fn webhook_insert(
    connection: &mut SqliteConnection,
    webhook: &Webhook,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO webhooks (id, name, url, secret, kinds, client, created_by, created_at, event)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO NOTHING",
    )
    .bind(webhook.id.to_string())
    .bind(&webhook.name)
    .bind(&webhook.url)
    .bind(webhook.secret.reveal())
    .bind(to_text(&webhook.kinds)?)
    .bind(webhook.scope.client().unwrap_or(""))
    .bind(&webhook.created_by)
    .bind(webhook.created_at.0)
    .bind(webhook.event)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "there is a webhook {:?} already; remove it first",
        webhook.name
    )))
}

pub async fn webhook_list(connection: &mut SqliteConnection) -> Result<Vec<Webhook>, StoreError> {
    sqlx::query("SELECT id, name, url, secret, kinds, client, created_by, created_at, event FROM webhooks ORDER BY name")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(webhook)
        .collect()
}

pub async fn webhook_get(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<Webhook>, StoreError> {
    sqlx::query("SELECT id, name, url, secret, kinds, client, created_by, created_at, event FROM webhooks WHERE name = $1 OR id = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?
        .map(webhook)
        .transpose()
}

/// Its deliveries go with it.
pub async fn webhook_delete(
    connection: &mut SqliteConnection,
    id: WebhookId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM webhooks WHERE id = $1")
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores deliveries and how far the webhook has been told, together.
pub async fn webhook_advance(
    connection: &mut SqliteConnection,
    id: WebhookId,
    event: i64,
    deliveries: &[Delivery],
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE webhooks SET event = $2 WHERE id = $1 AND event < $2")
        .bind(id.to_string())
        .bind(event)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 0 {
        // Removed in the meantime, or told already.
        return Ok(());
    }
    for delivery in deliveries {
        sqlx::query(
            "INSERT INTO deliveries (id, webhook, event, body, state, tries, next_at, created_at, error)
             VALUES ($1, $2, $3, $4, 'waiting', 0, $5, $6, '')",
        )
        .bind(&delivery.id)
        .bind(id.to_string())
        .bind(delivery.event)
        .bind(&delivery.body)
        .bind(delivery.next_at.0)
        .bind(delivery.created_at.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A webhook's deliveries whose time has come, the longest due first.
pub async fn delivery_due(
    connection: &mut SqliteConnection,
    webhook: WebhookId,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Delivery>, StoreError> {
    sqlx::query(
        "SELECT id, webhook, event, body, state, tries, next_at, created_at, ended_at, status, error FROM deliveries
         WHERE webhook = $1 AND state = 'waiting' AND next_at <= $2 ORDER BY next_at, event LIMIT $3",
    )
    .bind(webhook.to_string())
    .bind(now.0)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(delivery)
    .collect()
}

/// The newest of a webhook.
pub async fn delivery_list(
    connection: &mut SqliteConnection,
    webhook: WebhookId,
    limit: i64,
) -> Result<Vec<Delivery>, StoreError> {
    sqlx::query(
        "SELECT id, webhook, event, body, state, tries, next_at, created_at, ended_at, status, error FROM deliveries
         WHERE webhook = $1 ORDER BY created_at DESC, event DESC LIMIT $2",
    )
    .bind(webhook.to_string())
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(delivery)
    .collect()
}

/// What has become of a delivery.
pub async fn delivery_update(
    connection: &mut SqliteConnection,
    delivery: &Delivery,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET state = $2, tries = $3, next_at = $4, ended_at = $5, status = $6, error = $7 WHERE id = $1",
    )
    .bind(&delivery.id)
    .bind(&delivery.state)
    .bind(delivery.tries)
    .bind(delivery.next_at.0)
    .bind(delivery.ended_at.map(|at| at.0))
    .bind(delivery.status)
    .bind(&delivery.error)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes deliveries that ended before `before`.
pub async fn delivery_sweep(
    connection: &mut SqliteConnection,
    before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM deliveries WHERE state <> 'waiting' AND ended_at < $1")
        .bind(before.0)
        .execute(connection)
        .await?;
    Ok(())
}

fn id(text: &str) -> Result<WebhookId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Failed(format!("webhook id {text:?} is not a UUID")))
}

fn webhook(row: SqliteRow) -> Result<Webhook, StoreError> {
    let client: String = row.try_get("client")?;
    Ok(Webhook {
        id: id(row.try_get("id")?)?,
        name: row.try_get("name")?,
        url: row.try_get("url")?,
        secret: Secret::of(row.try_get::<String, _>("secret")?),
        kinds: from_text(row.try_get("kinds")?)?,
        scope: Scope::of(Some(client).filter(|client| !client.is_empty())),
        created_by: row.try_get("created_by")?,
        created_at: Timestamp(row.try_get("created_at")?),
        event: row.try_get("event")?,
    })
}

fn delivery(row: SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: row.try_get("id")?,
        webhook: id(row.try_get("webhook")?)?,
        event: row.try_get("event")?,
        body: row.try_get("body")?,
        state: row.try_get("state")?,
        tries: row.try_get("tries")?,
        next_at: Timestamp(row.try_get("next_at")?),
        created_at: Timestamp(row.try_get("created_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp),
        status: row.try_get("status")?,
        error: row.try_get("error")?,
    })
}
