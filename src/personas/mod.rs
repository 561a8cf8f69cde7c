//! The persona library: files become versions, versions become what a device is given.
//!
//! ```text
//!  file ── read ──► layer ──┐
//!  parent's layer ── merge ─┴─► fill in defaults ──► Document ── check ──► version n+1 (a draft)
//!            └─ all faults at once, with places ◄───────┘                     │ promote
//!  device's facts ── choose (assignment, rule, default) ──► which version ◄───┘
//!                └── resolve ──► host name, interfaces ── render ──► files
//! ```
//!
//! [`compile`] is pure but for `nft`, which judges hand-written firewall rules in a child process
//! ([`nft`]). [`library`] keeps versions, assignments and rules in the store; it is what `web` and
//! `runs` call. Who wrote a value is remembered through all merging, so that a fault in an inherited
//! value says whose it is.
//!
//! # How layers merge
//!
//! | in the file | a child's |
//! |---|---|
//! | a single value | replaces the parent's |
//! | a mapping, `settings`, `sysctl`, `labels` | is merged key by key |
//! | a list of named things (applications, users, interfaces, bonds, secrets, partitions, open ports) | is merged thing by thing: same name, merged; new name, added at the end |
//! | a plain list (dns, keys, groups, cmdline, rules, services) | replaces the parent's |
//! | `remove:` | takes things out of what was inherited, before its own are added |

pub mod catalogue;
mod check;
pub mod choose;
pub mod compile;
mod defaults;
pub mod diff;
mod facets;
mod keys;
pub mod library;
pub mod merge;
mod network;
pub mod nft;
pub mod read;
pub mod render;
pub mod resolve;
pub mod rules;
mod shape;
mod words;
