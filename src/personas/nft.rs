//! nft's own checker, for rules that people wrote by hand.
//!
//! `nft -c` parses, evaluates and asks the kernel, and changes nothing. It runs as a child in a network
//! namespace of its own, so that there is nothing to change either, with an empty environment and
//! limits on processor time, memory, files and output. Somebody who is not root gets the namespace
//! through a user namespace.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

const CPU_SECONDS: u64 = 5;
const ADDRESS_SPACE_BYTES: u64 = 256 << 20;
const OPEN_FILES: u64 = 32;
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_SAID_BYTES: u64 = 64 << 10;

/// What nft says of a file of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Line and column in the file, from 1, and what is wrong there.
    Wrong(Vec<(usize, usize, String)>),
    /// It could not be asked; why.
    Unknown(String),
}

/// Where nft is: one that is named, or the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nft {
    program: Option<PathBuf>,
}

impl Nft {
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self {
            program: Some(program.into()),
        }
    }

    /// As if it were not installed.
    pub fn absent() -> Self {
        Self { program: None }
    }

    /// In the search path, or where distributions put it for root alone.
    pub fn of_system() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let program = folders
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("nft"))
            .find(|file| {
                file.metadata()
                    .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
            });
        Self { program }
    }

    /// Blocks for as long as nft takes, at most ten seconds.
    pub fn check(&self, rules: &str) -> Verdict {
        let Some(program) = &self.program else {
            return Verdict::Unknown(
                "nft is not installed on this host; install nftables to have them checked".into(),
            );
        };
        let mut command = Command::new(program);
        command
            .args(["-c", "-f", "/dev/stdin"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let maps = Maps::of_process();
        // SAFETY: between fork and exec only system calls are made, on values made before the fork;
        // nothing allocates and no lock is touched.
        unsafe {
            command.pre_exec(move || {
                setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS)?;
                setrlimit(
                    Resource::RLIMIT_AS,
                    ADDRESS_SPACE_BYTES,
                    ADDRESS_SPACE_BYTES,
                )?;
                setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
                setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
                maps.enter()?;
                setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)?;
                Ok(())
            });
        }
        match command.spawn() {
            Ok(child) => talk(child, rules),
            Err(error) => Verdict::Unknown(format!(
                "nft could not be started in a namespace of its own: {error}"
            )),
        }
    }
}

/// What a user namespace needs to be told, made before the fork.
struct Maps {
    is_root: bool,
    users: Vec<u8>,
    groups: Vec<u8>,
}

impl Maps {
    fn of_process() -> Self {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        Self {
            is_root: user.is_root(),
            users: format!("0 {user} 1").into_bytes(),
            groups: format!("0 {group} 1").into_bytes(),
        }
    }

    /// Called in the child. RLIMIT_FSIZE does not concern files of /proc.
    fn enter(&self) -> std::io::Result<()> {
        let flags = if self.is_root {
            libc::CLONE_NEWNET
        } else {
            libc::CLONE_NEWNET | libc::CLONE_NEWUSER
        };
        // SAFETY: takes a number.
        if unsafe { libc::unshare(flags) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        if !self.is_root {
            write(c"/proc/self/setgroups", b"deny")?;
            write(c"/proc/self/uid_map", &self.users)?;
            write(c"/proc/self/gid_map", &self.groups)?;
        }
        Ok(())
    }
}

/// open, write, close, and nothing else: this runs between fork and exec.
fn write(path: &std::ffi::CStr, bytes: &[u8]) -> std::io::Result<()> {
    // SAFETY: the path ends in a NUL, the buffer is as long as is said, and the file is closed once.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        let failed = (written < 0).then(std::io::Error::last_os_error);
        libc::close(file);
        failed.map_or(Ok(()), Err)
    }
}

fn talk(mut child: Child, rules: &str) -> Verdict {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let rules = rules.to_owned();
    // Two pipes, each of which may be full: one thread writes, one reads, this one has the clock.
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(rules.as_bytes());
        }
    });
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(MAX_SAID_BYTES).read_to_end(&mut said);
        }
        let _ = tell.send(said);
    });
    let said = told.recv_timeout(DEADLINE);
    if said.is_err() {
        let _ = child.kill();
    }
    let status = child.wait();
    let Ok(said) = said else {
        return Verdict::Unknown(format!("nft did not end within {} s", DEADLINE.as_secs()));
    };
    let said = String::from_utf8_lossy(&said);
    match status {
        Ok(status) if status.success() => Verdict::Good,
        _ => {
            let wrong = places(&said);
            if wrong.is_empty() {
                let line: String = said
                    .lines()
                    .next()
                    .unwrap_or("it said nothing")
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect();
                return Verdict::Unknown(format!("nft could not check them here: {line}"));
            }
            Verdict::Wrong(wrong)
        }
    }
}

/// `/dev/stdin:7:9-12: Error: syntax error, unexpected string`
fn places(said: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for line in said.lines() {
        let Some(rest) = line.strip_prefix("/dev/stdin:") else {
            continue;
        };
        let mut parts = rest.splitn(3, ':');
        let (Some(row), Some(columns), Some(words)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let column = columns
            .split('-')
            .next()
            .and_then(|column| column.parse().ok());
        // "In file included from" and the like have no place of their own.
        let (Ok(row), Some(column)) = (row.parse(), column) else {
            continue;
        };
        let words = words.trim().trim_start_matches("Error: ");
        let words: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        found.push((row, column, words));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_says_has_places() {
        let said = "/dev/stdin:4:6-9: Error: syntax error, unexpected string\n tcp dprt 80 accept\n     ^^^^\n";
        assert_eq!(
            places(said),
            [(4, 6, "syntax error, unexpected string".to_owned())]
        );
        assert!(
            places("netlink: Error: cache initialization failed: Operation not permitted\n")
                .is_empty()
        );
    }
}
