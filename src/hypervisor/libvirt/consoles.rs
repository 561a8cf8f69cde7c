//! Serial consoles: one log file per machine, named by its id; beside it what its other ports lead to.
//!
//! A log stays when its machine is destroyed, because that is when people want to read it. Making a
//! new one removes what is old or too much.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disks::io_error;
use crate::hypervisor::HvError;
use crate::vocab::MachineId;

/// Bells and sockets of machines that are there count, too.
const KEPT_LOGS: usize = 1000;
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

pub fn path_of(folder: &Path, id: MachineId) -> PathBuf {
    folder.join(format!("{id}.log"))
}

/// The file beside a console's log to which the guest's bell goes.
pub fn bell_of(console: &Path) -> PathBuf {
    console.with_extension("bell")
}

/// The socket beside a console's log to which the guest's runner talks; none where its path would be
/// too long for a socket's address (108 bytes with the zero at its end, unix(7)).
pub fn runner_of(console: &Path) -> Option<PathBuf> {
    let path = console.with_extension("run");
    (path.as_os_str().len() < 108).then_some(path)
}

/// How many bytes the guest has written to its bell.
pub fn rings(folder: &Path, id: MachineId) -> u64 {
    let bell = bell_of(&path_of(folder, id));
    std::fs::metadata(bell).map_or(0, |seen| seen.len())
}

/// Makes the empty log and the bell's file, so that it belongs to us and a folder that cannot be written is said clearly.
pub fn prepare(folder: &Path, id: MachineId) -> Result<PathBuf, HvError> {
    let path = path_of(folder, id);
    for path in [&path, &bell_of(&path)] {
        let opened = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        opened.map_err(|error| io_error(path, &error))?;
    }
    prune(folder, SystemTime::now());
    Ok(path)
}

/// Bell and socket are of no interest when their machine is gone.
pub fn forget_ports(folder: &Path, id: MachineId) {
    let console = path_of(folder, id);
    for path in [Some(bell_of(&console)), runner_of(&console)] {
        let _ = path.map(std::fs::remove_file);
    }
}

/// The last `max_bytes` of the log.
pub fn tail(path: &Path, max_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max_bytes as u64)))?;
    let mut bytes = Vec::new();
    file.take(max_bytes as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Best effort: a log that cannot be removed now is tried again at the next start of a machine. A
/// removed log of a machine that still runs is lost, which takes 500 later machines or a week's silence.
fn prune(folder: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut logs: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some((changed, entry.path()))
        })
        .collect();
    logs.sort_by(|a, b| b.cmp(a));
    for (index, (changed, path)) in logs.iter().enumerate() {
        if index >= KEPT_LOGS || now.duration_since(*changed).is_ok_and(|age| age > KEPT_FOR) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path(), MachineId::fresh()).unwrap();
        std::fs::write(&path, b"one two three").unwrap();
        assert_eq!(tail(&path, 5).unwrap(), b"three");
        assert_eq!(tail(&path, 500).unwrap(), b"one two three");
    }

    #[test]
    fn old_logs_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path(), MachineId::fresh()).unwrap();
        prune(folder.path(), SystemTime::now());
        assert!(path.exists());
        prune(
            folder.path(),
            SystemTime::now() + KEPT_FOR + Duration::from_secs(60),
        );
        assert!(!path.exists());
    }
}
