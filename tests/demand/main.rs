//! Demand at work: arrivals counted, forecast, turned into targets, on the simulated host, with a clock
//! that is put forward.

#[allow(dead_code, reason = "shared with the tests of the pool")]
#[path = "../pool/ground.rs"]
mod ground;
#[path = "../support/mod.rs"]
mod support;

mod personas;
mod rows;
mod stories;
mod world;
