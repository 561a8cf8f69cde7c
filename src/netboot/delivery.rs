//! A run's disk as an image that can be streamed: zeroes left out, the rest in pieces of at most
//! [`PIECE_BYTES`], each one zstd frame with digests of what is sent and of what is to be on the disk.
//!
//! The disk is raw and never parsed here: what is in it came from guests.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::wire::{Manifest, PIECE_BYTES, Piece};
use crate::blocking;
use crate::vocab::{Digest, RunId};

/// Speed counts more than size: level 1 packs faster than most networks carry.
const LEVEL: i32 = 1;

/// The packed image of a run, below the folder of the network boot.
#[derive(Debug, Clone)]
pub struct Packed {
    pub manifest: PathBuf,
    pub data: PathBuf,
}

impl Packed {
    pub fn of(folder: &Path, run: RunId) -> Self {
        let images = folder.join("images");
        Self {
            manifest: images.join(format!("run-{run}.json")),
            data: images.join(format!("run-{run}.zst")),
        }
    }

    /// Once its device has it, or nobody wants it.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.manifest);
        let _ = std::fs::remove_file(&self.data);
    }
}

/// Packs the disk, unless it is packed, and returns the manifest's digest.
pub async fn pack(folder: &Path, run: RunId, disk: &Path) -> Result<Digest, String> {
    let (packed, disk) = (Packed::of(folder, run), disk.to_owned());
    blocking::run(move || pack_now(&packed, run, &disk)).await
}

fn pack_now(packed: &Packed, run: RunId, disk: &Path) -> Result<Digest, String> {
    // The manifest is put in place last: where it is, the data is whole.
    if let (Ok(manifest), true) = (std::fs::read(&packed.manifest), packed.data.is_file()) {
        return Ok(Digest::of(&manifest));
    }
    let steps = || -> io::Result<Digest> {
        let images = packed.data.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(images)?;
        let disk = File::open(disk)?;
        let mut data = tempfile::NamedTempFile::new_in(images)?;
        let manifest = write_pieces(&disk, run, data.as_file_mut())?;
        data.as_file().sync_all()?;
        data.persist(&packed.data).map_err(|error| error.error)?;
        let bytes = serde_json::to_vec(&manifest)?;
        let mut file = tempfile::NamedTempFile::new_in(images)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(&packed.manifest)
            .map_err(|error| error.error)?;
        File::open(images)?.sync_all()?;
        Ok(Digest::of(&bytes))
    };
    steps().map_err(|error| format!("{}: {error}", disk.display()))
}

fn write_pieces(disk: &File, run: RunId, data: &mut File) -> io::Result<Manifest> {
    let disk_bytes = disk.metadata()?.len();
    let mut out = BufWriter::new(data);
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    let mut buffer = vec![0; PIECE_BYTES as usize];
    while let Some(next) = next_data(disk, at)? {
        // Pieces lie on a grid, so that a disk's pieces are the same whatever its holes are.
        at = next / PIECE_BYTES * PIECE_BYTES;
        let bytes = PIECE_BYTES.min(disk_bytes - at);
        let unpacked = &mut buffer[..bytes as usize];
        disk.read_exact_at(unpacked, at)?;
        if unpacked.iter().any(|byte| *byte != 0) {
            let stored = zstd::bulk::compress(unpacked, LEVEL)?;
            out.write_all(&stored)?;
            pieces.push(Piece {
                at,
                bytes,
                from,
                length: stored.len() as u64,
                stored: Digest::of(&stored).to_string(),
                unpacked: Digest::of(unpacked).to_string(),
            });
            from += stored.len() as u64;
        }
        at += bytes;
    }
    out.flush()?;
    Ok(Manifest {
        version: 1,
        run: run.0,
        disk_bytes,
        stored_bytes: from,
        pieces,
    })
}

/// Where the next data is (lseek(2), SEEK_DATA), from `at` on. None: only a hole is left.
fn next_data(disk: &File, at: u64) -> io::Result<Option<u64>> {
    if at >= disk.metadata()?.len() {
        return Ok(None);
    }
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    // SAFETY: a descriptor that is open, and numbers.
    let found = unsafe { nix::libc::lseek(disk.as_raw_fd(), offset, nix::libc::SEEK_DATA) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match nix::errno::Errno::last() {
            nix::errno::Errno::ENXIO => Ok(None),
            // A file system that knows no holes.
            nix::errno::Errno::EINVAL => Ok(Some(at)),
            other => Err(other.into()),
        },
    }
}

/// The manifest's bytes.
pub async fn manifest(packed: Packed) -> io::Result<Vec<u8>> {
    blocking::run(move || std::fs::read(&packed.manifest)).await
}

/// The data, open, and its size.
pub async fn data(packed: Packed) -> io::Result<(File, u64)> {
    blocking::run(move || {
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&packed.data)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_disk_is_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        let disk = File::create(&path).unwrap();
        let size = 3 * PIECE_BYTES + 512;
        disk.set_len(size).unwrap();
        disk.write_all_at(b"boot", 0).unwrap();
        disk.write_all_at(b"end", size - 3).unwrap();
        let packed = Packed::of(folder.path(), RunId(4));
        let digest = pack_now(&packed, RunId(4), &path).unwrap();
        let bytes = std::fs::read(&packed.manifest).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
        let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest.disk_bytes, size);
        assert_eq!(manifest.pieces.len(), 2, "the holes are left out");
        let data = std::fs::read(&packed.data).unwrap();
        assert_eq!(data.len() as u64, manifest.stored_bytes);
        let mut rebuilt = vec![0; size as usize];
        for piece in &manifest.pieces {
            let stored = &data[piece.from as usize..(piece.from + piece.length) as usize];
            assert_eq!(Digest::of(stored).to_string(), piece.stored);
            let unpacked = zstd::bulk::decompress(stored, piece.bytes as usize).unwrap();
            assert_eq!(Digest::of(&unpacked).to_string(), piece.unpacked);
            rebuilt[piece.at as usize..(piece.at + piece.bytes) as usize]
                .copy_from_slice(&unpacked);
        }
        assert!(rebuilt == std::fs::read(&path).unwrap());
        // A second time it is there already, and the disk may be gone.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(pack_now(&packed, RunId(4), &path).unwrap(), digest);
        packed.remove();
        assert!(pack_now(&packed, RunId(4), &path).is_err());
    }
}
