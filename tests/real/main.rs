//! Runs on real machines: the whole daemon in this process, on the lab's libvirt. `vagrant/lab test`
//! starts the lab; without it these tests say that they were skipped.

#[path = "../support/mod.rs"]
mod support;

mod learned;
mod onboard;
mod pooled;
mod stories;
