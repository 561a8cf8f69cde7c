//! Watching a job to its end.
//!
//! For the first moments only the end record is read; a job that ends by then has brought its logs
//! along. After that each round reads both logs and the record, at a pace that follows the job's own;
//! the launcher rings the guest's bell at the end, which cuts the wait short. A runner says the whole
//! record itself, and looking is for the logs only.
//!
//! A call that failed may have moved a handle's position in the guest or not (its reply was lost), and
//! after a restart of the agent the handle may be unknown: [`Tail`] seeks before it goes on, and opens
//! the file again when that is refused. Handles are not closed: they end with the machine, and
//! closing would cost as much as reading.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::{AGENT_CHUNK, HvError};
use super::launcher::{JobPaths, RECORD};
use super::record::{EndRecord, Seen};
use super::{Guest, JobState, LogOffsets, Stream, runner};
use crate::vocab::AttemptId;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const SHORT_PAUSE: Duration = Duration::from_millis(20);
const LONG_PAUSE: Duration = Duration::from_millis(250);

/// Logs are followed from here on; a job that ends earlier brings them along.
const STREAM_AFTER: Duration = Duration::from_millis(120);

/// How long the launcher may take to its first step, and an incomplete record to be completed.
const GRACE: Duration = Duration::from_secs(15);

/// Refusals in a row that are put up with while the machine is there.
const STRIKES: u32 = 5;

/// What is known when a job has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    pub exit_code: i32,
    /// The output file, where it was short enough to come with the record. `None` says nothing:
    /// [`Guest::job_output`] does.
    pub output: Option<Vec<u8>>,
    /// Size of the output file; `None` when there is none.
    pub output_size: Option<u64>,
}

pub(super) async fn job_state(guest: &Guest<'_>, attempt: AttemptId) -> Result<JobState, HvError> {
    let mut end = Tail::at(JobPaths::new(attempt).end(), 0);
    let started = Instant::now();
    loop {
        let Some(bytes) = end.read_all(guest, RECORD.cap() + 1).await? else {
            return Ok(JobState::Absent);
        };
        match RECORD.read(&bytes) {
            Seen::Nothing => return Ok(JobState::Running),
            Seen::Whole(record) => return Ok(JobState::Exited(record.exit_code)),
            Seen::Part if started.elapsed() < GRACE => sleep(SHORT_PAUSE).await,
            Seen::Part | Seen::Broken => return Err(broken_record()),
        }
    }
}

fn broken_record() -> HvError {
    HvError::Agent("the job's end record is not what the launcher writes".into())
}

pub(super) async fn finish_job(
    guest: &Guest<'_>,
    attempt: AttemptId,
    from: LogOffsets,
    log_cap: u64,
    sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
) -> Result<JobEnd, HvError> {
    let paths = JobPaths::new(attempt);
    let mut watch = Watch {
        end: Tail::at(paths.end(), 0),
        logs: [
            (Stream::Out, Tail::at(paths.out(), from.out)),
            (Stream::Err, Tail::at(paths.err(), from.err)),
        ],
        log_cap,
        resumed: from != LogOffsets::default(),
        since: Instant::now(),
        doubtful_since: None,
    };
    let mut listening = guest.hypervisor.hears_runner(guest.machine);
    let mut spoken = pin!(runner::end_of(guest, attempt));
    let mut record: Option<Vec<u8>> = None;
    // A runner says the end itself: nothing to look for before there may be logs to follow.
    let mut looked = !listening;
    let mut pause = FIRST_PAUSE;
    let mut heard = 0;
    let mut strikes = 0;
    loop {
        let began = Instant::now();
        let round = if let Some(record) = record.take() {
            watch.told(&record)
        } else if !looked {
            looked = true;
            pause = STREAM_AFTER;
            Ok(Round::Quiet)
        } else {
            tokio::select! {
                biased;
                record = &mut spoken, if listening => {
                    listening = false;
                    watch.told(&record)
                }
                round = watch.round(guest, sink) => round,
            }
        };
        match round {
            Ok(Round::Ended(record)) => match watch.drain(guest, &record, sink).await {
                Ok(()) => {
                    guest.hypervisor.leave_runner(guest.machine);
                    return Ok(JobEnd {
                        exit_code: record.exit_code,
                        output_size: record.output_size,
                        output: record
                            .body
                            .filter(|_| record.output_size.is_some())
                            .map(|body| body.output),
                    });
                }
                Err(error) => trouble(guest, error, &mut strikes).await?,
            },
            Ok(Round::More) => {
                strikes = 0;
                continue;
            }
            Ok(Round::News) => {
                strikes = 0;
                pause = SHORT_PAUSE;
            }
            Ok(Round::Quiet) => strikes = 0,
            Err(error) => trouble(guest, error, &mut strikes).await?,
        }
        // Never more than half of the time: a round takes processor time from an emulated job.
        let bell = guest
            .hypervisor
            .wait_for_bell(guest.machine, heard, pause.max(began.elapsed()));
        tokio::select! {
            biased;
            said = &mut spoken, if listening => {
                listening = false;
                record = Some(said);
            }
            rings = bell => heard = rings,
        }
        pause = if listening {
            LONG_PAUSE
        } else {
            (pause * 2).min(watch.longest_pause())
        };
    }
}

/// Decides whether to go on after an error: yes while the machine is there and the host may answer.
async fn trouble(guest: &Guest<'_>, error: HvError, strikes: &mut u32) -> Result<(), HvError> {
    if let HvError::NoSuchMachine(_) = error {
        return Err(error);
    }
    guest.must_exist().await?;
    if error.is_transient() {
        return Ok(());
    }
    *strikes += 1;
    if *strikes >= STRIKES {
        Err(error)
    } else {
        Ok(())
    }
}

enum Round {
    Ended(EndRecord),
    /// A full piece of a log was read: there is more.
    More,
    News,
    Quiet,
}

struct Watch {
    end: Tail,
    logs: [(Stream, Tail); 2],
    log_cap: u64,
    /// Part of the logs was read by an earlier watch, so that the job is not a short one.
    resumed: bool,
    since: Instant,
    /// Since when the end record is missing or incomplete.
    doubtful_since: Option<Instant>,
}

impl Watch {
    /// The end as the runner said it. A look that was given up for it may have moved the handles.
    fn told(&mut self, record: &[u8]) -> Result<Round, HvError> {
        let logs = self.logs.iter_mut().map(|(_, tail)| tail);
        for tail in logs.chain([&mut self.end]) {
            tail.in_place = false;
        }
        match RECORD.read(record) {
            Seen::Whole(record) => Ok(Round::Ended(record)),
            _ => Ok(Round::Quiet),
        }
    }

    async fn round(
        &mut self,
        guest: &Guest<'_>,
        sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
    ) -> Result<Round, HvError> {
        let record = self.end.read_all(guest, RECORD.cap() + 1).await?;
        match record.as_deref().map(|bytes| RECORD.read(bytes)) {
            Some(Seen::Whole(record)) => return Ok(Round::Ended(record)),
            Some(Seen::Nothing) => self.doubtful_since = None,
            Some(Seen::Broken) => return Err(broken_record()),
            Some(Seen::Part) | None => {
                let since = *self.doubtful_since.get_or_insert_with(Instant::now);
                if since.elapsed() > GRACE {
                    return Err(if record.is_some() {
                        broken_record()
                    } else {
                        HvError::Agent("the job was not started, or its guest was restarted".into())
                    });
                }
                return Ok(Round::Quiet);
            }
        }
        if self.since.elapsed() < STREAM_AFTER && !self.resumed {
            return Ok(Round::Quiet);
        }
        let mut round = Round::Quiet;
        for (stream, tail) in &mut self.logs {
            let room = self.log_cap.saturating_sub(tail.offset);
            if room == 0 {
                continue;
            }
            let offset = tail.offset;
            let piece = tail
                .read(guest, usize::try_from(room).unwrap_or(usize::MAX))
                .await?;
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                round = match round {
                    Round::More => Round::More,
                    _ if piece.len() == AGENT_CHUNK => Round::More,
                    _ => Round::News,
                };
                sink(*stream, offset, piece);
            }
        }
        Ok(round)
    }

    /// The news of a job's end may come an eighth of its duration late, and a quarter of a second at
    /// most.
    fn longest_pause(&self) -> Duration {
        (self.since.elapsed() / 8).clamp(SHORT_PAUSE, LONG_PAUSE)
    }

    /// Hands over what remains of the logs after the job's end.
    async fn drain(
        &mut self,
        guest: &Guest<'_>,
        record: &EndRecord,
        sink: &mut (dyn FnMut(Stream, u64, Vec<u8>) + Send),
    ) -> Result<(), HvError> {
        for (stream, tail) in &mut self.logs {
            let size = match stream {
                Stream::Out => record.out_size,
                Stream::Err => record.err_size,
            };
            let wanted = size.min(self.log_cap);
            let here = record.body.as_ref().map(|body| match stream {
                Stream::Out => &body.out,
                Stream::Err => &body.err,
            });
            while tail.offset < wanted {
                let offset = tail.offset;
                let piece = match here {
                    Some(log) => log[offset as usize..wanted as usize].to_vec(),
                    None => {
                        let room = usize::try_from(wanted - offset).unwrap_or(usize::MAX);
                        tail.read(guest, room).await?.unwrap_or_default()
                    }
                };
                if piece.is_empty() {
                    // The job cut its own log short.
                    break;
                }
                tail.offset = offset + piece.len() as u64;
                sink(*stream, offset, piece);
            }
            // Said once: a watch that starts beyond the cap has said it before.
            if size > self.log_cap && tail.offset == self.log_cap {
                let left = size - self.log_cap;
                let words =
                    format!("\n[{left} further bytes were left in the guest]\n").into_bytes();
                tail.offset += words.len() as u64;
                sink(*stream, self.log_cap, words);
            }
        }
        Ok(())
    }
}

/// A growing guest file that is read piece by piece.
struct Tail {
    path: String,
    /// The next byte to read.
    offset: u64,
    handle: Option<i64>,
    /// The handle's position in the guest is at `offset` for certain.
    in_place: bool,
}

impl Tail {
    fn at(path: String, offset: u64) -> Self {
        Self {
            path,
            offset,
            handle: None,
            in_place: false,
        }
    }

    /// The next piece, empty when there is none yet; `None` when there is no such file.
    async fn read(
        &mut self,
        guest: &Guest<'_>,
        at_most: usize,
    ) -> Result<Option<Vec<u8>>, HvError> {
        let Some(handle) = self.placed_handle(guest).await? else {
            return Ok(None);
        };
        self.in_place = false;
        let piece = guest.read_handle(handle, at_most.min(AGENT_CHUNK)).await?;
        self.in_place = true;
        self.offset += piece.len() as u64;
        Ok(Some(piece))
    }

    /// The whole file from its start, unless it is empty still: that costs one call.
    async fn read_all(
        &mut self,
        guest: &Guest<'_>,
        at_most: usize,
    ) -> Result<Option<Vec<u8>>, HvError> {
        if self.offset != 0 {
            self.offset = 0;
            self.in_place = false;
        }
        self.read(guest, at_most).await
    }

    async fn placed_handle(&mut self, guest: &Guest<'_>) -> Result<Option<i64>, HvError> {
        if let Some(handle) = self.handle {
            if self.in_place {
                return Ok(Some(handle));
            }
            match guest.seek_handle(handle, self.offset).await {
                Ok(()) => {
                    self.in_place = true;
                    return Ok(Some(handle));
                }
                // The agent was restarted and knows the handle no more.
                Err(HvError::Agent(_)) => self.handle = None,
                Err(error) => return Err(error),
            }
        }
        let Some(handle) = guest.open_to_read(&self.path).await? else {
            return Ok(None);
        };
        self.handle = Some(handle);
        if self.offset > 0 {
            guest.seek_handle(handle, self.offset).await?;
        }
        self.in_place = true;
        Ok(Some(handle))
    }
}
