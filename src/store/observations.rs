//! What stages used: looks, observations, days. `foresight` is the only writer; rows are added, rolled up
//! and removed, never changed.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::learn::resources::histogram::Histogram;
use crate::learn::resources::observation::Observation;
use crate::learn::resources::tally::Look;
use crate::vocab::prediction::Resource;
use crate::vocab::{AttemptId, RunId, Timestamp};

/// Adds looks; one of the same moment is there already.
pub async fn looks_put(
    connection: &mut SqliteConnection,
    looks: &[(AttemptId, Look)],
) -> Result<(), StoreError> {
    for (attempt, look) in looks {
        sqlx::query(
            "INSERT INTO looks (attempt, at, body) VALUES ($1, $2, $3) ON CONFLICT (attempt, at) DO NOTHING",
        )
        .bind(attempt.to_string())
        .bind(look.at.0)
        .bind(to_text(look)?)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Looks at an attempt's machine in order of time.
pub async fn look_list(
    connection: &mut SqliteConnection,
    attempt: AttemptId,
) -> Result<Vec<Look>, StoreError> {
    sqlx::query("SELECT body FROM looks WHERE attempt = $1 ORDER BY at")
        .bind(attempt.to_string())
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Adds an observation and returns its number; none when the attempt has one already.
pub async fn observation_put(
    connection: &mut SqliteConnection,
    one: &Observation,
) -> Result<Option<i64>, StoreError> {
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO observations (attempt, run, chain, stage, outcome, at, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (attempt) DO NOTHING RETURNING id",
    )
    .bind(one.attempt.to_string())
    .bind(one.run.0)
    .bind(&one.case.chain)
    .bind(&one.case.stage)
    .bind(one.end.word())
    .bind(one.at.0)
    .bind(to_text(one)?)
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// Observations of a run, in the order in which they ended.
pub async fn observations_of_run(
    connection: &mut SqliteConnection,
    run: RunId,
) -> Result<Vec<Observation>, StoreError> {
    sqlx::query("SELECT body FROM observations WHERE run = $1 ORDER BY id")
        .bind(run.0)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// The newest `limit` observations, oldest first, up to and including number `until`.
pub async fn observations_newest(
    connection: &mut SqliteConnection,
    until: i64,
    limit: i64,
) -> Result<Vec<(i64, Observation)>, StoreError> {
    let rows =
        sqlx::query("SELECT id, body FROM observations WHERE id <= $1 ORDER BY id DESC LIMIT $2")
            .bind(until)
            .bind(limit)
            .fetch_all(connection)
            .await?;
    let mut found: Vec<(i64, Observation)> = rows
        .into_iter()
        .map(|row| Ok((row.try_get("id")?, read(row)?)))
        .collect::<Result<_, StoreError>>()?;
    found.reverse();
    Ok(found)
}

/// How many there are, and the last one's number.
pub async fn observation_count(
    connection: &mut SqliteConnection,
) -> Result<(i64, i64), StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS n, COALESCE(MAX(id), 0) AS last FROM observations")
        .fetch_one(connection)
        .await?;
    Ok((row.try_get("n")?, row.try_get("last")?))
}

/// One day of one stage: a sketch of what was needed of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    pub chain: String,
    pub stage: String,
    /// Days since 1970-01-01 UTC.
    pub day: i64,
    pub resource: Resource,
    pub sketch: Histogram,
}

const DAY_US: i64 = 86_400_000_000;
/// A year: within a day nothing fades.
const HALF_LIFE_S: f64 = 365.0 * 86_400.0;

/// Rolls up and removes observations that ended before `before`, the oldest `limit` of them, and removes
/// looks that are older than `looks_before`. Returns how many observations went. All in one transaction
/// of the caller's, so that none is counted twice.
pub async fn age(
    connection: &mut SqliteConnection,
    before: Timestamp,
    looks_before: Timestamp,
    limit: i64,
) -> Result<usize, StoreError> {
    sqlx::query("DELETE FROM looks WHERE at < $1")
        .bind(looks_before.0)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query("SELECT id, body FROM observations WHERE at < $1 ORDER BY id LIMIT $2")
        .bind(before.0)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
    let mut days: BTreeMap<(String, String, i64, &'static str), Histogram> = BTreeMap::new();
    let mut ids = Vec::new();
    for row in rows {
        ids.push(row.try_get::<i64, _>("id")?);
        let one: Observation = read(row)?;
        let day = one.at.0.div_euclid(DAY_US);
        for resource in Resource::ALL {
            let Some(need) = one.need(resource) else {
                continue;
            };
            let key = (
                one.case.chain.clone(),
                one.case.stage.clone(),
                day,
                resource.word(),
            );
            let sketch = days
                .entry(key)
                .or_insert_with(|| Histogram::new(HALF_LIFE_S));
            sketch.add(need.value, one.at.0 as f64 / 1e6);
        }
    }
    for ((chain, stage, day, resource), mut sketch) in days {
        let stored: Option<String> = sqlx::query_scalar(
            "SELECT body FROM observation_days WHERE chain = $1 AND stage = $2 AND day = $3 AND resource = $4",
        )
        .bind(&chain)
        .bind(&stage)
        .bind(day)
        .bind(resource)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(stored) = stored {
            sketch.merge(&from_text(&stored)?);
        }
        sqlx::query(
            "INSERT INTO observation_days (chain, stage, day, resource, body) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (chain, stage, day, resource) DO UPDATE SET body = excluded.body",
        )
        .bind(&chain)
        .bind(&stage)
        .bind(day)
        .bind(resource)
        .bind(to_text(&sketch)?)
        .execute(&mut *connection)
        .await?;
    }
    for id in &ids {
        sqlx::query("DELETE FROM observations WHERE id = $1")
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(ids.len())
}

/// Days of a stage that were rolled up, oldest first.
pub async fn day_list(
    connection: &mut SqliteConnection,
    chain: &str,
    stage: &str,
) -> Result<Vec<Day>, StoreError> {
    let rows = sqlx::query(
        "SELECT day, resource, body FROM observation_days WHERE chain = $1 AND stage = $2 ORDER BY day, resource",
    )
    .bind(chain)
    .bind(stage)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let word: String = row.try_get("resource")?;
            Ok(Day {
                chain: chain.to_owned(),
                stage: stage.to_owned(),
                day: row.try_get("day")?,
                resource: Resource::from_word(&word).ok_or_else(|| {
                    StoreError::Failed(format!("{word:?} is no resource that is predicted"))
                })?,
                sketch: read(row)?,
            })
        })
        .collect()
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::resources::observation::tests::sample;
    use crate::store::Store;

    #[tokio::test]
    async fn the_old_is_rolled_up_once_and_the_new_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db")).await.unwrap();
        let days = store
            .write(|connection| {
                Box::pin(async move {
                    for i in 0..30 {
                        let one = sample(100.0 + f64::from(i as i32), i * 86_400 / 10);
                        assert!(observation_put(connection, &one).await?.is_some());
                        assert!(observation_put(connection, &one).await?.is_none(), "twice");
                        looks_put(connection, &[(one.attempt, Look::default())]).await?;
                    }
                    // Two days go, in two steps; the third stays.
                    let before = Timestamp(2 * DAY_US);
                    assert_eq!(age(connection, before, Timestamp(1), 15).await?, 15);
                    assert_eq!(age(connection, before, Timestamp(1), 15).await?, 5);
                    assert_eq!(age(connection, before, Timestamp(1), 15).await?, 0);
                    assert_eq!(observation_count(connection).await?, (10, 30));
                    day_list(connection, "", "").await
                })
            })
            .await
            .unwrap();
        let memory: Vec<(i64, u64)> = days
            .iter()
            .filter(|day| day.resource == Resource::Memory)
            .map(|day| (day.day, day.sketch.count))
            .collect();
        assert_eq!(memory, [(0, 10), (1, 10)]);
        let mut connection = store.read().await.unwrap();
        let newest = observations_newest(&mut connection, i64::MAX, 3)
            .await
            .unwrap();
        assert_eq!(
            newest.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [28, 29, 30]
        );
        let looks = look_list(&mut connection, newest[0].1.attempt)
            .await
            .unwrap();
        assert!(looks.is_empty(), "looks are kept for a shorter time");
    }
}
