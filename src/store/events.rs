//! What people are told about a run.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::{RunId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows over all runs; 0 before it is stored.
    pub id: i64,
    pub run: RunId,
    pub at: Timestamp,
    /// A short word such as `stage_succeeded`.
    pub kind: String,
    pub message: String,
}

pub async fn event_insert(
    connection: &mut SqliteConnection,
    event: &Event,
) -> Result<i64, StoreError> {
    let done = sqlx::query("INSERT INTO events (run, at, kind, body) VALUES ($1, $2, $3, $4)")
        .bind(event.run.0)
        .bind(event.at.0)
        .bind(&event.kind)
        .bind(&event.message)
        .execute(connection)
        .await?;
    Ok(done.last_insert_rowid())
}

/// Events of a run after the given id, oldest first.
pub async fn event_list(
    connection: &mut SqliteConnection,
    run: RunId,
    after: i64,
) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, run, at, kind, body FROM events WHERE run = $1 AND id > $2 ORDER BY id",
    )
    .bind(run.0)
    .bind(after)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Event {
                id: row.try_get("id")?,
                run: RunId(row.try_get("run")?),
                at: Timestamp(row.try_get("at")?),
                kind: row.try_get("kind")?,
                message: row.try_get("body")?,
            })
        })
        .collect()
}
