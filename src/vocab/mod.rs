//! The nouns of Greenroom: plain values, no async, no I/O.
//!
//! Everything else imports from here and nothing here imports from anywhere else. A definition (a
//! chain, a device) is not an execution (a run, an attempt, a machine).

pub mod access;
pub mod boot;
pub mod demand;
pub mod device;
pub mod digest;
pub mod envelope;
pub mod failure;
pub mod ids;
pub mod image;
pub mod machine;
pub mod persona;
pub mod pool;
pub mod power;
pub mod prediction;
pub mod run;
pub mod stage;
pub mod telemetry;
pub mod time;

pub use device::Device;
pub use digest::Digest;
pub use failure::{Failure, FailureKind, Lack};
pub use ids::{AttemptId, Deployment, DeviceId, MachineId, RunId, TokenId, WebhookId};
pub use stage::StageKind;
pub use time::Timestamp;
