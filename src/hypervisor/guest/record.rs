//! The end record: what a job's launcher leaves in the file `end`.
//!
//! ```text
//! CODE OUT ERR OUTPUT BODY\n        sizes in bytes; OUTPUT is `-` without an output file
//! <out><err><output>                where BODY is `here`; absent where it is `left`
//! \nend\n
//! ```
//!
//! Short logs and a short output come with the news of the end, so that a short job needs no further
//! agent calls. The record appears by appending, not by renaming: a reader may keep one handle open
//! (no failed opens, which libvirt logs as errors) and must be content with a part of it. The guest's
//! word, so every number is checked.

/// What both sides must agree on.
#[derive(Debug, Clone, Copy)]
pub struct RecordFormat {
    /// Logs and output together are in the record up to this many bytes.
    pub body_cap: usize,
}

const TRAILER: &[u8] = b"\nend\n";
const HEADER_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndRecord {
    pub exit_code: i32,
    pub out_size: u64,
    pub err_size: u64,
    /// `None` when the job left no output file.
    pub output_size: Option<u64>,
    /// Logs and output, where they are short.
    pub body: Option<EndBody>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndBody {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub output: Vec<u8>,
}

/// What the bytes of an `end` file say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the job runs.
    Nothing,
    /// The record is being written.
    Part,
    Whole(EndRecord),
    /// Not a record, and no further bytes would make it one.
    Broken,
}

impl RecordFormat {
    /// The most bytes that a record can have.
    pub fn cap(&self) -> usize {
        HEADER_MAX + self.body_cap + TRAILER.len()
    }

    pub fn read(&self, bytes: &[u8]) -> Seen {
        if bytes.is_empty() {
            return Seen::Nothing;
        }
        let Some(header_end) = bytes
            .iter()
            .take(HEADER_MAX)
            .position(|byte| *byte == b'\n')
        else {
            return if bytes.len() < HEADER_MAX {
                Seen::Part
            } else {
                Seen::Broken
            };
        };
        let Some(mut record) = header(&bytes[..header_end]) else {
            return Seen::Broken;
        };
        let rest = &bytes[header_end + 1..];
        if record.body.is_none() {
            return match rest {
                _ if rest == TRAILER => Seen::Whole(record),
                _ if TRAILER.starts_with(rest) => Seen::Part,
                _ => Seen::Broken,
            };
        }
        let sizes = [
            record.out_size,
            record.err_size,
            record.output_size.unwrap_or(0),
        ];
        let Some(length) = sizes
            .iter()
            .try_fold(0u64, |sum, size| sum.checked_add(*size))
        else {
            return Seen::Broken;
        };
        let Some(length) = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.body_cap)
        else {
            return Seen::Broken;
        };
        if rest.len() < length + TRAILER.len() {
            return Seen::Part;
        }
        if &rest[length..] == TRAILER {
            let (out, rest) = rest[..length].split_at(record.out_size as usize);
            let (err, output) = rest.split_at(record.err_size as usize);
            record.body = Some(EndBody {
                out: out.to_vec(),
                err: err.to_vec(),
                output: output.to_vec(),
            });
        } else {
            // Something that the job left behind wrote to a log meanwhile: the files have it right.
            record.body = None;
        }
        Seen::Whole(record)
    }

    /// As the launcher writes it; for the simulation.
    pub fn write(&self, exit_code: i32, out: &[u8], err: &[u8], output: Option<&[u8]>) -> Vec<u8> {
        let size = out.len() + err.len() + output.map_or(0, <[u8]>::len);
        let body = size <= self.body_cap;
        let output_size = output.map_or("-".to_owned(), |output| output.len().to_string());
        let word = if body { "here" } else { "left" };
        let mut bytes = format!(
            "{exit_code} {} {} {output_size} {word}\n",
            out.len(),
            err.len()
        )
        .into_bytes();
        if body {
            bytes.extend_from_slice(out);
            bytes.extend_from_slice(err);
            bytes.extend_from_slice(output.unwrap_or_default());
        }
        bytes.extend_from_slice(TRAILER);
        bytes
    }
}

/// The header's numbers; `body` is `Some` and empty where a body follows.
fn header(line: &[u8]) -> Option<EndRecord> {
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let [code, out, err, output, body] = words[..] else {
        return None;
    };
    Some(EndRecord {
        exit_code: code.parse().ok().filter(|code| (0..=255).contains(code))?,
        out_size: out.parse().ok()?,
        err_size: err.parse().ok()?,
        output_size: match output {
            "-" => None,
            size => Some(size.parse().ok()?),
        },
        body: match body {
            "here" => Some(EndBody {
                out: Vec::new(),
                err: Vec::new(),
                output: Vec::new(),
            }),
            "left" => None,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    const FORMAT: RecordFormat = RecordFormat { body_cap: 10 };

    #[test]
    fn each_part_of_a_record_is_a_part_and_the_whole_is_whole() {
        for (out, err, output) in [
            (&b"ab\n"[..], &b""[..], Some(&b"x\nend\n"[..])),
            (b"", b"", None),
        ] {
            let bytes = FORMAT.write(3, out, err, output);
            for cut in 1..bytes.len() {
                assert_eq!(FORMAT.read(&bytes[..cut]), Seen::Part, "{cut}");
            }
            let Seen::Whole(record) = FORMAT.read(&bytes) else {
                panic!()
            };
            assert_eq!(
                (record.exit_code, record.output_size),
                (3, output.map(|o| o.len() as u64))
            );
            assert_eq!(record.body.unwrap().output, output.unwrap_or_default());
        }
    }

    #[test]
    fn long_logs_stay_in_their_files() {
        let bytes = FORMAT.write(0, b"eleven bytes", b"", None);
        let Seen::Whole(record) = FORMAT.read(&bytes) else {
            panic!()
        };
        assert_eq!((record.body, record.out_size), (None, 12));
    }

    #[test]
    fn a_log_that_grew_meanwhile_is_left_to_its_file() {
        let Seen::Whole(record) = FORMAT.read(b"0 1 0 - here\nab\nend\n") else {
            panic!()
        };
        assert_eq!(record.body, None);
    }

    #[test]
    fn nonsense_is_broken() {
        for bytes in [
            &b"256 0 0 - here\n"[..],
            b"0 0 0 - \n",
            b"0 18446744073709551615 9 - here\n",
            b"0 11 0 - here\n",
            b"0 1 1 - left\nx",
            &[b'1'; 200],
        ] {
            assert_eq!(
                FORMAT.read(bytes),
                Seen::Broken,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
