//! How long stages took: the history behind derived deadlines and expectations.

use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::{AttemptId, Timestamp};

/// How many of the newest observations count.
pub const WINDOW: i64 = 200;

pub async fn stage_time_put(
    connection: &mut SqliteConnection,
    chain: &str,
    stage: &str,
    attempt: AttemptId,
    at: Timestamp,
    work_ms: f64,
    total_ms: f64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO stage_times (chain, stage, attempt, at, work_ms, total_ms) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (chain, stage, at, attempt) DO NOTHING",
    )
    .bind(chain)
    .bind(stage)
    .bind(attempt.to_string())
    .bind(at.0)
    .bind(work_ms)
    .bind(total_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest work times of a stage, milliseconds, newest first.
pub async fn stage_time_list(
    connection: &mut SqliteConnection,
    chain: &str,
    stage: &str,
) -> Result<Vec<f64>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT work_ms FROM stage_times WHERE chain = $1 AND stage = $2 ORDER BY at DESC LIMIT $3",
    )
    .bind(chain)
    .bind(stage)
    .bind(WINDOW)
    .fetch_all(connection)
    .await?)
}
