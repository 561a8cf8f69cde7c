//! Base images: content-addressed folders `<state>/images/<name>/<digest>/`, built from recipes.
//!
//! An image is what a stage names: kernel, initial ramdisk and disk. It is built by the recipe's
//! `build` script in [`build`], moved into place in one rename and described by a `manifest.json`;
//! `current` beside it names the newest. A run pins the digest that it started with, so an older
//! image stays until it is removed by hand.

use std::io;
use std::path::{Path, PathBuf};

use crate::vocab::Digest;
use crate::vocab::image::Image;

pub mod build;
pub mod recipe;

/// The image store of a state folder.
#[derive(Debug, Clone)]
pub struct Images {
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image {name:?} is not built; build it with `greenroom image build {name}`")]
    Missing { name: String },
    #[error(
        "image {name:?} is damaged: {why}; build it again with `greenroom image build {name} --force`"
    )]
    Damaged { name: String, why: String },
    #[error("recipe of {name:?}: {why}")]
    Recipe { name: String, why: String },
    #[error("building {name:?} failed: {why}; its output is in {log}")]
    Build {
        name: String,
        why: String,
        log: String,
    },
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
}

impl ImageError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            error,
        }
    }
}

impl Images {
    /// The store below a state folder; made when absent.
    pub fn open(state: &Path) -> Result<Self, ImageError> {
        let folder = state.join("images");
        std::fs::create_dir_all(&folder).map_err(|error| ImageError::io(&folder, error))?;
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The newest image of a name; its files are looked at, not read.
    pub fn get(&self, name: &str) -> Result<Image, ImageError> {
        let missing = || ImageError::Missing {
            name: name.to_owned(),
        };
        if !crate::vocab::device::is_plain_name(name) {
            return Err(missing());
        }
        let current = self.folder.join(name).join("current");
        let digest = match std::fs::read_to_string(&current) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(ImageError::io(&current, error)),
        };
        let digest: Digest = digest.parse().map_err(|_| ImageError::Damaged {
            name: name.to_owned(),
            why: format!("{} is not a digest", current.display()),
        })?;
        self.by_digest(name, digest)
    }

    /// One image by its digest.
    pub fn by_digest(&self, name: &str, digest: Digest) -> Result<Image, ImageError> {
        let damaged = |why: String| ImageError::Damaged {
            name: name.to_owned(),
            why,
        };
        let path = self
            .folder
            .join(name)
            .join(digest.to_string())
            .join("manifest.json");
        let text = std::fs::read(&path)
            .map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        let image: Image = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("{}: {error}", path.display())))?;
        for part in [&image.kernel, &image.initrd, &image.disk] {
            let size = std::fs::metadata(&part.path)
                .map(|data| data.len())
                .map_err(|error| damaged(format!("{}: {error}", part.path.display())))?;
            if size != part.size_bytes {
                return Err(damaged(format!(
                    "{} has {size} bytes instead of {}",
                    part.path.display(),
                    part.size_bytes
                )));
            }
        }
        Ok(image)
    }

    /// The newest image of each name.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut names = Vec::new();
        for entry in
            std::fs::read_dir(&self.folder).map_err(|error| ImageError::io(&self.folder, error))?
        {
            let entry = entry.map_err(|error| ImageError::io(&self.folder, error))?;
            if entry.path().join("current").exists() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        names.iter().map(|name| self.get(name)).collect()
    }
}
