//! Building an image: run the recipe's script in a scratch folder, check what it made, move it into
//! the store in one rename.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::recipe::{self, Recipe};
use super::{ImageError, Images};
use crate::vocab::image::{Image, ImagePart};
use crate::vocab::{Digest, Timestamp};

/// Whether there was anything to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Built {
    UpToDate(Image),
    New(Image),
}

impl Built {
    pub fn image(&self) -> &Image {
        match self {
            Self::UpToDate(image) | Self::New(image) => image,
        }
    }
}

/// Rebuild although nothing changed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    WhenChanged,
    Always,
}

/// Builds an image, unless the store has it with the same key. Blocks for as long as the script
/// takes; `progress` gets each line that it prints. Two builds at once wait for each other.
pub fn build(
    images: &Images,
    recipes: &Path,
    name: &str,
    rebuild: Rebuild,
    now: Timestamp,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, ImageError> {
    let recipe = recipe::read(recipes, name)?;
    let own = images.folder().join(name);
    std::fs::create_dir_all(&own).map_err(|error| ImageError::io(&own, error))?;
    let _lock = lock(&own)?;
    if rebuild == Rebuild::WhenChanged
        && let Ok(image) = images.get(name)
        && image.key == recipe.key
    {
        return Ok(Built::UpToDate(image));
    }
    remove_leftovers(&own);
    let scratch = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(&own)
        .map_err(|error| ImageError::io(&own, error))?;
    let begun = Instant::now();
    run_script(images, &recipe, scratch.path(), progress)?;
    let image = describe(
        images,
        &recipe,
        &scratch.path().join("out"),
        now,
        begun.elapsed().as_secs_f64(),
    )?;
    let whole = rebuild == Rebuild::WhenChanged && images.by_digest(name, image.digest).is_ok();
    place(&own, scratch.path(), &image, whole)?;
    Ok(Built::New(image))
}

fn lock(own: &Path) -> Result<nix::fcntl::Flock<File>, ImageError> {
    let path = own.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| {
            // Whoever may open it could hold it.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            Ok(file)
        })
        .map_err(|error| ImageError::io(&path, error))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
        .map_err(|(_, errno)| ImageError::io(&path, errno.into()))
}

/// Scratch folders of builds that were killed; the lock says that none is at work.
fn remove_leftovers(own: &Path) {
    for entry in std::fs::read_dir(own).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(".building-")
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn run_script(
    images: &Images,
    recipe: &Recipe,
    scratch: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), ImageError> {
    let name = &recipe.settings.name;
    let (out, work, cache) = (
        scratch.join("out"),
        scratch.join("work"),
        images.folder().join(".cache"),
    );
    for folder in [&out, &work, &cache] {
        std::fs::create_dir_all(folder).map_err(|error| ImageError::io(folder, error))?;
    }
    let log_path = images.folder().join(name).join("build.log");
    let mut log = File::create(&log_path).map_err(|error| ImageError::io(&log_path, error))?;
    let errors = log
        .try_clone()
        .map_err(|error| ImageError::io(&log_path, error))?;
    let script = recipe.folder.join("build");
    let mut child = Command::new(&script)
        .current_dir(&recipe.folder)
        .env("OUT", &out)
        .env("WORK", &work)
        .env("CACHE", &cache)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| ImageError::io(&script, error))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| ImageError::io(&script, error))?;
            writeln!(log, "{line}").map_err(|error| ImageError::io(&log_path, error))?;
            progress(&line);
        }
    }
    let status = child
        .wait()
        .map_err(|error| ImageError::io(&script, error))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(&log_path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it printed nothing")
        .to_owned();
    Err(ImageError::Build {
        name: name.clone(),
        why: format!("{status}: {last}"),
        log: log_path.display().to_string(),
    })
}

fn describe(
    images: &Images,
    recipe: &Recipe,
    out: &Path,
    now: Timestamp,
    build_seconds: f64,
) -> Result<Image, ImageError> {
    let mut parts = Vec::new();
    for file in ["kernel", "initrd", "disk.qcow2"] {
        let path = out.join(file);
        if !path.is_file() {
            return Err(ImageError::Recipe {
                name: recipe.settings.name.clone(),
                why: format!("its build script made no {file}"),
            });
        }
        let (digest, size_bytes) =
            digest_of(&path).map_err(|error| ImageError::io(&path, error))?;
        parts.push((file, digest, size_bytes));
    }
    let settings = &recipe.settings;
    let digest = Digest::of_document(&serde_json::json!({
        "parts": parts.iter().map(|(file, digest, _)| (*file, digest.to_string())).collect::<Vec<_>>(),
        "cmdline": settings.cmdline, "disk_mib": settings.disk_mib, "min_memory_mib": settings.min_memory_mib, "warm_up": settings.warm_up,
    }));
    let home: PathBuf = images
        .folder()
        .join(&settings.name)
        .join(digest.to_string());
    let part = |index: usize| {
        let (file, digest, size_bytes) = parts[index];
        ImagePart {
            path: home.join(file),
            digest,
            size_bytes,
        }
    };
    Ok(Image {
        name: settings.name.clone(),
        digest,
        key: recipe.key,
        description: settings.description.clone(),
        os: settings.os.clone(),
        cmdline: settings.cmdline.clone(),
        agent: settings.agent,
        min_memory_mib: settings.min_memory_mib,
        warm_up: settings.warm_up.clone(),
        disk_mib: settings.disk_mib,
        kernel: part(0),
        initrd: part(1),
        disk: part(2),
        built_at: now,
        build_seconds,
    })
}

fn digest_of(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((Digest::from_hasher(hasher), size));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Moves the parts to their place, read-only for everyone, and makes them the current ones.
fn place(own: &Path, scratch: &Path, image: &Image, whole: bool) -> Result<(), ImageError> {
    let out = scratch.join("out");
    let home = own.join(image.digest.to_string());
    let steps = || -> io::Result<()> {
        for entry in std::fs::read_dir(&out)? {
            let path = entry?.path();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
            File::open(&path)?.sync_all()?;
        }
        std::fs::write(out.join("manifest.json"), serde_json::to_vec_pretty(image)?)?;
        File::open(out.join("manifest.json"))?.sync_all()?;
        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o755))?;
        if home.exists() && whole {
            // The same contents from other inputs: only what they were built from is news.
            std::fs::rename(out.join("manifest.json"), home.join("manifest.json"))?;
        } else {
            if home.exists() {
                std::fs::rename(&home, scratch.join("damaged"))?;
            }
            std::fs::rename(&out, &home)?;
        }
        let mut current = tempfile::NamedTempFile::new_in(own)?;
        writeln!(current, "{}", image.digest)?;
        current.as_file().sync_all()?;
        current
            .as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))?;
        current
            .persist(own.join("current"))
            .map_err(|error| error.error)?;
        File::open(own)?.sync_all()
    };
    steps().map_err(|error| ImageError::io(&home, error))
}
