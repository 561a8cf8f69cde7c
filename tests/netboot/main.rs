//! The network boot from the outside: what devices and strangers on their network can do.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "shared with the measurements")]
#[path = "../support/field.rs"]
mod field;

mod codes;
mod comeback;
mod fuzz;
mod harm;
mod hostile;
mod machine;
mod nonsense;
#[allow(dead_code, reason = "shared with the measurements")]
mod station;
mod way;
