//! Greenroom.
pub mod chain;
pub mod hypervisor;
pub mod vocab;
