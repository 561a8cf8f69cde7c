//! The rules that every hypervisor obeys, simulated or real.

pub mod disks;
pub mod forks;
pub mod jobs;
pub mod machines;
pub mod templates;
pub mod travel;
