//! Public SSH keys: a line of `authorized_keys` without options (sshd(8)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::shape::{Word, Wrong};
use crate::chain::faults::quoted;

/// Longest second part, characters: an RSA key of 8192 bits.
const LONGEST: usize = 1400;

/// Those that every stage of the shipped chains takes; keys on tokens are not among them.
const KINDS: [&str; 5] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

pub static SSH_KEY: Word = Word {
    expected: "a public key such as `ssh-ed25519 AAAA… name@host`",
    parse: |text| {
        if text.contains("PRIVATE KEY") {
            return Err(Wrong::new("this is a private key").suggesting(
                "take it out of the file, make a new pair, and write the line of its `.pub` file",
            ));
        }
        let mut parts = text.split_ascii_whitespace();
        let (kind, blob, comment) = (parts.next(), parts.next(), parts.next());
        let kind = kind.unwrap_or_default();
        if !KINDS.contains(&kind) {
            let known = KINDS.join(", ");
            return Err(
                Wrong::new(format!("{} is not a kind of SSH keys", quoted(kind))).suggesting(
                    format!("there are {known}; options before the key are not supported"),
                ),
            );
        }
        let bytes = STANDARD.decode(blob.unwrap_or_default()).map_err(|_| {
            Wrong::new("the key's second part is not base64").suggesting("was it cut off?")
        })?;
        let inside = string_of(&bytes, 0).ok_or_else(|| cut_off(&bytes))?;
        if inside != kind.as_bytes() {
            let inside = String::from_utf8_lossy(inside).into_owned();
            return Err(Wrong::new(format!(
                "the key says {} and is {}",
                quoted(kind),
                quoted(&inside)
            )));
        }
        if !is_whole(&bytes) {
            return Err(cut_off(&bytes));
        }
        if kind == "ssh-ed25519" && bytes.len() != 51 {
            return Err(cut_off(&bytes));
        }
        if kind == "ssh-rsa" && bytes.len() < 260 {
            return Err(Wrong::new("this RSA key is shorter than 2048 bits")
                .suggesting("make one with `ssh-keygen -t ed25519`"));
        }
        let blob = blob.unwrap_or_default();
        if blob.len() > LONGEST {
            return Err(Wrong::new("the key is longer than 8192 bits")
                .suggesting("make one with `ssh-keygen -t ed25519`"));
        }
        let comment: String = comment
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '_' | '-'))
            .take(64)
            .collect();
        Ok(format!("{kind} {blob} {comment}").trim_end().to_owned())
    },
};

fn cut_off(bytes: &[u8]) -> Wrong {
    Wrong::new(format!("the key is cut off after {} bytes", bytes.len()))
        .suggesting("copy the whole line of the `.pub` file")
}

/// The string at an offset: four bytes of length, then the bytes (RFC 4251, section 5).
fn string_of(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
    bytes.get(at + 4..at.checked_add(4)?.checked_add(length)?)
}

/// Strings, one after the other, to the end.
fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 0;
    let mut strings = 0;
    while at < bytes.len() {
        let Some(string) = string_of(bytes, at) else {
            return false;
        };
        at += 4 + string.len();
        strings += 1;
    }
    strings >= 2
}
