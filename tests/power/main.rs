//! Power and boot order: what a BMC may do to us, what the daemon's orders survive, and real machines.

mod bad;
mod fake;
mod orders;
mod real;
