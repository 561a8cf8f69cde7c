//! Named points at which a test may end the daemon. Without the feature `fault-points` a point is
//! nothing at all, and no release has the feature.

#[cfg(feature = "fault-points")]
use std::sync::Arc;

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

/// Called at each point; `true` means that the daemon ends here.
#[cfg(feature = "fault-points")]
pub type Hook = Arc<dyn Fn(&str, Window) -> bool + Send + Sync>;

/// What a test has planned for this daemon: usually nothing.
#[derive(Clone, Default)]
pub struct Faults {
    #[cfg(feature = "fault-points")]
    hook: Option<Hook>,
}

impl Faults {
    pub fn none() -> Self {
        Self::default()
    }

    #[cfg(feature = "fault-points")]
    pub fn hooked(hook: Hook) -> Self {
        Self { hook: Some(hook) }
    }

    /// What the environment asks for: `GREENROOM_FAULT=<action>:<window>:<n>` ends the process the
    /// n-th time that the point is passed, as a kill would.
    #[cfg(feature = "fault-points")]
    pub fn from_environment() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};

        let Ok(text) = std::env::var("GREENROOM_FAULT") else {
            return Self::none();
        };
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        let (Some(action), Some(window)) = (parts.next(), parts.next()) else {
            return Self::none();
        };
        let nth: u32 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let passed = AtomicU32::new(0);
        Self::hooked(Arc::new(move |at, when| {
            if at == action
                && when.word() == window
                && passed.fetch_add(1, Ordering::SeqCst) + 1 == nth
            {
                std::process::abort();
            }
            false
        }))
    }

    /// Without the feature the environment is not asked.
    #[cfg(not(feature = "fault-points"))]
    pub fn from_environment() -> Self {
        Self::none()
    }

    /// Passes a point. A task that meets the end of its daemon never continues.
    #[cfg(feature = "fault-points")]
    pub async fn point(&self, action: &str, window: Window) {
        if self.hook.as_ref().is_some_and(|hook| hook(action, window)) {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(feature = "fault-points"))]
    pub async fn point(&self, _action: &str, _window: Window) {}
}
