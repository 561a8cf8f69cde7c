//! Greenroom.
pub mod blocking;
pub mod chain;
pub mod clock;
pub mod daemon;
pub mod engines;
pub mod hypervisor;
pub mod images;
pub mod reconcile;
pub mod runs;
pub mod store;
pub mod vocab;
