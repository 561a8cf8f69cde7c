//! The network boot: addresses, devices on their way, tokens, events.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::boot::{BootDevice, BootEvent, Mac, Token, TokenKind};
use crate::vocab::{DeviceId, RunId, Timestamp};

/// Most addresses that are remembered without a device: anybody can make them up.
const MOST_STRANGERS: i64 = 4096;
/// Events that are kept.
const MOST_EVENTS: i64 = 100_000;

/// An address that asked for something to boot.
#[derive(Debug, Clone, PartialEq)]
pub struct BootClient {
    pub mac: Mac,
    pub device: Option<DeviceId>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// What it last said, in words.
    pub said: String,
}

/// Notes that an address was heard. True: for the first time.
pub async fn client_heard(
    connection: &mut SqliteConnection,
    mac: Mac,
    said: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let known = client_get(connection, mac).await?.is_some();
    sqlx::query(
        "INSERT INTO boot_clients (mac, device, first_at, last_at, said) VALUES ($1, NULL, $2, $2, $3)
         ON CONFLICT (mac) DO UPDATE SET last_at = excluded.last_at, said = excluded.said",
    )
    .bind(mac.to_string())
    .bind(now.0)
    .bind(said)
    .execute(connection)
    .await?;
    Ok(!known)
}

/// Forgets the oldest strangers beyond what is remembered. Looks at all of them: once per group of
/// new ones, not for each.
pub async fn client_prune(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM boot_clients WHERE device IS NULL AND mac NOT IN
         (SELECT mac FROM boot_clients WHERE device IS NULL ORDER BY last_at DESC LIMIT $1)",
    )
    .bind(MOST_STRANGERS)
    .execute(connection)
    .await?;
    Ok(())
}

/// What to do with an address that is another device's already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Leave,
    Take,
}

/// Says whose addresses these are.
pub async fn client_assign(
    connection: &mut SqliteConnection,
    macs: &[Mac],
    device: DeviceId,
    taken: Taken,
    now: Timestamp,
) -> Result<(), StoreError> {
    for mac in macs {
        sqlx::query(
            "INSERT INTO boot_clients (mac, device, first_at, last_at, said) VALUES ($1, $2, $3, $3, 'registered')
             ON CONFLICT (mac) DO UPDATE SET last_at = excluded.last_at,
             device = CASE WHEN $4 = 1 THEN excluded.device ELSE COALESCE(boot_clients.device, excluded.device) END",
        )
        .bind(mac.to_string())
        .bind(device.to_string())
        .bind(now.0)
        .bind(i64::from(taken == Taken::Take))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub async fn client_get(
    connection: &mut SqliteConnection,
    mac: Mac,
) -> Result<Option<BootClient>, StoreError> {
    sqlx::query("SELECT mac, device, first_at, last_at, said FROM boot_clients WHERE mac = $1")
        .bind(mac.to_string())
        .fetch_optional(connection)
        .await?
        .map(read_client)
        .transpose()
}

/// Addresses without a device, the latest first.
pub async fn client_strangers(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<BootClient>, StoreError> {
    sqlx::query(
        "SELECT mac, device, first_at, last_at, said FROM boot_clients WHERE device IS NULL ORDER BY last_at DESC LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read_client)
    .collect()
}

fn read_client(row: SqliteRow) -> Result<BootClient, StoreError> {
    let mac: String = row.try_get("mac")?;
    let device: Option<String> = row.try_get("device")?;
    Ok(BootClient {
        mac: mac
            .parse()
            .map_err(|_| StoreError::Failed(format!("{mac:?} is no address")))?,
        device: device.map(|id| device_id(&id)).transpose()?,
        first_at: Timestamp(row.try_get("first_at")?),
        last_at: Timestamp(row.try_get("last_at")?),
        said: row.try_get("said")?,
    })
}

fn device_id(text: &str) -> Result<DeviceId, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Failed(format!("device id {text:?} is not a UUID")))
}

pub async fn device_put(
    connection: &mut SqliteConnection,
    device: &BootDevice,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO boot_devices (device, phase, deadline, body) VALUES ($1, $2, $3, $4)
         ON CONFLICT (device) DO UPDATE SET phase = excluded.phase, deadline = excluded.deadline, body = excluded.body",
    )
    .bind(device.device.to_string())
    .bind(device.phase.word())
    .bind(device.deadline.map(|at| at.0))
    .bind(to_text(device)?)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn device_get(
    connection: &mut SqliteConnection,
    id: DeviceId,
) -> Result<Option<BootDevice>, StoreError> {
    sqlx::query("SELECT body FROM boot_devices WHERE device = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?
        .map(|row| from_text(row.try_get("body")?))
        .transpose()
}

/// The device that has this address.
pub async fn device_of_client(
    connection: &mut SqliteConnection,
    mac: Mac,
) -> Result<Option<BootDevice>, StoreError> {
    sqlx::query(
        "SELECT boot_devices.body AS body FROM boot_clients
         JOIN boot_devices ON boot_devices.device = boot_clients.device WHERE boot_clients.mac = $1",
    )
    .bind(mac.to_string())
    .fetch_optional(connection)
    .await?
    .map(|row| from_text(row.try_get("body")?))
    .transpose()
}

/// All of them, in the order in which they came.
pub async fn device_list(connection: &mut SqliteConnection) -> Result<Vec<BootDevice>, StoreError> {
    sqlx::query("SELECT body FROM boot_devices ORDER BY device")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| from_text(row.try_get("body")?))
        .collect()
}

/// Those whose time has come, and those on which something waits outside of the database: a run that
/// makes an image, an image that is not needed any more, a run that waits for reports.
pub async fn device_list_to_look_at(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Vec<BootDevice>, StoreError> {
    sqlx::query(
        "SELECT body FROM boot_devices
         WHERE deadline IS NULL OR deadline <= $1 OR phase IN ('provisioning', 'held', 'delivered')
         OR device IN (SELECT device FROM boot_devices WHERE json_extract(body, '$.awaited') IS NOT NULL)
         ORDER BY device",
    )
    .bind(now.0)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| from_text(row.try_get("body")?))
    .collect()
}

/// Removes everything that the network boot knows of a device.
pub async fn device_forget(
    connection: &mut SqliteConnection,
    id: DeviceId,
) -> Result<(), StoreError> {
    super::telemetry::forget(connection, id).await?;
    for sql in [
        "DELETE FROM boot_tokens WHERE device = $1",
        "DELETE FROM boot_clients WHERE device = $1",
        "DELETE FROM boot_devices WHERE device = $1",
    ] {
        sqlx::query(sql)
            .bind(id.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub async fn token_insert(
    connection: &mut SqliteConnection,
    token: &Token,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO boot_tokens (hash, device, kind, run, boot_id, made_at, expires_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)",
    )
    .bind(token.hash.to_string())
    .bind(token.device.to_string())
    .bind(token.kind.word())
    .bind(token.run.map(|run| run.0))
    .bind(&token.boot_id)
    .bind(token.made_at.0)
    .bind(token.expires_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn token_get(
    connection: &mut SqliteConnection,
    hash: crate::vocab::Digest,
) -> Result<Option<Token>, StoreError> {
    let row = sqlx::query(
        "SELECT hash, device, kind, run, boot_id, made_at, expires_at, used_at FROM boot_tokens WHERE hash = $1",
    )
    .bind(hash.to_string())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let device: String = row.try_get("device")?;
    let kind: String = row.try_get("kind")?;
    let run: Option<i64> = row.try_get("run")?;
    let used_at: Option<i64> = row.try_get("used_at")?;
    Ok(Some(Token {
        hash,
        device: device_id(&device)?,
        kind: TokenKind::by_word(&kind)
            .ok_or_else(|| StoreError::Failed(format!("{kind:?} is no kind of token")))?,
        run: run.map(RunId),
        boot_id: row.try_get("boot_id")?,
        made_at: Timestamp(row.try_get("made_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
        used_at: used_at.map(Timestamp),
    }))
}

pub async fn token_use(
    connection: &mut SqliteConnection,
    hash: crate::vocab::Digest,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE boot_tokens SET used_at = $2 WHERE hash = $1")
        .bind(hash.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn token_extend(
    connection: &mut SqliteConnection,
    hash: crate::vocab::Digest,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE boot_tokens SET expires_at = $2 WHERE hash = $1")
        .bind(hash.to_string())
        .bind(expires_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends all of a device's tokens of these kinds. Used ones stay until they expire, so that a replay
/// is recognised.
pub async fn token_revoke(
    connection: &mut SqliteConnection,
    device: DeviceId,
    kinds: &[TokenKind],
) -> Result<(), StoreError> {
    for kind in kinds {
        sqlx::query("DELETE FROM boot_tokens WHERE device = $1 AND kind = $2 AND used_at IS NULL")
            .bind(device.to_string())
            .bind(kind.word())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub async fn token_remove_expired(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM boot_tokens WHERE expires_at < $1")
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn event_insert(
    connection: &mut SqliteConnection,
    event: &BootEvent,
) -> Result<i64, StoreError> {
    let done =
        sqlx::query("INSERT INTO boot_events (subject, at, kind, body) VALUES ($1, $2, $3, $4)")
            .bind(&event.subject)
            .bind(event.at.0)
            .bind(&event.kind)
            .bind(&event.message)
            .execute(&mut *connection)
            .await?
            .last_insert_rowid();
    if done % 1024 == 0 {
        sqlx::query("DELETE FROM boot_events WHERE id <= $1")
            .bind(done - MOST_EVENTS)
            .execute(connection)
            .await?;
    }
    Ok(done)
}

/// Events after the given id, oldest first; of one subject where it is given.
pub async fn event_list(
    connection: &mut SqliteConnection,
    subject: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<BootEvent>, StoreError> {
    sqlx::query(
        "SELECT id, subject, at, kind, body FROM boot_events
         WHERE id > $1 AND ($2 IS NULL OR subject = $2) ORDER BY id LIMIT $3",
    )
    .bind(after)
    .bind(subject)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read_event)
    .collect()
}

/// The newest events, newest first.
pub async fn event_latest(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<BootEvent>, StoreError> {
    sqlx::query("SELECT id, subject, at, kind, body FROM boot_events ORDER BY id DESC LIMIT $1")
        .bind(limit)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read_event)
        .collect()
}

/// Those of the newest few thousand events that tell of something out of the ordinary, newest first.
pub async fn event_unusual(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<BootEvent>, StoreError> {
    sqlx::query(
        "SELECT id, subject, at, kind, body FROM boot_events
         WHERE id > (SELECT COALESCE(MAX(id), 0) FROM boot_events) - 5000
           AND kind IN ('boot_failed', 'held', 'install_failed', 'no_run', 'quarantined', 'silent', 'twin', 'wrong_code')
         ORDER BY id DESC LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read_event)
    .collect()
}

fn read_event(row: SqliteRow) -> Result<BootEvent, StoreError> {
    Ok(BootEvent {
        id: row.try_get("id")?,
        subject: row.try_get("subject")?,
        at: Timestamp(row.try_get("at")?),
        kind: row.try_get("kind")?,
        message: row.try_get("body")?,
    })
}
