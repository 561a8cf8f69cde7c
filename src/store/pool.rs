//! The pool's rows: targets, templates, shells, claims, and whether the host forks. `pool` is the
//! only writer. Each row carries the turn of the pool that wrote it, and a later one stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::pool::{Claim, Class, Shell, Target, Template, Tier};
use crate::vocab::{MachineId, Timestamp};

/// Why the pool keeps something of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// What somebody set.
    pub target: Option<Target>,
    /// It has a template because it was asked for, last at this time.
    pub by_use: Option<Timestamp>,
}

/// What the self-test found out about a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub forks: bool,
    pub reason: String,
    pub at: Timestamp,
}

/// Writes what is wanted of a class; `None` takes the row away.
pub async fn target_put(
    connection: &mut SqliteConnection,
    class: &Class,
    wanted: Option<&Wanted>,
    turn: i64,
) -> Result<(), StoreError> {
    let Some(wanted) = wanted else {
        sqlx::query("DELETE FROM pool_targets WHERE class = $1 AND turn < $2")
            .bind(class.to_string())
            .bind(turn)
            .execute(connection)
            .await?;
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO pool_targets (class, body, turn) VALUES ($1, $2, $3)
         ON CONFLICT (class) DO UPDATE SET body = excluded.body, turn = excluded.turn
         WHERE excluded.turn > pool_targets.turn",
    )
    .bind(class.to_string())
    .bind(to_text(&(class, wanted))?)
    .bind(turn)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn target_list(
    connection: &mut SqliteConnection,
) -> Result<BTreeMap<Class, Wanted>, StoreError> {
    sqlx::query("SELECT body FROM pool_targets")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

pub async fn template_put(
    connection: &mut SqliteConnection,
    template: &Template,
    turn: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO templates (id, class, state, body, made_at, turn) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body, turn = excluded.turn
         WHERE excluded.turn > templates.turn",
    )
    .bind(template.id.to_string())
    .bind(template.class.to_string())
    .bind(template.state.word())
    .bind(to_text(template)?)
    .bind(template.made_at.0)
    .bind(turn)
    .execute(connection)
    .await?;
    Ok(())
}

/// Templates, newest first; `all` includes those that are gone, at most `limit`.
pub async fn template_list(
    connection: &mut SqliteConnection,
    all: bool,
    limit: i64,
) -> Result<Vec<Template>, StoreError> {
    sqlx::query("SELECT body FROM templates WHERE ($1 = 1 OR state <> 'gone') ORDER BY made_at DESC, id DESC LIMIT $2")
        .bind(i64::from(all))
        .bind(limit)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// How many templates a class has had.
pub async fn template_count(
    connection: &mut SqliteConnection,
    class: &Class,
) -> Result<i64, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT COUNT(*) FROM templates WHERE class = $1")
            .bind(class.to_string())
            .fetch_one(connection)
            .await?,
    )
}

pub async fn shell_put(
    connection: &mut SqliteConnection,
    shell: &Shell,
    base_mib: Option<u64>,
    turn: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO shells (id, class, serial, state, body, base_mib, made_at, gone_at, turn)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body,
             base_mib = excluded.base_mib, gone_at = excluded.gone_at, turn = excluded.turn
         WHERE excluded.turn > shells.turn",
    )
    .bind(shell.id.to_string())
    .bind(shell.class.to_string())
    .bind(i64::from(shell.serial))
    .bind(shell.state.word())
    .bind(to_text(shell)?)
    .bind(base_mib.and_then(|mib| i64::try_from(mib).ok()))
    .bind(shell.made_at.0)
    .bind(shell.gone_at.map(|at| at.0))
    .bind(turn)
    .execute(connection)
    .await?;
    Ok(())
}

/// Shells that are not gone, with the memory that their guests saw first.
pub async fn shell_alive(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Shell, Option<u64>)>, StoreError> {
    sqlx::query("SELECT body, base_mib FROM shells WHERE state <> 'gone' ORDER BY serial")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| {
            let base: Option<i64> = row.try_get("base_mib")?;
            Ok((read(row)?, base.and_then(|mib| u64::try_from(mib).ok())))
        })
        .collect()
}

pub async fn shell_get(
    connection: &mut SqliteConnection,
    id: MachineId,
) -> Result<Option<Shell>, StoreError> {
    sqlx::query("SELECT body FROM shells WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

/// The largest serial number that a shell ever had; 0 before the first.
pub async fn shell_last_serial(connection: &mut SqliteConnection) -> Result<u32, StoreError> {
    let last: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(serial), 0) FROM shells")
        .fetch_one(connection)
        .await?;
    Ok(u32::try_from(last).unwrap_or(u32::MAX))
}

/// Shells that have been gone for long are of no interest; the one with the largest serial stays.
pub async fn shell_forget(
    connection: &mut SqliteConnection,
    before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM shells WHERE gone_at < $1 AND serial < (SELECT MAX(serial) FROM shells)",
    )
    .bind(before.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn claim_put(
    connection: &mut SqliteConnection,
    claim: &Claim,
    turn: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO claims (key, shell, class, tier, body, made_at, released_at, turn)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (key, shell) DO UPDATE SET body = excluded.body, released_at = excluded.released_at,
             turn = excluded.turn WHERE excluded.turn > claims.turn",
    )
    .bind(&claim.key)
    .bind(claim.shell.to_string())
    .bind(claim.class.to_string())
    .bind(claim.tier.word())
    .bind(to_text(claim)?)
    .bind(claim.made_at.0)
    .bind(claim.released_at.map(|at| at.0))
    .bind(turn)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes away a claim that nobody was told of: its shell could not be made ready.
pub async fn claim_undo(
    connection: &mut SqliteConnection,
    key: &str,
    shell: MachineId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM claims WHERE key = $1 AND shell = $2")
        .bind(key)
        .bind(shell.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Claims that are not released, oldest first.
pub async fn claim_open(connection: &mut SqliteConnection) -> Result<Vec<Claim>, StoreError> {
    sqlx::query("SELECT body FROM claims WHERE released_at IS NULL ORDER BY made_at")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// The last claims, newest first.
pub async fn claim_recent(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<Claim>, StoreError> {
    sqlx::query("SELECT body FROM claims ORDER BY made_at DESC LIMIT $1")
        .bind(limit)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// How many claims were served since, by class (as written) and tier.
pub async fn claim_served(
    connection: &mut SqliteConnection,
    since: Timestamp,
) -> Result<BTreeMap<(String, Tier), u64>, StoreError> {
    let rows = sqlx::query(
        "SELECT class, tier, COUNT(*) AS n FROM claims WHERE made_at >= $1 GROUP BY class, tier",
    )
    .bind(since.0)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let tier: String = row.try_get("tier")?;
            let tier = from_text(&format!("\"{tier}\""))?;
            let n: i64 = row.try_get("n")?;
            Ok(((row.try_get("class")?, tier), u64::try_from(n).unwrap_or(0)))
        })
        .collect()
}

/// When each class (as written) was last claimed.
pub async fn claim_last_by_class(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, Timestamp)>, StoreError> {
    sqlx::query("SELECT class, MAX(made_at) AS at FROM claims GROUP BY class")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| Ok((row.try_get("class")?, Timestamp(row.try_get("at")?))))
        .collect()
}

/// The last turn that any row was written in.
pub async fn last_turn(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT MAX(turn) FROM (SELECT COALESCE(MAX(turn), 0) AS turn FROM pool_targets
         UNION ALL SELECT COALESCE(MAX(turn), 0) FROM templates
         UNION ALL SELECT COALESCE(MAX(turn), 0) FROM shells
         UNION ALL SELECT COALESCE(MAX(turn), 0) FROM claims) AS all_turns",
    )
    .fetch_one(connection)
    .await?)
}

pub async fn verdict_get(
    connection: &mut SqliteConnection,
    host: &str,
) -> Result<Option<Verdict>, StoreError> {
    sqlx::query("SELECT body FROM fork_verdicts WHERE host = $1")
        .bind(host)
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

pub async fn verdict_put(
    connection: &mut SqliteConnection,
    host: &str,
    verdict: &Verdict,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO fork_verdicts (host, body) VALUES ($1, $2)
         ON CONFLICT (host) DO UPDATE SET body = excluded.body",
    )
    .bind(host)
    .bind(to_text(verdict)?)
    .execute(connection)
    .await?;
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}
