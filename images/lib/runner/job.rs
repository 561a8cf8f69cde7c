//! One job: its folder, its once-only guard, its work, its end record. Step by step what `launcher.sh`
//! does; the reasons are there.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{port, system};

/// Logs and output together come with the record up to this many bytes: `RECORD` of the launcher.
const BODY_CAP: u64 = 24_576;

/// A handoff disk may still be on its way in: up to five seconds.
const DISK_TRIES: u32 = 500;
const DISK_PAUSE: Duration = Duration::from_millis(10);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Copy, PartialEq)]
enum How {
    None,
    Text,
    Stdin,
    Staged,
}

struct Part {
    how: How,
    text: Vec<u8>,
    size: u64,
}

/// The launcher's words.
pub struct Launch {
    folder: PathBuf,
    pub attempt: Vec<u8>,
    block: String,
    dev: String,
    serial: Vec<u8>,
    staged: Option<PathBuf>,
    input: Part,
    script: Part,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    argv: Vec<Vec<u8>>,
}

fn text_of(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

fn part(words: &[Vec<u8>]) -> Option<Part> {
    let [how, text, size] = words else {
        return None;
    };
    let how = match how.as_slice() {
        b"none" => How::None,
        b"text" => How::Text,
        b"stdin" => How::Stdin,
        b"staged" => How::Staged,
        _ => return None,
    };
    Some(Part {
        how,
        text: text.clone(),
        size: text_of(size)?.parse().ok()?,
    })
}

impl Launch {
    pub fn from_words(words: &[Vec<u8>]) -> Option<Self> {
        if words.len() < 14 {
            return None;
        }
        let names: usize = text_of(&words[12])?.parse().ok()?;
        let (env, argv) = words[13..].split_at_checked(names)?;
        let pair = |word: &Vec<u8>| {
            let at = word.iter().position(|byte| *byte == b'=')?;
            Some((word[..at].to_vec(), word[at + 1..].to_vec()))
        };
        if argv.is_empty() {
            return None;
        }
        Some(Self {
            folder: Path::new(text_of(&words[0])?).join(text_of(&words[1])?),
            attempt: words[1].clone(),
            block: text_of(&words[2])?.to_owned(),
            dev: text_of(&words[3])?.to_owned(),
            serial: words[4].clone(),
            staged: (!words[5].is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&words[5]))),
            input: part(&words[6..9])?,
            script: part(&words[9..12])?,
            env: env.iter().map(pair).collect::<Option<_>>()?,
            argv: argv.to_vec(),
        })
    }

    pub fn needs_stdin(&self) -> bool {
        self.input.how == How::Stdin || self.script.how == How::Stdin
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn unstage(&self) {
        if let Some(staged) = &self.staged {
            let _ = std::fs::remove_dir_all(staged);
        }
    }

    fn take(&self, name: &str, part: &Part) -> std::io::Result<()> {
        let path = self.at(name);
        match part.how {
            How::None => return Ok(()),
            How::Text => return std::fs::write(path, &part.text),
            How::Stdin => {
                std::io::copy(&mut std::io::stdin(), &mut File::create(&path)?)?;
            }
            How::Staged => {
                let staged = self.staged.as_deref().unwrap_or(Path::new(""));
                std::fs::rename(staged.join(name), &path)?;
            }
        }
        if std::fs::metadata(path)?.len() == part.size {
            Ok(())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// The guard was taken.
    fn prepare(&self) -> std::io::Result<()> {
        self.take("input", &self.input)?;
        self.take("script", &self.script)?;
        File::create(self.at("out"))?;
        File::create(self.at("err"))?;
        Ok(())
    }

    fn disk(&self) -> Option<PathBuf> {
        for tries in 0..=DISK_TRIES {
            if tries > 0 {
                std::thread::sleep(DISK_PAUSE);
            }
            for disk in std::fs::read_dir(&self.block)
                .into_iter()
                .flatten()
                .flatten()
            {
                let serial = std::fs::read(disk.path().join("serial")).unwrap_or_default();
                let device = Path::new(&self.dev).join(disk.file_name());
                if serial.trim_ascii_end() == self.serial && device.exists() {
                    return Some(device);
                }
            }
        }
        None
    }

    /// The work's code, as a shell says it.
    fn work(&self, disk: Option<&Path>) -> std::io::Result<i32> {
        let append = |name| OpenOptions::new().append(true).open(self.at(name));
        let mut err = append("err")?;
        let mut command = Command::new(OsStr::from_bytes(&self.argv[0]));
        command
            .args(self.argv[1..].iter().map(|word| OsStr::from_bytes(word)))
            .stdin(match self.input.how {
                How::None => Stdio::null(),
                _ => File::open(self.at("input"))?.into(),
            })
            .stdout(append("out")?)
            .stderr(err.try_clone()?)
            // A script's `kill 0` reaches neither us nor the agent.
            .process_group(0);
        if std::env::var_os("PATH").is_none() {
            command.env("PATH", PATH);
        }
        command.envs(
            self.env
                .iter()
                .map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))),
        );
        command.env("GREENROOM_INPUT", self.at("input"));
        command.env("GREENROOM_OUTPUT", self.at("output"));
        if let Some(disk) = disk {
            command.env("GREENROOM_HANDOFF_DISK", disk);
        }
        system::umask(0o022);
        let spawned = command.spawn();
        system::umask(0o077);
        match spawned {
            Ok(mut child) => {
                let status = child.wait()?;
                Ok(status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
            }
            Err(error) => {
                let name = String::from_utf8_lossy(&self.argv[0]).into_owned();
                let _ = writeln!(err, "{name}: {error}");
                Ok(if error.kind() == std::io::ErrorKind::NotFound {
                    127
                } else {
                    126
                })
            }
        }
    }

    fn size_of(&self, name: &str) -> Option<u64> {
        let seen = std::fs::metadata(self.at(name)).ok()?;
        seen.is_file().then_some(seen.len())
    }

    fn record(&self, code: i32, with_body: bool) -> std::io::Result<Vec<u8>> {
        let sizes = ["out", "err", "output"].map(|name| self.size_of(name));
        let total: u64 = sizes.iter().flatten().sum();
        let body = with_body && total <= BODY_CAP;
        let [out, err, output] = sizes;
        let mut record = format!(
            "{code} {} {} {} {}\n",
            out.unwrap_or(0),
            err.unwrap_or(0),
            output.map_or("-".to_owned(), |size| size.to_string()),
            if body { "here" } else { "left" }
        )
        .into_bytes();
        if body {
            for (name, size) in ["out", "err", "output"].iter().zip(sizes) {
                if let Some(size) = size {
                    File::open(self.at(name))?
                        .take(size)
                        .read_to_end(&mut record)?;
                }
            }
        }
        record.extend_from_slice(b"\nend\n");
        Ok(record)
    }

    fn append_end(&self, record: &[u8]) -> std::io::Result<()> {
        let mut end = OpenOptions::new().append(true).open(self.at("end"))?;
        end.write_all(record)
    }

    /// Where the logs have filled the file system, what is no longer needed makes room for the news.
    fn tell_end(&self, code: i32) -> Option<Vec<u8>> {
        let record = self.record(code, true).ok();
        if let Some(record) = record
            && self.append_end(&record).is_ok()
        {
            return Some(record);
        }
        for name in ["input", "script"] {
            let _ = std::fs::remove_file(self.at(name));
        }
        let _ = std::fs::remove_dir_all(self.at("work"));
        let record = self.record(code, false).ok()?;
        File::create(self.at("end")).ok()?.write_all(&record).ok()?;
        Some(record)
    }

    /// A byte on the bell's port tells a host that does not listen to us to look at once.
    fn ring(&self) {
        let sys = self.block.strip_suffix("/block").unwrap_or("/sys");
        if let Some(bell) = port::find(sys, &self.dev, port::BELL) {
            let opened = OpenOptions::new().write(true).open(bell);
            let _ = opened.and_then(|mut bell| bell.write_all(b"\n"));
        }
    }
}

pub struct End {
    /// The launcher's own code.
    pub code: i32,
    pub record: Option<Vec<u8>>,
}

impl End {
    fn early(code: i32) -> Self {
        Self { code, record: None }
    }
}

pub fn run(launch: &Launch) -> End {
    system::umask(0o077);
    let work = launch.at("work");
    if std::fs::create_dir_all(&work).is_err() {
        return End::early(70);
    }
    let guard = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(launch.at("end"));
    if guard.is_err() {
        launch.unstage();
        return End::early(0);
    }
    if launch.prepare().is_err() {
        let _ = std::fs::remove_file(launch.at("end"));
        launch.unstage();
        return End::early(71);
    }
    launch.unstage();
    let disk = (!launch.serial.is_empty()).then(|| launch.disk());
    let code = match &disk {
        Some(None) => {
            let serial = String::from_utf8_lossy(&launch.serial).into_owned();
            let words = format!("the disk with serial {serial} did not appear\n");
            let _ = std::fs::write(launch.at("err"), words);
            125
        }
        disk => {
            let disk = disk.as_ref().and_then(Option::as_deref);
            let moved = std::env::set_current_dir(&work);
            moved.and_then(|()| launch.work(disk)).unwrap_or(125)
        }
    };
    if let Some(Some(disk)) = &disk {
        release(disk);
    }
    let record = launch.tell_end(code);
    launch.ring();
    let code = if record.is_some() { 0 } else { 72 };
    End { code, record }
}

/// What was written to the disk must have left the guest before anybody is told of the end.
fn release(disk: &Path) {
    let name = disk.as_os_str().as_bytes();
    for _ in 0..16 {
        let mounts = std::fs::read("/proc/mounts").unwrap_or_default();
        let of_disk = |line: &&[u8]| {
            let device = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            device.strip_prefix(name).is_some_and(|rest| {
                let rest = rest.strip_prefix(b"p").unwrap_or(rest);
                device == name || rest.first().is_some_and(u8::is_ascii_digit)
            })
        };
        let Some(line) = mounts.split(|byte| *byte == b'\n').find(of_disk) else {
            break;
        };
        let device = OsStr::from_bytes(line.split(|byte| *byte == b' ').next().unwrap_or_default());
        let umount = |options: &[&str]| {
            let status = Command::new("umount").args(options).arg(device).status();
            status.is_ok_and(|status| status.success())
        };
        if !umount(&[]) {
            umount(&["-l"]);
        }
    }
    system::flush(name);
}
