//! One at a time per key: changes of one machine, agent calls of one machine, makings of one disk.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

pub struct Turns<K>(Mutex<HashMap<K, Arc<AsyncMutex<()>>>>);

/// Whoever holds it has the turn. May be moved into a thread that outlives its caller's patience.
pub type Turn = OwnedMutexGuard<()>;

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq + Clone> Turns<K> {
    /// Waits until nobody else has the turn of `key`; first come, first served.
    pub async fn take(&self, key: &K) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Only locks that nobody holds or waits for are forgotten.
            if locks.len() >= 256 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Somebody has, or waits for, the turn of `key`.
    pub fn is_taken(&self, key: &K) -> bool {
        let locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks
            .get(key)
            .is_some_and(|lock| Arc::strong_count(lock) > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_waits_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.take(&1).await;
        assert!(turns.is_taken(&1));
        let _other = turns.take(&2).await;
        assert!(futures::FutureExt::now_or_never(turns.take(&1)).is_none());
        drop(first);
        turns.take(&1).await;
        assert!(!turns.is_taken(&1));
    }
}
