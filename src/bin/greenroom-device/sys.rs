//! What the kernel shows as files.

use std::fs;
use std::path::Path;

/// Contents without what surrounds them; None where there is nothing, or nothing readable.
pub fn read(path: impl AsRef<Path>) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The same as one line of at most 128 characters: firmware writes what it likes.
pub fn word(path: impl AsRef<Path>) -> Option<String> {
    let text = read(path)?;
    let line: String = text.lines().next()?.trim().chars().take(128).collect();
    (!line.is_empty()).then_some(line)
}

pub fn number(path: impl AsRef<Path>) -> Option<u64> {
    word(path)?.parse().ok()
}

/// Names in a folder, sorted; none where there is no such folder.
pub fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The value of `key=` on the kernel's command line.
pub fn kernel_argument(key: &str) -> Option<String> {
    let line = read("/proc/cmdline")?;
    let found = line
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(name, _)| *name == key)?;
    Some(found.1.to_owned())
}

pub fn boot_id() -> String {
    word("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u64 {
    let text = read("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    (seconds * 1000.0) as u64
}
