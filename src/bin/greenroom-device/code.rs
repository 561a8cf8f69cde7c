//! The code that lets this device be provisioned, where one is wanted: it comes with the machine, or
//! somebody types it at the console.

use std::io::{BufRead, Read};
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;

use crate::http::{Failure, Server};
use crate::sys::kernel_argument;
use crate::wire::GivenCode;

const KEY: &str = "greenroom.code";
/// Firmware's tables, as the kernel shows them (Linux, Documentation/ABI: sysfs-firmware-dmi-tables).
const TABLES: &str = "/sys/firmware/dmi/tables/DMI";
/// Longest line that is taken from the console.
const LINE_BYTES: u64 = 256;

/// Codes that are still to be given.
pub struct Codes {
    typed: Receiver<String>,
    next: Option<String>,
}

impl Codes {
    pub fn open() -> Self {
        let (sender, typed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut console = std::io::stdin().lock();
            loop {
                let mut line = Vec::new();
                match (&mut console).take(LINE_BYTES).read_until(b'\n', &mut line) {
                    Ok(1..) => {}
                    _ => return,
                }
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                if !text.is_empty() && sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            typed,
            next: kernel_argument(KEY).or_else(of_firmware),
        }
    }

    /// Gives the next code, where there is one. Kept for another time only where nobody heard it.
    pub fn give(&mut self, server: &Server, session: &str) {
        let Some(code) = self.next.take().or_else(|| self.typed.try_recv().ok()) else {
            return;
        };
        let given = GivenCode { code: code.clone() };
        match server.post::<Value>("/device/v1/code", Some(session), &given) {
            Ok(_) => println!("greenroom: the code was good"),
            Err(why) => {
                println!("greenroom: giving a code: {why}");
                if matches!(why, Failure::Network(_) | Failure::Refused(429 | 503, _)) {
                    self.next = Some(code);
                }
            }
        }
    }
}

fn of_firmware() -> Option<String> {
    let tables = std::fs::read(TABLES).ok()?;
    oem_strings(&tables)
        .into_iter()
        .find_map(|text| text.strip_prefix(KEY)?.strip_prefix('=').map(str::to_owned))
}

/// Strings of the structures of type 11, "OEM Strings" (DMTF DSP0134, 6.1.2 and 7.12): a structure is
/// type, length, a handle of two bytes, the rest of `length` bytes, then strings that each end with NUL,
/// and one more NUL. Firmware writes what it likes: what does not fit ends the reading.
pub fn oem_strings(tables: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = tables;
    while let [kind, length, ..] = *rest {
        let length = usize::from(length);
        let Some(strings) = rest.get(length..).filter(|_| length >= 4) else {
            break;
        };
        let Some(end) = strings.windows(2).position(|two| two == [0, 0]) else {
            break;
        };
        if kind == 11 {
            let texts = strings[..end].split(|byte| *byte == 0);
            found.extend(texts.map(|text| String::from_utf8_lossy(text).into_owned()));
        }
        rest = &strings[end + 2..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, formatted.len() as u8 + 4, 0, 0];
        bytes.extend(formatted);
        for text in strings {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn oem_strings_are_found_among_other_structures() {
        let tables = [
            structure(1, &[1, 2, 3], &["Maker", "Product"]),
            structure(4, &[], &[]),
            structure(11, &[2], &["other", "greenroom.code=AAAAA"]),
            structure(127, &[], &[]),
        ]
        .concat();
        assert_eq!(oem_strings(&tables), ["other", "greenroom.code=AAAAA"]);
        for end in 0..tables.len() {
            let _ = oem_strings(&tables[..end]);
        }
    }

    proptest! {
        #[test]
        fn any_tables_are_read(tables: Vec<u8>) {
            let _ = oem_strings(&tables);
        }

        /// Structures whose lengths and ends are mostly right.
        #[test]
        fn nearly_lawful_tables_are_read(parts in proptest::collection::vec((0_u8..20, proptest::collection::vec(0_u8..4, 0..12), "[a-z]{0,5}"), 0..12), cut in 0_usize..200) {
            let mut tables: Vec<u8> = parts.iter().flat_map(|(kind, formatted, text)| structure(*kind, formatted, &[text])).collect();
            tables.truncate(cut);
            let _ = oem_strings(&tables);
        }
    }
}
