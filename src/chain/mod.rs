//! The chain language: a file becomes a checked [`model::Chain`], or a list of all its faults.
//!
//! ```text
//! text ── read ──► spanned tree ── decode + check ──► Chain ── (applied, versioned) ──► runs
//!            └──────────── faults with line, column, expectation, suggestion ◄──────┘
//! ```
//!
//! Everything here is pure, but for [`transform`], whose `jq` runs in a limited child process, and
//! for reading the script files that a chain names ([`files`]).
//!
//! What a run does with a checked chain is in [`handoff`]: how a stage's input is made from the
//! run's document, and how its output becomes part of it.

pub mod check;
pub mod document;
pub mod faults;
pub mod files;
pub mod handoff;
pub mod model;
pub mod read;
mod scalar;
pub mod schema;
pub mod transform;
pub mod trigger;
pub mod units;
pub mod xml;

pub use check::{check, check_file};
pub use faults::{Fault, Faults};
pub use files::{ScriptFiles, ScriptFolder};
pub use model::Chain;
