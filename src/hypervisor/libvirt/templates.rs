//! A template's files: made before its machine starts, sealed when it has ended, looked at, removed.
//!
//! ```text
//!  made: memory (0600, QEMU's user) ──▶ capture: state ──▶ machine gone ──▶ sealed: all root's, 0444
//! ```
//!
//! A sealed file is never written again: forks have its pages mapped, and shortening it was measured
//! to crash them. A new template gets a new folder.
//!
//! Beside the three files of [`TemplateFiles`] there is a fourth, the head of the template's kernel. A fork
//! needs something that QEMU takes for a kernel, so that it has the same option ROM as its template,
//! but it never boots: with the head instead of kernel and initrd each fork's process is smaller by
//! the size of both (14 MiB for the image `tiny`).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::connection::Call;
use super::disks::{self, io_error};
use super::reach::QemuUser;
use super::settings::{Folders, Place};
use super::{Libvirt, machines};
use crate::hypervisor::{HvError, TemplateFiles};
use crate::vocab::Digest;
use crate::vocab::pool::{Seal, SealedFile};

const SEALED: u32 = 0o444;
/// QEMU passes through and finds only what it is told.
const FOLDER_MODE: u32 = 0o711;

impl Libvirt {
    pub(super) async fn seal(&self, files: &TemplateFiles) -> Result<Seal, HvError> {
        check_unused(self, files).await?;
        self.with_files(files, seal).await
    }

    /// Work on files of a template, off the async threads.
    pub(super) async fn with_files<T: Send + 'static>(
        &self,
        files: &TemplateFiles,
        work: impl FnOnce(&TemplateFiles) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        check(&self.settings.folders, files)?;
        let files = files.clone();
        disks::blocking(move || work(&files)).await
    }
}

/// A machine that still runs would go on writing to what is sealed.
async fn check_unused(libvirt: &Libvirt, files: &TemplateFiles) -> Result<(), HvError> {
    let disk = files.disk();
    let user = libvirt
        .control
        .call(Call::read("users"), move |connect| {
            machines::user_of(connect, &disk)
        })
        .await?;
    match user {
        None => Ok(()),
        Some(name) => Err(HvError::Refused(format!(
            "{} is still the disk of the machine {name}; destroy it before its template is sealed",
            files.disk().display()
        ))),
    }
}

pub fn kernel_head(folder: &Path) -> PathBuf {
    folder.join("kernel-head")
}

pub fn check(folders: &Folders, files: &TemplateFiles) -> Result<(), HvError> {
    folders.check(Place::Template, &files.memory())
}

/// Makes the memory file and the kernel's head anew, whatever an earlier try left. The machine must not
/// be running.
pub fn prepare(
    files: &TemplateFiles,
    memory_mib: u64,
    kernel: &Path,
    owner: Option<QemuUser>,
) -> Result<(), HvError> {
    let memory = files.memory();
    if is_sealed(&memory)? {
        return Err(HvError::Refused(format!(
            "{} belongs to a sealed template; a new one needs a new folder",
            memory.display()
        )));
    }
    let folder = &files.folder;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|error| io_error(folder, &error))?;
    make_owned(&memory, memory_mib << 20, owner)?;
    let head = kernel_head(folder);
    remove(&head)?;
    write_head(kernel, &head).map_err(|error| io_error(&head, &error))
}

/// Makes the empty file into which QEMU writes the device state.
pub fn prepare_state(files: &TemplateFiles, owner: Option<QemuUser>) -> Result<(), HvError> {
    if is_sealed(&files.memory())? {
        return Err(HvError::Refused(format!(
            "the template in {} is sealed already",
            files.folder.display()
        )));
    }
    make_owned(&files.state(), 0, owner)
}

/// A new file in place of whatever is there. Never the same one shortened: somebody may have it mapped.
fn make_owned(path: &Path, bytes: u64, owner: Option<QemuUser>) -> Result<(), HvError> {
    remove(path)?;
    let make = || -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.set_len(bytes)?;
        if let Some(owner) = owner.filter(|_| nix::unistd::Uid::effective().is_root()) {
            std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(())
    };
    make().map_err(|error| io_error(path, &error))
}

/// As much of a kernel as QEMU reads before it only copies: the real-mode part and one page. Its length
/// stands in the header (Documentation/arch/x86/boot.rst of Linux: `setup_sects` at 0x1f1, in
/// sectors of 512 bytes without the first one; 0 means 4).
fn write_head(kernel: &Path, head: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    File::open(kernel)?
        .take(256 << 10)
        .read_to_end(&mut start)?;
    let sectors = match start.get(0x1f1) {
        Some(0) => 4,
        Some(sectors) => usize::from(*sectors),
        None => 0,
    };
    let length = ((sectors + 1) * 512).max(8192) + 4096;
    start.truncate(length);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(SEALED)
        .open(head)?;
    file.write_all(&start)?;
    file.sync_all()
}

/// Makes the files read-only for everybody, whoever owned them, and durable, and reads them through.
pub fn seal(files: &TemplateFiles) -> Result<Seal, HvError> {
    let all = [
        files.memory(),
        files.state(),
        files.disk(),
        kernel_head(&files.folder),
    ];
    for path in &all {
        seal_file(path).map_err(|error| missing_or(path, &error))?;
    }
    for folder in [Some(files.folder.as_path()), files.folder.parent()]
        .into_iter()
        .flatten()
    {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| io_error(folder, &error))?;
    }
    inspect(files, Look::Thorough)
}

fn seal_file(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if nix::unistd::Uid::effective().is_root() {
        std::os::unix::fs::fchown(&file, Some(0), Some(0))?;
    }
    file.set_permissions(Permissions::from_mode(SEALED))?;
    file.sync_all()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Sizes and stamps.
    Quick,
    /// Digests too.
    Thorough,
}

/// What the files are like now. A change of owner is no change: libvirt gives the disk below another
/// disk to QEMU's user, which its mode still keeps from writing to it.
pub fn inspect(files: &TemplateFiles, look: Look) -> Result<Seal, HvError> {
    let head = kernel_head(&files.folder);
    look_at(&head, Look::Quick)?;
    Ok(Seal {
        memory: look_at(&files.memory(), look)?,
        state: look_at(&files.state(), look)?,
        disk: look_at(&files.disk(), look)?,
    })
}

fn look_at(path: &Path, look: Look) -> Result<SealedFile, HvError> {
    let found = fs::symlink_metadata(path).map_err(|error| missing_or(path, &error))?;
    if !found.is_file() || found.permissions().mode() & 0o222 != 0 {
        return Err(HvError::Refused(format!(
            "{} is not a read-only file; it is no longer what was sealed, so nothing can be forked from it",
            path.display()
        )));
    }
    let digest = match look {
        Look::Quick => None,
        Look::Thorough => Some(digest_of(path).map_err(|error| io_error(path, &error))?),
    };
    Ok(SealedFile {
        size_bytes: found.len(),
        stamp: format!(
            "{}-{}.{:09}",
            found.ino(),
            found.mtime(),
            found.mtime_nsec()
        ),
        digest,
    })
}

/// Refuses to fork a machine of that size from files that cannot be its template.
pub fn check_forkable(files: &TemplateFiles, memory_mib: u64) -> Result<(), HvError> {
    let found = inspect(files, Look::Quick)?;
    if found.memory.size_bytes != memory_mib << 20 {
        return Err(HvError::Refused(format!(
            "{} has {} bytes, not the {memory_mib} MiB of the machine that is to be forked from it",
            files.memory().display(),
            found.memory.size_bytes
        )));
    }
    if found.state.size_bytes == 0 {
        return Err(HvError::Refused(format!(
            "{} is empty: the template was not captured",
            files.state().display()
        )));
    }
    Ok(())
}

/// Removes the folder and all that is in it.
pub fn remove_all(files: &TemplateFiles) -> Result<(), HvError> {
    match fs::remove_dir_all(&files.folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(&files.folder, &error)),
        _ => Ok(()),
    }
}

/// The folders below the folder for templates, sorted.
pub fn list(folders: &Folders) -> Result<Vec<PathBuf>, HvError> {
    let root = &folders.templates;
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    };
    read().map_err(|error| io_error(root, &error))
}

fn is_sealed(path: &Path) -> Result<bool, HvError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.permissions().mode() & 0o222 == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error(path, &error)),
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn remove(path: &Path) -> Result<(), HvError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(path, &error)),
        _ => Ok(()),
    }
}

fn missing_or(path: &Path, error: &io::Error) -> HvError {
    match error.kind() {
        ErrorKind::NotFound => HvError::Refused(format!(
            "{} is missing; the template cannot be used",
            path.display()
        )),
        _ => io_error(path, error),
    }
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
