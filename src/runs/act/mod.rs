//! Carrying actions out. Each may be carried out twice: it asks the world what is done already.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pinned::Plan;
use super::plan::{Action, Outcome};
use super::services::Services;
use super::view::View;
use crate::hypervisor::{HvError, guest::Guest};
use crate::store::artefacts::ArtefactError;
use crate::vocab::machine::Machine;
use crate::vocab::run::{Attempt, Run};
use crate::vocab::{Failure, FailureKind, MachineId};

mod disk;
mod machine;
mod pooled;
mod work;

/// An action with the values it needs, as they were when it became due.
pub struct Order {
    pub action: Action,
    pub run: Run,
    pub plan: Arc<Plan>,
    pub attempt: Option<Attempt>,
    pub machine: Option<Machine>,
    /// A stage waits for the machine that is made, rather than only its successor.
    pub wanted: bool,
    /// The output to collect, where it was fetched already.
    pub output: Option<Vec<u8>>,
    /// The work may have begun in an earlier life of the daemon.
    pub resumed: bool,
}

impl Order {
    pub fn new(view: &View, action: Action) -> Self {
        let attempt = match action {
            Action::PrepareDisk(id)
            | Action::Attach(id)
            | Action::Start(id)
            | Action::Watch(id)
            | Action::Collect(id)
            | Action::Detach(id) => view.attempt(id).cloned(),
            _ => None,
        };
        let machine = match action {
            Action::MakeMachine(id) | Action::Release(id) => view.machine(id).cloned(),
            _ => attempt
                .as_ref()
                .and_then(|attempt| attempt.machine)
                .and_then(|id| view.machine(id))
                .cloned(),
        };
        let wanted = machine.as_ref().is_some_and(|machine| {
            view.current()
                .is_some_and(|attempt| attempt.machine == Some(machine.id))
        });
        Self {
            action,
            run: view.run.clone(),
            plan: view.plan.clone(),
            attempt,
            machine,
            wanted,
            output: None,
            resumed: false,
        }
    }

    fn machine(&self) -> Result<&Machine, Failure> {
        self.machine.as_ref().ok_or_else(|| {
            Failure::new(
                FailureKind::Internal,
                format!("{}: no machine", self.action),
            )
        })
    }

    fn attempt(&self) -> Result<&Attempt, Failure> {
        self.attempt.as_ref().ok_or_else(|| {
            Failure::new(
                FailureKind::Internal,
                format!("{}: no attempt", self.action),
            )
        })
    }
}

/// Does it. `cancel` says that nobody wants the result any more; the effect may then be half done,
/// and the release that follows takes it away.
pub async fn carry_out(services: &Services, order: &Order, cancel: &CancellationToken) -> Outcome {
    let work = async {
        match order.action {
            Action::MakeMachine(_) => machine::make(services, order, cancel).await,
            Action::Release(_) => machine::release(services, order, cancel).await,
            Action::PrepareDisk(_) => disk::prepare(services, order).await,
            Action::Attach(_) => disk::attach(services, order).await,
            Action::Start(_) => work::start(services, order).await,
            Action::Watch(_) => work::watch(services, order).await,
            Action::Collect(_) => work::collect(services, order).await,
            Action::Detach(_) => disk::detach(services, order).await,
            Action::RemoveDisks => disk::remove(services, order, cancel).await,
        }
    };
    // Talking with a guest may be dropped at any moment. Whatever changes the host is not: making and
    // releasing look at the token themselves between their steps, the others have short deadlines.
    let result = match order.action {
        Action::Watch(_) => unless_cancelled(work, cancel).await,
        Action::Start(_) | Action::Collect(_) => {
            unless_cancelled(in_time(work, order.action), cancel).await
        }
        _ => work.await,
    };
    result.unwrap_or_else(Outcome::Failed)
}

async fn unless_cancelled(
    work: impl Future<Output = Result<Outcome, Failure>>,
    cancel: &CancellationToken,
) -> Result<Outcome, Failure> {
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Ok(Outcome::Cancelled),
    }
}

/// How long handing a guest its input, or taking its output, may take in all. Each call has its own
/// deadline, but a guest that gives a byte with each would take years. 64 MiB, the largest output,
/// takes under a minute through the agent (1.3 MB/s at the slowest that was measured).
const TALK: Duration = Duration::from_secs(300);

async fn in_time(
    work: impl Future<Output = Result<Outcome, Failure>>,
    action: Action,
) -> Result<Outcome, Failure> {
    let late = |_| {
        let word = action.word();
        Failure::new(
            FailureKind::Lost,
            format!(
                "the guest drags the {word} out: it did not end within {} s",
                TALK.as_secs()
            ),
        )
    };
    tokio::time::timeout(TALK, work).await.map_err(late)?
}

fn guest<'a>(services: &'a Services, machine: MachineId) -> Guest<'a> {
    Guest {
        hypervisor: &*services.hypervisor,
        machine,
    }
}

/// Repeats a call while the host cannot be reached, up to the settings' patience.
async fn patiently<T, F>(services: &Services, mut call: impl FnMut() -> F) -> Result<T, HvError>
where
    F: Future<Output = Result<T, HvError>>,
{
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match call().await {
            Err(HvError::Unreachable(why)) if begun.elapsed() < services.settings.patience => {
                tracing::warn!(%why, "the host cannot be reached; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            result => return result,
        }
    }
}

/// Repeats what has to happen in the end, until it did or nobody wants it any more: a machine or a
/// disk is never forgotten.
async fn insistently<F>(
    cancel: &CancellationToken,
    what: &str,
    mut call: impl FnMut() -> F,
) -> Option<()>
where
    F: Future<Output = Result<(), HvError>>,
{
    let mut pause = Duration::from_millis(200);
    loop {
        match call().await {
            Ok(()) => return Some(()),
            Err(error) => tracing::warn!(what, %error, "not removed yet; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(30)),
            () = cancel.cancelled() => return None,
        }
    }
}

/// Repeats a talk with a guest while the host cannot be reached, as [`patiently`], and while the
/// agent does not answer, for as long as a guest may be silent.
async fn talking<T, F>(services: &Services, mut call: impl FnMut() -> F) -> Result<T, HvError>
where
    F: Future<Output = Result<T, HvError>>,
{
    let begun = tokio::time::Instant::now();
    loop {
        match patiently(services, &mut call).await {
            Err(HvError::AgentAbsent(_) | HvError::AgentTimeout(..))
                if begun.elapsed() < services.settings.silence =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            result => return result,
        }
    }
}

/// What a host's refusal means for a stage.
fn failure_of(error: &HvError, during: &str) -> Failure {
    let (kind, way_out) = match error {
        HvError::Unreachable(_) => (
            FailureKind::Host,
            Some("start libvirtd, then retry the run"),
        ),
        HvError::DiskFull(_) => (
            FailureKind::Host,
            Some("free space on the host's disk, then retry the run"),
        ),
        HvError::NoMemory(_) => (
            FailureKind::Host,
            Some("free memory on the host or lower the stage's memory, then retry the run"),
        ),
        HvError::Refused(_) | HvError::Host(_) => (FailureKind::Host, None),
        HvError::NoSuchMachine(_)
        | HvError::AgentAbsent(_)
        | HvError::AgentTimeout(..)
        | HvError::Agent(_) => (FailureKind::Lost, None),
    };
    let failure = Failure::new(kind, format!("{during}: {error}"));
    match way_out {
        Some(way_out) => failure.with_way_out(way_out),
        None => failure,
    }
}

fn artefact_failure(error: &ArtefactError) -> Failure {
    Failure::new(FailureKind::Host, error.to_string())
}

fn elapsed_ms(since: tokio::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
