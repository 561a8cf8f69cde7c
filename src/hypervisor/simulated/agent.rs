//! A simulated guest: its agent's JSON protocol, its files and its processes.
//!
//! The agent speaks as QEMU's does, so that [`Guest`](super::super::guest::Guest) is the same code
//! here and there. One thing it knows better: the launcher of a job is recognised by its program
//! text, and what it would do is done natively. Processes take no thread and no task: they are
//! advanced to the present whenever somebody looks, so that a test may stop one runtime and look
//! from another.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use qapi::qga;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::AttachedDisk;
use super::super::guest::launcher::{JobPaths, Launch, Part, RECORD};
use super::disks::Disks;
use super::handles::Handles;
use super::identity;
use super::shell::Process;
use super::system::System;

/// How long the launcher waits for a handoff disk.
const DISK_WAIT: Duration = Duration::from_secs(5);

/// All that a capture keeps of a guest: a clone of it goes on from the same point.
#[derive(Debug, Clone)]
pub(super) struct SimGuest {
    pub system: System,
    handles: Handles,
    last_pid: i64,
    /// Short commands whose end was not asked for yet.
    commands: HashMap<i64, Process>,
    jobs: Vec<SimJob>,
    /// Shell steps taken by processes that have ended.
    pub steps_taken: u64,
    /// Bytes written to attached disks.
    pub written: u64,
}

#[derive(Debug, Clone)]
struct SimJob {
    paths: JobPaths,
    state: JobPhase,
}

#[derive(Debug, Clone)]
enum JobPhase {
    AwaitsDisk { launch: Box<Launch>, until: Instant },
    Runs(Box<Process>),
}

/// A command's `return` value, or the agent's complaint.
pub(super) type Answer = Result<Value, String>;

impl SimGuest {
    pub fn new(system: System) -> Self {
        Self {
            system,
            handles: Handles::default(),
            last_pid: 0,
            commands: HashMap::new(),
            jobs: Vec::new(),
            steps_taken: 0,
            written: 0,
        }
    }

    /// The machine is off: what ran has ended.
    pub fn stop(&mut self) {
        self.restart_agent();
        self.jobs.clear();
    }

    /// The guest stood still for so long, and its own time with it.
    pub fn skip(&mut self, pause: Duration) {
        self.system.kernel.skip(pause);
        for process in self.commands.values_mut() {
            process.skip(pause);
        }
        for job in &mut self.jobs {
            match &mut job.state {
                JobPhase::AwaitsDisk { until, .. } => *until += pause,
                JobPhase::Runs(process) => process.skip(pause),
            }
        }
    }

    pub fn attach(&mut self, disk: &AttachedDisk) {
        let device = ('b'..='z')
            .map(|letter| format!("/dev/vd{letter}"))
            .find(|device| !self.system.devices.contains_key(device))
            .unwrap_or_default();
        self.system.devices.insert(device, disk.path.clone());
    }

    pub fn detach(&mut self, disk: &AttachedDisk) {
        self.system.devices.retain(|_, path| *path != disk.path);
    }

    /// The agent's process is replaced: handles and unasked results are lost, jobs go on.
    pub fn restart_agent(&mut self) {
        self.handles.clear();
        self.commands.clear();
    }

    /// Brings everything that runs to the present.
    pub fn advance(&mut self, now: Instant, attached: &[AttachedDisk], disks: &mut Disks) {
        let written_before = disks.written;
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.retain_mut(|job| {
            if let JobPhase::AwaitsDisk { launch, until } = &job.state {
                let serial = launch.disk_serial.as_deref();
                let found = attached
                    .iter()
                    .find(|disk| Some(disk.serial.as_str()) == serial);
                let device = found.and_then(|disk| {
                    self.system
                        .devices
                        .iter()
                        .find(|(_, path)| **path == disk.path)
                });
                let device = device.map(|(name, _)| name.clone());
                match serial {
                    Some(_) if device.is_none() && now < *until => return true,
                    Some(serial) if device.is_none() => {
                        let words = format!("the disk with serial {serial} did not appear\n");
                        self.system
                            .files
                            .insert(job.paths.err(), words.clone().into_bytes());
                        let end = RECORD.write(125, b"", words.as_bytes(), None);
                        self.system.files.insert(job.paths.end(), end);
                        return false;
                    }
                    _ => {
                        // Without a disk the work begins at once, however late somebody looks.
                        let began = if serial.is_none() {
                            *until
                        } else {
                            now.min(*until)
                        };
                        job.state =
                            JobPhase::Runs(Box::new(self.begin(launch, device, began, disks)));
                    }
                }
            }
            let JobPhase::Runs(process) = &mut job.state else {
                return true;
            };
            process.advance(now, &mut self.system.view(disks, now));
            for (path, bytes) in [
                (job.paths.out(), std::mem::take(&mut process.out)),
                (job.paths.err(), std::mem::take(&mut process.err)),
            ] {
                if !bytes.is_empty() {
                    self.system
                        .files
                        .entry(path)
                        .or_default()
                        .extend_from_slice(&bytes);
                }
            }
            let Some(code) = process.exit_code else {
                return true;
            };
            self.steps_taken += process.steps_taken;
            let file = |path: String| self.system.files.get(&path).map(Vec::as_slice);
            let (out, err) = (file(job.paths.out()), file(job.paths.err()));
            let output = file(job.paths.output());
            let end = RECORD.write(
                code,
                out.unwrap_or_default(),
                err.unwrap_or_default(),
                output,
            );
            self.system.files.insert(job.paths.end(), end);
            false
        });
        self.jobs = jobs;
        for process in self.commands.values_mut() {
            process.advance(now, &mut self.system.view_with_tools(disks, now));
        }
        self.written += disks.written - written_before;
    }

    /// One agent command and the text of its reply.
    pub fn answer(
        &mut self,
        command: &str,
        now: Instant,
        attached: &[AttachedDisk],
        disks: &mut Disks,
    ) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Command {
            execute: String,
            #[serde(default)]
            arguments: Value,
        }
        let command: Command =
            serde_json::from_str(command).map_err(|error| format!("invalid JSON: {error}"))?;
        self.advance(now, attached, disks);
        let arguments = command.arguments;
        let value = match command.execute.as_str() {
            "guest-ping" => Ok(json!({})),
            "guest-sync" | "guest-sync-delimited" => Ok(arguments["id"].clone()),
            "guest-info" => Ok(json!({ "version": "simulated", "supported_commands": [] })),
            "guest-set-time" => {
                let nanoseconds = arguments["time"]
                    .as_u64()
                    .ok_or_else(|| "no time is given".to_owned())?;
                self.system
                    .kernel
                    .set_clock(nanoseconds / 1_000_000_000, now);
                Ok(json!({}))
            }
            "guest-exec" => self.exec(read(arguments)?, now, attached, disks),
            "guest-exec-status" => self.exec_status(&read(arguments)?),
            "guest-file-open" => self.handles.open(&read(arguments)?, &mut self.system),
            "guest-file-read" => self.handles.read(&read(arguments)?, &self.system),
            "guest-file-seek" => self.handles.seek(&read(arguments)?),
            "guest-file-write" => self.handles.write(&read(arguments)?, &mut self.system),
            "guest-file-flush" => Ok(json!({})),
            "guest-file-close" => self.handles.close(&read(arguments)?),
            other => Err(format!("The command {other} has not been found")),
        }?;
        Ok(json!({ "return": value }).to_string())
    }

    fn exec(
        &mut self,
        exec: qga::guest_exec,
        now: Instant,
        attached: &[AttachedDisk],
        disks: &mut Disks,
    ) -> Answer {
        self.last_pid += 1;
        let pid = 1000 + self.last_pid;
        let arguments = exec.arg.unwrap_or_default();
        let stdin = exec.input_data.unwrap_or_default();
        if let Some(launch) = Launch::from_args(&arguments) {
            self.launch(launch, stdin, now);
        } else if let Some(words) = identity::arguments(&arguments) {
            let System { kernel, files, .. } = &mut self.system;
            let (code, out, err) = match identity::transact(words, kernel, files, now) {
                Ok(out) => (0, out, String::new()),
                Err(words) => (2, String::new(), words + "\n"),
            };
            let process = Process::ended(code, out.into_bytes(), err.into_bytes(), now);
            self.commands.insert(pid, process);
        } else {
            let mut argv = vec![exec.path];
            argv.extend(arguments);
            let view = self.system.view_with_tools(disks, now);
            let process = Process::new(&argv, base_env(), "/", stdin, now, &view);
            self.commands.insert(pid, process);
        }
        self.advance(now, attached, disks);
        Ok(json!({ "pid": pid }))
    }

    fn launch(&mut self, launch: Launch, stdin: Vec<u8>, now: Instant) {
        let paths = JobPaths::under(&launch.root, launch.attempt);
        let staged = launch.staged.clone();
        let mut take = |part: &Part, name: &str| match part {
            Part::None => Some(Vec::new()),
            Part::Text(text) => Some(text.clone().into_bytes()),
            Part::Stdin { size } => Some(stdin.clone()).filter(|bytes| bytes.len() == *size),
            Part::Staged { size } => {
                let path = format!("{}/{name}", staged.as_deref().unwrap_or_default());
                self.system
                    .files
                    .remove(&path)
                    .filter(|bytes| bytes.len() == *size)
            }
        };
        let (input, script) = (take(&launch.input, "input"), take(&launch.script, "script"));
        if self.system.files.contains_key(&paths.end()) {
            return;
        }
        let (Some(input), Some(script)) = (input, script) else {
            return;
        };
        self.system.files.insert(paths.end(), Vec::new());
        self.system.files.insert(paths.input(), input);
        self.system.files.insert(paths.script(), script);
        self.system.files.insert(paths.out(), Vec::new());
        self.system.files.insert(paths.err(), Vec::new());
        let until = if launch.disk_serial.is_some() {
            now + DISK_WAIT
        } else {
            now
        };
        let state = JobPhase::AwaitsDisk {
            launch: Box::new(launch),
            until,
        };
        self.jobs.push(SimJob { paths, state });
    }

    fn begin(
        &mut self,
        launch: &Launch,
        device: Option<String>,
        now: Instant,
        disks: &mut Disks,
    ) -> Process {
        let paths = JobPaths::under(&launch.root, launch.attempt);
        let mut env = base_env();
        env.extend(launch.env.iter().cloned());
        env.insert("GREENROOM_INPUT".into(), paths.input());
        env.insert("GREENROOM_OUTPUT".into(), paths.output());
        env.extend(device.map(|device| ("GREENROOM_HANDOFF_DISK".to_owned(), device)));
        let input = self
            .system
            .files
            .get(&paths.input())
            .cloned()
            .unwrap_or_default();
        let view = self.system.view(disks, now);
        Process::new(&launch.argv, env, &paths.work(), input, now, &view)
    }

    fn exec_status(&mut self, status: &qga::guest_exec_status) -> Answer {
        let process = self
            .commands
            .get(&status.pid)
            .ok_or_else(|| format!("PID {} does not exist", status.pid))?;
        let Some(code) = process.exit_code else {
            return Ok(json!({ "exited": false }));
        };
        let process = self.commands.remove(&status.pid).ok_or("no such process")?;
        self.steps_taken += process.steps_taken;
        // A command that was killed has a signal instead of a code, as in wait(2).
        let killed = code > 128;
        to_value(qga::GuestExecStatus {
            exited: true,
            exitcode: (!killed).then_some(i64::from(code)),
            signal: killed.then_some(i64::from(code - 128)),
            out_data: Some(process.out),
            err_data: Some(process.err),
            out_truncated: None,
            err_truncated: None,
        })
    }
}

fn base_env() -> BTreeMap<String, String> {
    BTreeMap::from([("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())])
}

fn read<T: serde::de::DeserializeOwned>(arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| format!("invalid parameter: {error}"))
}

pub(super) fn to_value(value: impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| error.to_string())
}
