//! Who a fork is: given by one script, reported by the guest, and checked here.
//!
//! Two forks of one template are the same machine until this has run. The random number generator is
//! the part that cannot be given: the host hands each fork a generation id of its own, and the guest's
//! kernel has to say that it saw it. A guest's word is not trusted further than that it may make its
//! own shell useless.

use std::time::Duration;

use super::ledger::Rows;
use crate::hypervisor::guest::Guest;
use crate::hypervisor::{HvError, Hypervisor};
use crate::vocab::pool::{Achieved, Identity, Shell};
use crate::vocab::{MachineId, Timestamp};

/// The transaction's text. A simulated guest knows it by its first line.
pub const SCRIPT: &str = include_str!("identity.sh");

/// How long it may take: reseeding is waited for up to 3 s, and a host key under emulation takes seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A card that was attached to a guest shows after 0.4 s under emulation (0.7 s at worst).
const CARD_DEADLINE: Duration = Duration::from_secs(20);

/// Longest value that a guest may report, and most keys.
const LONGEST: usize = 512;
const MOST_KEYS: usize = 8;

/// What the guest said.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub identity: Identity,
    /// Memory without what is added later.
    pub achieved: Achieved,
    pub macs: Vec<String>,
}

/// A locally administered address with QEMU's prefix; 24 random bits of the shell's id.
pub fn mac_of(id: MachineId) -> String {
    let bytes = id.0.as_bytes();
    format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        bytes[13], bytes[14], bytes[15]
    )
}

pub fn host_name_of(shell: &Shell) -> String {
    // A host name's label has at most 63 characters (RFC 1123); image names have up to 64.
    let image: String = shell.class.image.chars().take(40).collect();
    let image = image.replace(['.', '_'], "-").to_lowercase();
    format!("gr-{image}-{}", shell.serial)
}

pub fn machine_id_of(id: MachineId) -> String {
    id.0.simple().to_string()
}

/// Gives the fork its identity and checks what it says of itself. The error is in words.
pub async fn give(
    hypervisor: &dyn Hypervisor,
    shell: &Shell,
    now: Timestamp,
) -> Result<Report, String> {
    let guest = Guest {
        hypervisor,
        machine: shell.id,
    };
    let (name, machine_id) = (host_name_of(shell), machine_id_of(shell.id));
    let seconds = (now.0 / 1_000_000).to_string();
    let argv = ["sh", "-c", SCRIPT, "sh", &name, &machine_id, &seconds];
    let said = guest
        .run(&argv, b"", DEADLINE)
        .await
        .map_err(|error| format!("giving it an identity: {error}"))?;
    let text = String::from_utf8_lossy(&said.out);
    if said.exit_code != 0 {
        return Err(format!(
            "giving it an identity: the guest's script ended with {}: {} {}",
            said.exit_code,
            words(&text),
            words(&String::from_utf8_lossy(&said.err))
        ));
    }
    let mut report = parse(&text)?;
    if report.identity.host_name != name || report.identity.machine_id != machine_id {
        return Err(format!(
            "the guest did not take its identity: it is {:?} with machine id {:?}",
            report.identity.host_name, report.identity.machine_id
        ));
    }
    if !report.identity.reseeded {
        return Err("the guest's kernel did not reseed its random numbers after the fork; two forks could draw the same".to_owned());
    }
    if shell.class.network {
        let mac = mac_of(shell.id);
        if !report.macs.contains(&mac) {
            wait_for_card(&guest, &mac).await?;
        }
        report.identity.mac = Some(mac);
    } else {
        report.identity.mac = None;
    }
    Ok(report)
}

/// Waits until the guest shows a network card with this address.
pub async fn wait_for_card(guest: &Guest<'_>, mac: &str) -> Result<(), String> {
    let end = tokio::time::Instant::now() + CARD_DEADLINE;
    loop {
        let looked = guest
            .run(&["cat", "/sys/class/net/eth0/address"], b"", DEADLINE)
            .await
            .map_err(|error| format!("looking for its network card: {error}"))?;
        if String::from_utf8_lossy(&looked.out).trim() == mac {
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            return Err(format!(
                "the guest shows no network card {mac} after {} s",
                CARD_DEADLINE.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the guest has now.
pub async fn measure(guest: &Guest<'_>, deadline: Duration) -> Result<Achieved, HvError> {
    let looked = guest
        .run(&["cat", "/proc/cpuinfo", "/proc/meminfo"], b"", deadline)
        .await?;
    let text = String::from_utf8_lossy(&looked.out);
    let vcpus = text.lines().filter(|line| line.starts_with("processor"));
    let memory = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .ok_or_else(|| HvError::Agent("the guest's /proc/meminfo has no MemTotal".into()))?;
    Ok(Achieved {
        vcpus: u32::try_from(vcpus.count()).unwrap_or(u32::MAX),
        memory_mib: memory >> 10,
    })
}

/// Sets the guest's clock, to the millisecond; the reply is also the proof that the agent answers. One
/// call: the agent sets the clock itself. Afterwards it runs `/sbin/hwclock -w`, for a hardware clock
/// that nobody needs, and waits for it, which is why our images have one that does nothing. Where an
/// image has none and the agent refuses therefore, `date` does it, with two calls more.
pub async fn set_clock(
    hypervisor: &dyn Hypervisor,
    machine: MachineId,
    now: Timestamp,
    deadline: Duration,
) -> Result<(), HvError> {
    let command = serde_json::json!({
        "execute": "guest-set-time", "arguments": { "time": now.0.saturating_mul(1000) },
    })
    .to_string();
    let end = tokio::time::Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        match hypervisor.agent(machine, &command, left).await {
            Ok(_) => return Ok(()),
            // Said for a moment after a resume; the command was not sent.
            Err(HvError::AgentAbsent(_)) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Err(HvError::Agent(_)) => break,
            Err(error) => return Err(error),
        }
    }
    let guest = Guest {
        hypervisor,
        machine,
    };
    // Half a second is added: a whole one is set, and what is cut off is half a second on average.
    let time = format!("@{}", (now.0 + 500_000) / 1_000_000);
    let done = guest.run(&["date", "-s", &time], b"", deadline).await?;
    if done.exit_code != 0 {
        return Err(HvError::Agent(format!(
            "setting the guest's clock ended with {}",
            done.exit_code
        )));
    }
    Ok(())
}

/// What this fork has in common with another live shell and must not; none when it is alone with
/// everything.
pub fn collision(
    rows: &Rows,
    shell: MachineId,
    identity: &Identity,
) -> Option<(MachineId, String)> {
    rows.shells
        .values()
        .filter(|other| other.id != shell)
        .find_map(|other| {
            let theirs = other.identity.as_ref()?;
            let what = if theirs.draw == identity.draw {
                "a random draw"
            } else if theirs.machine_id == identity.machine_id {
                "a machine id"
            } else if theirs.host_name == identity.host_name {
                "a host name"
            } else if identity.mac.is_some() && theirs.mac == identity.mac {
                "a MAC address"
            } else if theirs.keys.iter().any(|key| identity.keys.contains(key)) {
                "a host key"
            } else {
                return None;
            };
            Some((
                other.id,
                format!("it has {what} in common with shell {}", other.name),
            ))
        })
}

fn parse(text: &str) -> Result<Report, String> {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty() && value.len() <= LONGEST)
            .map(str::to_owned)
            .ok_or_else(|| format!("the guest's report has no usable {name}: {}", words(text)))
    };
    let number = |name: &str| {
        value(name)?
            .parse::<u64>()
            .map_err(|_| format!("the guest's {name} is no number: {}", words(text)))
    };
    let all = |name: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| !value.is_empty() && value.len() <= LONGEST)
            .take(MOST_KEYS)
            .map(str::to_owned)
    };
    let draw = value("draw")?;
    if draw.chars().filter(char::is_ascii_hexdigit).count() < 32 {
        return Err(format!(
            "the guest's draw is shorter than 128 bits: {}",
            words(&draw)
        ));
    }
    Ok(Report {
        identity: Identity {
            host_name: value("host_name")?,
            machine_id: value("machine_id")?,
            draw,
            mac: None,
            keys: all("key").collect(),
            reseeded: value("reseeded")? == "yes",
        },
        achieved: Achieved {
            vcpus: u32::try_from(number("vcpus")?).unwrap_or(u32::MAX),
            memory_mib: number("memory_mib")?,
        },
        macs: all("mac").collect(),
    })
}

/// A guest's text for people: its start, without control characters.
pub fn words(text: &str) -> String {
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(300)
        .collect();
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "host_name=gr-tiny-7\nmachine_id=0123456789abcdef0123456789abcdef\ndraw=6f2cbf8e-0000-4000-8000-123456789abc\nreseeded=yes\nvcpus=2\nmemory_mib=480\nmac=52:54:00:01:02:03\nkey=ssh-ed25519 AAAA\n";

    #[test]
    fn a_report_is_read() {
        let report = parse(SAID).unwrap();
        assert_eq!(
            report.achieved,
            Achieved {
                vcpus: 2,
                memory_mib: 480
            }
        );
        assert_eq!(report.macs, ["52:54:00:01:02:03"]);
        assert_eq!(report.identity.keys, ["ssh-ed25519 AAAA"]);
        assert!(report.identity.reseeded);
    }

    #[test]
    fn a_report_that_lacks_something_is_refused_with_what() {
        for name in [
            "host_name",
            "machine_id",
            "draw",
            "reseeded",
            "vcpus",
            "memory_mib",
        ] {
            let without: String = SAID
                .lines()
                .filter(|line| !line.starts_with(name))
                .map(|line| format!("{line}\n"))
                .collect();
            assert!(parse(&without).unwrap_err().contains(name), "{name}");
        }
        assert!(
            parse(&SAID.replace("6f2cbf8e-0000-4000-8000-", ""))
                .unwrap_err()
                .contains("128 bits")
        );
    }

    #[test]
    fn the_script_begins_as_agreed() {
        assert_eq!(SCRIPT.lines().next(), Some("# greenroom-identity 1"));
    }
}
