//! Lines on the port. A line ends with a newline; within it, newline and backslash are escaped, so
//! that whoever joins in the middle finds the next line.
//!
//! ```text
//! host:   job WORD␀WORD␀…             the launcher's words after its name
//! guest:  started ATTEMPT | refused ATTEMPT | ended ATTEMPT RECORD
//! ```
//!
//! The host's side is `src/hypervisor/guest/runner.rs`.

use crate::escape::{escaped, unescaped};

/// No order is longer: the host sends at most a guest agent's message.
const LONGEST: usize = 256 << 10;

/// Bytes in, whole lines out.
#[derive(Default)]
pub struct Lines {
    part: Vec<u8>,
}

impl Lines {
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.part.extend_from_slice(piece);
            if self.part.last() == Some(&b'\n') {
                self.part.pop();
                whole.push(std::mem::take(&mut self.part));
            } else if self.part.len() > LONGEST {
                self.part.clear();
            }
        }
        whole
    }
}

/// The words of an order.
pub fn order(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let plain = unescaped(line.strip_prefix(b"job ")?)?;
    Some(plain.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

pub fn started(attempt: &[u8]) -> Vec<u8> {
    [b"started ", attempt, b"\n"].concat()
}

pub fn refused(attempt: &[u8]) -> Vec<u8> {
    [b"refused ", attempt, b"\n"].concat()
}

pub fn ended(attempt: &[u8], record: &[u8]) -> Vec<u8> {
    [b"ended ", attempt, b" ", &escaped(record), b"\n"].concat()
}
