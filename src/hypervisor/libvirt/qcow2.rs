//! An empty overlay as bytes: what `qemu-img create -f qcow2 -F qcow2 -b BASE` writes, without the
//! process, which took 10–40 ms of each fork.
//!
//! Format: QEMU's docs/interop/qcow2.rst, version 3, clusters of 64 KiB, refcounts of 16 bits:
//!
//! ```text
//! cluster 0 header, extensions, base's path │ 1 refcount table │ 2 refcount block │ 3… L1 table, empty
//! ```

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::hypervisor::HvError;

const CLUSTER: u64 = 1 << 16;
/// Bytes of the guest that one entry of the L1 table covers: an L2 table of one cluster, eight bytes for
/// each cluster of data.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_LENGTH: usize = 104;
/// "Backing file format name string".
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// The format's limit for the base's path, bytes.
const LONGEST_PATH: usize = 1023;
/// Clusters whose reference counts fit into the one refcount block; the L1 table of 32 EiB would not.
const MOST_CLUSTERS: u64 = CLUSTER / 2;

/// Writes an overlay of `size` bytes on the qcow2 `base` into the empty `file`.
pub fn write_overlay(file: &File, base: &Path, size: u64) -> Result<io::Result<()>, HvError> {
    let path = base.as_os_str().as_bytes();
    let l1_entries = size.div_ceil(PER_L1_ENTRY);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    if path.len() > LONGEST_PATH || 3 + l1_clusters > MOST_CLUSTERS {
        return Err(HvError::Refused(format!(
            "an overlay of {size} bytes on {} cannot be made: the path is too long or the size too large",
            base.display()
        )));
    }
    let header = header(path, size, l1_entries);
    let in_use: Vec<u8> = (0..3 + l1_clusters)
        .flat_map(|_| 1u16.to_be_bytes())
        .collect();
    Ok((|| {
        file.set_len((3 + l1_clusters) * CLUSTER)?;
        file.write_all_at(&header, 0)?;
        file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
        file.write_all_at(&in_use, 2 * CLUSTER)
    })())
}

fn header(path: &[u8], size: u64, l1_entries: u64) -> Vec<u8> {
    let mut extensions = Vec::new();
    extensions.extend(BACKING_FORMAT.to_be_bytes());
    extensions.extend(5u32.to_be_bytes());
    extensions.extend(b"qcow2\0\0\0");
    // The end of the extensions.
    extensions.extend([0; 8]);
    let path_at = (HEADER_LENGTH + extensions.len()) as u64;

    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(3u32.to_be_bytes());
    header.extend(path_at.to_be_bytes());
    header.extend((path.len() as u32).to_be_bytes());
    header.extend(CLUSTER.ilog2().to_be_bytes());
    header.extend(size.to_be_bytes());
    // No encryption.
    header.extend(0u32.to_be_bytes());
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes());
    header.extend(CLUSTER.to_be_bytes());
    // One cluster of refcount table, no snapshots, no features.
    header.extend(1u32.to_be_bytes());
    header.extend([0; 4 + 8]);
    header.extend([0; 8 + 8 + 8]);
    // Refcounts of 2^4 bits.
    header.extend(4u32.to_be_bytes());
    header.extend((HEADER_LENGTH as u32).to_be_bytes());
    header.extend(extensions);
    header.extend(path);
    header
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu_img(words: &[&str], path: &Path) -> String {
        let output = Command::new("qemu-img")
            .args(words)
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    #[test]
    fn qemu_finds_the_same_as_in_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.qcow2");
        let status = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&base)
            .arg("1G")
            .status();
        assert!(status.unwrap().success());
        for size in [1 << 20, 256 << 20, 3 << 30, (5u64 << 40) + 512] {
            let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
            let file = File::create(&ours).unwrap();
            write_overlay(&file, &base, size).unwrap().unwrap();
            let status = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .args([&base, &theirs])
                .arg(size.to_string())
                .status();
            assert!(status.unwrap().success());
            let facts = |path: &Path| -> serde_json::Value {
                let said = qemu_img(&["info", "-f", "qcow2", "--output=json"], path);
                let mut facts: serde_json::Value = serde_json::from_str(&said).unwrap();
                for own in ["filename", "actual-size", "children", "format-specific"] {
                    facts.as_object_mut().unwrap().remove(own);
                }
                facts
            };
            assert_eq!(facts(&ours), facts(&theirs));
            qemu_img(&["check", "-q", "-f", "qcow2"], &ours);
            // It can be written to, and what was written is found again.
            let io = |command: &str| {
                let output = Command::new("qemu-io")
                    .args(["-f", "qcow2", "-c", command])
                    .arg(&ours)
                    .output();
                let output = output.unwrap();
                assert!(
                    output.status.success()
                        && !String::from_utf8_lossy(&output.stdout).contains("failed")
                );
            };
            io("write -P 7 512k 128k");
            io("read -P 7 512k 128k");
            io("read -P 0 0 512k");
            qemu_img(&["check", "-q", "-f", "qcow2"], &ours);
        }
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        write_overlay(&file, Path::new(&long), 1 << 20).unwrap_err();
    }
}
