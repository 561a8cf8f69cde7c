//! Power: the devices' BMCs, and the orders to boot devices from the network.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{StoreError, from_text, to_text};
use crate::vocab::power::{Bmc, NetworkOrder};
use crate::vocab::{DeviceId, Timestamp};

/// Sets a device's BMC, in the place of the one before. Refused logins begin anew with it.
pub async fn bmc_put(connection: &mut SqliteConnection, bmc: &Bmc) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO bmcs (device, address, secret, refused, set_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (device) DO UPDATE SET address = excluded.address, secret = excluded.secret,
         refused = excluded.refused, set_at = excluded.set_at",
    )
    .bind(bmc.device.to_string())
    .bind(to_text(&bmc.address)?)
    .bind(&bmc.secret)
    .bind(i64::from(bmc.refused))
    .bind(bmc.set_at.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn bmc_get(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<Option<Bmc>, StoreError> {
    sqlx::query("SELECT device, address, secret, refused, set_at FROM bmcs WHERE device = $1")
        .bind(device.to_string())
        .fetch_optional(connection)
        .await?
        .map(|row| read_bmc(&row))
        .transpose()
}

/// Names of all passwords' files that are in use.
pub async fn bmc_secrets(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    sqlx::query("SELECT secret FROM bmcs WHERE secret IS NOT NULL")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| Ok(row.try_get("secret")?))
        .collect()
}

/// Removes a device's BMC and what was to be done by it.
pub async fn bmc_remove(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM network_orders WHERE device = $1",
        "DELETE FROM bmcs WHERE device = $1",
    ] {
        sqlx::query(sql)
            .bind(device.to_string())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Counts a refused login. Only of the BMC as it was when the login was tried: one that was set
/// meanwhile has another password.
pub async fn bmc_count_refused(
    connection: &mut SqliteConnection,
    device: DeviceId,
    set_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE bmcs SET refused = refused + 1 WHERE device = $1 AND set_at = $2")
        .bind(device.to_string())
        .bind(set_at.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Logins are allowed again.
pub async fn bmc_forgive(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE bmcs SET refused = 0 WHERE device = $1")
        .bind(device.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

fn read_bmc(row: &SqliteRow) -> Result<Bmc, StoreError> {
    let device: String = row.try_get("device")?;
    let refused: i64 = row.try_get("refused")?;
    Ok(Bmc {
        device: device
            .parse()
            .map_err(|_| StoreError::Failed(format!("device id {device:?} is not a UUID")))?,
        address: from_text(row.try_get("address")?)?,
        secret: row.try_get("secret")?,
        refused: u32::try_from(refused).unwrap_or(u32::MAX),
        set_at: Timestamp(row.try_get("set_at")?),
    })
}

pub async fn order_put(
    connection: &mut SqliteConnection,
    order: &NetworkOrder,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO network_orders (device, step, body) VALUES ($1, $2, $3)
         ON CONFLICT (device) DO UPDATE SET step = excluded.step, body = excluded.body",
    )
    .bind(order.device.to_string())
    .bind(order.step.word())
    .bind(to_text(order)?)
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn order_get(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<Option<NetworkOrder>, StoreError> {
    sqlx::query("SELECT body FROM network_orders WHERE device = $1")
        .bind(device.to_string())
        .fetch_optional(connection)
        .await?
        .map(|row| from_text(row.try_get("body")?))
        .transpose()
}

pub async fn order_remove(
    connection: &mut SqliteConnection,
    device: DeviceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM network_orders WHERE device = $1")
        .bind(device.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Those that are not finished.
pub async fn order_open(
    connection: &mut SqliteConnection,
) -> Result<Vec<NetworkOrder>, StoreError> {
    sqlx::query(
        "SELECT body FROM network_orders WHERE step NOT IN ('done', 'failed') ORDER BY device",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| from_text(row.try_get("body")?))
    .collect()
}

/// All of them but those that were carried out.
pub async fn order_list(
    connection: &mut SqliteConnection,
) -> Result<Vec<NetworkOrder>, StoreError> {
    sqlx::query("SELECT body FROM network_orders WHERE step <> 'done' ORDER BY device")
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| from_text(row.try_get("body")?))
        .collect()
}
