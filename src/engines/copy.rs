//! `copy`: a full copy of the base image, then a cold boot. Slower and larger than `clone`, and
//! independent of the base: for hosts where the image store is remote or about to go away.

use std::path::PathBuf;

use crate::hypervisor::DiskOrder;
use crate::vocab::image::Image;
use crate::vocab::machine::Size;

pub fn disk_order(image: &Image, size: Size, path: PathBuf) -> DiskOrder {
    DiskOrder::Copy {
        path,
        base: image.disk.path.clone(),
        size_mib: size.disk_mib.max(image.disk_mib),
    }
}
