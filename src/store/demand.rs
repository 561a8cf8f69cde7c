//! Arrivals and their counts, forecasts and what they were learned from, planned events, policies.
//! `demand` is the only writer.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::Timestamp;
use crate::vocab::demand::{
    Arrival, BUCKET_S, Count, Level, PlannedEvent, Policy, Series, Watched,
};
use crate::vocab::pool::{Class, Tier};

/// The steps that arrivals are counted in.
pub const STEPS_S: [i64; 2] = [BUCKET_S, 3600];

/// A forecast as it was told: quantiles per step from `start_s` on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub start_s: i64,
    pub step_s: i64,
    pub steps: Vec<[f64; 5]>,
    /// How it came about, for people.
    pub how: String,
}

/// Appends an arrival and counts it; false where it was there before.
pub async fn arrival_insert(
    connection: &mut SqliteConnection,
    arrival: &Arrival,
) -> Result<bool, StoreError> {
    let class = arrival.class.to_string();
    let persona = arrival.persona.as_deref().unwrap_or("");
    let new = sqlx::query(
        "INSERT INTO arrivals (key, class, client, persona, tier, wait_ms, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (key, at) DO NOTHING",
    )
    .bind(&arrival.key)
    .bind(&class)
    .bind(&arrival.client)
    .bind(persona)
    .bind(arrival.tier.word())
    .bind(arrival.wait_ms)
    .bind(arrival.at.0)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if new == 0 {
        return Ok(false);
    }
    let is = |tier: bool| i64::from(tier);
    for step_s in STEPS_S {
        let start_s = arrival.at.0.div_euclid(1_000_000).div_euclid(step_s) * step_s;
        sqlx::query(
            "INSERT INTO arrival_counts (class, persona, client, step_s, start_s, hot, warm, cold, wait_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (class, step_s, start_s, client, persona) DO UPDATE SET hot = arrival_counts.hot + excluded.hot,
                 warm = arrival_counts.warm + excluded.warm, cold = arrival_counts.cold + excluded.cold,
                 wait_ms = arrival_counts.wait_ms + excluded.wait_ms",
        )
        .bind(&class)
        .bind(persona)
        .bind(&arrival.client)
        .bind(step_s)
        .bind(start_s)
        .bind(is(arrival.tier == Tier::Hot))
        .bind(is(arrival.tier == Tier::Warm))
        .bind(is(arrival.tier > Tier::Warm))
        .bind(arrival.wait_ms.filter(|ms| ms.is_finite()).unwrap_or(0.0))
        .execute(&mut *connection)
        .await?;
    }
    Ok(true)
}

/// Arrivals of a class since, with the seconds that each was held where that is known: oldest first,
/// the newest `limit` of them.
pub async fn arrival_trace(
    connection: &mut SqliteConnection,
    class: &Class,
    since: Timestamp,
    limit: i64,
) -> Result<Vec<(Timestamp, Option<f64>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT a.at AS at, MIN(c.released_at - c.made_at) AS held FROM
             (SELECT key, at FROM arrivals WHERE class = $1 AND at >= $2 ORDER BY at DESC LIMIT $3) AS a
         LEFT JOIN claims AS c ON c.key = a.key AND c.made_at >= a.at AND c.released_at IS NOT NULL
         GROUP BY a.key, a.at ORDER BY a.at",
    )
    .bind(class.to_string())
    .bind(since.0)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let held: Option<i64> = row.try_get("held")?;
            let at = Timestamp(row.try_get("at")?);
            Ok((at, held.map(|micros| micros.max(0) as f64 / 1e6)))
        })
        .collect()
}

/// What requests of a class waited since, in milliseconds, by the tier that served them, the newest of
/// each; those that were sent away until the machine that they made themselves had booted.
pub async fn wait_list(
    connection: &mut SqliteConnection,
    class: &Class,
    since: Timestamp,
) -> Result<Vec<(Tier, f64)>, StoreError> {
    /// As much of a machine as matters here.
    #[derive(Deserialize)]
    struct Machine {
        phases: crate::vocab::machine::MachinePhases,
    }
    const MOST: i64 = 300;
    let mut waits = Vec::new();
    for tier in Tier::ALL {
        let rows = sqlx::query(
            "SELECT a.wait_ms AS wait_ms, m.body AS body FROM arrivals AS a LEFT JOIN machines AS m ON m.id = a.key
             WHERE a.class = $1 AND a.at >= $2 AND a.tier = $3 AND (a.wait_ms IS NOT NULL OR m.id IS NOT NULL)
             ORDER BY a.at DESC LIMIT $4",
        )
        .bind(class.to_string())
        .bind(since.0)
        .bind(tier.word())
        .bind(MOST)
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            let served: Option<f64> = row.try_get("wait_ms")?;
            let body: Option<String> = row.try_get("body")?;
            let machine = body.and_then(|body| serde_json::from_str::<Machine>(&body).ok());
            // A machine that never answered has no boot.
            let booted = machine
                .map(|machine| machine.phases)
                .filter(|phases| phases.boot_ms > 0.0)
                .map(|phases| phases.disk_ms + phases.define_ms + phases.boot_ms);
            waits.extend(served.or(booted).map(|ms| (tier, ms)));
        }
    }
    Ok(waits)
}

/// When the run whose first machine this is was submitted; none for other claims' keys.
pub async fn run_of_first_machine(
    connection: &mut SqliteConnection,
    machine: &str,
) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = sqlx::query_scalar(
        "SELECT r.created_at FROM machines AS m JOIN runs AS r ON r.id = m.run
         WHERE m.id = $1 AND NOT EXISTS
             (SELECT 1 FROM machines AS o WHERE o.run = m.run AND o.made_at < m.made_at)",
    )
    .bind(machine)
    .fetch_optional(connection)
    .await?;
    Ok(at.map(Timestamp))
}

/// The persona of the run that this machine is of; none for other claims' keys and runs without one.
pub async fn persona_of_machine(
    connection: &mut SqliteConnection,
    machine: &str,
) -> Result<Option<String>, StoreError> {
    /// As much of a plan as matters here.
    #[derive(Deserialize)]
    struct Plan {
        persona: Option<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let body: Option<String> = sqlx::query_scalar(
        "SELECT p.body FROM machines AS m JOIN plans AS p ON p.run = m.run WHERE m.id = $1",
    )
    .bind(machine)
    .fetch_optional(connection)
    .await?;
    // A plan that a later version wrote otherwise is not worth losing the arrival for.
    let plan = body.and_then(|body| serde_json::from_str::<Plan>(&body).ok());
    Ok(plan.and_then(|plan| plan.persona).map(|named| named.name))
}

macro_rules! counts {
    ($of:literal) => {
        concat!(
            "SELECT start_s, SUM(hot) AS hot, SUM(warm) AS warm, SUM(cold) AS cold, SUM(wait_ms) AS wait_ms
             FROM arrival_counts WHERE step_s = $1 AND start_s >= $2 AND ($5 IS NULL OR client = $5) AND ",
            $of,
            " GROUP BY start_s ORDER BY start_s"
        )
    };
}

/// Counts of a series since, in steps of `step_s`, oldest first.
pub async fn count_list(
    connection: &mut SqliteConnection,
    of: &Series,
    step_s: i64,
    since_s: i64,
) -> Result<Vec<Count>, StoreError> {
    // Written out, so that the index of what is named serves.
    let sql = match (&of.class, &of.persona) {
        (Some(_), _) => counts!("class = $3 AND ($4 IS NULL OR persona = $4)"),
        (None, Some(_)) => counts!("$3 IS NULL AND persona = $4"),
        (None, None) => counts!("$3 IS NULL AND $4 IS NULL"),
    };
    let rows = sqlx::query(sql)
        .bind(step_s)
        .bind(since_s)
        .bind(of.class.as_ref().map(Class::to_string))
        .bind(&of.persona)
        .bind(&of.client)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let count = |name: &str| -> Result<u64, StoreError> {
                Ok(u64::try_from(row.try_get::<i64, _>(name)?).unwrap_or(0))
            };
            let (hot, warm, cold) = (count("hot")?, count("warm")?, count("cold")?);
            Ok(Count {
                start_s: row.try_get("start_s")?,
                arrivals: hot + warm + cold,
                hot,
                warm,
                cold,
                wait_ms: row.try_get("wait_ms")?,
            })
        })
        .collect()
}

/// Arrivals of each class, persona and client since, by hours; all three are named.
pub async fn count_totals(
    connection: &mut SqliteConnection,
    since_s: i64,
) -> Result<Vec<(Class, String, String, u64)>, StoreError> {
    let rows = sqlx::query(
        "SELECT class, persona, client, SUM(hot + warm + cold) AS n FROM arrival_counts
         WHERE step_s = 3600 AND start_s >= $1 GROUP BY class, persona, client",
    )
    .bind(since_s)
    .fetch_all(connection)
    .await?;
    let mut totals = Vec::new();
    for row in rows {
        let class: String = row.try_get("class")?;
        // What a later version wrote otherwise is not worth failing for.
        if let Ok(class) = class.parse() {
            let n: i64 = row.try_get("n")?;
            let n = u64::try_from(n).unwrap_or(0);
            totals.push((class, row.try_get("persona")?, row.try_get("client")?, n));
        }
    }
    Ok(totals)
}

pub async fn watch_put(
    connection: &mut SqliteConnection,
    watched: Watched,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO arrival_watches (from_at, until_at) VALUES ($1, $2)
         ON CONFLICT (from_at) DO UPDATE SET until_at = excluded.until_at
         WHERE excluded.until_at > arrival_watches.until_at",
    )
    .bind(watched.from.0)
    .bind(watched.until.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Spans that end after `since`, oldest first.
pub async fn watch_list(
    connection: &mut SqliteConnection,
    since: Timestamp,
) -> Result<Vec<Watched>, StoreError> {
    let rows = sqlx::query(
        "SELECT from_at, until_at FROM arrival_watches WHERE until_at > $1 ORDER BY from_at",
    )
    .bind(since.0)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Watched {
                from: Timestamp(row.try_get("from_at")?),
                until: Timestamp(row.try_get("until_at")?),
            })
        })
        .collect()
}

pub async fn forecast_put(
    connection: &mut SqliteConnection,
    of: &Series,
    made_at: Timestamp,
    model: &str,
    told: &Told,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO forecasts (class, persona, client, made_at, model, body) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (class, persona, client, made_at) DO UPDATE SET model = excluded.model, body = excluded.body",
    )
    .bind(of.class.as_ref().map_or_else(String::new, Class::to_string))
    .bind(of.persona.as_deref().unwrap_or(""))
    .bind(of.client.as_deref().unwrap_or(""))
    .bind(made_at.0)
    .bind(model)
    .bind(to_text(told)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forecasts of a series that were made since, oldest first, each with when it was made.
pub async fn forecast_list(
    connection: &mut SqliteConnection,
    of: &Series,
    since: Timestamp,
) -> Result<Vec<(Timestamp, Told)>, StoreError> {
    sqlx::query(
        "SELECT made_at, body FROM forecasts
         WHERE class = $1 AND persona = $2 AND client = $3 AND made_at >= $4 ORDER BY made_at",
    )
    .bind(of.class.as_ref().map_or_else(String::new, Class::to_string))
    .bind(of.persona.as_deref().unwrap_or(""))
    .bind(of.client.as_deref().unwrap_or(""))
    .bind(since.0)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| Ok((Timestamp(row.try_get("made_at")?), read(row)?)))
    .collect()
}

pub async fn model_put(
    connection: &mut SqliteConnection,
    class: &Class,
    model: &str,
    body: &str,
    made_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO forecast_models (class, model, body, made_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (class) DO UPDATE SET model = excluded.model, body = excluded.body, made_at = excluded.made_at",
    )
    .bind(class.to_string())
    .bind(model)
    .bind(body)
    .bind(made_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// What was learned with this version of the model, by class as written.
pub async fn model_list(
    connection: &mut SqliteConnection,
    model: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    sqlx::query("SELECT class, body FROM forecast_models WHERE model = $1")
        .bind(model)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| Ok((row.try_get("class")?, row.try_get("body")?)))
        .collect()
}

pub async fn event_put(
    connection: &mut SqliteConnection,
    event: &PlannedEvent,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO planned_events (name, body, from_at, until_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, from_at = excluded.from_at, until_at = excluded.until_at",
    )
    .bind(&event.name)
    .bind(to_text(event)?)
    .bind(event.from.0)
    .bind(event.until.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// False where there was none.
pub async fn event_delete(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<bool, StoreError> {
    let gone = sqlx::query("DELETE FROM planned_events WHERE name = $1")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(gone.rows_affected() > 0)
}

/// By when they begin.
pub async fn event_list(
    connection: &mut SqliteConnection,
) -> Result<Vec<PlannedEvent>, StoreError> {
    sqlx::query("SELECT body FROM planned_events ORDER BY from_at, name")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

pub async fn policy_put(
    connection: &mut SqliteConnection,
    policy: &Policy,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO pool_policies (class, body) VALUES ($1, $2)
         ON CONFLICT (class) DO UPDATE SET body = excluded.body",
    )
    .bind(policy.class.to_string())
    .bind(to_text(policy)?)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn policy_list(connection: &mut SqliteConnection) -> Result<Vec<Policy>, StoreError> {
    sqlx::query("SELECT body FROM pool_policies ORDER BY class")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Notes how full the pool is; a bucket's first note stays.
pub async fn level_put(
    connection: &mut SqliteConnection,
    class: &Class,
    level: Level,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO pool_levels (class, at_s, ready, claimed, wanted) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (class, at_s) DO NOTHING",
    )
    .bind(class.to_string())
    .bind(level.at_s)
    .bind(i64::from(level.ready))
    .bind(i64::from(level.claimed))
    .bind(level.wanted.map(i64::from))
    .execute(connection)
    .await?;
    Ok(())
}

/// Levels of a class since, oldest first.
pub async fn level_list(
    connection: &mut SqliteConnection,
    class: &Class,
    since_s: i64,
) -> Result<Vec<Level>, StoreError> {
    let rows = sqlx::query(
        "SELECT at_s, ready, claimed, wanted FROM pool_levels WHERE class = $1 AND at_s >= $2 ORDER BY at_s",
    )
    .bind(class.to_string())
    .bind(since_s)
    .fetch_all(connection)
    .await?;
    let number = |value: i64| u32::try_from(value).unwrap_or(0);
    rows.into_iter()
        .map(|row| {
            Ok(Level {
                at_s: row.try_get("at_s")?,
                ready: number(row.try_get("ready")?),
                claimed: number(row.try_get("claimed")?),
                wanted: row.try_get::<Option<i64>, _>("wanted")?.map(number),
            })
        })
        .collect()
}

/// Forgets what is older than its use: single arrivals, short steps and forecasts after `before`,
/// hours after `long_before`.
pub async fn demand_forget(
    connection: &mut SqliteConnection,
    before: Timestamp,
    long_before: Timestamp,
) -> Result<(), StoreError> {
    let seconds = |at: Timestamp| at.0.div_euclid(1_000_000);
    sqlx::query("DELETE FROM arrivals WHERE at < $1")
        .bind(before.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM arrival_counts WHERE (step_s = $1 AND start_s < $2) OR start_s < $3")
        .bind(BUCKET_S)
        .bind(seconds(before))
        .bind(seconds(long_before))
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM pool_levels WHERE at_s < $1")
        .bind(seconds(before))
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM forecasts WHERE made_at < $1")
        .bind(before.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM arrival_watches WHERE until_at < $1")
        .bind(long_before.0)
        .execute(connection)
        .await?;
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}
