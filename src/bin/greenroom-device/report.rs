//! On the delivered system: how it does, as often as the server says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::details;
use crate::http::Server;
use crate::sys::{boot_id, names, read, word};
use crate::wire::{Details, Taken, Telemetry};

/// Folder of what was planted at delivery.
pub const HOME: &str = "/etc/greenroom";
/// Between two reports, where the server does not say.
const EVERY: Duration = Duration::from_secs(15);
/// Reports from one that has details to the next: five minutes of them, unless the server says otherwise.
const DETAILS_EACH: u32 = 20;
/// Those of the first reports: services are still starting.
const EARLY: u32 = 8;
/// Names of processes that are told at most.
const MOST_NAMES: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
pub struct Settings {
    pub url: String,
    pub token: String,
}

pub fn serve() -> Result<(), String> {
    let path = format!("{HOME}/device.json");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let settings: Settings =
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let server = Server::new(&settings.url)?;
    let mut before = Ticks::now();
    let mut pause = Duration::from_secs(1);
    // Reports that came through.
    let mut told = 0;
    loop {
        let now = Ticks::now();
        let details = with_details(told).then(details::take);
        let report = take(now.busy_since(&before), details);
        before = now;
        pause = match server.post::<Taken>("/device/v1/telemetry", Some(&settings.token), &report) {
            Ok(taken) => {
                told += 1;
                // Whatever the server says: neither a flood nor silence.
                taken
                    .every_s
                    .map_or(EVERY, |s| Duration::from_secs(s.clamp(2, 60)))
            }
            Err(why) => {
                eprintln!("{why}");
                (pause * 2).min(EVERY)
            }
        };
        std::thread::sleep(pause);
    }
}

/// Not the first: that it is there at all is the most urgent news.
fn with_details(told: u32) -> bool {
    told > 0 && ((told < EARLY && told % 2 == 1) || told.is_multiple_of(DETAILS_EACH))
}

/// Clock ticks of /proc/stat's first line: busy, and all.
struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::read(&read("/proc/stat").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let numbers: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|word| word.parse().ok())
            .collect();
        let all: u64 = numbers.iter().sum();
        // Fourth and fifth are idle and waiting for a disk.
        let idle: u64 = numbers.iter().skip(3).take(2).sum();
        Self {
            busy: all - idle,
            all,
        }
    }

    fn busy_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 {
            return 0.0;
        }
        self.busy.saturating_sub(before.busy) as f64 / all as f64
    }
}

fn take(cpu_busy: f64, details: Option<Details>) -> Telemetry {
    let (memory_mib, memory_available_mib) = memory(&read("/proc/meminfo").unwrap_or_default());
    let (net_received, net_sent) = network(&read("/proc/net/dev").unwrap_or_default());
    let (disk_read, disk_written) = disks(&read("/proc/diskstats").unwrap_or_default());
    let (root_bytes, root_free) = root();
    let load = load(&word("/proc/loadavg").unwrap_or_default());
    let applications = applications();
    Telemetry {
        version: 2,
        boot_id: boot_id(),
        hostname: word("/proc/sys/kernel/hostname").unwrap_or_default(),
        os: os(&read("/etc/os-release").unwrap_or_default()),
        uptime_s: crate::sys::uptime_ms() as f64 / 1000.0,
        load_1: load[0],
        load_5: load[1],
        load_15: load[2],
        cpu_busy,
        memory_mib,
        memory_available_mib,
        disk_read,
        disk_written,
        net_received,
        net_sent,
        root_bytes,
        root_free,
        processes: applications.values().sum(),
        services: services(),
        applications,
        details,
    }
}

/// Over 1, 5 and 15 minutes.
fn load(text: &str) -> [f64; 3] {
    let mut words = text
        .split(' ')
        .map(|word| word.parse().unwrap_or(0.0_f64).clamp(0.0, 1e6));
    std::array::from_fn(|_| words.next().unwrap_or(0.0))
}

fn memory(text: &str) -> (u64, u64) {
    let mib = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    };
    (mib("MemTotal:"), mib("MemAvailable:"))
}

/// Bytes received and sent, without the loopback.
fn network(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        sums.0 += numbers.first().unwrap_or(&0);
        sums.1 += numbers.get(8).unwrap_or(&0);
    }
    sums
}

/// Bytes read and written of whole disks; /proc/diskstats counts in sectors of 512 bytes.
fn disks(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(name) = words.get(2) else { continue };
        if !std::path::Path::new(&format!("/sys/block/{name}/device")).exists() {
            continue;
        }
        let number = |index: usize| {
            words
                .get(index)
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0)
        };
        sums.0 += number(5) * 512;
        sums.1 += number(9) * 512;
    }
    sums
}

fn root() -> (u64, u64) {
    // SAFETY: statvfs fills the struct that it is given, and the path ends with NUL.
    let mut space: nix::libc::statvfs = unsafe { std::mem::zeroed() };
    let path = b"/\0";
    if unsafe { nix::libc::statvfs(path.as_ptr().cast(), &mut space) } != 0 {
        return (0, 0);
    }
    (
        space.f_blocks * space.f_frsize,
        space.f_bavail * space.f_frsize,
    )
}

fn os(text: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_default()
}

/// Services that run: systemd makes a control group for each.
fn services() -> Vec<String> {
    let folders = [
        "/sys/fs/cgroup/system.slice",
        "/sys/fs/cgroup/systemd/system.slice",
    ];
    let mut services: Vec<String> = folders
        .iter()
        .flat_map(names)
        .filter(|name| name.ends_with(".service"))
        .collect();
    services.dedup();
    services.truncate(MOST_NAMES);
    services
}

fn applications() -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for pid in names("/proc")
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    {
        // Kernel threads have no command line.
        if read(format!("/proc/{pid}/cmdline")).is_none() {
            continue;
        }
        if let Some(name) = word(format!("/proc/{pid}/comm"))
            && (found.len() < MOST_NAMES || found.contains_key(&name))
        {
            *found.entry(name).or_insert(0) += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle() {
        let before = Ticks::read("cpu  10 0 10 80 0 0 0 0 0 0\n");
        let after = Ticks::read("cpu  20 0 20 150 10 0 0 0 0 0\n");
        assert!((after.busy_since(&before) - 0.2).abs() < 1e-9);
        assert_eq!(Ticks::read("").busy_since(&before), 0.0);
    }

    #[test]
    fn details_come_soon_often_at_first_and_seldom_later() {
        let with: Vec<u32> = (0..45).filter(|told| with_details(*told)).collect();
        assert_eq!(with, [1, 3, 5, 7, 20, 40]);
        assert_eq!(load("0.52 0.10 x 1/20 30"), [0.52, 0.10, 0.0]);
    }

    #[test]
    fn the_loopback_does_not_count() {
        let text = "Inter-|\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1\n  eth0: 100 1 0 0 0 0 0 0 50 1 0\n";
        assert_eq!(network(text), (100, 50));
    }
}
