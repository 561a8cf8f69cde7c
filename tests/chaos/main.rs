//! The real daemon on the lab's libvirt, while it and what it stands on are killed, stopped, starved
//! and locked. What was left is judged by an independent look at libvirt, database and files.
//!
//! - [`sweep`]: the daemon ends at named points of a run, and is started again.
//! - [`guests`]: stages, guests and QEMU processes that misbehave.
//! - [`surroundings`]: libvirtd, disk, database and the moment of the kill.
//! - [`pool_sweep`]: the daemon ends at named points of the pool.
//! - [`pool_harm`]: shells, templates and what they stand on are taken away.
//! - [`checker`] and, for the pool, [`pooled`] decide what is wrong, [`look`] brings them the facts.
//!
//! `vagrant/lab test` runs the quick ones, `vagrant/lab chaos` the ignored ones; without the lab they
//! say that they were skipped.

mod chains;
mod checker;
mod ground;
mod guests;
mod look;
mod pool_harm;
mod pool_sweep;
mod pool_verbs;
mod pooled;
mod surroundings;
mod sweep;
