//! The image onto the disk: streamed piece by piece, each checked before it is unpacked and again as
//! the disk has it. The piece with the partition table comes last, so that a disk on which anything
//! is missing does not boot.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::http::{Answer, Failure, Server};
use crate::orders::{Progress, lock};
use crate::seed;
use crate::sys::number;
use crate::wire::{Credential, Doing, Exchange, Manifest, PIECE_BYTES, Piece};

/// Failures in a row after which the work is given up; the pauses between them grow to 15 s.
const MOST_FAILURES: u32 = 12;

/// Block device requests of linux/fs.h, which take no size in their number.
const BLKRRPART: u64 = 0x125f;
const BLKFLSBUF: u64 = 0x1261;
const BLKZEROOUT: u64 = 0x127f;

/// Returns the manifest's digest once every byte was read back as it should be.
pub fn install(
    server: &Server,
    session: &str,
    run: i64,
    token: &str,
    disk: &str,
    progress: &Progress,
) -> Result<String, String> {
    if disk.is_empty() || !disk.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("{disk:?} is not a disk's name"));
    }
    let exchange = Exchange {
        token: token.to_owned(),
    };
    let credential: Credential = server
        .post("/device/v1/exchange", Some(session), &exchange)
        .map_err(|why| why.to_string())?;
    let manifest = manifest(server, &credential)?;
    if manifest.run != run {
        return Err(format!("the manifest is run {}'s", manifest.run));
    }
    let size = number(format!("/sys/block/{disk}/size")).unwrap_or(0) * 512;
    check(&manifest, size)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/dev/{disk}"))
        .map_err(|error| format!("/dev/{disk}: {error}"))?;
    let mut writer = Writer {
        server,
        credential: &credential.credential,
        manifest: &manifest,
        file: &file,
        progress,
        stream: None,
        written: 0,
    };
    writer.clear()?;
    let (first, rest) = manifest.pieces.split_first().ok_or("the image is empty")?;
    writer.bring(rest)?;
    writer.settle()?;
    for piece in rest {
        verify(&file, piece)?;
    }
    writer.bring(std::slice::from_ref(first))?;
    writer.settle()?;
    verify(&file, first)?;
    call(&file, BLKRRPART, std::ptr::null::<u64>()).ok();
    drop(file);
    // The image is good without it; the system then only does not report by itself.
    if let Err(why) = seed::plant(disk, server, &credential.report) {
        println!("greenroom: the system will not report by itself: {why}");
    }
    Ok(credential.manifest)
}

fn manifest(server: &Server, credential: &Credential) -> Result<Manifest, String> {
    let bytes = insist(|| server.get_whole("/device/v1/manifest", &credential.credential))?;
    if sha256(&bytes) != credential.manifest {
        return Err("the manifest is not the one that was announced".to_owned());
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the manifest: {error}"))
}

/// Pieces in order, without overlap, within the image, and the image within the disk.
fn check(manifest: &Manifest, disk_bytes: u64) -> Result<(), String> {
    if manifest.disk_bytes > disk_bytes {
        return Err(format!(
            "the image has {} bytes and the disk only {disk_bytes}",
            manifest.disk_bytes
        ));
    }
    let (mut at, mut from) = (0, 0);
    for piece in &manifest.pieces {
        let end = piece.at.checked_add(piece.bytes);
        let lawful = piece.at >= at
            && piece.from == from
            && (1..=PIECE_BYTES).contains(&piece.bytes)
            && (1..=2 * PIECE_BYTES).contains(&piece.length)
            && end.is_some_and(|end| end <= manifest.disk_bytes);
        if !lawful {
            return Err(format!(
                "the manifest's piece at {} makes no sense",
                piece.at
            ));
        }
        at = piece.at + piece.bytes;
        from += piece.length;
    }
    if from != manifest.stored_bytes {
        return Err("the manifest's pieces are not its whole stream".to_owned());
    }
    Ok(())
}

struct Writer<'a> {
    server: &'a Server,
    credential: &'a str,
    manifest: &'a Manifest,
    file: &'a File,
    progress: &'a Progress,
    /// An open answer and where in the stream it stands.
    stream: Option<(Answer, u64)>,
    written: u64,
}

impl Writer<'_> {
    /// Zeroes what is zero in the image, and the first and last of the disk: no old partition table
    /// survives, and none of the new one is there before the end.
    fn clear(&self) -> Result<(), String> {
        let mut at = 0;
        let first_end = self
            .manifest
            .pieces
            .first()
            .map_or(0, |piece| piece.at + piece.bytes);
        zero(self.file, 0, first_end)?;
        for piece in &self.manifest.pieces {
            zero(self.file, at, piece.at)?;
            at = piece.at + piece.bytes;
        }
        zero(self.file, at, self.manifest.disk_bytes)
    }

    fn bring(&mut self, pieces: &[Piece]) -> Result<(), String> {
        for piece in pieces {
            if !is_there(self.file, piece) {
                let unpacked = self.fetch(piece)?;
                self.file
                    .write_all_at(&unpacked, piece.at)
                    .map_err(|error| format!("writing at {}: {error}", piece.at))?;
            }
            self.written += piece.bytes;
            let of = self.manifest.pieces.iter().map(|piece| piece.bytes).sum();
            *lock(self.progress) = Doing::Installing {
                run: self.manifest.run,
                written: self.written,
                of,
            };
        }
        Ok(())
    }

    /// One piece, checked and unpacked. A connection that breaks is taken up at the piece's beginning.
    fn fetch(&mut self, piece: &Piece) -> Result<Vec<u8>, String> {
        let stored = insist(|| {
            let stream = self.stream.take().filter(|(_, at)| *at == piece.from);
            let (mut answer, _) = match stream {
                Some(stream) => stream,
                None => {
                    let answer =
                        self.server
                            .get_from("/device/v1/data", self.credential, piece.from)?;
                    (answer, piece.from)
                }
            };
            let mut stored = vec![0; piece.length as usize];
            answer.body.read_exact(&mut stored)?;
            if sha256(&stored) != piece.stored {
                return Err(Failure::Network(format!(
                    "what came for {} is not what was announced",
                    piece.at
                )));
            }
            self.stream = Some((answer, piece.from + piece.length));
            Ok(stored)
        })?;
        let unpacked = zstd::bulk::decompress(&stored, piece.bytes as usize)
            .map_err(|error| format!("unpacking the piece at {}: {error}", piece.at))?;
        if unpacked.len() as u64 != piece.bytes {
            return Err(format!(
                "the piece at {} has another size than announced",
                piece.at
            ));
        }
        Ok(unpacked)
    }

    /// All on the disk, and none of it in memory any more: what is read next comes from the disk.
    fn settle(&self) -> Result<(), String> {
        self.file
            .sync_all()
            .map_err(|error| format!("flushing the disk: {error}"))?;
        call(self.file, BLKFLSBUF, std::ptr::null::<u64>())
            .map_err(|error| format!("BLKFLSBUF: {error}"))
    }
}

/// Whether an earlier try has left this piece. A new disk answers at the first block.
fn is_there(file: &File, piece: &Piece) -> bool {
    let mut block = [0; 4096];
    let length = block.len().min(piece.bytes as usize);
    if file.read_exact_at(&mut block[..length], piece.at).is_err()
        || block.iter().all(|byte| *byte == 0)
    {
        return false;
    }
    verify(file, piece).is_ok()
}

fn verify(file: &File, piece: &Piece) -> Result<(), String> {
    let mut bytes = vec![0; piece.bytes as usize];
    file.read_exact_at(&mut bytes, piece.at)
        .map_err(|error| format!("reading the disk back at {}: {error}", piece.at))?;
    if sha256(&bytes) == piece.unpacked {
        Ok(())
    } else {
        Err(format!(
            "the disk does not hold what was written at {}",
            piece.at
        ))
    }
}

fn zero(file: &File, from: u64, to: u64) -> Result<(), String> {
    if from >= to {
        return Ok(());
    }
    let range = [from, to - from];
    if call(file, BLKZEROOUT, range.as_ptr()).is_ok() {
        return Ok(());
    }
    let zeroes = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let length = (to - at).min(zeroes.len() as u64) as usize;
        file.write_all_at(&zeroes[..length], at)
            .map_err(|error| format!("clearing the disk at {at}: {error}"))?;
        at += length as u64;
    }
    Ok(())
}

fn call(file: &File, request: u64, argument: *const u64) -> std::io::Result<()> {
    // SAFETY: these requests read at most two u64 from the pointer, which is null or has two.
    let result = unsafe { nix::libc::ioctl(file.as_raw_fd(), request, argument) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Tries again what the network made fail. A refusal is final, but for "busy".
fn insist<T>(mut work: impl FnMut() -> Result<T, Failure>) -> Result<T, String> {
    let mut pause = Duration::from_millis(500);
    for _ in 0..MOST_FAILURES {
        match work() {
            Ok(value) => return Ok(value),
            Err(Failure::Refused(status, why)) if !matches!(status, 429 | 503) => {
                return Err(Failure::Refused(status, why).to_string());
            }
            Err(why) => println!("greenroom: {why}; again in {pause:?}"),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(15));
    }
    work().map_err(|why| why.to_string())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let piece = |at, from| Piece {
            at,
            bytes: 4096,
            from,
            length: 100,
            stored: String::new(),
            unpacked: String::new(),
        };
        Manifest {
            version: 1,
            run: 1,
            disk_bytes: 1 << 20,
            stored_bytes: 200,
            pieces: vec![piece(0, 0), piece(8192, 100)],
        }
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_refused() {
        assert_eq!(check(&manifest(), 1 << 20), Ok(()));
        assert!(
            check(&manifest(), (1 << 20) - 1).is_err(),
            "a disk too small"
        );
        let broken: [fn(&mut Manifest); 6] = [
            |m| m.pieces[1].at = 4095,
            |m| m.pieces[1].at = (1 << 20) - 4095,
            |m| m.pieces[1].at = u64::MAX,
            |m| m.pieces[1].from = 99,
            |m| m.pieces[0].bytes = PIECE_BYTES + 1,
            |m| m.stored_bytes = 201,
        ];
        for (index, breaks) in broken.iter().enumerate() {
            let mut manifest = manifest();
            breaks(&mut manifest);
            assert!(check(&manifest, 1 << 20).is_err(), "{index}");
        }
    }
}
