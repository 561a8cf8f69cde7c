//! Runs with their plans, attempts and machines. `runs::drive` is the only writer.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::machine::{Machine, MachineState};
use crate::vocab::run::{Attempt, Run};
use crate::vocab::{DeviceId, RunId};

/// Stores a new run under the next number and returns it with that number.
pub async fn run_insert(
    connection: &mut SqliteConnection,
    mut run: Run,
    plan: &serde_json::Value,
) -> Result<Run, StoreError> {
    let id: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) + 1 FROM runs")
        .fetch_one(&mut *connection)
        .await?;
    run.id = RunId(id);
    sqlx::query(
        "INSERT INTO runs (id, device, client, chain, state, generation, body, created_at, finished_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)",
    )
    .bind(id)
    .bind(run.device.to_string())
    .bind(&run.client)
    .bind(&run.chain)
    .bind(run.state.word())
    .bind(run.generation)
    .bind(to_text(&run)?)
    .bind(run.created_at.0)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO plans (run, body) VALUES ($1, $2)")
        .bind(id)
        .bind(to_text(plan)?)
        .execute(connection)
        .await?;
    Ok(run)
}

/// Writes a run's row. A row of a later generation is never overwritten: that is refused.
pub async fn run_update(connection: &mut SqliteConnection, run: &Run) -> Result<(), StoreError> {
    let changed = sqlx::query("UPDATE runs SET state = $2, generation = $3, body = $4, finished_at = $5 WHERE id = $1 AND generation <= $3")
        .bind(run.id.0)
        .bind(run.state.word())
        .bind(run.generation)
        .bind(to_text(run)?)
        .bind(run.finished_at.map(|at| at.0))
        .execute(connection)
        .await?
        .rows_affected();
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Refused(format!(
            "run {} has a later generation than {}",
            run.id, run.generation
        )))
    }
}

/// Refuses when the run has another generation than the writer believes.
pub async fn run_check_generation(
    connection: &mut SqliteConnection,
    id: RunId,
    expected: i64,
) -> Result<(), StoreError> {
    let stored: Option<i64> = sqlx::query_scalar("SELECT generation FROM runs WHERE id = $1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    match stored {
        Some(stored) if stored == expected => Ok(()),
        _ => Err(StoreError::Refused(format!(
            "run {id} has generation {stored:?}, not {expected}"
        ))),
    }
}

pub async fn run_get(
    connection: &mut SqliteConnection,
    id: RunId,
) -> Result<Option<Run>, StoreError> {
    sqlx::query("SELECT body FROM runs WHERE id = $1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

pub async fn plan_get(
    connection: &mut SqliteConnection,
    id: RunId,
) -> Result<Option<serde_json::Value>, StoreError> {
    sqlx::query("SELECT body FROM plans WHERE run = $1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?
        .map(read)
        .transpose()
}

/// Newest first; optionally of one state or one device, and only below a number (for paging).
pub async fn run_list(
    connection: &mut SqliteConnection,
    state: Option<&str>,
    device: Option<&str>,
    below: Option<RunId>,
    limit: i64,
) -> Result<Vec<Run>, StoreError> {
    sqlx::query(
        "SELECT body FROM runs WHERE ($1 = '' OR state = $1) AND ($2 = '' OR device = $2) AND id < $3 ORDER BY id DESC LIMIT $4",
    )
    .bind(state.unwrap_or(""))
    .bind(device.unwrap_or(""))
    .bind(below.map_or(i64::MAX, |id| id.0))
    .bind(limit)
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read)
    .collect()
}

/// Runs that are under way: neither queued nor finished, or finished with things left to remove.
pub async fn run_unfinished(connection: &mut SqliteConnection) -> Result<Vec<RunId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM runs WHERE state IN ('running', 'waiting', 'paused', 'undoing', 'held')
         UNION SELECT run FROM machines WHERE state <> 'gone'
         UNION SELECT run FROM journal WHERE result_at IS NULL
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(RunId).collect())
}

/// The longest-waiting queued run of each client, so that clients take turns.
pub async fn run_first_queued(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, RunId)>, StoreError> {
    let rows = sqlx::query(
        "SELECT client, MIN(id) AS id FROM runs WHERE state = 'queued' GROUP BY client",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("client")?, RunId(row.try_get("id")?))))
        .collect()
}

/// The run of a device that has not come to its end, if any; replays do not count.
pub async fn run_open_of_device(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<Option<Run>, StoreError> {
    let open: Vec<Run> = sqlx::query(
        "SELECT body FROM runs WHERE device = $1 AND state IN ('queued', 'running', 'waiting', 'paused', 'undoing', 'held') ORDER BY id",
    )
    .bind(device.to_string())
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(read)
    .collect::<Result<_, _>>()?;
    Ok(open.into_iter().find(|run| run.replay_of.is_none()))
}

/// How many runs each state has.
pub async fn run_counts(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query("SELECT state, COUNT(*) AS n FROM runs GROUP BY state ORDER BY state")
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| Ok((row.try_get("state")?, row.try_get("n")?)))
        .collect()
}

/// Stores an attempt at its place among the run's: clocks may step back, places do not.
pub async fn attempt_put(
    connection: &mut SqliteConnection,
    position: usize,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO attempts (id, run, stage_index, purpose, number, generation, progress, input, output, work_ms, body, created_at, finished_at, position)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (id) DO UPDATE SET progress = excluded.progress, input = excluded.input, output = excluded.output,
             work_ms = excluded.work_ms, body = excluded.body, finished_at = excluded.finished_at",
    )
    .bind(attempt.id.to_string())
    .bind(attempt.run.0)
    .bind(i64::try_from(attempt.stage_index).unwrap_or(i64::MAX))
    .bind(attempt.purpose.word())
    .bind(i64::from(attempt.number))
    .bind(attempt.generation)
    .bind(attempt.progress.word())
    .bind(attempt.input.to_string())
    .bind(attempt.output.map(|digest| digest.to_string()))
    .bind(attempt.phases.work_ms)
    .bind(to_text(attempt)?)
    .bind(attempt.created_at.0)
    .bind(attempt.finished_at.map(|at| at.0))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// In the order in which they were made.
pub async fn attempt_list(
    connection: &mut SqliteConnection,
    run: RunId,
) -> Result<Vec<Attempt>, StoreError> {
    sqlx::query("SELECT body FROM attempts WHERE run = $1 ORDER BY position")
        .bind(run.0)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

pub async fn machine_put(
    connection: &mut SqliteConnection,
    run: RunId,
    position: usize,
    machine: &Machine,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO machines (id, run, name, generation, state, body, made_at, gone_at, position)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body, gone_at = excluded.gone_at",
    )
    .bind(machine.id.to_string())
    .bind(run.0)
    .bind(&machine.name)
    .bind(machine.tag.generation)
    .bind(machine.state.word())
    .bind(to_text(machine)?)
    .bind(machine.made_at.0)
    .bind(machine.gone_at.map(|at| at.0))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn machine_list(
    connection: &mut SqliteConnection,
    run: RunId,
) -> Result<Vec<Machine>, StoreError> {
    sqlx::query("SELECT body FROM machines WHERE run = $1 ORDER BY position")
        .bind(run.0)
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(read)
        .collect()
}

/// Every machine that is not gone.
pub async fn machine_alive(connection: &mut SqliteConnection) -> Result<Vec<Machine>, StoreError> {
    let machines: Vec<Machine> =
        sqlx::query("SELECT body FROM machines WHERE state <> 'gone' ORDER BY id")
            .fetch_all(connection)
            .await?
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()?;
    debug_assert!(
        machines
            .iter()
            .all(|machine| machine.state != MachineState::Gone)
    );
    Ok(machines)
}

/// Runs whose handoff disk or checkpoints may exist, or whose disk is kept as their result.
pub async fn run_with_disks(
    connection: &mut SqliteConnection,
    ids: &[RunId],
) -> Result<Vec<RunId>, StoreError> {
    let mut found = Vec::new();
    for id in ids {
        if run_get(connection, *id)
            .await?
            .is_some_and(|run| run.has_disks || run.kept_disk)
        {
            found.push(*id);
        }
    }
    Ok(found)
}

fn read<T: serde::de::DeserializeOwned>(row: SqliteRow) -> Result<T, StoreError> {
    from_text(row.try_get("body")?)
}
