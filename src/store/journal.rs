//! Intent → effect → result of each side effect.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::{RunId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: i64,
    pub action: String,
    /// The attempt or machine it is about.
    pub subject: String,
    pub generation: i64,
    pub intent_at: Timestamp,
    pub result_at: Option<Timestamp>,
    /// `ok`, or what went wrong.
    pub outcome: Option<String>,
}

/// Writes the intention to do something; to be committed before it is done. An open intention of the
/// same action on the same subject is taken over: that is what a restart finds.
pub async fn intent_write(
    connection: &mut SqliteConnection,
    run: RunId,
    action: &str,
    subject: &str,
    generation: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO journal (run, seq, action, subject, generation, intent_at)
         SELECT $1, COALESCE((SELECT MAX(seq) FROM journal WHERE run = $1), 0) + 1, $2, $3, $4, $5
         WHERE NOT EXISTS (SELECT 1 FROM journal WHERE run = $1 AND action = $2 AND subject = $3 AND result_at IS NULL)",
    )
    .bind(run.0)
    .bind(action)
    .bind(subject)
    .bind(generation)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn result_write(
    connection: &mut SqliteConnection,
    run: RunId,
    action: &str,
    subject: &str,
    outcome: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE journal SET result_at = $4, outcome = $5 WHERE run = $1 AND action = $2 AND subject = $3 AND result_at IS NULL")
        .bind(run.0)
        .bind(action)
        .bind(subject)
        .bind(now.0)
        .bind(outcome)
        .execute(connection)
        .await?;
    Ok(())
}

/// Closes what a crash left open and what the run does not need any more.
pub async fn open_close(
    connection: &mut SqliteConnection,
    run: RunId,
    outcome: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE journal SET result_at = $2, outcome = $3 WHERE run = $1 AND result_at IS NULL",
    )
    .bind(run.0)
    .bind(now.0)
    .bind(outcome)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn journal_list(
    connection: &mut SqliteConnection,
    run: RunId,
) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query("SELECT seq, action, subject, generation, intent_at, result_at, outcome FROM journal WHERE run = $1 ORDER BY seq")
        .bind(run.0)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Entry {
                seq: row.try_get("seq")?,
                action: row.try_get("action")?,
                subject: row.try_get("subject")?,
                generation: row.try_get("generation")?,
                intent_at: Timestamp(row.try_get("intent_at")?),
                result_at: row.try_get::<Option<i64>, _>("result_at")?.map(Timestamp),
                outcome: row.try_get("outcome")?,
            })
        })
        .collect()
}
