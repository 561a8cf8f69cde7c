//! Single values: the deployment's id.

use sqlx::sqlite::SqliteConnection;

use super::StoreError;
use crate::vocab::Deployment;

/// The id of this installation, made at first use. It is in the tag of all that the program makes.
pub async fn deployment_get_or_make(
    connection: &mut SqliteConnection,
) -> Result<Deployment, StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('deployment', $1) ON CONFLICT (key) DO NOTHING",
    )
    .bind(Deployment::fresh().to_string())
    .execute(&mut *connection)
    .await?;
    let text: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'deployment'")
        .fetch_one(connection)
        .await?;
    text.parse()
        .map_err(|_| StoreError::Failed(format!("the stored deployment id {text:?} is not a UUID")))
}

/// How far something has come that reads a table in order: the last row's number, 0 before the first.
pub async fn cursor_get(connection: &mut SqliteConnection, key: &str) -> Result<i64, StoreError> {
    let text: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
        .bind(key)
        .fetch_optional(connection)
        .await?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

pub async fn cursor_set(
    connection: &mut SqliteConnection,
    key: &str,
    at: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(key)
    .bind(at.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
