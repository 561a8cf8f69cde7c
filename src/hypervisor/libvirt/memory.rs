//! What machines take of the host's memory, from the kernel's account of their processes.
//!
//! The proportional set size counts a page that n processes have mapped as 1/n, so that forks of one
//! template add up to what they take together (proc(5), /proc/pid/smaps_rollup).

use std::collections::BTreeMap;
use std::path::Path;

use crate::hypervisor::{HvError, MemoryUse};
use crate::vocab::MachineId;

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
