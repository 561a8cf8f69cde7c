//! Typed guest work over the raw agent carrier: files, commands and jobs.
//!
//! A *job* is a stage's work inside the guest, detached from the agent, so that it outlives the
//! agent's call, the daemon and libvirtd: its folder `/run/greenroom/job/<attempt>/` in the guest
//! holds input, script, logs, output and exit code. Starting a job that was started before is a
//! success and starts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{HvError, Hypervisor};
use crate::vocab::{AttemptId, MachineId};

/// The guest of one machine.
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
    Command(Vec<String>),
    Script(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Never started in this guest.
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

impl Guest<'_> {
    /// Waits until the agent answers. Ends early with [`HvError::NoSuchMachine`] when the machine
    /// stopped meanwhile.
    pub async fn wait_until_up(&self, deadline: Duration) -> Result<(), HvError> {
        let _ = deadline;
        todo!()
    }

    /// Starts the job, once.
    pub async fn start_job(&self, job: &Job) -> Result<(), HvError> {
        let _ = job;
        todo!()
    }

    pub async fn job_state(&self, attempt: AttemptId) -> Result<JobState, HvError> {
        let _ = attempt;
        todo!()
    }

    /// Waits for the job's end, handing over each piece of its logs as it appears, with its offset.
    /// Starts reading at the given offsets, so that a restarted daemon goes on where it was. Returns
    /// the exit code after the last piece was handed over. At most `log_cap` bytes per stream are
    /// read; what comes after is left in the guest and said so in the last piece.
    pub async fn follow_job(
        &self,
        attempt: AttemptId,
        from: LogOffsets,
        log_cap: u64,
        sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
    ) -> Result<i32, HvError> {
        let _ = (attempt, from, log_cap, sink);
        todo!()
    }

    /// The job's output file (`GREENROOM_OUTPUT`).
    pub async fn job_output(&self, attempt: AttemptId, max_bytes: u64) -> Result<Content, HvError> {
        let _ = (attempt, max_bytes);
        todo!()
    }

    /// Runs a short command to its end; its output must fit one agent reply.
    pub async fn run(
        &self,
        argv: &[&str],
        input: &[u8],
        deadline: Duration,
    ) -> Result<Finished, HvError> {
        let _ = (argv, input, deadline);
        todo!()
    }

    pub async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HvError> {
        let _ = (path, bytes);
        todo!()
    }

    pub async fn read_file(&self, path: &str, max_bytes: u64) -> Result<Content, HvError> {
        let _ = (path, max_bytes);
        todo!()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOffsets {
    pub out: u64,
    pub err: u64,
}
