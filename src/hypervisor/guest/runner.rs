//! Lines between us and a guest's job runner (`images/lib/runner`), a program that starts jobs and
//! tells their end over a port of its own: no agent call, no shell around the work.
//!
//! ```text
//! we:     job WORD␀WORD␀…             a launcher's words after its name
//! guest:  started ATTEMPT | refused ATTEMPT | ended ATTEMPT RECORD
//! ```
//!
//! Within a line, newline and backslash are escaped. A guest without a runner, or one that is slow to
//! answer, gets the same job through its agent: the launcher's guard lets only one of both start it.
//! What is said is the guest's word, as the end record is.

use std::time::Duration;

use self::escape::{escaped, unescaped};
use super::Guest;
use super::launcher::{Launch, Part};
use crate::vocab::AttemptId;

#[path = "../../../images/lib/runner/escape.rs"]
mod escape;

/// An emulated guest on a busy host answered within 40 ms; what takes longer goes another way.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What a runner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Started(AttemptId),
    Refused(AttemptId),
    /// With the end record, as it is in the job's file.
    Ended(AttemptId, Vec<u8>),
}

/// The order, without the line's end. None for a job whose input comes another way than in words.
pub fn order(launch: &Launch) -> Option<Vec<u8>> {
    let comes_along = |part: &Part| matches!(part, Part::None | Part::Text(_));
    if !comes_along(&launch.input) || !comes_along(&launch.script) {
        return None;
    }
    let words = launch.words().join("\0");
    Some([b"job ", &*escaped(words.as_bytes())].concat())
}

impl Said {
    pub fn read(line: &[u8]) -> Option<Self> {
        let (word, rest) = split(line)?;
        match word {
            b"started" => Some(Self::Started(attempt(rest)?)),
            b"refused" => Some(Self::Refused(attempt(rest)?)),
            b"ended" => {
                let (id, record) = split(rest)?;
                Some(Self::Ended(attempt(id)?, unescaped(record)?))
            }
            _ => None,
        }
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn attempt(bytes: &[u8]) -> Option<AttemptId> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Whether the guest's runner took the job.
pub(super) async fn start(guest: &Guest<'_>, launch: &Launch) -> bool {
    let Some(line) = order(launch) else {
        return false;
    };
    let answer = guest
        .hypervisor
        .ask_runner(guest.machine, &line, ANSWER_WITHIN)
        .await;
    answer.and_then(|line| Said::read(&line)) == Some(Said::Started(launch.attempt))
}

/// A guest that says so many other things first is listened to no more.
const MOST_LINES: usize = 100;

/// The end record of the job, when the runner says it; never, when it does not.
pub(super) async fn end_of(guest: &Guest<'_>, job: AttemptId) -> Vec<u8> {
    for _ in 0..MOST_LINES {
        let line = guest.hypervisor.hear_runner(guest.machine).await;
        if let Some(Said::Ended(of, record)) = Said::read(&line)
            && of == job
        {
            return record;
        }
    }
    guest.hypervisor.leave_runner(guest.machine);
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(input: Part) -> Launch {
        Launch {
            root: "/r".into(),
            block: "/b".into(),
            dev: "/d".into(),
            attempt: AttemptId::fresh(),
            disk_serial: None,
            staged: None,
            input,
            script: Part::Text("echo 'a\\b'\n\n".into()),
            env: vec![("A".into(), "\\n".into())],
            argv: vec!["/bin/sh".into()],
        }
    }

    #[test]
    fn an_order_is_one_line_whatever_is_in_it() {
        let launch = launch(Part::Text("{}\n".into()));
        let line = order(&launch).unwrap();
        assert!(!line.contains(&b'\n'));
        let words = unescaped(line.strip_prefix(b"job ").unwrap()).unwrap();
        let words: Vec<String> = words
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8(word.to_vec()).unwrap())
            .collect();
        assert_eq!(words, launch.words());
        assert_eq!(order(&self::launch(Part::Stdin { size: 3 })), None);
        assert_eq!(order(&self::launch(Part::Staged { size: 3 })), None);
    }

    #[test]
    fn only_what_a_runner_says_is_understood() {
        let id = AttemptId::fresh();
        let read = |text: String| Said::read(text.as_bytes());
        assert_eq!(read(format!("started {id}")), Some(Said::Started(id)));
        assert_eq!(read(format!("refused {id}")), Some(Said::Refused(id)));
        assert_eq!(
            read(format!("ended {id} 0 0 0 - here\\n\\nend\\n")),
            Some(Said::Ended(id, b"0 0 0 - here\n\nend\n".to_vec()))
        );
        for odd in [
            String::new(),
            "started".into(),
            "started x".into(),
            format!("ended {id}"),
            format!("ended {id} \\x"),
            format!("ended {id} \\"),
            format!("stopped {id}"),
        ] {
            assert_eq!(Said::read(odd.as_bytes()), None, "{odd}");
        }
    }
}
