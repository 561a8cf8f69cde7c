//! The supervised dnsmasq: its files, its start, its end, and what it says.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::decide::BootFile;
use super::desk::Desk;
use super::dnsmasq::{self, Heard, Places};
use super::settings::Settings;
use crate::blocking;

/// Longest line of the log that is looked at.
const MAX_LINE_BYTES: u64 = 4096;
/// Pauses before dnsmasq is started again after it ended by itself.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// What is stored of the log per second: a flood of made-up addresses must not become one of writes.
const MOST_HEARD_PER_S: u32 = 50;
/// One that ran for so long was well: the next end is not a series.
const WELL: Duration = Duration::from_secs(60);

/// Where everything is, below the folder of the network boot.
struct Files {
    configuration: PathBuf,
    places: Places,
}

impl Files {
    fn of(state: &Path) -> Self {
        Self {
            configuration: state.join("dnsmasq.conf"),
            places: Places {
                tftp: state.join("tftp"),
                leases: state.join("leases"),
                pid: state.join("dnsmasq.pid"),
            },
        }
    }
}

/// Writes dnsmasq's files. Fails with what to install where the boot files are missing.
pub fn prepare(settings: &Settings) -> anyhow::Result<()> {
    let files = Files::of(&settings.state);
    fs::create_dir_all(&files.places.tftp)
        .with_context(|| format!("making {}", files.places.tftp.display()))?;
    for folder in [&settings.state, &files.places.tftp] {
        // dnsmasq reads them as its own user.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    for file in BootFile::ALL {
        let from = settings.plane.files.join(file.name());
        let bytes = fs::read(&from).with_context(|| {
            format!("{}: the boot files come with Debian's package `ipxe`; install it, or name their folder in boot.files", from.display())
        })?;
        place(&files.places.tftp.join(file.name()), &bytes)?;
    }
    let text =
        dnsmasq::configuration(&settings.plane, &settings.decision, &files.places).to_string();
    place(&files.configuration, text.as_bytes())?;
    Ok(())
}

fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("/")))?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The bytes of a boot file, as dnsmasq sends them too.
pub async fn boot_file(state: &Path, file: BootFile) -> io::Result<Vec<u8>> {
    let path = Files::of(state).places.tftp.join(file.name());
    blocking::run(move || fs::read(path)).await
}

/// Keeps dnsmasq running until `stop`, and tells the desk what it hears.
pub async fn supervise(settings: Settings, desk: Arc<Desk>, stop: CancellationToken) {
    let files = Files::of(&settings.state);
    let mut ends = 0_usize;
    while !stop.is_cancelled() {
        end_leftover(&files).await;
        let begun = tokio::time::Instant::now();
        match start(&files) {
            Ok(mut child) => {
                tracing::info!(interface = %settings.plane.interface, dhcp = ?settings.plane.dhcp, "dnsmasq answers");
                let said = listen(&mut child, &desk, &stop).await;
                if stop.is_cancelled() {
                    end(&mut child).await;
                    return;
                }
                let status = child.wait().await;
                tracing::error!(?status, last = %said, "dnsmasq ended by itself; it is started again");
            }
            Err(error) => {
                tracing::error!(%error, "dnsmasq cannot be started; it comes with the package `dnsmasq-base`");
            }
        }
        ends = if begun.elapsed() > WELL { 0 } else { ends + 1 };
        let pause = PAUSES[ends.min(PAUSES.len() - 1)];
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn start(files: &Files) -> io::Result<Child> {
    Command::new("dnsmasq")
        .arg(format!("--conf-file={}", files.configuration.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Reads the log until it ends. Returns its last line.
async fn listen(child: &mut Child, desk: &Arc<Desk>, stop: &CancellationToken) -> String {
    let mut last = String::new();
    let Some(stderr) = child.stderr.take() else {
        return last;
    };
    let mut log = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut share = Share::new();
    loop {
        line.clear();
        let mut bounded = (&mut log).take(MAX_LINE_BYTES);
        let read = tokio::select! {
            () = stop.cancelled() => return last,
            read = bounded.read_until(b'\n', &mut line) => read,
        };
        if !matches!(read, Ok(1..)) {
            return last;
        }
        last = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::debug!(target: "greenroom::dnsmasq", "{last}");
        let Some(heard) = dnsmasq::read_log(&last) else {
            continue;
        };
        let (Heard::Asked { mac, .. } | Heard::Leased { mac, .. }) = heard else {
            tracing::info!(said = %heard.says(), "tftp");
            continue;
        };
        if !share.admits(tokio::time::Instant::now()) {
            continue;
        }
        if let Err(error) = desk.heard(mac, heard.says()).await {
            tracing::warn!(%error, "what dnsmasq heard cannot be stored");
        }
    }
}

/// So much of the log per second.
struct Share {
    second: tokio::time::Instant,
    taken: u32,
}

impl Share {
    fn new() -> Self {
        Self {
            second: tokio::time::Instant::now(),
            taken: 0,
        }
    }

    fn admits(&mut self, now: tokio::time::Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Self {
                second: now,
                taken: 0,
            };
        }
        self.taken += 1;
        self.taken <= MOST_HEARD_PER_S
    }
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(3), child.wait())
        .await
        .is_err()
    {
        let _ = child.kill().await;
    }
}

/// A daemon that was killed leaves its dnsmasq behind. It is known by its pid file and by its command
/// line, which names our configuration.
async fn end_leftover(files: &Files) {
    let Some(pid) = leftover(files) else { return };
    tracing::info!(pid, "ending the dnsmasq of an earlier daemon");
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    for _ in 0..60 {
        if leftover(files).is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

fn leftover(files: &Files) -> Option<i32> {
    let pid: i32 = fs::read_to_string(&files.places.pid)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = format!("--conf-file={}", files.configuration.display());
    let is_ours = pid > 1
        && line
            .split(|byte| *byte == 0)
            .any(|word| word == ours.as_bytes());
    is_ours.then_some(pid)
}
