//! Runs: a chain executed for a device, stage by stage, on machines.
//!
//! ```text
//! dispatch ── admits queued runs fairly ──► drive (one task per run, sole writer of its rows)
//!                                             │  view ── plan (pure) ──► actions due
//!                                             ▼
//!                       act: one file per action, each safe to run twice ──► outcome ──► plan
//! ```
//!
//! [`plan`] decides; it is synchronous and knows neither clock nor database. [`drive`] stores what it
//! decided together with the intentions that follow (one transaction), carries the actions out and
//! hands their outcomes back. A restart loads the rows and goes on: the same plan names the same
//! actions again.

pub mod act;
pub mod dispatch;
pub mod drive;
pub mod explain;
pub mod pinned;
pub mod plan;
pub mod services;
pub mod submit;
pub mod view;
