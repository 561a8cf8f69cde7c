//! Content-addressed files: envelopes and binary outputs, `<state>/artefacts/ab/<digest>`.
//!
//! A file is written under a temporary name, flushed, renamed and its folder flushed, so that a name
//! never stands for half a file. What is read is checked against its name.

use std::io;
use std::path::{Path, PathBuf};

use crate::vocab::Digest;

#[derive(Debug, Clone)]
pub struct Artefacts {
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    #[error("no artefact {0}")]
    Missing(Digest),
    #[error("artefact {0} was changed on disk; its run cannot use it any more")]
    Changed(Digest),
    #[error("artefacts under {folder}: {error}")]
    Io { folder: String, error: io::Error },
}

impl Artefacts {
    pub fn open(folder: PathBuf) -> Result<Self, ArtefactError> {
        std::fs::create_dir_all(&folder).map_err(|error| ArtefactError::Io {
            folder: folder.display().to_string(),
            error,
        })?;
        Ok(Self { folder })
    }

    /// Stores bytes under their digest. Storing the same again does nothing.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Digest, ArtefactError> {
        let this = self.clone();
        crate::blocking::run(move || this.put_now(&bytes)).await
    }

    /// The bytes of a digest.
    pub async fn get(&self, digest: Digest) -> Result<Vec<u8>, ArtefactError> {
        let this = self.clone();
        crate::blocking::run(move || this.get_now(digest)).await
    }

    pub fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    fn put_now(&self, bytes: &[u8]) -> Result<Digest, ArtefactError> {
        let digest = Digest::of(bytes);
        let path = self.path(digest);
        if path.exists() {
            return Ok(digest);
        }
        let write = || -> io::Result<()> {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .tempfile_in(folder)?;
            io::Write::write_all(&mut file, bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            std::fs::File::open(folder)?.sync_all()
        };
        write().map_err(|error| self.failed(error))?;
        Ok(digest)
    }

    fn get_now(&self, digest: Digest) -> Result<Vec<u8>, ArtefactError> {
        let bytes = match std::fs::read(self.path(digest)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtefactError::Missing(digest));
            }
            Err(error) => return Err(self.failed(error)),
        };
        if Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(ArtefactError::Changed(digest))
        }
    }

    fn failed(&self, error: io::Error) -> ArtefactError {
        ArtefactError::Io {
            folder: self.folder.display().to_string(),
            error,
        }
    }
}
