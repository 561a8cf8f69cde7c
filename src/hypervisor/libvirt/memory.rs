//! What machines take of the host's memory, from the kernel's account of their processes.
//!
//! The proportional set size counts a page that n processes have mapped as 1/n, so that forks of one
//! template add up to what they take together (proc(5), /proc/pid/smaps_rollup).
//!
//! What a guest has touched is counted in the mappings of its memory alone ([`touched_by`]), which QEMU's
//! command line names by their sizes. The set size of the whole process would not do: QEMU's translation
//! cache and buffers are in it, and the pages that a fork has not written are not.

use std::collections::BTreeMap;
use std::path::Path;

use crate::hypervisor::{HvError, MemoryUse};
use crate::vocab::MachineId;

/// Guest memory that each machine has touched since it booted, MiB. For a fork these are the pages that
/// its template had, and those that it has written itself: a page that is both counts twice, so that it
/// is a ceiling. Machines without a process, and those whose account cannot be read, are left out.
pub fn touched_by(ids: &[MachineId]) -> BTreeMap<MachineId, f64> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for entry in processes.flatten() {
        if found.len() == ids.len() {
            break;
        }
        let folder = entry.path();
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let Some(id) = Some(&folder)
            .filter(|_| is_process)
            .and_then(|folder| machine_of(folder))
            .filter(|id| ids.contains(id))
        else {
            continue;
        };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        if let (Some(command), Some(maps)) = (read("cmdline"), read("smaps")) {
            let on_disk = |path: &str| {
                use std::os::unix::fs::MetadataExt;
                std::fs::metadata(path).map_or(0, |file| file.blocks() * 512)
            };
            found.insert(id, touched(&backends(&command), &maps, on_disk));
        }
    }
    found
}

/// Sizes in bytes of the guest's memory, and the files behind it, as QEMU's arguments name them.
fn backends(command: &str) -> Vec<(u64, Option<String>)> {
    command
        .split('\0')
        .filter(|word| word.starts_with('{') && word.contains("memory-backend"))
        .filter_map(|word| {
            let object: serde_json::Value = serde_json::from_str(word).ok()?;
            let path = object["mem-path"].as_str().map(str::to_owned);
            Some((object["size"].as_u64()?, path))
        })
        .collect()
}

/// `on_disk` gives the bytes that a file takes, holes left out.
fn touched(backends: &[(u64, Option<String>)], maps: &str, on_disk: impl Fn(&str) -> u64) -> f64 {
    let mut total = 0u64;
    let mut of: Option<&(u64, Option<String>)> = None;
    let mut counted = Vec::new();
    for line in maps.lines() {
        if let Some((size, path)) = mapping(line) {
            of = backends.iter().find(|(wanted, file)| match file {
                Some(file) => path == file,
                None => size == *wanted && path.is_empty(),
            });
            if let Some((size, Some(file))) = of
                && !counted.contains(&file)
            {
                counted.push(file);
                total += on_disk(file).min(*size);
            }
            continue;
        }
        let Some((_, file)) = of else { continue };
        // A private page of a file's mapping is anonymous; a shared one is in the file already.
        let word = if file.is_some() { "Anonymous:" } else { "Rss:" };
        let kib = line
            .strip_prefix(word)
            .and_then(|rest| rest.split_whitespace().next());
        total += kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
    }
    let all: u64 = backends.iter().map(|(size, _)| size).sum();
    total.min(all) as f64 / (1u64 << 20) as f64
}

/// Length and path of a mapping, from the first line of its account.
fn mapping(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let size = number(to)?.checked_sub(number(from)?)?;
    Some((size, words.nth(4).unwrap_or("")))
}

/// Machines without a process are left out. Looks at every process of the host once.
pub fn of_machines(ids: &[MachineId]) -> Result<BTreeMap<MachineId, MemoryUse>, HvError> {
    let processes = std::fs::read_dir("/proc")
        .map_err(|error| HvError::Host(format!("/proc cannot be read: {error}")))?;
    let mut found = BTreeMap::new();
    for entry in processes.flatten() {
        let folder = entry.path();
        let is_process = entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        // A process that ends meanwhile is a machine that is gone.
        let Some(id) = Some(&folder)
            .filter(|_| is_process)
            .and_then(|folder| machine_of(folder))
        else {
            continue;
        };
        if !ids.contains(&id) {
            continue;
        }
        match std::fs::read_to_string(folder.join("smaps_rollup")) {
            Ok(text) => {
                found.insert(id, read(&text));
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(HvError::Refused(format!(
                    "{}: the memory of other users' processes can be read by root only",
                    folder.display()
                )));
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The machine whose QEMU the process is: libvirt gives it the domain's id as `-uuid`.
fn machine_of(folder: &Path) -> Option<MachineId> {
    let command = std::fs::read(folder.join("cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    let program = Path::new(std::str::from_utf8(words.next()?).ok()?);
    let is_qemu = program.file_name()?.to_str()?.starts_with("qemu");
    words.find(|word| *word == b"-uuid").filter(|_| is_qemu)?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

fn read(rollup: &str) -> MemoryUse {
    let mib = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number
            .and_then(|kib| kib.parse::<f64>().ok())
            .unwrap_or(0.0)
            / 1024.0
    };
    MemoryUse {
        pss_mib: mib("Pss:"),
        private_mib: mib("Private_Clean:") + mib("Private_Dirty:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_is_read() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  4096 kB\nPss:  2048 kB\nPss_Dirty: 9 kB\n\
                    Private_Clean:   512 kB\nPrivate_Dirty:  1024 kB\n";
        let expected = MemoryUse {
            pss_mib: 2.0,
            private_mib: 1.5,
        };
        assert_eq!(read(text), expected);
    }

    #[test]
    fn guest_memory_is_counted_and_nothing_else_of_its_process() {
        let own = r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":268435456}"#;
        let command = format!("/usr/bin/qemu\0-object\0{own}\0-uuid\0x\0");
        let maps = "7f0000000000-7f0010000000 rw-p 00000000 00:00 0 \nSize: 262144 kB\nRss: 65536 kB\nAnonymous: 65536 kB\n\
                    7f1000000000-7f1040000000 rwxp 00000000 00:00 0 \nRss: 99999 kB\n";
        assert_eq!(touched(&backends(&command), maps, |_| 0), 64.0);
    }

    #[test]
    fn a_fork_has_touched_what_its_template_had_and_what_it_wrote() {
        let file = r#"{"qom-type":"memory-backend-file","id":"m","mem-path":"/t/1/memory","size":134217728,"share":false}"#;
        let more =
            r#"{"qom-type":"memory-backend-ram","id":"g","size":1073741824,"reserve":false}"#;
        let command = format!("/usr/bin/qemu\0{more}\0{file}\0");
        let maps = "7f0000000000-7f0008000000 rw-p 00000000 08:01 77 /t/1/memory\nRss: 40960 kB\nAnonymous: 20480 kB\n\
                    7f2000000000-7f2040000000 rw-p 00000000 00:00 0 \nRss: 10240 kB\nAnonymous: 10240 kB\n";
        assert_eq!(
            touched(&backends(&command), maps, |_| 50 << 20),
            50.0 + 20.0 + 10.0
        );
    }

    #[test]
    fn a_process_that_is_no_qemu_is_no_machine() {
        let folder = tempfile::tempdir().unwrap();
        let id = MachineId::fresh();
        let machine = |program: &str| {
            let command = format!("{program}\0-name\0guest=x\0-uuid\0{id}\0-S\0");
            std::fs::write(folder.path().join("cmdline"), command).unwrap();
            machine_of(folder.path())
        };
        assert_eq!(machine("/usr/bin/qemu-system-x86_64"), Some(id));
        assert_eq!(machine("/usr/bin/something"), None);
        assert_eq!(of_machines(&[id]).unwrap(), BTreeMap::new());
    }
}
