//! One agent command and its checked reply; waiting for the agent; short commands.

use std::time::Duration;

use qapi::qga;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

use super::super::{AGENT_CHUNK, HvError, MachineEvent, Power};
use super::{Finished, Guest};

/// For calls that the guest answers without doing much. Generous, because an emulated guest on a
/// busy host may be held up for seconds; a hung one is the stage's deadline's business.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(10);

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Guest<'_> {
    /// Sends one command and decodes its reply. A guest whose agent is not connected (libvirt says
    /// so briefly after a start or a resume) is asked again until the deadline: the command was not
    /// sent, so that asking again is safe. All other errors are the caller's.
    pub(super) async fn call<C: qga::QgaCommand>(
        &self,
        command: C,
        deadline: Duration,
    ) -> Result<C::Ok, HvError> {
        let command =
            serde_json::to_string(&qapi::Execute::<C>::with_command(command)).map_err(|error| {
                HvError::Refused(format!(
                    "a guest command cannot be written as JSON: {error}"
                ))
            })?;
        let end = Instant::now() + deadline;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.hypervisor.agent(self.machine, &command, left).await {
                Ok(reply) => return decode(&reply),
                Err(HvError::AgentAbsent(id)) if Instant::now() + pause >= end => {
                    return Err(HvError::AgentAbsent(id));
                }
                Err(HvError::AgentAbsent(_)) => {
                    if pause >= LONGEST_PAUSE {
                        self.must_exist().await?;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// [`HvError::NoSuchMachine`] when the host knows for certain that the machine is gone or off.
    pub(super) async fn must_exist(&self) -> Result<(), HvError> {
        match self.hypervisor.machine(self.machine).await {
            Ok(Some(seen)) if seen.power != Power::Off => Ok(()),
            Ok(_) => Err(HvError::NoSuchMachine(self.machine)),
            // Nothing is known now; whoever asks will ask again.
            Err(_) => Ok(()),
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(reply: &str) -> Result<T, HvError> {
    #[derive(Deserialize)]
    struct Reply<T> {
        #[serde(rename = "return")]
        value: T,
    }
    serde_json::from_str::<Reply<T>>(reply)
        .map(|reply| reply.value)
        .map_err(|error| {
            // The reply itself may be long and is the guest's: only its start is shown.
            let start: String = reply.chars().take(60).collect();
            HvError::Agent(format!(
                "a reply that breaks the protocol ({error}): {start:?}"
            ))
        })
}

pub(super) async fn wait_until_up(guest: &Guest<'_>, deadline: Duration) -> Result<(), HvError> {
    let end = Instant::now() + deadline;
    let mut events = guest.hypervisor.events();
    let mut events_left = true;
    let mut pause = SHORTEST_PAUSE;
    let mut tries = 0u32;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HvError::AgentTimeout(guest.machine, deadline));
        }
        // One ping gets at most two seconds: a guest that just started may swallow it.
        let ping = r#"{"execute":"guest-ping"}"#;
        match guest
            .hypervisor
            .agent(guest.machine, ping, left.min(Duration::from_secs(2)))
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() => {}
            // The agent's own complaint is an answer too, but not of one that is ready.
            Err(HvError::Agent(_)) => {}
            Err(error) => {
                guest.must_exist().await?;
                return Err(error);
            }
        }
        tries += 1;
        if tries.is_multiple_of(8) {
            guest.must_exist().await?;
        }
        // The host's events shorten the pause; they are hints only.
        let wake_at = (Instant::now() + pause).min(end);
        while events_left {
            match timeout(
                wake_at.saturating_duration_since(Instant::now()),
                events.recv(),
            )
            .await
            {
                Ok(Ok(MachineEvent::AgentConnected(id, true))) if id == guest.machine => break,
                Ok(Ok(MachineEvent::Stopped(id, _))) if id == guest.machine => {
                    guest.must_exist().await?;
                }
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => events_left = false,
                Err(_) => break,
            }
        }
        if !events_left {
            tokio::time::sleep_until(wake_at).await;
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// A `guest-exec` that keeps its output only where somebody will ask for it.
pub(super) fn exec(
    argv: &[impl AsRef<str>],
    input: Option<Vec<u8>>,
    capture: bool,
) -> qga::guest_exec {
    let mut words = argv.iter().map(|word| word.as_ref().to_owned());
    qga::guest_exec {
        path: words.next().unwrap_or_default(),
        arg: Some(words.collect()),
        env: None,
        input_data: input,
        capture_output: capture.then_some(qga::GuestExecCaptureOutput::flag(true)),
    }
}

pub(super) async fn run(
    guest: &Guest<'_>,
    argv: &[&str],
    input: &[u8],
    deadline: Duration,
) -> Result<Finished, HvError> {
    if argv.is_empty() || input.len() > AGENT_CHUNK {
        return Err(HvError::Refused(format!(
            "a short guest command needs a program and at most {AGENT_CHUNK} bytes of input"
        )));
    }
    let end = Instant::now() + deadline;
    let left = || {
        end.saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    let input = (!input.is_empty()).then(|| input.to_vec());
    let pid = guest.call(exec(argv, input, true), left()).await?.pid;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let status = guest.call(qga::guest_exec_status { pid }, left()).await?;
        if status.exited {
            return finished(status);
        }
        if Instant::now() + pause >= end {
            return Err(HvError::AgentTimeout(guest.machine, deadline));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

fn finished(status: qga::GuestExecStatus) -> Result<Finished, HvError> {
    if status.out_truncated == Some(true) || status.err_truncated == Some(true) {
        return Err(HvError::Agent(
            "the command's output is larger than the agent keeps".into(),
        ));
    }
    let code = match (status.exitcode, status.signal) {
        (_, Some(signal @ 1..=64)) => 128 + signal,
        (Some(code @ 0..=255), None) => code,
        (code, signal) => {
            return Err(HvError::Agent(format!(
                "an exit code of {code:?} with signal {signal:?}"
            )));
        }
    };
    Ok(Finished {
        exit_code: i32::try_from(code).unwrap_or(255),
        out: status.out_data.unwrap_or_default(),
        err: status.err_data.unwrap_or_default(),
    })
}
