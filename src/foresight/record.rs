//! What came of predictions, reckoned when somebody asks and kept until there are new observations.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Foresight;
use crate::learn::resources::observation::Observation;
use crate::learn::resources::record::{Record, record};
use crate::store::{StoreError, observations};

/// Newest observations that are looked at: weeks of a busy house, and read in a moment.
const READ: i64 = 5000;

/// With the number of the last observation that it knows.
pub(super) type Last = Mutex<Option<(i64, Arc<Record>)>>;

impl Foresight {
    /// What came of what was said of the newest stages.
    pub async fn record(&self) -> Result<Arc<Record>, StoreError> {
        let mut connection = self.core.services.store.read().await?;
        let (_, last) = observations::observation_count(&mut connection).await?;
        let kept = self.last_record().clone();
        if let Some((_, record)) = kept.filter(|(known, _)| *known == last) {
            return Ok(record);
        }
        let known = observations::observations_newest(&mut connection, last, READ).await?;
        drop(connection);
        let known: Vec<Observation> = known.into_iter().map(|(_, one)| one).collect();
        let made = Arc::new(crate::blocking::run(move || record(&known)).await);
        *self.last_record() = Some((last, made.clone()));
        Ok(made)
    }

    fn last_record(&self) -> MutexGuard<'_, Option<(i64, Arc<Record>)>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
