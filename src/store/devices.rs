//! Devices.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::{Device, Timestamp};

/// Adds a device, or replaces the facts and client of the one that has this name and keeps its id.
pub async fn device_put(
    connection: &mut SqliteConnection,
    device: &Device,
) -> Result<Device, StoreError> {
    sqlx::query(
        "INSERT INTO devices (id, name, client, facts, added_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE SET client = excluded.client, facts = excluded.facts",
    )
    .bind(device.id.to_string())
    .bind(&device.name)
    .bind(&device.client)
    .bind(to_text(&device.facts)?)
    .bind(device.added_at.0)
    .execute(&mut *connection)
    .await?;
    device_by_name(connection, &device.name)
        .await?
        .ok_or_else(|| StoreError::Failed("the device just added is not there".into()))
}

pub async fn device_by_name(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<Device>, StoreError> {
    sqlx::query("SELECT id, name, client, facts, added_at FROM devices WHERE name = $1 OR id = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

/// All devices by name, at most `limit`.
pub async fn device_list(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<Device>, StoreError> {
    sqlx::query("SELECT id, name, client, facts, added_at FROM devices ORDER BY name LIMIT $1")
        .bind(limit)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

fn read(row: SqliteRow) -> Result<Device, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(Device {
        id: id
            .parse()
            .map_err(|_| StoreError::Failed(format!("device id {id:?} is not a UUID")))?,
        name: row.try_get("name")?,
        client: row.try_get("client")?,
        facts: from_text(row.try_get("facts")?)?,
        added_at: Timestamp(row.try_get("added_at")?),
    })
}
