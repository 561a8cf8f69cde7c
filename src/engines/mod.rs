//! Engines: the ways of obtaining a VM. Each is a file with the same functions in the same order.
//!
//! To add one: a variant of [`EngineKind`], a file here, and its arm in [`disk_order`].

use std::path::PathBuf;

use crate::hypervisor::DiskOrder;
use crate::vocab::image::Image;
use crate::vocab::machine::{EngineKind, Size};

pub mod clone;
pub mod copy;

/// The disk from which the engine's machines boot.
pub fn disk_order(engine: EngineKind, image: &Image, size: Size, path: PathBuf) -> DiskOrder {
    match engine {
        EngineKind::Clone => clone::disk_order(image, size, path),
        EngineKind::Copy => copy::disk_order(image, size, path),
    }
}

/// Chooses an engine and says why.
pub fn choose(wanted: Option<EngineKind>) -> (EngineKind, String) {
    match wanted {
        Some(engine) => (engine, format!("{engine} was asked for")),
        None => (
            EngineKind::Clone,
            "linked clone: a disk in milliseconds, no copy of the base".to_owned(),
        ),
    }
}
