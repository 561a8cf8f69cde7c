//! IPMI over LAN, by `ipmitool`: one short-lived child per question.
//!
//! The password never stands on a command line, where every user of the host could read it: `ipmitool`
//! reads the vault's file itself (`-f`). RMCP+ with cipher suite 17 (HMAC-SHA256, AES-128) unless a person
//! chose an older one.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{PowerControl, PowerError, quoted};
use crate::vocab::power::{BootOverride, BootTarget, Capabilities, Lasts, Off, PowerState};

/// Longest password of IPMI 2.0, bytes (specification 2.0, table 22-33).
pub const MAX_PASSWORD_BYTES: usize = 20;
/// What of the tool's output is read, bytes.
const OUTPUT_BYTES: u64 = 64 << 10;
/// The tool's own: seconds until it repeats a packet, and how often.
const REPEAT_AFTER_S: &str = "3";
const REPEATS: &str = "3";
/// A question has several packets, each of which may be repeated.
const PATIENCE: Duration = Duration::from_secs(40);

pub struct Ipmi {
    host: String,
    port: u16,
    user: String,
    cipher: u8,
    password_file: PathBuf,
    tool: PathBuf,
}

/// A host name or address that cannot be taken for an option.
pub fn check_host(host: &str) -> Result<(), String> {
    let fits = (1..=253).contains(&host.len())
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_'))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':');
    match fits {
        true => Ok(()),
        false => Err(format!("{host:?} is not a host's name or address")),
    }
}

impl Ipmi {
    /// `password_file`: the first line of it is the password.
    pub fn new(host: &str, port: u16, user: &str, cipher: u8, password_file: PathBuf) -> Self {
        Self {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            cipher,
            password_file,
            tool: PathBuf::from("ipmitool"),
        }
    }

    /// With another tool in its place, for tests.
    pub fn with_tool(mut self, tool: PathBuf) -> Self {
        self.tool = tool;
        self
    }

    fn arguments(&self, question: &[&str]) -> Vec<String> {
        let (port, cipher) = (self.port.to_string(), self.cipher.to_string());
        let file = self.password_file.display().to_string();
        // -v: without it a wrong password and a dead BMC read the same.
        let fixed = [
            "-v",
            "-I",
            "lanplus",
            "-H",
            &self.host,
            "-p",
            &port,
            "-U",
            &self.user,
            "-f",
            &file,
            "-C",
            &cipher,
            "-N",
            REPEAT_AFTER_S,
            "-R",
            REPEATS,
        ];
        fixed
            .into_iter()
            .chain(question.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    /// What the tool printed.
    async fn ask(&self, question: &[&str]) -> Result<String, PowerError> {
        let mut child = Command::new(&self.tool)
            .args(self.arguments(question))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C")
            // The tool looks for a file of enterprise numbers there, and says that it has none.
            .env("HOME", "/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                PowerError::Refused(format!(
                    "{} cannot be started ({error}); it comes with Debian's package `ipmitool`",
                    self.tool.display()
                ))
            })?;
        let (mut out, mut err) = (String::new(), String::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let read = |stream: Option<_>| stream.ok_or_else(|| std::io::Error::other("no pipe"));
            let mut stdout = read(stdout)?.take(OUTPUT_BYTES);
            let mut stderr = stderr
                .ok_or_else(|| std::io::Error::other("no pipe"))?
                .take(OUTPUT_BYTES);
            tokio::try_join!(
                stdout.read_to_string(&mut out),
                stderr.read_to_string(&mut err)
            )?;
            child.wait().await
        };
        let status = match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => {
                return Err(PowerError::Unreachable(format!(
                    "ipmitool cannot be read: {error}"
                )));
            }
            Err(_) => {
                return Err(PowerError::Unreachable(format!(
                    "the BMC at {} did not answer within {} s",
                    self.host,
                    PATIENCE.as_secs()
                )));
            }
        };
        match status.success() {
            true => Ok(out),
            false => Err(refusal(&err, &self.user, &self.host)),
        }
    }
}

/// What the tool's complaint means.
fn refusal(said: &str, user: &str, host: &str) -> PowerError {
    // What -v tells of every conversation.
    let noise = [
        "Loading IANA",
        "Running Get VSO",
        "Invalid completion code",
        "Discovered IPMB",
    ];
    let said: Vec<&str> = said
        .lines()
        .filter(|line| !noise.iter().any(|noise| line.starts_with(noise)))
        .collect();
    let said = &said.join("\n");
    let lower = said.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let line = quoted(said);
    // Status codes of RAKP messages (specification 2.0, table 13-15) as the tool words them.
    if has(&[
        "hmac is invalid",
        "unauthorized name",
        "unauthorized role",
        "invalid role",
        "invalid user name",
        "invalid integrity check value",
        "password too long",
        "activate session error",
        // It had answered before it was told the user.
        "no response from rakp 1",
    ]) {
        return PowerError::LoginRefused {
            user: user.to_owned(),
            why: line,
        };
    }
    if has(&[
        "insufficient privilege",
        "invalid command",
        "invalid data field",
        "not supported in present",
    ]) {
        return PowerError::Refused(format!("the BMC at {host} refused: {line}"));
    }
    if has(&[
        "cipher suite",
        "no matching cipher",
        "invalid authentication algorithm",
        "invalid integrity algorithm",
        "is not what we requested",
    ]) {
        return PowerError::Refused(format!(
            "the BMC at {host} does not know the cipher suite: {line}; `--cipher 3` is for old ones"
        ));
    }
    PowerError::Unreachable(format!(
        "the BMC at {host} does not answer as expected: {line}"
    ))
}

fn read_state(said: &str) -> PowerState {
    match said
        .lines()
        .find_map(|line| line.strip_prefix("Chassis Power is "))
    {
        Some("on") => PowerState::On,
        Some("off") => PowerState::Off,
        _ => PowerState::Unclear,
    }
}

/// The answer to `chassis bootparam get 5`.
fn read_boot(said: &str) -> BootOverride {
    let has = |part: &str| said.lines().any(|line| line.contains(part));
    let target = said
        .lines()
        .find_map(|line| {
            line.trim()
                .trim_start_matches("- ")
                .strip_prefix("Boot Device Selector :")
        })
        .map(str::trim);
    let target = match target {
        Some("Force PXE") => BootTarget::Pxe,
        Some(text) if text.starts_with("Force Boot from default Hard-Drive") => BootTarget::Disk,
        Some(text) if text.starts_with("Force Boot from CD/DVD") => BootTarget::Cd,
        Some("No override") | None => return BootOverride::USUAL,
        Some(_) => BootTarget::Other,
    };
    let lasts = match () {
        () if has("Boot Flag Invalid") => return BootOverride::USUAL,
        () if has("Options apply to all future boots") => Lasts::UntilChanged,
        () => Lasts::Once,
    };
    BootOverride { target, lasts }
}

#[async_trait]
impl PowerControl for Ipmi {
    async fn capabilities(&mut self) -> Result<Capabilities, PowerError> {
        let said = self.ask(&["mc", "info"]).await?;
        let field = |name: &str| {
            let line = said.lines().find(|line| line.starts_with(name))?;
            Some(quoted(line.split_once(':')?.1))
        };
        Ok(Capabilities {
            graceful_off: true,
            cycle: true,
            boot_targets: vec![BootTarget::Pxe, BootTarget::Disk, BootTarget::Cd],
            virtual_media: false,
            product: format!(
                "IPMI {} of {}",
                field("IPMI Version").unwrap_or_default(),
                field("Manufacturer Name")
                    .or_else(|| field("Manufacturer ID"))
                    .unwrap_or_default()
            ),
        })
    }

    async fn state(&mut self) -> Result<PowerState, PowerError> {
        Ok(read_state(
            &self.ask(&["chassis", "power", "status"]).await?,
        ))
    }

    async fn on(&mut self) -> Result<(), PowerError> {
        self.ask(&["chassis", "power", "on"]).await.map(|_| ())
    }

    async fn off(&mut self, how: Off) -> Result<(), PowerError> {
        let word = match how {
            Off::Graceful => "soft",
            Off::Forced => "off",
        };
        self.ask(&["chassis", "power", word]).await.map(|_| ())
    }

    async fn cycle(&mut self) -> Result<(), PowerError> {
        // "cycle" is not for machines that are off (specification 2.0, 28.3), and optional; "reset" is not.
        match self.state().await? {
            PowerState::Off => self.on().await,
            _ => self.ask(&["chassis", "power", "reset"]).await.map(|_| ()),
        }
    }

    async fn boot_once(&mut self, from: BootTarget) -> Result<BootOverride, PowerError> {
        let device = match from {
            BootTarget::Pxe => "pxe",
            BootTarget::Disk => "disk",
            BootTarget::Cd => "cdrom",
            BootTarget::Usual => "none",
            BootTarget::UefiHttp | BootTarget::Other => {
                return Err(PowerError::Refused(format!(
                    "IPMI cannot ask for a boot from {}",
                    from.word()
                )));
            }
        };
        // Firmware that boots by UEFI falls back to its old way without the flag.
        let now = self.ask(&["chassis", "bootparam", "get", "5"]).await?;
        let mut question = vec!["chassis", "bootdev", device];
        if now.contains("BIOS EFI boot") {
            question.push("options=efiboot");
        }
        self.ask(&question).await?;
        let found = self.boot_override().await?;
        let fits = match from {
            BootTarget::Pxe => found.is_network(),
            BootTarget::Usual => found.lasts == Lasts::Never,
            from => found.target == from && found.lasts != Lasts::Never,
        };
        match fits {
            true => Ok(found),
            false => Err(PowerError::DidNotStick {
                wanted: device.to_owned(),
                found,
            }),
        }
    }

    async fn boot_override(&mut self) -> Result<BootOverride, PowerError> {
        Ok(read_boot(
            &self.ask(&["chassis", "bootparam", "get", "5"]).await?,
        ))
    }

    async fn leave(&mut self) {}
}

#[cfg(test)]
#[path = "ipmi_tests.rs"]
mod tests;
