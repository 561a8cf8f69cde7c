//! Codes that let a device be provisioned.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::boot::BootCode;
use crate::vocab::{DeviceId, Digest, Timestamp};

pub async fn code_insert(
    connection: &mut SqliteConnection,
    code: &BootCode,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO boot_codes (hash, device, made_by, made_at, expires_at, used_at, used_by)
         VALUES ($1, $2, $3, $4, $5, NULL, NULL)",
    )
    .bind(code.hash.to_string())
    .bind(code.device.map(|device| device.to_string()))
    .bind(&code.made_by)
    .bind(code.made_at.0)
    .bind(code.expires_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn code_get(
    connection: &mut SqliteConnection,
    hash: Digest,
) -> Result<Option<BootCode>, StoreError> {
    let row = sqlx::query(
        "SELECT device, made_by, made_at, expires_at, used_at FROM boot_codes WHERE hash = $1",
    )
    .bind(hash.to_string())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let device: Option<String> = row.try_get("device")?;
    let used_at: Option<i64> = row.try_get("used_at")?;
    Ok(Some(BootCode {
        hash,
        device: device.map(|text| device_id(&text)).transpose()?,
        made_by: row.try_get("made_by")?,
        made_at: Timestamp(row.try_get("made_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
        used_at: used_at.map(Timestamp),
    }))
}

fn device_id(text: &str) -> Result<DeviceId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Failed(format!("device id {text:?} is not a UUID")))
}

pub async fn code_use(
    connection: &mut SqliteConnection,
    hash: Digest,
    by: DeviceId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE boot_codes SET used_at = $2, used_by = $3 WHERE hash = $1")
        .bind(hash.to_string())
        .bind(now.0)
        .bind(by.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn code_remove_expired(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM boot_codes WHERE expires_at < $1")
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}
