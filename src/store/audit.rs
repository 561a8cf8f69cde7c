//! The audit log: rows are only ever added.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::StoreError;
use crate::access::ledger::{Entry, Head, Record};
use crate::vocab::{Digest, Timestamp};

/// Adds a record after the last one.
pub async fn audit_append(
    connection: &mut SqliteConnection,
    entry: Entry,
) -> Result<Record, StoreError> {
    let head = audit_head(connection).await?;
    let record = head.extend(entry);
    let entry = &record.entry;
    sqlx::query(
        "INSERT INTO audit (seq, at, request, who, origin, role, client, action, subject, status, detail, previous, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(record.seq)
    .bind(entry.at.0)
    .bind(&entry.request)
    .bind(&entry.who)
    .bind(&entry.origin)
    .bind(&entry.role)
    .bind(&entry.client)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(entry.status)
    .bind(&entry.detail)
    .bind(record.previous.to_string())
    .bind(record.hash.to_string())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('audit_head', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(format!("{}:{}", record.seq, record.hash))
    .execute(connection)
    .await?;
    Ok(record)
}

/// Where the log ends, as it is kept apart from the log.
pub async fn audit_head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE key = 'audit_head'")
            .fetch_optional(connection)
            .await?;
    let Some(text) = text else {
        return Ok(Head::start());
    };
    let head = text.split_once(':').and_then(|(seq, hash)| {
        Some(Head {
            seq: seq.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    });
    head.ok_or_else(|| {
        StoreError::Failed(format!("the audit log's head {text:?} does not read back"))
    })
}

/// Records after `after`, oldest first.
pub async fn audit_read(
    connection: &mut SqliteConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    sqlx::query(
        "SELECT seq, at, request, who, origin, role, client, action, subject, status, detail, previous, hash
         FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read)
    .collect()
}

/// Which records a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Part of the caller's name.
    pub who: String,
    /// The operation.
    pub action: String,
}

/// Calls, newest first: the answers, and those that never got one.
pub async fn audit_list(
    connection: &mut SqliteConnection,
    which: &Which,
    below: i64,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    sqlx::query(
        "SELECT seq, at, request, who, origin, role, client, action, subject, status, detail, previous, hash
         FROM audit AS a
         WHERE seq < $1 AND ($2 = '' OR action = $2) AND ($3 = '' OR who LIKE '%' || $3 || '%')
           AND (status > 0 OR NOT EXISTS (SELECT 1 FROM audit AS b WHERE b.request = a.request AND b.status > 0))
         ORDER BY seq DESC LIMIT $4",
    )
    .bind(below)
    .bind(&which.action)
    .bind(&which.who)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read)
    .collect()
}

fn read(row: SqliteRow) -> Result<Record, StoreError> {
    let digest = |name: &str| -> Result<Digest, StoreError> {
        let text: String = row.try_get(name)?;
        text.parse().map_err(|error| {
            StoreError::Failed(format!("the audit log is damaged: {name}: {error}"))
        })
    };
    Ok(Record {
        seq: row.try_get("seq")?,
        previous: digest("previous")?,
        hash: digest("hash")?,
        entry: Entry {
            at: Timestamp(row.try_get("at")?),
            request: row.try_get("request")?,
            who: row.try_get("who")?,
            origin: row.try_get("origin")?,
            role: row.try_get("role")?,
            client: row.try_get("client")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            status: row.try_get("status")?,
            detail: row.try_get("detail")?,
        },
    })
}
