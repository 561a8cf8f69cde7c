//! Stages' standard output and error, in pieces as they came.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::{AttemptId, RunId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    pub attempt: AttemptId,
    /// `out` or `err`.
    pub stream: String,
    /// Offset of the first byte in the guest's stream.
    pub position: i64,
    /// Bytes the guest wrote; `text` may differ where they were not UTF-8.
    pub bytes: i64,
    pub at: Timestamp,
    pub text: String,
}

/// Stores a piece, once: a piece at a position that is there already changes nothing.
pub async fn piece_put(
    connection: &mut SqliteConnection,
    run: RunId,
    piece: &Piece,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO logs (attempt, stream, position, bytes, run, at, piece) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (attempt, stream, position) DO NOTHING",
    )
    .bind(piece.attempt.to_string())
    .bind(&piece.stream)
    .bind(piece.position)
    .bind(piece.bytes)
    .bind(run.0)
    .bind(piece.at.0)
    .bind(&piece.text)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many bytes of a stream are stored: where reading goes on.
pub async fn stored_bytes(
    connection: &mut SqliteConnection,
    attempt: AttemptId,
    stream: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT COALESCE(MAX(position + bytes), 0) FROM logs WHERE attempt = $1 AND stream = $2",
    )
    .bind(attempt.to_string())
    .bind(stream)
    .fetch_one(connection)
    .await?)
}

/// Pieces of a run in order, skipping the first `skip`.
pub async fn piece_list(
    connection: &mut SqliteConnection,
    run: RunId,
    skip: i64,
    limit: i64,
) -> Result<Vec<Piece>, StoreError> {
    let rows = sqlx::query(
        "SELECT attempt, stream, position, bytes, at, piece FROM logs WHERE run = $1
         ORDER BY at, attempt, position, stream LIMIT $3 OFFSET $2",
    )
    .bind(run.0)
    .bind(skip)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let attempt: String = row.try_get("attempt")?;
            Ok(Piece {
                attempt: attempt.parse().map_err(|_| {
                    StoreError::Failed(format!("attempt id {attempt:?} is not a UUID"))
                })?,
                stream: row.try_get("stream")?,
                position: row.try_get("position")?,
                bytes: row.try_get("bytes")?,
                at: Timestamp(row.try_get("at")?),
                text: row.try_get("piece")?,
            })
        })
        .collect()
}

/// The last pieces of one stream, joined.
pub async fn tail(
    connection: &mut SqliteConnection,
    attempt: AttemptId,
    stream: &str,
    pieces: i64,
) -> Result<String, StoreError> {
    let mut found: Vec<String> = sqlx::query_scalar(
        "SELECT piece FROM logs WHERE attempt = $1 AND stream = $2 ORDER BY position DESC LIMIT $3",
    )
    .bind(attempt.to_string())
    .bind(stream)
    .bind(pieces)
    .fetch_all(connection)
    .await?;
    found.reverse();
    Ok(found.concat())
}
