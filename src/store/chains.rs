//! Chains: immutable versions.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::chain::model::Chain;
use crate::vocab::{Digest, Timestamp};

/// A chain as it was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedChain {
    pub version: i64,
    pub digest: Digest,
    pub applied_at: Timestamp,
    pub source: String,
    pub chain: Chain,
}

/// Stores a chain as its name's next version. When the newest version means the same, that one is
/// returned and nothing is stored: the second value says whether it is new.
pub async fn chain_apply(
    connection: &mut SqliteConnection,
    chain: &Chain,
    source: &str,
    now: Timestamp,
) -> Result<(AppliedChain, bool), StoreError> {
    let newest = chain_get(connection, &chain.name, None).await?;
    let digest = chain.digest();
    if let Some(newest) = &newest
        && newest.digest == digest
    {
        return Ok((newest.clone(), false));
    }
    let applied = AppliedChain {
        version: newest.map_or(1, |newest| newest.version + 1),
        digest,
        applied_at: now,
        source: source.to_owned(),
        chain: chain.clone(),
    };
    sqlx::query("INSERT INTO chains (name, version, digest, source, body, applied_at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(&chain.name)
        .bind(applied.version)
        .bind(digest.to_string())
        .bind(source)
        .bind(to_text(chain)?)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok((applied, true))
}

/// One version, or the newest.
pub async fn chain_get(
    connection: &mut SqliteConnection,
    name: &str,
    version: Option<i64>,
) -> Result<Option<AppliedChain>, StoreError> {
    sqlx::query(
        "SELECT version, digest, source, body, applied_at FROM chains
         WHERE name = $1 AND ($2 = 0 OR version = $2) ORDER BY version DESC LIMIT 1",
    )
    .bind(name)
    .bind(version.unwrap_or(0))
    .fetch_optional(connection)
    .await?
    .map(read)
    .transpose()
}

/// The versions of a chain, newest first: number, digest, and when it was applied.
pub async fn version_list(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Vec<(i64, Digest, Timestamp)>, StoreError> {
    sqlx::query(
        "SELECT version, digest, applied_at FROM chains WHERE name = $1 ORDER BY version DESC",
    )
    .bind(name)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let digest: String = row.try_get("digest")?;
        let digest = digest
            .parse()
            .map_err(|error| StoreError::Failed(format!("{error}")))?;
        Ok((
            row.try_get("version")?,
            digest,
            Timestamp(row.try_get("applied_at")?),
        ))
    })
    .collect()
}

/// The newest version of each chain, by name.
pub async fn chain_list(
    connection: &mut SqliteConnection,
) -> Result<Vec<AppliedChain>, StoreError> {
    sqlx::query(
        "SELECT version, digest, source, body, applied_at FROM chains AS c
         WHERE version = (SELECT MAX(version) FROM chains WHERE name = c.name) ORDER BY name",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read)
    .collect()
}

fn read(row: SqliteRow) -> Result<AppliedChain, StoreError> {
    let digest: String = row.try_get("digest")?;
    Ok(AppliedChain {
        version: row.try_get("version")?,
        digest: digest
            .parse()
            .map_err(|error| StoreError::Failed(format!("{error}")))?,
        applied_at: Timestamp(row.try_get("applied_at")?),
        source: row.try_get("source")?,
        chain: from_text(row.try_get("body")?)?,
    })
}
