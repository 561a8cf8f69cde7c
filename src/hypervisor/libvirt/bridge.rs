//! The one way from async code to libvirt's blocking calls.
//!
//! Each call runs on a named thread of its own. Not tokio's blocking pool: a thread of that pool
//! that never comes back would hold up the end of the whole program, and libvirt's calls can hang
//! (a stopped libvirtd, a QEMU in uninterruptible sleep). A thread that is overdue is left behind,
//! counted, and its caller goes on; when too many are left behind, new calls are refused at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tracing::Span;

use crate::hypervisor::HvError;

/// Threads at once, overdue ones included. Far above what the connections let through, so that it is
/// only met when libvirt hangs for good.
const MOST_THREADS: usize = 96;

#[derive(Clone)]
pub struct Bridge {
    room: Arc<Semaphore>,
}

/// How a call went, as far as its caller was willing to wait.
pub enum Outcome<T> {
    Done(T),
    /// Still running; the receiver resolves when it ends after all.
    Overdue(oneshot::Receiver<T>),
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MOST_THREADS)),
        }
    }
}

impl Bridge {
    /// Runs `work` on a thread named `name` (at most 15 bytes are shown by the kernel), in the
    /// caller's tracing span, and waits for it up to `patience`.
    pub async fn run<T: Send + 'static>(
        &self,
        name: &str,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Outcome<T>, HvError> {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(HvError::Unreachable(format!(
                "{MOST_THREADS} calls hang in libvirt already"
            )));
        };
        let span = Span::current();
        let (tell, mut told) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let result = span.in_scope(work);
                // Room is made before the caller learns of it, so that the count it sees is true.
                drop(room);
                let _ = tell.send(result);
            })
            .map_err(|error| HvError::Host(format!("cannot start a thread: {error}")))?;
        match tokio::time::timeout(patience, &mut told).await {
            Ok(Ok(result)) => Ok(Outcome::Done(result)),
            Ok(Err(_)) => Err(HvError::Host(format!("{name} panicked"))),
            Err(_) => Ok(Outcome::Overdue(told)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hanging_call_does_not_hang_its_caller() {
        let bridge = Bridge::default();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let outcome = bridge
            .run("t", Duration::from_millis(5), move || wait.recv().is_ok())
            .await
            .unwrap();
        let Outcome::Overdue(later) = outcome else {
            panic!("it cannot have ended")
        };
        assert_eq!(bridge.room.available_permits(), MOST_THREADS - 1);
        end.send(()).unwrap();
        assert!(later.await.unwrap());
        assert_eq!(bridge.room.available_permits(), MOST_THREADS);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_that_call_only() {
        let bridge = Bridge::default();
        let outcome = bridge
            .run("t", Duration::from_secs(5), || -> u32 {
                panic!("on purpose")
            })
            .await;
        assert!(matches!(outcome, Err(HvError::Host(_))));
        assert!(matches!(
            bridge.run("t", Duration::from_secs(5), || 7).await,
            Ok(Outcome::Done(7))
        ));
    }
}
