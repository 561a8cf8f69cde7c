//! Personas: versions, the current one of each, moves, assignments and rules. `personas::library` is
//! the only writer.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::Timestamp;
use crate::vocab::persona::{
    Assignment, PersonaHead, PersonaMove, PersonaVersion, RuleSet, Subject,
};

/// Stores a version. One that is there is never changed: that is refused.
pub async fn version_insert(
    connection: &mut SqliteConnection,
    version: &PersonaVersion,
) -> Result<(), StoreError> {
    let stored = sqlx::query(
        "INSERT INTO persona_versions (name, version, digest, body, applied_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name, version) DO NOTHING",
    )
    .bind(version.name())
    .bind(version.version)
    .bind(version.compiled.digest.to_string())
    .bind(to_text(version)?)
    .bind(version.applied_at.0)
    .execute(connection)
    .await?
    .rows_affected();
    if stored == 1 {
        Ok(())
    } else {
        Err(StoreError::Refused(format!(
            "persona {} was changed by somebody else just now; look at it and apply again",
            version.name()
        )))
    }
}

/// One version, or the newest.
pub async fn version_get(
    connection: &mut SqliteConnection,
    name: &str,
    version: Option<i64>,
) -> Result<Option<PersonaVersion>, StoreError> {
    sqlx::query(
        "SELECT body FROM persona_versions WHERE name = $1 AND ($2 = 0 OR version = $2) ORDER BY version DESC LIMIT 1",
    )
    .bind(name)
    .bind(version.unwrap_or(0))
    .fetch_optional(connection)
    .await?
    .map(read)
    .transpose()
}

/// All versions of one persona, newest first.
pub async fn version_list(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Vec<PersonaVersion>, StoreError> {
    sqlx::query("SELECT body FROM persona_versions WHERE name = $1 ORDER BY version DESC")
        .bind(name)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Each persona's newest version and its current one's number, by name.
pub async fn persona_list(
    connection: &mut SqliteConnection,
) -> Result<Vec<PersonaHead>, StoreError> {
    let rows = sqlx::query(
        "SELECT v.body AS body, c.version AS current FROM persona_versions AS v
         LEFT JOIN persona_current AS c ON c.name = v.name
         WHERE v.version = (SELECT MAX(version) FROM persona_versions WHERE name = v.name) ORDER BY v.name",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(PersonaHead {
                current: row.try_get("current")?,
                newest: read(row)?,
            })
        })
        .collect()
}

/// A persona and what it is written over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kin {
    pub name: String,
    pub parent: Option<String>,
    /// Of its newest version.
    pub applied_at: Timestamp,
    /// Devices can get it.
    pub is_current: bool,
}

/// All personas by name, without their documents.
pub async fn kin_list(connection: &mut SqliteConnection) -> Result<Vec<Kin>, StoreError> {
    /// As much of a version as matters here.
    #[derive(serde::Deserialize)]
    struct Version {
        compiled: Compiled,
    }
    #[derive(serde::Deserialize)]
    struct Compiled {
        lineage: Vec<crate::vocab::persona::PersonaRef>,
    }
    let rows = sqlx::query(
        "SELECT v.name AS name, v.applied_at AS applied_at, v.body AS body, c.version IS NOT NULL AS is_current
         FROM persona_versions AS v LEFT JOIN persona_current AS c ON c.name = v.name
         WHERE v.version = (SELECT MAX(version) FROM persona_versions WHERE name = v.name) ORDER BY v.name",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let name = row.try_get("name")?;
            let applied_at = Timestamp(row.try_get("applied_at")?);
            let is_current = row.try_get("is_current")?;
            let version: Version = read(row)?;
            let parent = version.compiled.lineage.into_iter().next();
            Ok(Kin {
                name,
                parent: parent.map(|parent| parent.name),
                applied_at,
                is_current,
            })
        })
        .collect()
}

/// Whether there is any persona.
pub async fn persona_exists(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let found: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM persona_versions)")
        .fetch_one(connection)
        .await?;
    Ok(found == 1)
}

pub async fn current_get(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<i64>, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT version FROM persona_current WHERE name = $1")
            .bind(name)
            .fetch_optional(connection)
            .await?,
    )
}

pub async fn current_set(
    connection: &mut SqliteConnection,
    name: &str,
    version: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO persona_current (name, version) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET version = excluded.version",
    )
    .bind(name)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn move_insert(
    connection: &mut SqliteConnection,
    moved: &PersonaMove,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO persona_moves (name, at, body) VALUES ($1, $2, $3)")
        .bind(&moved.name)
        .bind(moved.at.0)
        .bind(to_text(moved)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Newest first.
pub async fn move_list(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Vec<PersonaMove>, StoreError> {
    sqlx::query("SELECT body FROM persona_moves WHERE name = $1 ORDER BY id DESC")
        .bind(name)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Stores an assignment under the next number and returns it with that number.
pub async fn assignment_insert(
    connection: &mut SqliteConnection,
    mut assignment: Assignment,
) -> Result<Assignment, StoreError> {
    assignment.id = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) + 1 FROM persona_assignments")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO persona_assignments (id, subject_kind, subject_name, body, made_at, until_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(assignment.id)
    .bind(assignment.subject.kind())
    .bind(assignment.subject.name())
    .bind(to_text(&assignment)?)
    .bind(assignment.at.0)
    .bind(assignment.until.map(|until| until.0))
    .execute(connection)
    .await?;
    Ok(assignment)
}

/// Ends an assignment; false when it is not in force.
pub async fn assignment_end(
    connection: &mut SqliteConnection,
    id: i64,
    now: Timestamp,
    by: &str,
    reason: &str,
) -> Result<bool, StoreError> {
    let changed = sqlx::query(
        "UPDATE persona_assignments SET ended_at = $2, ended_by = $3, ended_reason = $4 WHERE id = $1 AND ended_at IS NULL",
    )
    .bind(id)
    .bind(now.0)
    .bind(by)
    .bind(reason)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

pub async fn assignment_get(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<Assignment>, StoreError> {
    sqlx::query("SELECT body FROM persona_assignments WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

/// All that were not ended, oldest first; also those whose time is over.
pub async fn assignment_list(
    connection: &mut SqliteConnection,
) -> Result<Vec<Assignment>, StoreError> {
    sqlx::query("SELECT body FROM persona_assignments WHERE ended_at IS NULL ORDER BY id")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Those for any of these subjects that were not ended: what one device needs.
pub async fn assignment_for(
    connection: &mut SqliteConnection,
    subjects: &[Subject],
) -> Result<Vec<Assignment>, StoreError> {
    let mut found = Vec::new();
    for subject in subjects {
        let rows = sqlx::query(
            "SELECT body FROM persona_assignments WHERE subject_kind = $1 AND subject_name = $2 AND ended_at IS NULL ORDER BY id",
        )
        .bind(subject.kind())
        .bind(subject.name())
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            found.push(read(row)?);
        }
    }
    Ok(found)
}

/// The rules as they were applied.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedRules {
    pub version: i64,
    pub source: String,
    pub rules: RuleSet,
    pub applied_at: Timestamp,
    pub applied_by: String,
    pub reason: String,
}

pub async fn rules_insert(
    connection: &mut SqliteConnection,
    applied: &AppliedRules,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO persona_rules (version, source, body, applied_at, applied_by, reason) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(applied.version)
        .bind(&applied.source)
        .bind(to_text(&applied.rules)?)
        .bind(applied.applied_at.0)
        .bind(&applied.applied_by)
        .bind(&applied.reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// One version, or the newest.
pub async fn rules_get(
    connection: &mut SqliteConnection,
    version: Option<i64>,
) -> Result<Option<AppliedRules>, StoreError> {
    let row = sqlx::query(
        "SELECT version, source, body, applied_at, applied_by, reason FROM persona_rules
         WHERE ($1 = 0 OR version = $1) ORDER BY version DESC LIMIT 1",
    )
    .bind(version.unwrap_or(0))
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(AppliedRules {
            version: row.try_get("version")?,
            source: row.try_get("source")?,
            rules: from_text(row.try_get("body")?)?,
            applied_at: Timestamp(row.try_get("applied_at")?),
            applied_by: row.try_get("applied_by")?,
            reason: row.try_get("reason")?,
        })
    })
    .transpose()
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}
