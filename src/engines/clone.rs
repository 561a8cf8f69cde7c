//! `clone`: a linked qcow2 overlay on the base image, then a cold boot.

use std::path::PathBuf;

use crate::hypervisor::DiskOrder;
use crate::vocab::image::Image;
use crate::vocab::machine::Size;

pub fn disk_order(image: &Image, size: Size, path: PathBuf) -> DiskOrder {
    DiskOrder::Overlay {
        path,
        base: image.disk.path.clone(),
        size_mib: size.disk_mib.max(image.disk_mib),
    }
}
