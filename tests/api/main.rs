//! The REST API as outside systems meet it: real HTTP over TLS on loopback, a real database, the
//! simulated host.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod audit;
mod document;
mod events;
mod ground;
mod lists;
mod matrix;
mod outbound;
mod pool;
mod robustness;
mod runs;
mod schemathesis;
