//! Disks as files: written here, or made by `qemu-img` and `cp` as child processes, never by a shell.
//!
//! A disk appears under its name only when it is complete: it is made under `<name>.part`, synced,
//! renamed, and its folder synced. So whatever is under the name is finished, also after a crash,
//! and a leftover `.part` is replaced by the next try. Formats are stated on every command line.
//!
//! An empty overlay is written by [`qcow2`], which takes a millisecond where `qemu-img` takes 10 to 40;
//! making it durable takes as long as the host's disk does (`tests/libvirt/fork_measure.rs`).

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::errors::says_no_space;
use super::qcow2;
use super::settings::{Folders, Place};
use super::turns::Turns;
use crate::hypervisor::{DiskOrder, HvError};

const CREATE_PATIENCE: Duration = Duration::from_secs(60);
/// Full copies: 20 GiB at 50 MB/s, with room.
const COPY_PATIENCE: Duration = Duration::from_secs(15 * 60);
const DEEPEST_FOLDER: usize = 4;

pub struct Disks {
    folders: Folders,
    qemu_img: PathBuf,
    turns: Turns<PathBuf>,
}

impl Disks {
    pub fn new(folders: Folders, qemu_img: PathBuf) -> Self {
        Self {
            folders,
            qemu_img,
            turns: Turns::default(),
        }
    }

    pub async fn make(&self, order: &DiskOrder) -> Result<(), HvError> {
        let path = order.path();
        self.check_target(order)?;
        let _turn = self.turns.take(&path.to_owned()).await;
        if !matches!(order, DiskOrder::Duplicate { .. })
            && let Some(found) = length(path)?
        {
            return accept_existing(order, found);
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        // QEMU's user passes through the folder and reads nothing in it but what libvirt gives it.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .map_err(|error| io_error(parent, &error))?;
        let part = part_of(path);
        remove_if_there(&part)?;
        self.fill(order, &part).await?;
        let sync = match order {
            // A fork ends with its host at the latest, and its overlay is of no use to anything else.
            DiskOrder::Overlay { base, .. } if base.starts_with(&self.folders.templates) => {
                Sync::NotNeeded
            }
            _ => Sync::Needed,
        };
        let path = path.to_owned();
        blocking(move || finish(&part, &path, sync)).await
    }

    /// A template's disk is made like any overlay, but in the template's folder.
    fn check_target(&self, order: &DiskOrder) -> Result<(), HvError> {
        let path = order.path();
        match order {
            DiskOrder::Overlay { .. } if path.starts_with(&self.folders.templates) => {
                self.folders.check(Place::Template, path)
            }
            _ => self.folders.check(Place::Disk, path),
        }
    }

    /// What an overlay may lie on: an image's disk, or a template's once it is sealed.
    fn check_base(&self, base: &Path) -> Result<(), HvError> {
        if !base.starts_with(&self.folders.templates) {
            return self.folders.check(Place::Image, base);
        }
        self.folders.check(Place::Template, base)?;
        let found = std::fs::symlink_metadata(base).map_err(|error| io_error(base, &error))?;
        if found.is_file() && found.permissions().mode() & 0o222 == 0 {
            Ok(())
        } else {
            Err(HvError::Refused(format!(
                "{} is no sealed disk: only a read-only file can lie below other disks",
                base.display()
            )))
        }
    }

    async fn fill(&self, order: &DiskOrder, part: &Path) -> Result<(), HvError> {
        match order {
            DiskOrder::Overlay { base, size_mib, .. } => {
                self.check_base(base)?;
                let size = (size_mib << 20).max(qcow2_size(base)?);
                let file = new_file(part).map_err(|error| io_error(part, &error))?;
                qcow2::write_overlay(&file, base, size)?.map_err(|error| io_error(part, &error))
            }
            DiskOrder::Copy { base, size_mib, .. } => {
                self.folders.check(Place::Image, base)?;
                let argv = ["convert", "-q", "-f", "qcow2", "-O", "qcow2"]
                    .map(OsStr::new)
                    .into_iter();
                run(
                    &self.qemu_img,
                    argv.chain([base.as_os_str(), part.as_os_str()]),
                    part,
                    COPY_PATIENCE,
                )
                .await?;
                let size = size_mib << 20;
                if size <= qcow2_size(base)? {
                    return Ok(());
                }
                let size = OsString::from(size.to_string());
                let argv = ["resize", "-q", "-f", "qcow2"].map(OsStr::new).into_iter();
                run(
                    &self.qemu_img,
                    argv.chain([part.as_os_str(), &size]),
                    part,
                    CREATE_PATIENCE,
                )
                .await
            }
            DiskOrder::Raw { size_mib, .. } => new_file(part)
                .and_then(|file| file.set_len(size_mib << 20))
                .map_err(|error| io_error(part, &error)),
            DiskOrder::Duplicate { from, .. } => {
                self.folders.check(Place::Disk, from)?;
                let argv = ["--reflink=auto", "--sparse=always", "--"]
                    .map(OsStr::new)
                    .into_iter();
                run(
                    Path::new("cp"),
                    argv.chain([from.as_os_str(), part.as_os_str()]),
                    part,
                    COPY_PATIENCE,
                )
                .await
            }
        }
    }

    /// Removes the disk and what an interrupted making of it left.
    pub async fn remove(&self, path: &Path) -> Result<(), HvError> {
        self.folders.check(Place::Disk, path)?;
        let _turn = self.turns.take(&path.to_owned()).await;
        let path = path.to_owned();
        // Freeing the blocks of a large disk takes a while.
        blocking(move || {
            remove_if_there(&path)?;
            remove_if_there(&part_of(&path))
        })
        .await
    }

    /// All files in the folder for disks, except what is being made right now.
    pub async fn list(&self) -> Result<Vec<PathBuf>, HvError> {
        let root = self.folders.disks.clone();
        let mut found = blocking(move || {
            let mut found = Vec::new();
            walk(&root, 0, &mut found).map_err(|error| io_error(&root, &error))?;
            Ok(found)
        })
        .await?;
        found.retain(|path| !whole_of(path).is_some_and(|whole| self.turns.is_taken(&whole)));
        found.sort();
        Ok(found)
    }
}

fn new_file(path: &Path) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn accept_existing(order: &DiskOrder, bytes: u64) -> Result<(), HvError> {
    match order {
        DiskOrder::Raw { path, size_mib } if bytes != size_mib << 20 => {
            Err(HvError::Refused(format!(
                "{} is there already, {} MiB large",
                path.display(),
                bytes >> 20
            )))
        }
        _ => Ok(()),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn whole_of(path: &Path) -> Option<PathBuf> {
    path.to_str()?.strip_suffix(".part").map(PathBuf::from)
}

/// Whether a disk has to be there after the host lost its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Needed,
    NotNeeded,
}

/// Puts the finished file under its name, durable where that is needed.
fn finish(part: &Path, path: &Path, sync: Sync) -> Result<(), HvError> {
    let steps = || -> io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).open(part)?;
        // libvirt gives it to QEMU's user when it is used; nobody else needs to read it.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        if sync == Sync::NotNeeded {
            return std::fs::rename(part, path);
        }
        file.sync_all()?;
        std::fs::rename(part, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    steps().map_err(|error| io_error(path, &error))
}

/// Virtual size from the qcow2 header (magic, version, …, size at byte 24, big-endian; QEMU's
/// docs/interop/qcow2.rst). Saves a `qemu-img info` of 20 ms and takes nothing but qcow2.
fn qcow2_size(path: &Path) -> Result<u64, HvError> {
    let mut header = [0; 32];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(io_error(path, &error)),
        Ok(()) if header.starts_with(b"QFI\xfb") => {
            return Ok(u64::from_be_bytes(
                header[24..32].try_into().expect("eight bytes"),
            ));
        }
        Ok(()) => {}
    }
    Err(HvError::Refused(format!(
        "{} is not a qcow2 image",
        path.display()
    )))
}

/// Runs a child to its end. What it says on failure goes into the error, without any localisation.
async fn run<'a>(
    program: &Path,
    argv: impl Iterator<Item = &'a OsStr>,
    about: &Path,
    patience: Duration,
) -> Result<(), HvError> {
    let mut command = tokio::process::Command::new(program);
    command
        .args(argv)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let name = program.display();
    let output = tokio::time::timeout(patience, command.output())
        .await
        .map_err(|_| {
            HvError::Host(format!(
                "{name} did not finish {} within {patience:?}",
                about.display()
            ))
        })?
        .map_err(|error| HvError::Host(format!("{name} cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    // A failed try must not occupy what others may need.
    let _ = std::fs::remove_file(about);
    let said: String = String::from_utf8_lossy(&output.stderr)
        .trim()
        .chars()
        .take(600)
        .collect();
    if says_no_space(&said) {
        return Err(HvError::DiskFull(about.display().to_string()));
    }
    Err(HvError::Host(format!(
        "{name} failed ({}): {said}",
        output.status
    )))
}

pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HvError> + Send + 'static,
) -> Result<T, HvError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| HvError::Host(error.to_string()))?
}

/// The reading of a message of QEMU's about a file that it could not write for want of room.
pub fn says_full(said: &str, path: &Path) -> Option<HvError> {
    says_no_space(said).then(|| HvError::DiskFull(path.display().to_string()))
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if !kind.is_dir() {
            found.push(entry.path());
        } else if depth < DEEPEST_FOLDER {
            match walk(&entry.path(), depth + 1, found) {
                // Removed while we looked.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn length(path: &Path) -> Result<Option<u64>, HvError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(HvError::Refused(format!(
            "{} is there already and is no file",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, &error)),
    }
}

fn remove_if_there(path: &Path) -> Result<(), HvError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(path, &error)),
        _ => Ok(()),
    }
}

pub fn io_error(path: &Path, error: &io::Error) -> HvError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            HvError::DiskFull(path.display().to_string())
        }
        _ => HvError::Host(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
