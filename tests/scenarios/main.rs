//! Stories of runs: the pure plan under every order of events, and the whole daemon on the simulated
//! host, with crashes at every point.

#[path = "../support/mod.rs"]
mod support;

mod foresight;
mod kill_sweep;
mod kill_sweep_pool;
mod kill_sweep_waiting;
mod plan;
mod stories;
mod weather;
