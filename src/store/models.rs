//! Trained models, and the labels that the classifier learns from. `foresight` is the only writer of
//! models; a label is written with the run that it is of.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::learn::classify::Facts;
use crate::vocab::{Digest, Timestamp};

/// One training and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// Numbers count over all models; `memory#7` is the name and this.
    pub id: i64,
    /// A resource's word, or `persona`.
    pub name: String,
    pub state: ModelState,
    /// When the training was asked for.
    pub made_at: Timestamp,
    /// Why it was trained.
    pub why: String,
    /// Version of the features.
    pub features: u32,
    /// The last observation (or label) that it saw.
    pub until: i64,
    /// Rows it was trained on.
    pub rows: u64,
    pub took_ms: f64,
    /// The artefact that holds the model.
    pub digest: Option<Digest>,
    /// How it was judged, as the kind of model tells it; null before.
    pub judged: serde_json::Value,
    /// What was decided, in a sentence.
    pub verdict: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Asked for or under way; a restart begins it again.
    Training,
    Serving,
    /// It did not beat the plain rule, or the one that served.
    Beaten,
    /// It served once.
    Retired,
    /// There was too little to learn from, or the training broke.
    Failed,
}

impl ModelState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Serving => "serving",
            Self::Beaten => "beaten",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

/// Stores a model under the next number and returns it with that number.
pub async fn model_insert(
    connection: &mut SqliteConnection,
    mut row: ModelRow,
) -> Result<ModelRow, StoreError> {
    row.id = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) + 1 FROM models")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query("INSERT INTO models (id, name, state, made_at, body) VALUES ($1, $2, $3, $4, $5)")
        .bind(row.id)
        .bind(&row.name)
        .bind(row.state.word())
        .bind(row.made_at.0)
        .bind(to_text(&row)?)
        .execute(connection)
        .await?;
    Ok(row)
}

pub async fn model_update(
    connection: &mut SqliteConnection,
    row: &ModelRow,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE models SET state = $2, body = $3 WHERE id = $1")
        .bind(row.id)
        .bind(row.state.word())
        .bind(to_text(row)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes `row` the one of its name that serves, if its state says so; the one before retires.
pub async fn model_settle(
    connection: &mut SqliteConnection,
    row: &ModelRow,
) -> Result<(), StoreError> {
    if row.state == ModelState::Serving {
        for mut before in model_list(connection, Some(&row.name), i64::MAX).await? {
            if before.state == ModelState::Serving && before.id != row.id {
                before.state = ModelState::Retired;
                model_update(connection, &before).await?;
            }
        }
    }
    model_update(connection, row).await
}

/// Newest first; of one name, or of all.
pub async fn model_list(
    connection: &mut SqliteConnection,
    name: Option<&str>,
    limit: i64,
) -> Result<Vec<ModelRow>, StoreError> {
    sqlx::query("SELECT body FROM models WHERE ($1 = '' OR name = $1) ORDER BY id DESC LIMIT $2")
        .bind(name.unwrap_or(""))
        .bind(limit)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Of one state, oldest first.
pub async fn model_of_state(
    connection: &mut SqliteConnection,
    state: ModelState,
) -> Result<Vec<ModelRow>, StoreError> {
    sqlx::query("SELECT body FROM models WHERE state = $1 ORDER BY id")
        .bind(state.word())
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// A device whose persona was decided for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The device's id.
    pub device: String,
    pub persona: String,
    pub at: Timestamp,
    pub facts: Facts,
    /// The classifier decided alone, and nobody has confirmed it.
    pub proposed: bool,
    /// A person said otherwise than the label before.
    #[serde(default)]
    pub corrected: bool,
}

/// Adds a label, unless the device's last one says the same.
pub async fn label_put(connection: &mut SqliteConnection, label: &Label) -> Result<(), StoreError> {
    let last =
        sqlx::query("SELECT body FROM persona_labels WHERE device = $1 ORDER BY id DESC LIMIT 1")
            .bind(&label.device)
            .fetch_optional(&mut *connection)
            .await?
            .map(read::<Label>)
            .transpose()?;
    if let Some(last) = &last
        && (&last.persona, &last.facts, last.proposed)
            == (&label.persona, &label.facts, label.proposed)
    {
        return Ok(());
    }
    let differs = last.is_some_and(|last| last.persona != label.persona);
    let label = Label {
        corrected: differs && !label.proposed,
        ..label.clone()
    };
    sqlx::query("INSERT INTO persona_labels (device, persona, at, body) VALUES ($1, $2, $3, $4)")
        .bind(&label.device)
        .bind(&label.persona)
        .bind(label.at.0)
        .bind(to_text(&label)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// The newest label of each device, oldest first, with its number; at most `limit`.
pub async fn label_list(
    connection: &mut SqliteConnection,
    limit: i64,
) -> Result<Vec<(i64, Label)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, body FROM persona_labels WHERE id IN (SELECT MAX(id) FROM persona_labels GROUP BY device)
         ORDER BY id DESC LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let mut found: Vec<(i64, Label)> = rows
        .into_iter()
        .map(|row| Ok((row.try_get("id")?, read(row)?)))
        .collect::<Result<_, StoreError>>()?;
    found.reverse();
    Ok(found)
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}
