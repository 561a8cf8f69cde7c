//! Engines: the ways of obtaining a VM.
//!
//! `resume` (a shell that waits) and `fork` (one made on demand) are the pool's, in [`crate::pool`]'s
//! claim; [`clone`] and [`copy`] boot a machine of their own. To add one: a variant of [`EngineKind`],
//! and a file here with its arm in [`disk_order`], or an origin in the pool's claim.

use std::path::PathBuf;

use crate::hypervisor::DiskOrder;
use crate::vocab::image::Image;
use crate::vocab::machine::{EngineKind, Size};

pub mod clone;
pub mod copy;

/// The disk from which a machine that boots on its own is booted. Shells have theirs from the pool;
/// where there is none, a linked clone takes their place.
pub fn disk_order(engine: EngineKind, image: &Image, size: Size, path: PathBuf) -> DiskOrder {
    match engine {
        EngineKind::Resume | EngineKind::Fork | EngineKind::Clone => {
            clone::disk_order(image, size, path)
        }
        EngineKind::Copy => copy::disk_order(image, size, path),
    }
}

/// Whether the pool is asked first. Where it has nothing, a linked clone serves.
pub fn is_from_pool(engine: EngineKind) -> bool {
    matches!(engine, EngineKind::Resume | EngineKind::Fork)
}

/// Chooses an engine and says why.
pub fn choose(wanted: Option<EngineKind>) -> (EngineKind, String) {
    match wanted {
        Some(engine) => (engine, format!("{engine} was asked for")),
        None => (
            EngineKind::Resume,
            "the best that the pool has: a waiting shell, else a fork, else a linked clone"
                .to_owned(),
        ),
    }
}
