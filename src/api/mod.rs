//! What is said over the API's socket: requests, answers and the client that speaks them.
//!
//! These types are the contract with other programs; inner types and rows are free to change.
//! `web` turns inner values into these, `cli` shows them, nobody deeper knows them. Fields are only
//! ever added. Times are RFC 3339 with microseconds, UTC; digests are whole; durations carry their
//! unit in their name.

pub mod access;
pub mod audit;
pub mod boot;
pub mod chains;
pub mod claims;
pub mod client;
pub mod demand;
pub mod devices;
pub mod events;
pub mod host;
pub mod models;
pub mod page;
pub mod personas;
pub mod pool;
pub mod power;
pub mod problem;
pub mod runs;
pub mod telemetry;
pub mod time;
pub mod webhooks;

pub use access::{
    Bootstrap, CreateToken, CreateUser, CreatedToken, Login, SessionView, SetPassword, Shown,
    TokenView, UserView,
};
pub use audit::{AuditVerdict, AuditView};
pub use chains::{AppliedChainView, ApplyChain, ChainSummary, ChainView};
pub use claims::{AchievedView, ClaimView, ExecOrder, ExecView, TakeClaim, TakenView};
pub use client::{Client, ClientError};
pub use devices::{DeviceView, PutDevice, ReplaceDevice};
pub use events::EventOfRun;
pub use host::{
    CapacityView, HostView, ImageView, ReconcileView, StatusView, StuckRun, VersionView,
};
pub use page::Page;
pub use pool::{
    BuildTemplate, PhaseView, PoolBrief, PoolDetail, PoolStatusView, PoolView, SetPool, ShellView,
    TargetView, TemplateDetail, TemplateView, WhichClass,
};
pub use problem::{Problem, ProblemFault};
pub use runs::{
    AbortRun, ArtefactView, AttemptView, ConsoleView, EventView, HoldRun, JournalEntryView,
    LogPiece, MachineView, PlannedRun, PlannedStage, ReplayOf, ReplayRun, RetryRun, RunOutput,
    RunSummary, RunView, StageView, StartRun, StartedRun, WatchUpdate, WhyView,
};
pub use time::Time;
pub use webhooks::{AddWebhook, AddedWebhook, DeliveryView, TestedWebhook, WebhookView};

/// What every path begins with.
pub const PREFIX: &str = "/api/v1";

/// Largest request that is accepted, bytes.
pub const MAX_BODY_BYTES: usize = 4 << 20;
