//! virtio-serial ports, found by the names that the host gave them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::system;

/// Of `src/hypervisor/mod.rs`.
const RUNNER: &str = "dev.greenroom.runner";
pub const BELL: &str = "dev.greenroom.bell";

/// How long the host may leave what is said to it unread.
const UNREAD_MS: i32 = 2000;

/// The device of the port with this name, below `/sys` and `/dev` or what stands for them.
pub fn find(sys: &str, dev: &str, name: &str) -> Option<PathBuf> {
    let ports = std::fs::read_dir(format!("{sys}/class/virtio-ports")).ok()?;
    ports.flatten().find_map(|port| {
        let said = std::fs::read_to_string(port.path().join("name")).ok()?;
        (said.trim_end() == name).then(|| PathBuf::from(dev).join(port.file_name()))
    })
}

pub struct Port {
    file: File,
}

impl Port {
    /// The port appears some time into the boot, and never in a machine without one.
    pub fn wait_for() -> Self {
        let mut pause = Duration::from_millis(20);
        loop {
            let found = find("/sys", "/dev", RUNNER);
            let opened =
                found.and_then(|path| OpenOptions::new().read(true).write(true).open(path).ok());
            if let Some(file) = opened {
                system::signal_news(&file);
                return Self { file };
            }
            std::thread::sleep(pause);
            pause = (pause * 5 / 4).min(Duration::from_secs(10));
        }
    }

    /// All that is there.
    pub fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.file.read(&mut piece) {
                // Nobody is at the other end.
                Ok(0) => return bytes,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return bytes,
            }
        }
    }

    pub fn wait(&self) {
        system::wait_for_news();
    }

    /// Best effort: who does not listen finds the record in its file.
    pub fn say(&mut self, line: &[u8]) {
        let mut left = line;
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !system::writable(&self.file, UNREAD_MS) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
