//! The launcher: what one `guest-exec` carries to start a job.
//!
//! A fixed shell program (`launcher.sh`) is the argument of `sh -c`; everything that belongs to the
//! job (script, environment, program and its arguments, and an input that is text) is a further
//! argument of it and never part of the program. So nothing is quoted, templated or decoded in the
//! guest. An input that is not text comes as the program's standard input, and what is too large for
//! one message is written to files first.
//!
//! **Once only.** The launcher is itself the job's parent and stays until the job's end, so there is
//! no moment between "marked as started" and "handed to somebody else". The mark is an exclusive
//! create of `end`, taken once all that can still fail cheaply has been done (the folder exists), and
//! given back when preparing fails afterwards: an input cut short by the agent's death, no space. Two
//! launchers of one attempt may race; one wins, the other leaves. What remains is the death of the
//! launcher alone: only the guest's out-of-memory killer or the job itself (it is root) could do
//! that, and then the job counts as running until its stage's deadline. A launcher that dies with
//! its guest is the loss of the machine, which the host tells.

use std::sync::LazyLock;

use super::super::HvError;
use super::record::RecordFormat;
use crate::vocab::AttemptId;

/// `launcher.sh` without comments, blank lines and indentation.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let lines = include_str!("launcher.sh").lines().map(str::trim_start);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect()
});

/// `$0` of the launcher: what `ps` shows in the guest, and by which the simulation knows it.
pub const NAME: &str = "greenroom-job";

/// The virtio serial number's length is fixed by the virtio specification (5.2.6.1).
const SERIAL_MAX: usize = 20;

/// Where a job's files are in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPaths {
    folder: String,
}

impl JobPaths {
    pub const ROOT: &'static str = "/run/greenroom/job";

    pub fn new(attempt: AttemptId) -> Self {
        Self::under(Self::ROOT, attempt)
    }

    pub fn under(root: &str, attempt: AttemptId) -> Self {
        Self {
            folder: format!("{root}/{attempt}"),
        }
    }

    /// Everything of the job is in it.
    pub fn folder(&self) -> &str {
        &self.folder
    }
    pub fn work(&self) -> String {
        format!("{}/work", self.folder)
    }
    pub fn input(&self) -> String {
        format!("{}/input", self.folder)
    }
    pub fn script(&self) -> String {
        format!("{}/script", self.folder)
    }
    pub fn out(&self) -> String {
        format!("{}/out", self.folder)
    }
    pub fn err(&self) -> String {
        format!("{}/err", self.folder)
    }
    pub fn output(&self) -> String {
        format!("{}/output", self.folder)
    }
    /// Exists as soon as the job was started; has contents as soon as it has ended.
    pub fn end(&self) -> String {
        format!("{}/end", self.folder)
    }
}

/// How a file of the job gets into the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    None,
    Text(String),
    /// Standard input of the launcher.
    Stdin {
        size: usize,
    },
    /// Already written, as a file of the same name in the staging folder.
    Staged {
        size: usize,
    },
}

impl Part {
    fn words(&self) -> [String; 3] {
        match self {
            Self::None => ["none".into(), String::new(), "0".into()],
            Self::Text(text) => ["text".into(), text.clone(), text.len().to_string()],
            Self::Stdin { size } => ["stdin".into(), String::new(), size.to_string()],
            Self::Staged { size } => ["staged".into(), String::new(), size.to_string()],
        }
    }

    fn from_words(how: &str, text: &str, size: &str) -> Option<Self> {
        Some(match how {
            "none" => Self::None,
            "text" => Self::Text(text.to_owned()),
            "stdin" => Self::Stdin {
                size: size.parse().ok()?,
            },
            "staged" => Self::Staged {
                size: size.parse().ok()?,
            },
            _ => return None,
        })
    }
}

/// All that the launcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// [`JobPaths::ROOT`], except in tests.
    pub root: String,
    /// `/sys/block` and `/dev`, except in tests.
    pub block: String,
    pub dev: String,
    pub attempt: AttemptId,
    pub disk_serial: Option<String>,
    /// Folder of the staged parts; removed by the launcher.
    pub staged: Option<String>,
    pub input: Part,
    pub script: Part,
    pub env: Vec<(String, String)>,
    /// The work: a program and its arguments.
    pub argv: Vec<String>,
}

impl Launch {
    /// The whole command: program and arguments.
    pub fn argv(&self) -> Vec<String> {
        let mut words = vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            PROGRAM.clone(),
            NAME.to_owned(),
        ];
        words.extend(self.words());
        words
    }

    /// What follows the launcher's name.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            self.root.clone(),
            self.attempt.to_string(),
            self.block.clone(),
            self.dev.clone(),
        ];
        words.push(self.disk_serial.clone().unwrap_or_default());
        words.push(self.staged.clone().unwrap_or_default());
        words.extend(self.input.words());
        words.extend(self.script.words());
        words.push(self.env.len().to_string());
        words.extend(
            self.env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        words.extend(self.argv.iter().cloned());
        words
    }

    /// The reverse of [`Launch::argv`], without its first word: how the simulation reads it.
    pub fn from_args(args: &[String]) -> Option<Self> {
        let [flag, program, name, rest @ ..] = args else {
            return None;
        };
        if flag != "-c" || name != NAME || *program != *PROGRAM {
            return None;
        }
        let [root, attempt, block, dev, serial, staged, rest @ ..] = rest else {
            return None;
        };
        let [
            input_how,
            input,
            input_size,
            script_how,
            script,
            script_size,
            names,
            rest @ ..,
        ] = rest
        else {
            return None;
        };
        let names: usize = names.parse().ok()?;
        let (env, argv) = rest.split_at_checked(names)?;
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Some(Self {
            root: root.clone(),
            block: block.clone(),
            dev: dev.clone(),
            attempt: attempt.parse().ok()?,
            disk_serial: some(serial),
            staged: some(staged),
            input: Part::from_words(input_how, input, input_size)?,
            script: Part::from_words(script_how, script, script_size)?,
            env: env
                .iter()
                .map(|pair| {
                    pair.split_once('=')
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                })
                .collect::<Option<_>>()?,
            argv: argv.to_vec(),
        })
    }

    /// Refuses what could not arrive in the guest as it is meant.
    pub fn check(&self) -> Result<(), HvError> {
        let refuse = |what: String| Err(HvError::Refused(what));
        if self.argv.first().is_none_or(String::is_empty) {
            return refuse("a job's command is empty".into());
        }
        for (name, value) in &self.env {
            if !is_env_name(name) {
                return refuse(format!(
                    "{name:?} is not a name of capital letters, digits and _"
                ));
            }
            if !fits_an_argument(value) {
                return refuse(format!(
                    "the value of {name} has a character that no argument can carry"
                ));
            }
        }
        if let Some(word) = self.argv.iter().find(|word| !fits_an_argument(word)) {
            let start: String = word.chars().take(60).collect();
            return refuse(format!(
                "{start:?} has a character that no argument can carry"
            ));
        }
        if let Some(serial) = &self.disk_serial
            && (serial.is_empty()
                || serial.len() > SERIAL_MAX
                || !serial
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-'))
        {
            return refuse(format!(
                "a disk's serial is 1 to {SERIAL_MAX} letters, digits and '-', not {serial:?}"
            ));
        }
        Ok(())
    }
}

fn is_env_name(name: &str) -> bool {
    name.chars()
        .next()
        .is_some_and(|first| first.is_ascii_uppercase() || first == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// NUL ends an argument, and QEMU's JSON parser refuses Unicode's noncharacters (`util/unicode.c`).
pub fn fits_an_argument(text: &str) -> bool {
    text.chars().all(|c| {
        let code = u32::from(c);
        code != 0 && !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
    })
}

/// The command that runs a script file, from the script's first line, as Linux reads it: an
/// interpreter and at most one argument. Not left to the kernel, because `/run` may be mounted
/// `noexec`.
pub fn interpreter(script: &str) -> Vec<String> {
    let first_line = script.lines().next().unwrap_or_default();
    let words = first_line
        .strip_prefix("#!")
        .map(|line| line.trim_matches([' ', '\t', '\r']))
        .unwrap_or_default();
    match words.split_once([' ', '\t']) {
        _ if words.is_empty() => vec!["/bin/sh".to_owned()],
        None => vec![words.to_owned()],
        Some((program, argument)) => vec![program.to_owned(), argument.trim_start().to_owned()],
    }
}

/// The launcher writes what [`super::record`] reads; this ties the two in one place.
pub const RECORD: RecordFormat = RecordFormat { body_cap: 24_576 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_is_read_back_as_it_was_written() {
        let launch = Launch {
            root: "/r".into(),
            block: "/b".into(),
            dev: "/d".into(),
            attempt: AttemptId::fresh(),
            disk_serial: Some("handoff".into()),
            staged: None,
            input: Part::Stdin { size: 7 },
            script: Part::Text("exit 3 # 'x' \"y\" $z\n".into()),
            env: vec![("A".into(), "b=c d\n".into()), ("E".into(), String::new())],
            argv: vec!["/bin/sh".into(), "s".into(), String::new()],
        };
        assert_eq!(Launch::from_args(&launch.argv()[1..]), Some(launch));
    }

    #[test]
    fn the_interpreter_is_found_as_linux_finds_it() {
        assert_eq!(interpreter("echo hello"), ["/bin/sh"]);
        assert_eq!(interpreter("#!\necho"), ["/bin/sh"]);
        assert_eq!(interpreter("#!/bin/sh -eu\necho"), ["/bin/sh", "-eu"]);
        assert_eq!(
            interpreter("#! /usr/bin/env  python3 -x\n"),
            ["/usr/bin/env", "python3 -x"]
        );
        assert_eq!(interpreter("#!/bin/sh\r\n"), ["/bin/sh"]);
    }

    #[test]
    fn what_no_argument_can_carry_is_refused() {
        assert!(fits_an_argument("für alle 🎭\n\t\u{1b}"));
        assert!(!fits_an_argument("a\0b"));
        assert!(!fits_an_argument("\u{ffff}"));
        assert!(!fits_an_argument("\u{fdd0}"));
    }

    #[test]
    fn the_record_format_is_the_programs() {
        assert!(PROGRAM.contains(&format!("-gt {} ]", RECORD.body_cap)));
    }
}
