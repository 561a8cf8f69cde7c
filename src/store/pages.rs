//! Lists in pages: each query begins after the last thing that was seen, so that a page costs the same
//! however far down it is, and nothing is shown twice when things are added meanwhile. Also the sums
//! that metrics are made of.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::events::Event;
use super::{StoreError, from_text};
use crate::vocab::run::Run;
use crate::vocab::{Device, RunId, Timestamp};

/// Devices by name, after the name `after`; of one client where one is named, and with `part` in their
/// names where it is not empty.
pub async fn device_page(
    connection: &mut SqliteConnection,
    client: Option<&str>,
    part: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Device>, StoreError> {
    let sql = if client.is_some() {
        "SELECT id, name, client, facts, added_at FROM devices WHERE name > $2 AND client = $1 AND ($4 = '' OR instr(name, $4) > 0) ORDER BY name LIMIT $3"
    } else {
        "SELECT id, name, client, facts, added_at FROM devices WHERE name > $2 AND $1 = '' AND ($4 = '' OR instr(name, $4) > 0) ORDER BY name LIMIT $3"
    };
    sqlx::query(sql)
        .bind(client.unwrap_or(""))
        .bind(after)
        .bind(limit)
        .bind(part)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| {
            let id: String = row.try_get("id")?;
            Ok(Device {
                id: id
                    .parse()
                    .map_err(|_| StoreError::Failed(format!("device id {id:?} is not a UUID")))?,
                name: row.try_get("name")?,
                client: row.try_get("client")?,
                facts: from_text(row.try_get("facts")?)?,
                added_at: Timestamp(row.try_get("added_at")?),
            })
        })
        .collect()
}

/// Which runs a list shows; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhichRuns {
    pub state: String,
    /// Id of the device.
    pub device: String,
    pub chain: String,
    pub client: String,
}

/// Runs below a number, newest first.
pub async fn run_page(
    connection: &mut SqliteConnection,
    which: &WhichRuns,
    below: i64,
    limit: i64,
) -> Result<Vec<Run>, StoreError> {
    sqlx::query(
        "SELECT body FROM runs WHERE id < $5 AND ($1 = '' OR state = $1) AND ($2 = '' OR device = $2)
         AND ($3 = '' OR chain = $3) AND ($4 = '' OR client = $4) ORDER BY id DESC LIMIT $6",
    )
    .bind(&which.state)
    .bind(&which.device)
    .bind(&which.chain)
    .bind(&which.client)
    .bind(below)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| from_text(row.try_get("body")?))
    .collect()
}

/// An event, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct EventOfClient {
    pub event: Event,
    pub client: String,
    pub chain: String,
    /// Name of the device.
    pub device: String,
}

/// Which events a list shows; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhichEvents {
    pub client: String,
    pub run: Option<RunId>,
}

/// Events of all runs after an id, oldest first.
pub async fn event_page(
    connection: &mut SqliteConnection,
    which: &WhichEvents,
    after: i64,
    limit: i64,
) -> Result<Vec<EventOfClient>, StoreError> {
    sqlx::query(
        "SELECT e.id, e.run, e.at, e.kind, e.body, r.client, r.chain, d.name AS device
         FROM events AS e JOIN runs AS r ON r.id = e.run JOIN devices AS d ON d.id = r.device
         WHERE e.id > $1 AND ($2 = '' OR r.client = $2) AND ($3 = 0 OR e.run = $3) ORDER BY e.id LIMIT $4",
    )
    .bind(after)
    .bind(&which.client)
    .bind(which.run.map_or(0, |run| run.0))
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(event)
    .collect()
}

/// The newest events of all runs, newest first.
pub async fn event_latest(
    connection: &mut SqliteConnection,
    which: &WhichEvents,
    limit: i64,
) -> Result<Vec<EventOfClient>, StoreError> {
    sqlx::query(
        "SELECT e.id, e.run, e.at, e.kind, e.body, r.client, r.chain, d.name AS device
         FROM events AS e JOIN runs AS r ON r.id = e.run JOIN devices AS d ON d.id = r.device
         WHERE ($1 = '' OR r.client = $1) AND ($2 = 0 OR e.run = $2) ORDER BY e.id DESC LIMIT $3",
    )
    .bind(&which.client)
    .bind(which.run.map_or(0, |run| run.0))
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(event)
    .collect()
}

/// Those of the newest few thousand events that tell of something out of the ordinary, newest first.
pub async fn event_unusual(
    connection: &mut SqliteConnection,
    client: &str,
    limit: i64,
) -> Result<Vec<EventOfClient>, StoreError> {
    sqlx::query(
        "SELECT e.id, e.run, e.at, e.kind, e.body, r.client, r.chain, d.name AS device
         FROM events AS e JOIN runs AS r ON r.id = e.run JOIN devices AS d ON d.id = r.device
         WHERE e.id > (SELECT COALESCE(MAX(id), 0) FROM events) - 5000
           AND e.kind IN ('attempt_failed', 'size_raised', 'release_failed', 'run_held', 'run_failed')
           AND ($1 = '' OR r.client = $1) ORDER BY e.id DESC LIMIT $2",
    )
    .bind(client)
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(event)
    .collect()
}

/// Id of the newest event; 0 before the first.
pub async fn event_newest(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(
        sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM events")
            .fetch_one(connection)
            .await?,
    )
}

fn event(row: SqliteRow) -> Result<EventOfClient, StoreError> {
    Ok(EventOfClient {
        event: Event {
            id: row.try_get("id")?,
            run: RunId(row.try_get("run")?),
            at: Timestamp(row.try_get("at")?),
            kind: row.try_get("kind")?,
            message: row.try_get("body")?,
        },
        client: row.try_get("client")?,
        chain: row.try_get("chain")?,
        device: row.try_get("device")?,
    })
}

/// How many attempts each outcome has.
pub async fn attempt_counts(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT progress, COUNT(*) AS n FROM attempts WHERE finished_at IS NOT NULL GROUP BY progress ORDER BY progress",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("progress")?, row.try_get("n")?)))
        .collect()
}

/// Upper bounds of the buckets of [`stage_durations`], seconds.
pub const BOUNDS_S: [f64; 7] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// How long a stage's successful work took, over all of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDurations {
    pub chain: String,
    pub stage: String,
    pub count: i64,
    pub sum_s: f64,
    /// How many took no longer than each of [`BOUNDS_S`].
    pub within: [i64; 7],
}

/// By chain and stage. Reads the whole table: 1 µs per row or so, once per scrape.
pub async fn stage_durations(
    connection: &mut SqliteConnection,
) -> Result<Vec<StageDurations>, StoreError> {
    let rows = sqlx::query(
        "SELECT chain, stage, COUNT(*) AS n, SUM(work_ms) / 1000.0 AS sum_s,
            SUM(CASE WHEN work_ms <= 1000 THEN 1 ELSE 0 END) AS w0,
            SUM(CASE WHEN work_ms <= 5000 THEN 1 ELSE 0 END) AS w1,
            SUM(CASE WHEN work_ms <= 15000 THEN 1 ELSE 0 END) AS w2,
            SUM(CASE WHEN work_ms <= 60000 THEN 1 ELSE 0 END) AS w3,
            SUM(CASE WHEN work_ms <= 300000 THEN 1 ELSE 0 END) AS w4,
            SUM(CASE WHEN work_ms <= 900000 THEN 1 ELSE 0 END) AS w5,
            SUM(CASE WHEN work_ms <= 3600000 THEN 1 ELSE 0 END) AS w6
         FROM stage_times GROUP BY chain, stage ORDER BY chain, stage",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let mut within = [0; 7];
            for (place, name) in within
                .iter_mut()
                .zip(["w0", "w1", "w2", "w3", "w4", "w5", "w6"])
            {
                *place = row.try_get(name)?;
            }
            Ok(StageDurations {
                chain: row.try_get("chain")?,
                stage: row.try_get("stage")?,
                count: row.try_get("n")?,
                sum_s: row.try_get("sum_s")?,
                within,
            })
        })
        .collect()
}
