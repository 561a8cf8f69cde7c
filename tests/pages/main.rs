//! The web interface: every page by every role with hostile text everywhere, and people's stories in a
//! real browser. Real HTTP over TLS on loopback, a real database, the simulated host.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "shared with the tests of the API")]
#[path = "../api/ground.rs"]
mod ground;

mod browser;
mod driver;
mod foreseen;
mod forms;
mod matrix;
mod sample;
mod stories;
#[path = "../support/weeks.rs"]
mod weeks;
