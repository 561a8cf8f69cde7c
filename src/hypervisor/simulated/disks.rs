//! The disks of a simulated host: paths are keys, contents exist for raw disks only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{DiskOrder, HvError};
use crate::vocab::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub kind: DiskKind,
    pub size_mib: u64,
    /// Start of a raw disk's contents; the rest is zeros.
    pub start: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskKind {
    Overlay {
        base: PathBuf,
    },
    Copy {
        base: PathBuf,
    },
    Raw,
    /// Somebody else's file in our folders.
    Foreign,
}

impl Disk {
    /// What it takes of the host's disk space. An overlay is thought to stay small, raw disks are
    /// sparse.
    fn taken_mib(&self) -> u64 {
        match self.kind {
            DiskKind::Overlay { .. } => 1,
            DiskKind::Copy { .. } => self.size_mib,
            DiskKind::Raw | DiskKind::Foreign => (self.start.len() as u64).div_ceil(1 << 20),
        }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.start)
    }
}

#[derive(Debug, Default)]
pub struct Disks {
    disks: BTreeMap<PathBuf, Disk>,
    capacity_mib: u64,
    /// Written by guests so far, in bytes.
    pub written: u64,
}

impl Disks {
    pub fn new(capacity_mib: u64) -> Self {
        Self {
            capacity_mib,
            ..Self::default()
        }
    }

    pub fn make(&mut self, order: &DiskOrder) -> Result<(), HvError> {
        let path = order.path();
        if self.disks.contains_key(path) && !matches!(order, DiskOrder::Duplicate { .. }) {
            return Ok(());
        }
        let disk = match order {
            DiskOrder::Overlay { base, size_mib, .. } => Disk {
                kind: DiskKind::Overlay { base: base.clone() },
                size_mib: *size_mib,
                start: Vec::new(),
            },
            DiskOrder::Copy { base, size_mib, .. } => Disk {
                kind: DiskKind::Copy { base: base.clone() },
                size_mib: *size_mib,
                start: Vec::new(),
            },
            DiskOrder::Raw { size_mib, .. } => Disk {
                kind: DiskKind::Raw,
                size_mib: *size_mib,
                start: Vec::new(),
            },
            DiskOrder::Duplicate { from, .. } => match self.disks.get(from) {
                Some(disk) if disk.kind == DiskKind::Raw => disk.clone(),
                Some(_) => {
                    return Err(HvError::Refused(format!(
                        "{} is not a raw disk",
                        from.display()
                    )));
                }
                None => {
                    return Err(HvError::Host(format!(
                        "{}: No such file or directory",
                        from.display()
                    )));
                }
            },
        };
        let replaced = self.disks.get(path).map_or(0, Disk::taken_mib);
        if self.taken_mib() - replaced + disk.taken_mib() > self.capacity_mib {
            return Err(HvError::DiskFull(path.display().to_string()));
        }
        self.disks.insert(path.to_owned(), disk);
        Ok(())
    }

    pub fn taken_mib(&self) -> u64 {
        self.disks.values().map(Disk::taken_mib).sum()
    }

    pub fn get(&self, path: &Path) -> Option<&Disk> {
        self.disks.get(path)
    }

    pub fn remove(&mut self, path: &Path) -> Option<Disk> {
        self.disks.remove(path)
    }

    pub fn insert(&mut self, path: PathBuf, disk: Disk) {
        self.disks.insert(path, disk);
    }

    pub fn all(&self) -> &BTreeMap<PathBuf, Disk> {
        &self.disks
    }

    /// A guest writes at the start of a raw disk.
    pub fn write_start(&mut self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let disk = self.disks.get_mut(path).ok_or("Input/output error")?;
        if bytes.len() as u64 > disk.size_mib << 20 {
            return Err("No space left on device".into());
        }
        if disk.start.len() < bytes.len() {
            disk.start.resize(bytes.len(), 0);
        }
        disk.start[..bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The first bytes of a raw disk; `None` when it is gone.
    pub fn read_start(&self, path: &Path, count: usize) -> Option<Vec<u8>> {
        let disk = self.disks.get(path)?;
        let count = count.min(usize::try_from(disk.size_mib << 20).unwrap_or(usize::MAX));
        let mut bytes = disk.start[..count.min(disk.start.len())].to_vec();
        bytes.resize(count, 0);
        Some(bytes)
    }
}
