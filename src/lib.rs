//! Greenroom.
pub mod api;
pub mod blocking;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engines;
pub mod hypervisor;
pub mod images;
pub mod runs;
pub mod store;
pub mod vocab;
pub mod web;
