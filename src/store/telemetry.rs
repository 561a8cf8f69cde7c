//! Telemetry of delivered devices: reports as they came, and what they were condensed to.
//!
//! [`series`] is how everybody reads it. The desk of the network boot is the sole writer: it inserts
//! reports, and lets [`condense`] work through what has become old.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::telemetry::{Bucket, Keeping, Measures, Metric, Summary, roll, step_start};
use crate::vocab::{DeviceId, Timestamp};

/// Buckets that [`series`] gives at most, unless a step is asked for.
pub const MOST: u32 = 400;
/// Steps that one call of [`condense`] makes per level at most: a turn of the one writer stays short.
const STEPS_AT_ONCE: u32 = 24;

/// One report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub at: Timestamp,
    pub measures: Measures,
    /// As `netboot::wire::Telemetry`.
    pub body: serde_json::Value,
}

/// What was measured over a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What each bucket is for; zero: every report has its own.
    pub step: Duration,
    /// By time. Steps in which nothing was heard are left out.
    pub buckets: Vec<Bucket>,
}

impl Series {
    /// All buckets as one, by metric.
    pub fn whole(&self) -> BTreeMap<Metric, Summary> {
        let mut all = BTreeMap::new();
        for (metric, summary) in self.buckets.iter().flat_map(|bucket| &bucket.values) {
            all.entry(*metric)
                .and_modify(|own: &mut Summary| *own = own.and(*summary))
                .or_insert(*summary);
        }
        all
    }
}

pub async fn report_insert(
    connection: &mut SqliteConnection,
    device: DeviceId,
    report: &Report,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO device_telemetry (device, at, body, measures) VALUES ($1, $2, $3, $4)",
    )
    .bind(device.to_string())
    .bind(report.at.0)
    .bind(report.body.to_string())
    .bind(to_text(&report.measures)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The latest ones, newest first.
pub async fn report_list(
    connection: &mut SqliteConnection,
    device: DeviceId,
    limit: i64,
) -> Result<Vec<Report>, StoreError> {
    sqlx::query(
        "SELECT at, body, measures FROM device_telemetry WHERE device = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(device.to_string())
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read_report)
    .collect()
}

fn read_report(row: SqliteRow) -> Result<Report, StoreError> {
    Ok(Report {
        at: Timestamp(row.try_get("at")?),
        measures: from_text(row.try_get("measures")?)?,
        body: from_text(row.try_get("body")?)?,
    })
}

/// What a device measured from `since` until `now`, in the step that is asked for or else the finest
/// that reaches back so far within [`MOST`] buckets.
pub async fn series(
    connection: &mut SqliteConnection,
    device: DeviceId,
    since: Timestamp,
    now: Timestamp,
    step: Option<Duration>,
    keeping: &Keeping,
) -> Result<Series, StoreError> {
    let step = step.unwrap_or_else(|| keeping.step_for(since, now, MOST));
    let later = now.after(Duration::from_micros(1));
    if step.is_zero() {
        let buckets = raw(connection, device, since, later).await?;
        return Ok(Series { step, buckets });
    }
    let since = step_start(since, step);
    let mut buckets = steps(connection, device, step, since, later).await?;
    // What is not condensed yet.
    let from = buckets.last().map_or(since, |last| last.at.after(step));
    let mut rest = if step > keeping.fine {
        steps(connection, device, keeping.fine, from, later).await?
    } else {
        Vec::new()
    };
    let from = rest.last().map_or(from, |last| last.at.after(keeping.fine));
    rest.extend(raw(connection, device, from, later).await?);
    buckets.extend(roll(&rest, step));
    Ok(Series { step, buckets })
}

/// Reports of a time, each a bucket of its own.
async fn raw(
    connection: &mut SqliteConnection,
    device: DeviceId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Bucket>, StoreError> {
    sqlx::query(
        "SELECT at, measures FROM device_telemetry WHERE device = $1 AND at >= $2 AND at < $3 ORDER BY at, id",
    )
    .bind(device.to_string())
    .bind(from.0)
    .bind(until.0)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let measures: Measures = from_text(row.try_get("measures")?)?;
        Ok(Bucket::of(Timestamp(row.try_get("at")?), &measures))
    })
    .collect()
}

async fn steps(
    connection: &mut SqliteConnection,
    device: DeviceId,
    step: Duration,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Bucket>, StoreError> {
    sqlx::query(
        "SELECT at, body FROM device_telemetry_steps
         WHERE device = $1 AND step_s = $2 AND at >= $3 AND at < $4 ORDER BY at",
    )
    .bind(device.to_string())
    .bind(seconds(step))
    .bind(from.0)
    .bind(until.0)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Bucket {
            at: Timestamp(row.try_get("at")?),
            values: from_text(row.try_get("body")?)?,
        })
    })
    .collect()
}

/// Condenses what has become old and removes what is kept no longer. Does a part of it, and nothing
/// twice: called again and again it gets everything done.
pub async fn condense(
    connection: &mut SqliteConnection,
    device: DeviceId,
    now: Timestamp,
    keeping: &Keeping,
) -> Result<(), StoreError> {
    let levels = [
        (Duration::ZERO, keeping.fine, keeping.keep_raw),
        (keeping.fine, keeping.coarse, keeping.keep_fine),
    ];
    // Until when the finer level is whole.
    let mut whole = now;
    for (finer, step, kept) in levels {
        let end = step_start(whole, step);
        whole = make_steps(connection, device, finer, step, end).await?;
        // What is not condensed yet is kept, however old.
        let limit = ago(now, kept).min(whole);
        remove_before(connection, device, finer, limit).await?;
    }
    remove_before(
        connection,
        device,
        keeping.coarse,
        ago(now, keeping.keep_coarse),
    )
    .await
}

fn ago(now: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(span))
}

/// Makes steps that lie before `end`. Until when everything is condensed now, `end` at most.
async fn make_steps(
    connection: &mut SqliteConnection,
    device: DeviceId,
    finer: Duration,
    step: Duration,
    end: Timestamp,
) -> Result<Timestamp, StoreError> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT MAX(at) FROM device_telemetry_steps WHERE device = $1 AND step_s = $2",
    )
    .bind(device.to_string())
    .bind(seconds(step))
    .fetch_one(&mut *connection)
    .await?;
    let from = last.map_or(Timestamp(0), |at| Timestamp(at).after(step));
    let first = first_after(connection, device, finer, from).await?;
    let Some(from) = first
        .map(|at| step_start(at, step))
        .filter(|from| *from < end)
    else {
        return Ok(end);
    };
    let until = from.after(step * STEPS_AT_ONCE).min(end);
    let source = if finer.is_zero() {
        raw(connection, device, from, until).await?
    } else {
        steps(connection, device, finer, from, until).await?
    };
    for bucket in roll(&source, step) {
        sqlx::query(
            "INSERT INTO device_telemetry_steps (device, step_s, at, body) VALUES ($1, $2, $3, $4)",
        )
        .bind(device.to_string())
        .bind(seconds(step))
        .bind(bucket.at.0)
        .bind(to_text(&bucket.values)?)
        .execute(&mut *connection)
        .await?;
    }
    Ok(until)
}

async fn first_after(
    connection: &mut SqliteConnection,
    device: DeviceId,
    finer: Duration,
    from: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = if finer.is_zero() {
        "SELECT MIN(at) FROM device_telemetry WHERE device = $1 AND at >= $2 AND $3 = 0"
    } else {
        "SELECT MIN(at) FROM device_telemetry_steps WHERE device = $1 AND at >= $2 AND step_s = $3"
    };
    let first: Option<i64> = sqlx::query_scalar(sql)
        .bind(device.to_string())
        .bind(from.0)
        .bind(seconds(finer))
        .fetch_one(connection)
        .await?;
    Ok(first.map(Timestamp))
}

async fn remove_before(
    connection: &mut SqliteConnection,
    device: DeviceId,
    step: Duration,
    limit: Timestamp,
) -> Result<(), StoreError> {
    let sql = if step.is_zero() {
        "DELETE FROM device_telemetry WHERE device = $1 AND at < $2 AND $3 = 0"
    } else {
        "DELETE FROM device_telemetry_steps WHERE device = $1 AND at < $2 AND step_s = $3"
    };
    sqlx::query(sql)
        .bind(device.to_string())
        .bind(limit.0)
        .bind(seconds(step))
        .execute(connection)
        .await?;
    Ok(())
}

/// Everything of one device.
pub async fn forget(connection: &mut SqliteConnection, device: DeviceId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM device_telemetry WHERE device = $1",
        "DELETE FROM device_telemetry_steps WHERE device = $1",
    ] {
        sqlx::query(sql)
            .bind(device.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn seconds(step: Duration) -> i64 {
    i64::try_from(step.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
