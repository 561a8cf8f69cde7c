//! The template files of a simulated host: who was captured into them, whether they are sealed, and
//! what somebody did to them.
//!
//! A template's disk is a disk like others, kept with them; here are its memory and its state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::super::{HvError, TemplateFiles};
use super::agent::SimGuest;
use super::disks::Disks;
use crate::vocab::Digest;
use crate::vocab::pool::{Seal, SealedFile};

/// What somebody does to a template's memory behind everybody's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The file is gone: no fork of it starts.
    Missing,
    /// The file is shorter than the guest's memory: no fork of it starts or loads.
    Truncated,
    /// Some of its bytes are others: forks load, and their guests never answer.
    Changed,
}

/// What a fork must have in common with its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub growth_mib: u64,
    /// Made with a network card, as opposed to given one later.
    pub card: bool,
}

/// A guest as it was when it was captured.
#[derive(Debug, Clone)]
pub struct Captured {
    pub guest: SimGuest,
    pub at: Instant,
    pub shape: Shape,
    pub added_mib: u64,
}

#[derive(Debug, Clone)]
pub struct Template {
    /// In place of an inode; unique on the host.
    inode: u64,
    memory_mib: u64,
    pub captured: Option<Captured>,
    sealed: bool,
    damage: Option<Damage>,
}

/// By folder.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    by_folder: BTreeMap<PathBuf, Template>,
    last_inode: u64,
}

/// Size of QEMU's migration stream without memory: half a megabyte, as measured.
const STATE_BYTES: u64 = 512 << 10;

impl Templates {
    /// A machine begins to use the folder's memory file, in place of what an earlier try left.
    pub fn begin(&mut self, files: &TemplateFiles, memory_mib: u64) -> Result<(), HvError> {
        if let Some(template) = self.by_folder.get(&files.folder)
            && template.sealed
        {
            return Err(HvError::Refused(format!(
                "{} holds a sealed template: a new one needs a new folder",
                files.folder.display()
            )));
        }
        self.last_inode += 1;
        let template = Template {
            inode: self.last_inode,
            memory_mib,
            captured: None,
            sealed: false,
            damage: None,
        };
        self.by_folder.insert(files.folder.clone(), template);
        Ok(())
    }

    pub fn capture(&mut self, files: &TemplateFiles, captured: Captured) -> Result<(), HvError> {
        let template = self.by_folder.get_mut(&files.folder);
        template.ok_or_else(|| missing(&files.memory()))?.captured = Some(captured);
        Ok(())
    }

    pub fn seal(&mut self, files: &TemplateFiles, disks: &Disks) -> Result<Seal, HvError> {
        let template = self.by_folder.get_mut(&files.folder);
        let template = template.ok_or_else(|| missing(&files.memory()))?;
        if template.captured.is_none() {
            return Err(missing(&files.state()));
        }
        let sealed = std::mem::replace(&mut template.sealed, true);
        let seal = self.inspect(files, disks, true);
        if seal.is_err()
            && let Some(template) = self.by_folder.get_mut(&files.folder)
        {
            template.sealed = sealed;
        }
        seal
    }

    pub fn inspect(
        &self,
        files: &TemplateFiles,
        disks: &Disks,
        thorough: bool,
    ) -> Result<Seal, HvError> {
        let (memory, state, disk) = (files.memory(), files.state(), files.disk());
        let template = self.by_folder.get(&files.folder);
        let template = template
            .filter(|template| template.damage != Some(Damage::Missing))
            .ok_or_else(|| missing(&memory))?;
        if template.captured.is_none() {
            return Err(missing(&state));
        }
        let contents = disks.get(&disk).ok_or_else(|| missing(&disk))?;
        if !template.sealed {
            return Err(HvError::Refused(format!(
                "{} is not read-only: seal the template first",
                memory.display()
            )));
        }
        let sealed = |path: &Path, part: u64, size_bytes, version: u8| SealedFile {
            size_bytes,
            stamp: format!("{}-{version}", template.inode * 4 + part),
            digest: thorough.then(|| {
                let inode = template.inode;
                Digest::of(format!("{} {inode} {size_bytes} {version}", path.display()).as_bytes())
            }),
        };
        let whole = template.memory_mib << 20;
        let (size, version) = match template.damage {
            Some(Damage::Truncated) => (whole / 2, 1),
            Some(Damage::Changed) => (whole, 2),
            Some(Damage::Missing) | None => (whole, 0),
        };
        Ok(Seal {
            memory: sealed(&memory, 1, size, version),
            state: sealed(&state, 2, STATE_BYTES, 0),
            disk: sealed(&disk, 3, contents.size_mib << 20, 0),
        })
    }

    /// The template that a fork starts from or is loaded from, as its files allow it.
    pub fn to_fork(&self, files: &TemplateFiles, disks: &Disks) -> Result<&Template, HvError> {
        self.inspect(files, disks, false)?;
        let template = self.by_folder.get(&files.folder);
        let template = template.ok_or_else(|| missing(&files.memory()))?;
        if template.damage == Some(Damage::Truncated) {
            return Err(HvError::Host(format!(
                "backing store size of {} does not match the guest's memory",
                files.memory().display()
            )));
        }
        Ok(template)
    }

    pub fn remove(&mut self, files: &TemplateFiles) -> bool {
        self.by_folder.remove(&files.folder).is_some()
    }

    pub fn damage(&mut self, folder: &Path, damage: Damage) {
        if let Some(template) = self.by_folder.get_mut(folder) {
            template.damage = Some(damage);
        }
    }

    pub fn all(&self) -> &BTreeMap<PathBuf, Template> {
        &self.by_folder
    }
}

impl Template {
    pub fn is_changed(&self) -> bool {
        self.damage == Some(Damage::Changed)
    }
}

fn missing(path: &Path) -> HvError {
    HvError::Refused(format!(
        "{} is missing: build the template again",
        path.display()
    ))
}

/// Whether a disk that is being made is a template's, and of which folder.
pub fn folder_of_disk(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.to_owned();
    let files = TemplateFiles { folder };
    (files.disk() == path).then_some(files.folder)
}
