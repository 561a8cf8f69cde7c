//! Answers to requests that carry an Idempotency-Key, so that a repeated one gets the same again.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::{StoreError, from_text, to_text};
use crate::vocab::{Digest, Timestamp};

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Digest of method, path and body.
    pub request: Digest,
    /// None: under way, or cut off by a crash of the daemon.
    pub said: Option<Said>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// Names and values of the headers that belong to the answer.
    pub headers: Vec<(String, String)>,
    /// Answers with a key are text; none: it is secret and was not stored.
    pub body: Option<String>,
}

/// Claims a key for a request. Returns what the key stands for already, if anything.
pub async fn answer_claim(
    connection: &mut SqliteConnection,
    caller: &str,
    key: &str,
    request: Digest,
    now: Timestamp,
    oldest: Timestamp,
) -> Result<Option<Answer>, StoreError> {
    sqlx::query("DELETE FROM answers WHERE at < $1")
        .bind(oldest.0)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query(
        "SELECT request, status, headers, body, at FROM answers WHERE caller = $1 AND key = $2",
    )
    .bind(caller)
    .bind(key)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = row {
        let digest: String = row.try_get("request")?;
        let status: i64 = row.try_get("status")?;
        let said = match status {
            0 => None,
            status => Some(Said {
                status: u16::try_from(status).unwrap_or(500),
                headers: from_text(row.try_get("headers")?)?,
                body: from_text(row.try_get("body")?)?,
            }),
        };
        return Ok(Some(Answer {
            request: digest
                .parse()
                .map_err(|error| StoreError::Failed(format!("{error}")))?,
            said,
            at: Timestamp(row.try_get("at")?),
        }));
    }
    sqlx::query(
        "INSERT INTO answers (caller, key, request, status, headers, body, at) VALUES ($1, $2, $3, 0, '[]', 'null', $4)",
    )
    .bind(caller)
    .bind(key)
    .bind(request.to_string())
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(None)
}

pub async fn answer_store(
    connection: &mut SqliteConnection,
    caller: &str,
    key: &str,
    said: &Said,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE answers SET status = $3, headers = $4, body = $5 WHERE caller = $1 AND key = $2",
    )
    .bind(caller)
    .bind(key)
    .bind(i64::from(said.status))
    .bind(to_text(&said.headers)?)
    .bind(to_text(&said.body)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Frees a key whose request had no effect.
pub async fn answer_forget(
    connection: &mut SqliteConnection,
    caller: &str,
    key: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM answers WHERE caller = $1 AND key = $2")
        .bind(caller)
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}
