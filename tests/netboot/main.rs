//! The network boot from the outside: what devices and strangers on their network can do.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod machine;
mod station;
mod way;
