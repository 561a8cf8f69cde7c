//! Typed guest work over the raw agent carrier: files, commands and jobs.
//!
//! A *job* is a stage's work inside the guest, detached from the agent, so that it outlives the
//! agent's call, the daemon and libvirtd: its folder `/run/greenroom/job/<attempt>/` in the guest
//! holds input, script, logs, output and exit code. Starting a job that was started before is a
//! success and starts nothing.
//!
//! Every agent call costs 5 to 30 ms in an emulated guest, so a job is arranged around few of them:
//! one call starts it ([`launcher`]), and one small file tells its end together with short logs and
//! output ([`record`]). Where the image has our [`runner`], both go over a port of their own, without
//! the agent.
//!
//! The guest is not trusted: each call has a deadline, each reply is checked for size and shape, and
//! nothing that a guest says is used as anything but bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{HvError, Hypervisor};
use crate::vocab::{AttemptId, MachineId};

mod call;
mod files;
mod follow;
pub mod launcher;
pub mod record;
pub mod runner;
mod start;

pub use follow::JobEnd;

/// The guest of one machine.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    pub hypervisor: &'a dyn Hypervisor,
    pub machine: MachineId,
}

/// What to run in the guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub attempt: AttemptId,
    pub work: JobWork,
    /// Standard input of the work, also a file named by `GREENROOM_INPUT`.
    pub input: Vec<u8>,
    /// Further environment: names of capital letters, digits and `_`; values without NUL.
    pub env: BTreeMap<String, String>,
    /// Serial of the attached handoff disk, resolved in the guest to `GREENROOM_HANDOFF_DISK`.
    pub disk_serial: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobWork {
    /// Program and arguments, with no shell in between.
    Command(Vec<String>),
    /// Run by the interpreter that its first line names (`#!`), else by `/bin/sh`.
    Script(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Never started in this guest. Also said for the moment between the return of
    /// [`Guest::start_job`] and the launcher's first step; starting again is then harmless.
    Absent,
    Running,
    /// Ended; 128 + n when killed by signal n, as a shell says it.
    Exited(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A guest file's contents, or the news that it is larger than the caller accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Missing,
    TooLarge,
    Bytes(Vec<u8>),
}

/// Result of a short command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub exit_code: i32,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOffsets {
    pub out: u64,
    pub err: u64,
}

impl Guest<'_> {
    /// Waits until the agent answers. Ends early with [`HvError::NoSuchMachine`] when the machine
    /// stopped meanwhile, and with [`HvError::AgentTimeout`] at the deadline.
    pub async fn wait_until_up(&self, deadline: Duration) -> Result<(), HvError> {
        call::wait_until_up(self, deadline).await
    }

    /// Starts the job, once. The work begins in the guest a moment after this returns.
    pub async fn start_job(&self, job: &Job) -> Result<(), HvError> {
        start::start_job(self, job).await
    }

    pub async fn job_state(&self, attempt: AttemptId) -> Result<JobState, HvError> {
        follow::job_state(self, attempt).await
    }

    /// Waits for the job's end, handing over each piece of its logs as it appears, with its offset.
    /// Starts reading at the given offsets, so that a restarted daemon goes on where it was. Returns
    /// the exit code after the last piece was handed over. At most `log_cap` bytes per stream are
    /// read; what comes after is left in the guest and said so in the last piece.
    ///
    /// Waits as long as the machine exists, however long the host cannot be reached: the caller sets
    /// the deadline. May be dropped and called again at any time.
    pub async fn follow_job(
        &self,
        attempt: AttemptId,
        from: LogOffsets,
        log_cap: u64,
        sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
    ) -> Result<i32, HvError> {
        Ok(self
            .finish_job(attempt, from, log_cap, sink)
            .await?
            .exit_code)
    }

    /// As [`Guest::follow_job`], and also returns the job's output where it was short enough to come
    /// with the news of the end: that saves the three agent calls of [`Guest::job_output`].
    pub async fn finish_job(
        &self,
        attempt: AttemptId,
        from: LogOffsets,
        log_cap: u64,
        sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
    ) -> Result<JobEnd, HvError> {
        follow::finish_job(self, attempt, from, log_cap, sink).await
    }

    /// The job's output file (`GREENROOM_OUTPUT`).
    pub async fn job_output(&self, attempt: AttemptId, max_bytes: u64) -> Result<Content, HvError> {
        files::read_file(self, &launcher::JobPaths::new(attempt).output(), max_bytes).await
    }

    /// Runs a short command to its end; its output must fit one agent reply, its input one message.
    pub async fn run(
        &self,
        argv: &[&str],
        input: &[u8],
        deadline: Duration,
    ) -> Result<Finished, HvError> {
        call::run(self, argv, input, deadline).await
    }

    /// Writes a file, in place of what was there. Its folder must exist.
    pub async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HvError> {
        files::write_file(self, path, bytes).await
    }

    pub async fn read_file(&self, path: &str, max_bytes: u64) -> Result<Content, HvError> {
        files::read_file(self, path, max_bytes).await
    }
}
