//! Running steps: a process that can be stopped in a `sleep` and looked at later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::disks::Disks;
use super::super::kernel::Kernel;
use super::builtin::{self, Effect, Io};
use super::parse::{Redirect, Simple, Step, Target, parse};
use super::word::{expand, expand_one};

/// Steps that a process may take without sleeping.
const STEP_BUDGET: u32 = 100_000;

/// What a process can reach: its guest's files and the disks attached to it.
pub struct View<'a> {
    pub files: &'a mut HashMap<String, Vec<u8>>,
    /// From device path, such as `/dev/vdb`, to the disk.
    pub devices: &'a BTreeMap<String, PathBuf>,
    pub disks: &'a mut Disks,
    pub kernel: &'a mut Kernel,
    /// Programs that end well whatever they are asked.
    pub tools: &'a BTreeSet<String>,
    /// The time of the process that looks.
    pub now: Instant,
}

#[derive(Debug, Clone)]
pub struct Process {
    steps: Arc<[Step]>,
    at: usize,
    vars: BTreeMap<String, String>,
    folder: String,
    status: i32,
    errexit: bool,
    stdin: Vec<u8>,
    /// Since the last look; taken away by whoever stores it.
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    /// How far the process's own time has come; in the future while it sleeps.
    clock: Instant,
    pub exit_code: Option<i32>,
    pub steps_taken: u64,
}

impl Process {
    /// A process that runs a program with arguments.
    pub fn new(
        argv: &[String],
        env: BTreeMap<String, String>,
        folder: &str,
        stdin: Vec<u8>,
        now: Instant,
        view: &View<'_>,
    ) -> Self {
        let mut process = Self {
            steps: Arc::new([]),
            at: 0,
            vars: env,
            folder: folder.to_owned(),
            status: 0,
            errexit: false,
            stdin,
            out: Vec::new(),
            err: Vec::new(),
            clock: now,
            exit_code: None,
            steps_taken: 0,
        };
        process.vars.insert("$".into(), "321".into());
        process.load(argv, view);
        process
    }

    /// A process that did its work at once.
    pub fn ended(code: i32, out: Vec<u8>, err: Vec<u8>, now: Instant) -> Self {
        Self {
            steps: Arc::new([]),
            at: 0,
            vars: BTreeMap::new(),
            folder: "/".to_owned(),
            status: code,
            errexit: false,
            stdin: Vec::new(),
            out,
            err,
            clock: now,
            exit_code: Some(code),
            steps_taken: 1,
        }
    }

    /// Its guest stood still for so long.
    pub fn skip(&mut self, pause: Duration) {
        self.clock += pause;
    }

    /// `sh [-eux] [-c TEXT | FILE]`, or one command without any shell in between.
    fn load(&mut self, argv: &[String], view: &View<'_>) {
        let name = argv
            .first()
            .map_or("", |program| program.rsplit('/').next().unwrap_or(program));
        if !matches!(name, "sh" | "dash" | "ash" | "bash") {
            let quoted = |text: &String| {
                vec![super::word::Piece::Text {
                    text: text.clone(),
                    quoted: true,
                }]
            };
            let command = Simple {
                words: argv.iter().map(quoted).collect(),
                ..Simple::default()
            };
            self.steps = Arc::new([Step::Run {
                command,
                checked: false,
            }]);
            return;
        }
        let mut text = None;
        let mut words = argv[1..].iter();
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                Some("c") => text = words.next().map(|text| text.clone().into_bytes()),
                Some(flags) => self.errexit |= flags.contains('e'),
                None => {
                    text = view.files.get(word).cloned();
                    if text.is_none() {
                        return self.die(127, &format!("sh: cannot open {word}: No such file"));
                    }
                    break;
                }
            }
            if text.is_some() {
                break;
            }
        }
        match parse(&String::from_utf8_lossy(&text.unwrap_or_default())) {
            Ok(steps) => self.steps = steps.into(),
            Err(error) => self.die(2, &format!("sh: {error}")),
        }
    }

    fn die(&mut self, code: i32, words: &str) {
        self.err.extend_from_slice(words.as_bytes());
        self.err.push(b'\n');
        self.exit_code = Some(code);
    }

    /// Runs as far as the time allows.
    pub fn advance(&mut self, now: Instant, view: &mut View<'_>) {
        let mut budget = STEP_BUDGET;
        let steps = Arc::clone(&self.steps);
        while self.exit_code.is_none() && self.clock <= now {
            let Some(step) = steps.get(self.at) else {
                self.exit_code = Some(self.status);
                return;
            };
            self.at += 1;
            self.steps_taken += 1;
            budget -= 1;
            if budget == 0 {
                return self.die(125, "simulated sh: too many steps without a sleep");
            }
            match step {
                Step::Jump(to) => self.at = *to,
                Step::JumpIfOk(to) if self.status == 0 => self.at = *to,
                Step::JumpIfFailed(to) if self.status != 0 => self.at = *to,
                Step::JumpIfOk(_) | Step::JumpIfFailed(_) => {}
                Step::Invert => self.status = i32::from(self.status == 0),
                Step::SetOk => self.status = 0,
                Step::Run { command, checked } => {
                    view.now = self.clock;
                    if let Some(pause) = self.simple(command, view) {
                        self.clock += pause;
                        budget = STEP_BUDGET;
                    }
                    if *checked && self.errexit && self.status != 0 && self.exit_code.is_none() {
                        self.exit_code = Some(self.status);
                    }
                }
            }
        }
    }

    /// Runs one simple command; the pause that it asked for.
    fn simple(&mut self, command: &Simple, view: &mut View<'_>) -> Option<Duration> {
        self.vars.insert("?".into(), self.status.to_string());
        match self.prepare(command, view) {
            Err(words) => {
                self.err
                    .extend_from_slice(format!("sh: {words}\n").as_bytes());
                self.status = 2;
                None
            }
            Ok((words, mut io, outlets)) => {
                let effect = match words.split_first() {
                    None => Effect::Done(0),
                    Some((name, arguments)) => {
                        builtin::run(name, arguments, &mut self.vars, &self.folder, &mut io, view)
                    }
                };
                let (out, err) = (std::mem::take(&mut io.out), std::mem::take(&mut io.err));
                if io.stdin_is_own {
                    self.stdin = io.stdin;
                }
                for (bytes, outlet) in [(out, &outlets[0]), (err, &outlets[1])] {
                    if let Err(words) = self.put(bytes, outlet, view) {
                        self.err
                            .extend_from_slice(format!("sh: {words}\n").as_bytes());
                        self.status = 1;
                        return None;
                    }
                }
                self.settle(effect)
            }
        }
    }

    fn settle(&mut self, effect: Effect) -> Option<Duration> {
        match effect {
            Effect::Done(status) => self.status = status,
            Effect::ErrExit(on) => {
                self.errexit = on;
                self.status = 0;
            }
            Effect::Exit(code) => self.exit_code = Some(code.unwrap_or(self.status)),
            Effect::Killed(signal) => self.exit_code = Some(128 + signal),
            Effect::Sleep(pause) => {
                self.status = 0;
                return Some(pause);
            }
        }
        None
    }

    /// Expands the words and opens the redirections, in the order in which they are written.
    fn prepare(&mut self, command: &Simple, view: &mut View<'_>) -> Result<Prepared, String> {
        let mut words = Vec::new();
        for word in &command.words {
            expand(word, &self.vars, &mut words)?;
        }
        for (name, value) in &command.assignments {
            let value = expand_one(value, &self.vars)?;
            self.vars.insert(name.clone(), value);
        }
        let mut outlets = [Outlet::Own(1), Outlet::Own(2)];
        let mut stdin = None;
        for Redirect { fd, to } in &command.redirects {
            match to {
                Target::Same(other) => {
                    outlets[usize::from(*fd) - 1] = outlets[usize::from(*other) - 1].clone()
                }
                Target::Read(path) => {
                    let path = builtin::absolute(&expand_one(path, &self.vars)?, &self.folder);
                    let bytes = builtin::contents(&path, None, view);
                    stdin = Some(bytes.map_err(|error| format!("cannot open {path}: {error}"))?);
                }
                Target::Write(path) | Target::Append(path) => {
                    let path = expand_one(path, &self.vars)?;
                    if path.is_empty() {
                        return Err("cannot create : Directory nonexistent".into());
                    }
                    let path = builtin::absolute(&path, &self.folder);
                    if matches!(to, Target::Write(_)) && !path.starts_with("/dev/") {
                        view.files.insert(path.clone(), Vec::new());
                    }
                    outlets[usize::from(*fd) - 1] = Outlet::File(path);
                }
            }
        }
        let stdin_is_own = stdin.is_none();
        let stdin = stdin.unwrap_or_else(|| std::mem::take(&mut self.stdin));
        Ok((
            words,
            Io {
                stdin,
                stdin_is_own,
                out: Vec::new(),
                err: Vec::new(),
            },
            outlets,
        ))
    }

    fn put(&mut self, bytes: Vec<u8>, outlet: &Outlet, view: &mut View<'_>) -> Result<(), String> {
        match outlet {
            Outlet::Own(1) => self.out.extend_from_slice(&bytes),
            Outlet::Own(_) => self.err.extend_from_slice(&bytes),
            Outlet::File(path) if bytes.is_empty() => {
                if !path.starts_with("/dev/") {
                    view.files.entry(path.clone()).or_default();
                }
            }
            Outlet::File(path) => match view.devices.get(path) {
                Some(disk) => view.disks.write_start(disk, &bytes)?,
                None if path == "/dev/null" => {}
                None if path.starts_with("/dev/") => return Err(format!("cannot create {path}")),
                None => {
                    view.kernel.was_written(path, &bytes);
                    view.files
                        .entry(path.clone())
                        .or_default()
                        .extend_from_slice(&bytes);
                }
            },
        }
        Ok(())
    }
}

type Prepared = (Vec<String>, Io, [Outlet; 2]);

#[derive(Debug, Clone)]
enum Outlet {
    /// The process's own stream 1 or 2.
    Own(u8),
    File(String),
}
