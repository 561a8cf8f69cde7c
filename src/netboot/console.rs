//! The end of a device's serial console, where its host keeps one in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::vocab::boot::BootDevice;
use crate::vocab::device::is_plain_name;

/// Read from the file's end.
const MOST_BYTES: u64 = 32 << 10;
const MOST_LINES: usize = 15;
const LONGEST_LINE: usize = 160;

/// The files in which it may be: by name, by each card's address.
pub fn files(folder: &Path, device: &BootDevice) -> Vec<PathBuf> {
    let name = is_plain_name(&device.name).then(|| device.name.clone());
    let cards = device.fingerprint.macs.iter().map(|mac| mac.dashed());
    name.into_iter()
        .chain(cards)
        .map(|name| folder.join(format!("{name}.console")))
        .collect()
}

/// The last lines of the first of the files that is there; nothing where there is none.
pub fn tail(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .find_map(|path| read_end(path).ok())
        .map(|bytes| lines(&bytes))
        .unwrap_or_default()
}

fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    // Reading a pipe or a terminal could wait for ever.
    if !metadata.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(MOST_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a person would have read: without a terminal's control sequences (ECMA-48, 5.4) and other
/// control characters. A carriage return begins a line. The last lines only.
pub fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = vec![String::new()];
    let mut all = text.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            '\n' | '\r' => lines.push(String::new()),
            '\u{1b}' => match all.next() {
                // Control sequences end with a character of 4/0 to 7/14.
                Some('[') => {
                    all.find(|c| ('@'..='~').contains(c));
                }
                // Strings to the terminal end with BEL or ESC \.
                Some(']' | 'P' | '_' | '^' | 'X') => {
                    all.find(|c| matches!(c, '\u{7}' | '\u{1b}'));
                }
                // Such as the choice of a character set: one more follows.
                Some('(' | ')' | '#' | '%') => {
                    all.next();
                }
                _ => {}
            },
            '\t' => push(&mut lines, ' '),
            c if c.is_control() || is_hidden(c) => {}
            c => push(&mut lines, c),
        }
    }
    let told: Vec<String> = lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    told[told.len().saturating_sub(MOST_LINES)..].to_vec()
}

fn push(lines: &mut [String], c: char) {
    if let Some(line) = lines.last_mut()
        && line.chars().count() < LONGEST_LINE
    {
        line.push(c);
    }
}

/// Marks that change how text around them is shown.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        let said = b"\x1b[2J\x1b[1;31mDebian\x1b[0m GNU/Linux\r\n\x1b]0;title\x07web-1 login: \x1b(B\x08\r\n\n";
        assert_eq!(lines(said), ["Debian GNU/Linux", "web-1 login:"]);
        let many: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert_eq!(lines(many.as_bytes()).len(), MOST_LINES);
        assert_eq!(lines(many.as_bytes())[MOST_LINES - 1], "99");
        assert_eq!(lines("x".repeat(1000).as_bytes())[0].len(), LONGEST_LINE);
    }

    #[test]
    fn what_is_not_there_or_no_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(tail(&[at("absent"), folder.path().to_owned()]).is_empty());
        std::fs::write(at("b"), "hello\n").unwrap();
        assert_eq!(tail(&[at("absent"), at("b")]), ["hello"]);
        std::fs::write(at("c"), "x\n".repeat(100_000) + "end").unwrap();
        assert_eq!(tail(&[at("c")]).last().unwrap(), "end");
    }

    proptest! {
        #[test]
        fn any_console_is_harmless(bytes: Vec<u8>, text: String) {
            for line in lines(&bytes).into_iter().chain(lines(text.as_bytes())) {
                prop_assert!(line.chars().all(|c| !c.is_control() && !is_hidden(c)));
                prop_assert!(line.chars().count() <= LONGEST_LINE);
            }
        }
    }
}
