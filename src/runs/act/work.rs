//! The stage's work in the guest: start it, follow it, take its output.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Order, artefact_failure, elapsed_ms, failure_of, guest, talking};
use crate::chain::handoff;
use crate::chain::model::{Output, Stage, Work};
use crate::foresight::{Watched, Watching};
use crate::hypervisor::HvError;
use crate::hypervisor::guest::{Content, Guest, Job, JobEnd, JobWork, LogOffsets, Stream};
use crate::learn::features::Case;
use crate::learn::resources::observation::End;
use crate::runs::plan::Outcome;
use crate::runs::services::{HANDOFF_SERIAL, Live, Services};
use crate::store::logs::{self, Piece};
use crate::vocab::envelope::Envelope;
use crate::vocab::machine::Machine;
use crate::vocab::run::{Attempt, Purpose};
use crate::vocab::{Digest, Failure, FailureKind, Lack};

/// Lines of standard error that go into the report of a failed stage.
const ERROR_LINES: usize = 5;

pub async fn start(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let (attempt, machine) = (order.attempt()?, order.machine()?);
    let stage = &order.plan.chain.stages[attempt.stage_index];
    let envelope = envelope(services, attempt.input).await?;
    let input = handoff::stage_input(stage, &envelope).await?;
    let work = match attempt.purpose {
        Purpose::Work => &stage.work,
        Purpose::Undo => stage
            .undo
            .as_ref()
            .ok_or_else(|| Failure::new(FailureKind::Internal, "the stage has no undo"))?,
    };
    let job = Job {
        attempt: attempt.id,
        work: match work {
            Work::Command { argv } => JobWork::Command(argv.clone()),
            Work::Script { text, .. } => JobWork::Script(text.clone()),
        },
        input,
        env: environment(order, attempt, stage),
        disk_serial: stage.handoff_disk.then(|| HANDOFF_SERIAL.to_owned()),
    };
    // Starting again what was started does nothing, so this outlives a libvirtd that is restarted.
    let guest = guest(services, machine.domain());
    talking(services, || guest.start_job(&job))
        .await
        .map_err(|error| failure_of(&error, "starting the work"))?;
    let deadline =
        services.work_deadline(attempt, order.plan.stages[attempt.stage_index].deadline());
    Ok(Outcome::Started {
        took_ms: elapsed_ms(begun),
        deadline,
    })
}

fn environment(order: &Order, attempt: &Attempt, stage: &Stage) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("GREENROOM_RUN".to_owned(), order.run.id.to_string()),
        ("GREENROOM_DEVICE".to_owned(), order.run.device_name.clone()),
        ("GREENROOM_STAGE".to_owned(), stage.name.clone()),
        ("GREENROOM_ATTEMPT".to_owned(), attempt.number.to_string()),
        (
            "GREENROOM_PURPOSE".to_owned(),
            attempt.purpose.word().to_owned(),
        ),
    ])
}

async fn envelope(services: &Services, digest: Digest) -> Result<Envelope, Failure> {
    let bytes = services
        .artefacts
        .get(digest)
        .await
        .map_err(|error| artefact_failure(&error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("envelope {digest}: {error}")))
}

pub async fn watch(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let (attempt, machine) = (order.attempt()?, order.machine()?);
    let watching = watching(services, order, attempt, machine);
    let result = follow_and_store(services, order, attempt, machine).await;
    let result = match result {
        Ok(end) if end.exit_code == 0 => Ok(Outcome::Worked {
            work_ms: elapsed_ms(begun),
            output: end.output,
        }),
        Ok(end) => Err(exit_failure(services, attempt, end.exit_code).await),
        Err(failure) => Err(failure),
    };
    let result = match result {
        Err(failure) => {
            let short_of_cpu = watching.as_ref().map_or(0.0, Watching::short_of_cpu);
            Err(lack_of(services, machine, failure, short_of_cpu).await)
        }
        ok => ok,
    };
    if let Some(watching) = watching {
        let end = match &result {
            Ok(_) => End::Done,
            Err(failure) => End::Failed(failure.kind),
        };
        watching.end(end, begun.elapsed().as_secs_f64());
    }
    result
}

/// Has the machine watched while it works. An undo is no work to learn from.
fn watching(
    services: &Services,
    order: &Order,
    attempt: &Attempt,
    machine: &Machine,
) -> Option<Watching> {
    let planned = &order.plan.stages[attempt.stage_index];
    let case = planned
        .case
        .clone()
        .filter(|_| attempt.purpose == Purpose::Work)?;
    Some(services.foresight.watch(Watched {
        attempt: attempt.id,
        run: order.run.id,
        domain: machine.domain(),
        case: Case {
            engine: machine.engine.word().to_owned(),
            ..case
        },
        given: machine.size,
        phases: attempt.phases,
        expected: attempt.expected.clone(),
        replay: order.run.replay_of.is_some(),
        resumed: order.resumed,
    }))
}

async fn follow_and_store(
    services: &Services,
    order: &Order,
    attempt: &Attempt,
    machine: &Machine,
) -> Result<JobEnd, Failure> {
    let guest = guest(services, machine.domain());
    let (pieces, incoming) = mpsc::unbounded_channel();
    let storing = store_pieces(services, order, attempt, incoming);
    let following = async {
        let result = follow(services, attempt, &guest, pieces).await;
        Ok::<_, Failure>(result)
    };
    let (result, stored) = tokio::join!(following, storing);
    stored?;
    result?
}

/// What Linux writes to its console when it ends a process for want of memory, or has none to end
/// (mm/oom_kill.c). The guest's word, as exit codes are: it can get the stage more memory, up to what the
/// chain allows, and nothing else.
const OUT_OF_MEMORY: [&str; 3] = [
    "Out of memory: Killed process",
    "Memory cgroup out of memory: Killed process",
    "System is deadlocked on memory",
];
const CONSOLE_BYTES: usize = 16 << 10;
/// Work that missed its deadline lacked processor time if it used all it had for so much of the time.
const BUSY: f64 = 0.8;

/// What the machine had too little of, if that is why the work failed.
async fn lack_of(
    services: &Services,
    machine: &Machine,
    failure: Failure,
    short_of_cpu: f64,
) -> Failure {
    match failure.kind {
        FailureKind::Deadline if short_of_cpu >= BUSY => failure.lacking(Lack::Cpu),
        FailureKind::Exit | FailureKind::Lost => {
            let console = services
                .hypervisor
                .console_tail(machine.domain(), CONSOLE_BYTES)
                .await
                .unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            if !OUT_OF_MEMORY.iter().any(|words| console.contains(words)) {
                return failure;
            }
            let message = format!(
                "the guest ran out of its {} MiB of memory; {}",
                machine.size.memory_mib, failure.message
            );
            Failure::new(FailureKind::Memory, message)
                .with_way_out("raise the stage's `resources.memory.max`")
                .lacking(Lack::Memory)
        }
        _ => failure,
    }
}

/// Follows the job until it ends, its time is up, or its guest has been silent for too long. The
/// sender of pieces ends with this, and so does their storing.
async fn follow(
    services: &Services,
    attempt: &Attempt,
    guest: &Guest<'_>,
    pieces: mpsc::UnboundedSender<(Stream, u64, Vec<u8>)>,
) -> Result<JobEnd, Failure> {
    let from = LogOffsets {
        out: stored_bytes(services, attempt, "out").await?,
        err: stored_bytes(services, attempt, "err").await?,
    };
    let allowed = attempt
        .deadline
        .map_or(Duration::from_secs(1800), |deadline| {
            deadline.remaining(services.now())
        });
    let mut sink = |stream, position, bytes| {
        let _ = pieces.send((stream, position, bytes));
    };
    let following = guest.finish_job(attempt.id, from, services.settings.log_cap, &mut sink);
    tokio::select! {
        end = following => end.map_err(|error| failure_of(&error, "following the work")),
        () = tokio::time::sleep(allowed) => {
            Err(Failure::new(FailureKind::Deadline, "the work did not end before its deadline").with_way_out("set a longer deadline in the chain, or look at the log for what it waits for"))
        }
        silent_s = silence(services, guest) => {
            Err(Failure::new(FailureKind::Lost, format!("the guest has not answered for {silent_s} s although the host runs it")))
        }
    }
}

/// Ends when the guest's agent has not answered for the settings' silence while the host could be
/// reached. Asks seldom: a third of that time.
async fn silence(services: &Services, guest: &Guest<'_>) -> u64 {
    let limit = services.settings.silence;
    let mut heard = Instant::now();
    loop {
        tokio::time::sleep(limit / 3).await;
        match services
            .hypervisor
            .agent(guest.machine, r#"{"execute":"guest-ping"}"#, limit / 3)
            .await
        {
            Err(HvError::AgentTimeout(..) | HvError::AgentAbsent(_))
                if heard.elapsed() >= limit =>
            {
                return limit.as_secs();
            }
            Err(HvError::AgentTimeout(..) | HvError::AgentAbsent(_)) => {}
            _ => heard = Instant::now(),
        }
    }
}

async fn stored_bytes(
    services: &Services,
    attempt: &Attempt,
    stream: &str,
) -> Result<u64, Failure> {
    let read = async {
        let mut connection = services.store.read().await?;
        logs::stored_bytes(&mut connection, attempt.id, stream).await
    };
    let bytes = read
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

async fn store_pieces(
    services: &Services,
    order: &Order,
    attempt: &Attempt,
    mut incoming: mpsc::UnboundedReceiver<(Stream, u64, Vec<u8>)>,
) -> Result<(), Failure> {
    let run = order.run.id;
    let mut waiting = Vec::new();
    while incoming.recv_many(&mut waiting, 64).await > 0 {
        let now = services.now();
        let pieces: Vec<Piece> = waiting
            .drain(..)
            .map(|(stream, position, bytes)| Piece {
                attempt: attempt.id,
                stream: match stream {
                    Stream::Out => "out".to_owned(),
                    Stream::Err => "err".to_owned(),
                },
                position: i64::try_from(position).unwrap_or(i64::MAX),
                bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
                at: now,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            })
            .collect();
        for piece in &pieces {
            let _ = services.live.send(Live::Log(run, piece.clone()));
        }
        let mut pause = Duration::from_millis(200);
        loop {
            let batch = pieces.clone();
            let written = services
                .store
                .write(move |connection| {
                    Box::pin(async move {
                        for piece in &batch {
                            logs::piece_put(connection, run, piece).await?;
                        }
                        Ok(())
                    })
                })
                .await;
            match written {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "the log waits for the database");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }
    Ok(())
}

async fn exit_failure(services: &Services, attempt: &Attempt, code: i32) -> Failure {
    let tail = async {
        let mut connection = services.store.read().await.ok()?;
        logs::tail(&mut connection, attempt.id, "err", 16)
            .await
            .ok()
    };
    let text = tail.await.unwrap_or_default();
    let text: String = text
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let said = lines[lines.len().saturating_sub(ERROR_LINES)..].join(" | ");
    let said = if said.is_empty() {
        "it wrote nothing to standard error".to_owned()
    } else {
        said
    };
    let how = if code > 128 {
        format!("was ended by signal {}", code - 128)
    } else {
        format!("ended with exit code {code}")
    };
    Failure::new(FailureKind::Exit, format!("the work {how}: {said}"))
}

pub async fn collect(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let (attempt, machine) = (order.attempt()?, order.machine()?);
    let stage = &order.plan.chain.stages[attempt.stage_index];
    let max_bytes = match &stage.output {
        Output::None => {
            return Ok(Outcome::Collected {
                envelope: attempt.input,
                took_ms: 0.0,
            });
        }
        Output::Json { max_bytes, .. }
        | Output::Xml { max_bytes, .. }
        | Output::Binary { max_bytes, .. } => *max_bytes,
    };
    let guest = guest(services, machine.domain());
    let content = match &order.output {
        Some(bytes) if bytes.len() as u64 > max_bytes => Content::TooLarge,
        Some(bytes) => Content::Bytes(bytes.clone()),
        None => talking(services, || guest.job_output(attempt.id, max_bytes))
            .await
            .map_err(|error| failure_of(&error, "fetching the output"))?,
    };
    let raw = match content {
        Content::Bytes(bytes) => bytes,
        Content::Missing => {
            return Err(
                Failure::new(FailureKind::Output, "the stage wrote no output").with_way_out(
                    "write it to the file named by GREENROOM_OUTPUT, or declare `output: none`",
                ),
            );
        }
        Content::TooLarge => {
            return Err(Failure::new(
                FailureKind::Output,
                format!("the output is larger than {max_bytes} bytes"),
            )
            .with_way_out("raise `output.max`, or put bulk data on the handoff disk"));
        }
    };
    let envelope = envelope(services, attempt.input).await?;
    let taken = handoff::take_output(stage, &envelope, &raw).await?;
    if taken.artefact.is_some() {
        services
            .artefacts
            .put(raw)
            .await
            .map_err(|error| artefact_failure(&error))?;
    }
    let digest = services
        .artefacts
        .put(taken.envelope.to_bytes())
        .await
        .map_err(|error| artefact_failure(&error))?;
    Ok(Outcome::Collected {
        envelope: digest,
        took_ms: elapsed_ms(begun),
    })
}
