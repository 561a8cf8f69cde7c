//! Old rows: observations are rolled up into days before they go, looks simply go.

use std::sync::Weak;
use std::time::Duration;

use super::Core;
use crate::store::observations;
use crate::vocab::Timestamp;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(3600);
/// Observations are kept for so long: a year and its season again.
const KEEP: Duration = Duration::from_secs(400 * 86_400);
/// Looks are only needed while their work goes on.
const KEEP_LOOKS: Duration = Duration::from_secs(2 * 86_400);
/// Rows that go in one transaction, so that runs need not wait for it.
const AT_ONCE: i64 = 500;

pub async fn age(core: Weak<Core>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(core) = core.upgrade() else { return };
        let now = core.now();
        let before = |keep: Duration| {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            Timestamp(now.0.saturating_sub(keep))
        };
        let (rows_before, looks_before) = (before(KEEP), before(KEEP_LOOKS));
        loop {
            let written = core.services.store.write(move |connection| {
                Box::pin(async move {
                    observations::age(connection, rows_before, looks_before, AT_ONCE).await
                })
            });
            match written.await {
                Ok(gone) if gone as i64 == AT_ONCE => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old observations stay for now");
                    break;
                }
            }
        }
    }
}
