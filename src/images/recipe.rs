//! A recipe: a folder of `images/` with `recipe.yaml`, `build` and `inputs`.
//!
//! The *key* is the digest of everything that goes in: every file of the folder and of the shared
//! `lib` beside it, and what `inputs` prints (package versions, tool versions). An equal key means
//! that nothing has to be rebuilt.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ImageError;
use crate::vocab::Digest;
use crate::vocab::device::is_plain_name;
use crate::vocab::image::GuestAgent;

#[derive(Debug, Clone)]
pub struct Recipe {
    pub folder: PathBuf,
    pub settings: Settings,
    pub key: Digest,
}

/// `recipe.yaml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub name: String,
    pub description: String,
    pub arch: String,
    /// Kernel command line.
    pub cmdline: String,
    /// `initramfs` or `disk`: where the root file system is.
    pub root: String,
    pub min_memory_mib: u64,
    /// Commands that a shell of this image runs before it waits for use.
    #[serde(default)]
    pub warm_up: Vec<Vec<String>>,
    /// Virtual size of the base disk.
    pub disk_mib: u64,
    pub agent: GuestAgent,
    pub os: String,
}

/// Names of all recipes in a folder.
pub fn names(recipes: &Path) -> Result<Vec<String>, ImageError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(recipes).map_err(|error| ImageError::io(recipes, error))? {
        let entry = entry.map_err(|error| ImageError::io(recipes, error))?;
        if entry.path().join("recipe.yaml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a recipe and computes its key.
pub fn read(recipes: &Path, name: &str) -> Result<Recipe, ImageError> {
    let wrong = |why: String| ImageError::Recipe {
        name: name.to_owned(),
        why,
    };
    let folder = recipes.join(name);
    if !is_plain_name(name) || !folder.join("recipe.yaml").is_file() {
        let known = names(recipes)?.join(", ");
        return Err(wrong(format!(
            "there is none in {}; the recipes there are: {known}",
            recipes.display()
        )));
    }
    let text = std::fs::read_to_string(folder.join("recipe.yaml"))
        .map_err(|error| ImageError::io(&folder, error))?;
    let settings: Settings =
        serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if settings.name != name {
        return Err(wrong(format!(
            "recipe.yaml says name {:?}, its folder is {name:?}",
            settings.name
        )));
    }
    let mut hasher = Sha256::new();
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    let shared = recipes.join("lib");
    if shared.is_dir() {
        collect(&shared, &mut files)?;
    }
    for file in files {
        let relative = file.strip_prefix(recipes).unwrap_or(&file);
        let bytes = std::fs::read(&file).map_err(|error| ImageError::io(&file, error))?;
        hasher.update(format!("{}\0{}\0", relative.display(), bytes.len()));
        hasher.update(&bytes);
    }
    let inputs = folder.join("inputs");
    let output = Command::new(&inputs)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ImageError::io(&inputs, error))?;
    if !output.status.success() {
        return Err(wrong(format!(
            "`inputs` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    hasher.update(&output.stdout);
    Ok(Recipe {
        folder,
        settings,
        key: Digest::from_hasher(hasher),
    })
}

/// All files below a folder, sorted by path.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), ImageError> {
    let entries = std::fs::read_dir(folder).map_err(|error| ImageError::io(folder, error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| ImageError::io(folder, error))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
