//! Named points at which a test may end the daemon. Without the feature `fault-points` nothing of
//! this is in the program.

/// Where in an action's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The intention is stored, the effect not yet begun.
    Before,
    /// The effect is done, its result not yet stored.
    After,
    /// The result is stored, its consequences not yet begun.
    Stored,
}

impl Window {
    pub const ALL: [Window; 3] = [Self::Before, Self::After, Self::Stored];

    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Stored => "stored",
        }
    }
}

#[cfg(feature = "fault-points")]
mod hook {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Window;

    /// Called at each point; `true` means: the daemon ends here.
    pub type Hook = Arc<dyn Fn(&str, Window) -> bool + Send + Sync>;

    /// The hook that the environment asks for: `GREENROOM_FAULT=<action>:<window>:<n>` ends the
    /// process the n-th time that the point is passed, as a kill would.
    pub fn from_environment() -> Option<Hook> {
        let text = std::env::var("GREENROOM_FAULT").ok()?;
        let mut parts = text.splitn(3, ':');
        let (action, window) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let nth: u32 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let passed = AtomicU32::new(0);
        Some(Arc::new(move |at, when| {
            if at == action
                && when.word() == window
                && passed.fetch_add(1, Ordering::SeqCst) + 1 == nth
            {
                std::process::abort();
            }
            false
        }))
    }

    /// Passes a point. A task that meets the end of its daemon never continues.
    pub async fn point(hook: Option<&Hook>, action: &str, window: Window) {
        if hook.is_some_and(|hook| hook(action, window)) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(feature = "fault-points")]
pub use hook::{Hook, from_environment, point};
