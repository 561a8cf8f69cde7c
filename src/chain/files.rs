//! The files that a chain names: scripts and schemas beside the chain file.
//!
//! A chain file may come from a stranger and be checked by a privileged daemon, so a name must not
//! reach anything outside the chain's own folder: not by `..`, not by a symbolic link, not by a
//! device or pipe that never ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Largest script or schema file, bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why a file cannot be had; the words complete "the file `x` …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileRefusal {
    #[error("has a name that is not a plain relative path")]
    Name,
    #[error("does not exist beside the chain file")]
    Missing,
    #[error("leads out of the chain file's folder")]
    Outside,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than 256 KiB")]
    TooLarge,
    #[error("is not UTF-8 text")]
    NotUtf8,
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// Where a chain's scripts and schemas come from.
pub trait ScriptFiles {
    /// The text of the file at `relative`, a path relative to the chain file.
    fn text(&self, relative: &str) -> Result<String, FileRefusal>;

    /// Names that exist, for "did you mean"; may be incomplete.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The folder in which the chain file lies.
#[derive(Debug, Clone)]
pub struct ScriptFolder {
    root: PathBuf,
}

impl ScriptFolder {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn open(&self, relative: &str) -> Result<File, FileRefusal> {
        let root =
            File::open(&self.root).map_err(|error| FileRefusal::Unreadable(error.to_string()))?;
        // The kernel resolves the path, so that no link can be swapped between check and use.
        // O_NONBLOCK: opening a pipe must not wait for its writer.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&root, relative, how) {
            Ok(fd) => Ok(File::from(fd)),
            Err(Errno::ENOSYS) => self.open_without_openat2(relative),
            Err(errno) => Err(refusal(errno)),
        }
    }

    /// For kernels before 5.6 and sandboxes without the call: resolve, compare, and open without
    /// following a last link.
    fn open_without_openat2(&self, relative: &str) -> Result<File, FileRefusal> {
        let unreadable = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                FileRefusal::Missing
            }
            _ => FileRefusal::Unreadable(error.to_string()),
        };
        let root = self.root.canonicalize().map_err(unreadable)?;
        let target = root.join(relative).canonicalize().map_err(unreadable)?;
        if !target.starts_with(&root) {
            return Err(FileRefusal::Outside);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd: OwnedFd =
            nix::fcntl::open(&target, flags, nix::sys::stat::Mode::empty()).map_err(refusal)?;
        Ok(File::from(fd))
    }
}

fn refusal(errno: Errno) -> FileRefusal {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => FileRefusal::Missing,
        Errno::EXDEV | Errno::ELOOP => FileRefusal::Outside,
        Errno::ENXIO => FileRefusal::NotRegular,
        errno => FileRefusal::Unreadable(errno.desc().to_owned()),
    }
}

impl ScriptFiles for ScriptFolder {
    fn text(&self, relative: &str) -> Result<String, FileRefusal> {
        if !is_plain_relative(relative) {
            return Err(FileRefusal::Name);
        }
        let file = self.open(relative)?;
        let unreadable = |error: std::io::Error| FileRefusal::Unreadable(error.to_string());
        let found = file.metadata().map_err(unreadable)?;
        if !found.is_file() {
            return Err(FileRefusal::NotRegular);
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        into_text(bytes)
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["", "scripts", "schemas"] {
            let Ok(entries) = std::fs::read_dir(self.root.join(folder)) else {
                continue;
            };
            for entry in entries.flatten().take(500) {
                let name = Path::new(folder).join(entry.file_name());
                names.extend(name.to_str().map(str::to_owned));
            }
        }
        names
    }
}

/// Files held in memory: uploads, and tests.
#[derive(Debug, Clone, Default)]
pub struct FilesInMemory(pub BTreeMap<String, Vec<u8>>);

impl FilesInMemory {
    pub fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.to_owned(), bytes.into());
        self
    }
}

impl ScriptFiles for FilesInMemory {
    fn text(&self, relative: &str) -> Result<String, FileRefusal> {
        if !is_plain_relative(relative) {
            return Err(FileRefusal::Name);
        }
        into_text(self.0.get(relative).ok_or(FileRefusal::Missing)?.clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn into_text(bytes: Vec<u8>) -> Result<String, FileRefusal> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileRefusal::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| FileRefusal::NotUtf8)
}

/// `scripts/facts.sh`: neither absolute nor with `.` or `..` in it, at most 255 bytes.
fn is_plain_relative(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 255
        && !path.contains(['\0', '\\'])
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
