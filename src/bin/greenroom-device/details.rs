//! What takes longer to find out: units and packages that the persona wants, the packet filter's rules.
//!
//! Other programs say it. Each has a few seconds, and what it writes is bounded.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::report::HOME;
use crate::wire::{Details, Watched};

/// Bounds of telemetry.schema.json.
const MOST_NAMES: usize = 64;
const MOST_LINES: usize = 200;
const LONGEST_LINE: usize = 200;
/// Much for a program that runs, even on an emulated machine with a share of a processor.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_BYTES: u64 = 256 << 10;

pub fn take() -> Details {
    let watched: Watched = std::fs::read(format!("{HOME}/watch.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let mut units = BTreeMap::new();
    let wanted: Vec<&str> = names(&watched.units);
    if !wanted.is_empty() {
        let mut words = vec!["show", "--property=Id,ActiveState", "--"];
        words.extend(&wanted);
        units = states(&said("systemctl", &words).unwrap_or_default());
        // One that is not known has the state "inactive" under its own name.
        for unit in &wanted {
            units
                .entry((*unit).to_owned())
                .or_insert_with(|| "unknown".to_owned());
        }
    }
    let failed = said(
        "systemctl",
        &["list-units", "--failed", "--plain", "--no-legend", "--full"],
    );
    for line in failed.unwrap_or_default().lines() {
        if let Some(unit) = line.split_ascii_whitespace().next()
            && units.len() < MOST_NAMES
            && unit.len() <= 128
        {
            units.insert(unit.to_owned(), "failed".to_owned());
        }
    }
    let wanted: Vec<&str> = names(&watched.packages);
    let mut packages = BTreeMap::new();
    if !wanted.is_empty() {
        let mut words = vec![
            "-W",
            "-f",
            "${Package} ${Version} ${db:Status-Status}\n",
            "--",
        ];
        words.extend(&wanted);
        let found = versions(&said("dpkg-query", &words).unwrap_or_default());
        for name in wanted {
            packages.insert(name.to_owned(), found.get(name).cloned());
        }
    }
    Details {
        units,
        packages,
        firewall: said("nft", &["list", "ruleset"]).map(|text| lines(&text)),
    }
}

/// Names that can be arguments.
fn names(all: &[String]) -> Vec<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._+:-".contains(c);
    all.iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty() && name.len() <= 128 && name.chars().all(plain))
        .take(MOST_NAMES / 2)
        .collect()
}

/// Blocks of `Id=` and `ActiveState=`, with empty lines between.
fn states(text: &str) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for block in text.split("\n\n") {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key));
        if let (Some(id), Some(state)) = (value("Id="), value("ActiveState=")) {
            states.insert(id.to_owned(), state.chars().take(32).collect());
        }
    }
    states
}

fn versions(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version, state) = (words.next()?, words.next()?, words.next()?);
            (state == "installed" && version.len() <= 128)
                .then(|| (name.to_owned(), version.to_owned()))
        })
        .collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .take(MOST_LINES)
        .map(|line| {
            line.replace('\t', "  ")
                .chars()
                .filter(|c| !c.is_control())
                .take(LONGEST_LINE)
                .collect()
        })
        .collect()
}

/// What a program writes; none when there is no such program, it takes too long, or it wrote nothing
/// and failed.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut out = child.stdout.take()?.take(MOST_BYTES);
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = out.read_to_end(&mut bytes);
        bytes
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
    };
    let bytes = reading.join().ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // dpkg-query fails when one of several packages is not there, and says the others.
    let well = status.is_some_and(|status| status.success() || !text.is_empty());
    well.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_read() {
        let text = "Id=ssh.service\nActiveState=active\n\nActiveState=failed\nId=nginx.service\n";
        let states = states(text);
        assert_eq!(states["ssh.service"], "active");
        assert_eq!(states["nginx.service"], "failed");
        let found = versions("nginx-light 1.22.1-9 installed\nold 1 config-files\nodd\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found["nginx-light"], "1.22.1-9");
        assert_eq!(
            lines("table inet filter {\n\tchain \u{7}input {\n"),
            ["table inet filter {", "  chain input {"]
        );
    }

    #[test]
    fn only_names_become_arguments() {
        let all = ["ssh.service", "--root=/", "a b", "", "$(id)"].map(str::to_owned);
        assert_eq!(names(&all), ["ssh.service"]);
        assert_eq!(names(&vec!["x".to_owned(); 100]).len(), MOST_NAMES / 2);
    }

    #[test]
    fn a_program_that_is_not_there_says_nothing() {
        assert_eq!(said("greenroom-no-such-program", &[]), None);
        assert_eq!(said("echo", &["a"]).as_deref(), Some("a\n"));
        assert_eq!(said("false", &[]), None);
    }
}
