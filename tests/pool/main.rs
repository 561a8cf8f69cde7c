//! The pool: on the simulated host every story, with a crash at every point; on a real one, in the lab,
//! one round that says how long things take.

#[path = "../support/mod.rs"]
mod support;

mod ground;
mod identity;
mod kill_sweep;
mod real;
mod stories;
mod templates;
