//! The chain language: a file becomes a checked [`model::Chain`], or a list of all its faults.
//!
//! ```text
//! text ── read ──► spanned tree ── decode + check ──► Chain ── (applied, versioned) ──► runs
//!            └──────────── faults with line, column, expectation, suggestion ◄──────┘
//! ```
//!
//! Everything here is pure, but for [`transform`], whose `jq` runs in a limited child process, and
//! for reading the script files that a chain names.

pub mod check;
pub mod faults;
pub mod handoff;
pub mod model;
pub mod read;
pub mod transform;
pub mod trigger;
pub mod xml;
