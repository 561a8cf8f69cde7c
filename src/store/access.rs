//! Tokens, users and their sessions. What is secret is stored as a digest.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::StoreError;
use crate::vocab::access::{Role, Scope};
use crate::vocab::{Digest, Timestamp, TokenId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub role: Role,
    pub scope: Scope,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
}

impl Token {
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// PHC string of the password.
    pub password: String,
    pub role: Role,
    pub scope: Scope,
    pub created_by: String,
    pub created_at: Timestamp,
    /// When the password was set.
    pub changed_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: User,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
}

pub async fn token_insert(
    connection: &mut SqliteConnection,
    token: &Token,
    secret: Digest,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens (id, name, hash, role, client, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.id.to_string())
    .bind(&token.name)
    .bind(secret.to_string())
    .bind(token.role.word())
    .bind(token.scope.client().unwrap_or(""))
    .bind(&token.created_by)
    .bind(token.created_at.0)
    .bind(token.expires_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Valid or not.
pub async fn token_by_secret(
    connection: &mut SqliteConnection,
    secret: Digest,
) -> Result<Option<Token>, StoreError> {
    sqlx::query("SELECT id, name, role, client, created_by, created_at, expires_at, revoked_at, last_used_at FROM tokens WHERE hash = $1")
        .bind(secret.to_string())
        .fetch_optional(connection)
        .await?
        .map(token)
        .transpose()
}

pub async fn token_get(
    connection: &mut SqliteConnection,
    id: TokenId,
) -> Result<Option<Token>, StoreError> {
    sqlx::query("SELECT id, name, role, client, created_by, created_at, expires_at, revoked_at, last_used_at FROM tokens WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?
        .map(token)
        .transpose()
}

/// Oldest first, revoked and expired ones too; those of one client where one is named.
pub async fn token_list(
    connection: &mut SqliteConnection,
    client: Option<&str>,
) -> Result<Vec<Token>, StoreError> {
    sqlx::query(
        "SELECT id, name, role, client, created_by, created_at, expires_at, revoked_at, last_used_at
         FROM tokens WHERE ($1 = '' OR client = $1) ORDER BY id",
    )
    .bind(client.unwrap_or(""))
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(token)
    .collect()
}

/// A token that is revoked already keeps its time.
pub async fn token_revoke(
    connection: &mut SqliteConnection,
    id: TokenId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn token_used(
    connection: &mut SqliteConnection,
    id: TokenId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

fn token(row: SqliteRow) -> Result<Token, StoreError> {
    let id: String = row.try_get("id")?;
    Ok(Token {
        id: id
            .parse()
            .map_err(|_| StoreError::Failed(format!("token id {id:?} is not a UUID")))?,
        name: row.try_get("name")?,
        role: role(&row)?,
        scope: scope(&row)?,
        created_by: row.try_get("created_by")?,
        created_at: Timestamp(row.try_get("created_at")?),
        expires_at: Timestamp(row.try_get("expires_at")?),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(Timestamp),
        last_used_at: row
            .try_get::<Option<i64>, _>("last_used_at")?
            .map(Timestamp),
    })
}

fn role(row: &SqliteRow) -> Result<Role, StoreError> {
    let word: String = row.try_get("role")?;
    word.parse()
        .map_err(|error| StoreError::Failed(format!("{error}")))
}

fn scope(row: &SqliteRow) -> Result<Scope, StoreError> {
    let client: String = row.try_get("client")?;
    Ok(Scope::of(Some(client).filter(|client| !client.is_empty())))
}

/// Refused where the name is taken.
pub async fn user_insert(connection: &mut SqliteConnection, user: &User) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO users (name, password, role, client, created_by, created_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING",
    )
    .bind(&user.name)
    .bind(&user.password)
    .bind(user.role.word())
    .bind(user.scope.client().unwrap_or(""))
    .bind(&user.created_by)
    .bind(user.created_at.0)
    .bind(user.changed_at.0)
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "there is a user {:?} already; remove them first, or set a password with `greenroom user password`",
        user.name
    )))
}

pub async fn user_get(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<User>, StoreError> {
    sqlx::query("SELECT name, password, role, client, created_by, created_at, changed_at FROM users WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?
        .map(user)
        .transpose()
}

/// By name; those of one client where one is named.
pub async fn user_list(
    connection: &mut SqliteConnection,
    client: Option<&str>,
) -> Result<Vec<User>, StoreError> {
    sqlx::query(
        "SELECT name, password, role, client, created_by, created_at, changed_at FROM users
         WHERE ($1 = '' OR client = $1) ORDER BY name",
    )
    .bind(client.unwrap_or(""))
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(user)
    .collect()
}

/// Sets a password and ends all sessions of the user.
pub async fn user_password(
    connection: &mut SqliteConnection,
    name: &str,
    password: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE users SET password = $2, changed_at = $3 WHERE name = $1")
        .bind(name)
        .bind(password)
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM sessions WHERE owner = $1")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Its sessions go with it.
pub async fn user_delete(connection: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM users WHERE name = $1")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

fn user(row: SqliteRow) -> Result<User, StoreError> {
    Ok(User {
        name: row.try_get("name")?,
        password: row.try_get("password")?,
        role: role(&row)?,
        scope: scope(&row)?,
        created_by: row.try_get("created_by")?,
        created_at: Timestamp(row.try_get("created_at")?),
        changed_at: Timestamp(row.try_get("changed_at")?),
    })
}

/// Begins a session, and ends the one that it replaces, if any.
pub async fn session_begin(
    connection: &mut SqliteConnection,
    owner: &str,
    secret: Digest,
    replaces: Option<Digest>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let Some(old) = replaces {
        session_end(connection, old).await?;
    }
    sqlx::query("INSERT INTO sessions (hash, owner, created_at, seen_at) VALUES ($1, $2, $3, $3)")
        .bind(secret.to_string())
        .bind(owner)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Over or not.
pub async fn session_by_secret(
    connection: &mut SqliteConnection,
    secret: Digest,
) -> Result<Option<Session>, StoreError> {
    let row = sqlx::query(
        "SELECT s.created_at AS begun_at, s.seen_at, u.name, u.password, u.role, u.client, u.created_by, u.created_at, u.changed_at
         FROM sessions AS s JOIN users AS u ON u.name = s.owner WHERE s.hash = $1",
    )
    .bind(secret.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Session {
            created_at: Timestamp(row.try_get("begun_at")?),
            seen_at: Timestamp(row.try_get("seen_at")?),
            user: user(row)?,
        })
    })
    .transpose()
}

pub async fn session_seen(
    connection: &mut SqliteConnection,
    secret: Digest,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET seen_at = $2 WHERE hash = $1")
        .bind(secret.to_string())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

pub async fn session_end(
    connection: &mut SqliteConnection,
    secret: Digest,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE hash = $1")
        .bind(secret.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes sessions that began before `begun` or were last used before `seen`.
pub async fn session_sweep(
    connection: &mut SqliteConnection,
    begun: Timestamp,
    seen: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE created_at < $1 OR seen_at < $2")
        .bind(begun.0)
        .bind(seen.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes `secret` the one code with which the first admin may be made. Refused once there are users.
pub async fn bootstrap_set(
    connection: &mut SqliteConnection,
    secret: Digest,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    no_users(connection).await?;
    sqlx::query("DELETE FROM bootstrap")
        .execute(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO bootstrap (hash, expires_at) VALUES ($1, $2)")
        .bind(secret.to_string())
        .bind(expires_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses the code up and makes the first user. Refused when the code is another or too old, or when
/// there are users.
pub async fn bootstrap_use(
    connection: &mut SqliteConnection,
    secret: Digest,
    first: &User,
    now: Timestamp,
) -> Result<(), StoreError> {
    no_users(connection).await?;
    let fits: Option<i64> =
        sqlx::query_scalar("SELECT expires_at FROM bootstrap WHERE hash = $1 AND expires_at > $2")
            .bind(secret.to_string())
            .bind(now.0)
            .fetch_optional(&mut *connection)
            .await?;
    if fits.is_none() {
        return Err(StoreError::Refused(
            "the code is not the one that the daemon printed last, or it is too old; restart the daemon for another, or use `greenroom user create` on its host".into(),
        ));
    }
    sqlx::query("DELETE FROM bootstrap")
        .execute(&mut *connection)
        .await?;
    user_insert(connection, first).await
}

async fn no_users(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let users: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
        .fetch_one(connection)
        .await?;
    if users == 0 {
        return Ok(());
    }
    Err(StoreError::Refused(
        "there are users already; an admin adds more".into(),
    ))
}
