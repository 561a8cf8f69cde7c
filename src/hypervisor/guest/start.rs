//! Starting a job: by the guest's runner, else by one agent call; what does not fit into one message goes
//! as files first.

use std::time::Duration;

use uuid::Uuid;

use super::super::{AGENT_CHUNK, HvError};
use super::call::{CALL_DEADLINE, exec};
use super::launcher::{JobPaths, Launch, Part, fits_an_argument, interpreter};
use super::runner;
use super::{Guest, Job, JobState, JobWork};

/// The longest `guest-exec` message: as long as that of an [`AGENT_CHUNK`] in base64.
const MESSAGE_CAP: usize = AGENT_CHUNK / 3 * 4;

/// What remains of a message for the job beside the launcher itself.
const ROOM: usize = MESSAGE_CAP - 8 * 1024;

pub(super) async fn start_job(guest: &Guest<'_>, job: &Job) -> Result<(), HvError> {
    let plan = plan(job)?;
    plan.launch.check()?;
    if !plan.staged_files.is_empty() {
        // A start that is repeated must not send everything again.
        if guest.job_state(job.attempt).await? != JobState::Absent {
            return Ok(());
        }
        let folder = plan.launch.staged.as_deref().unwrap_or_default();
        let made = guest
            .run(&["mkdir", "-p", folder], b"", CALL_DEADLINE)
            .await?;
        if made.exit_code != 0 {
            let words = String::from_utf8_lossy(&made.err).trim().to_owned();
            return Err(HvError::Agent(format!(
                "mkdir {folder} in the guest: {words}"
            )));
        }
        for (name, bytes) in &plan.staged_files {
            guest.write_file(&format!("{folder}/{name}"), bytes).await?;
        }
    }
    if runner::start(guest, &plan.launch).await {
        return Ok(());
    }
    let stdin = (!plan.stdin.is_empty()).then_some(plan.stdin);
    guest
        .call(
            exec(&plan.launch.argv(), stdin, false),
            Duration::from_secs(20),
        )
        .await
        .map(|_| ())
}

struct Plan<'j> {
    launch: Launch,
    stdin: Vec<u8>,
    /// Name and contents.
    staged_files: Vec<(&'static str, &'j [u8])>,
}

/// Decides how each part of the job gets into the guest.
fn plan(job: &Job) -> Result<Plan<'_>, HvError> {
    let (script, argv) = match &job.work {
        JobWork::Command(argv) => (None, argv.clone()),
        JobWork::Script(script) => {
            let mut argv = interpreter(script);
            argv.push(JobPaths::new(job.attempt).script());
            (Some(script), argv)
        }
    };
    let env_and_argv = job
        .env
        .iter()
        .map(|(name, value)| name.len() + json_len(value))
        .sum::<usize>()
        + argv.iter().map(|word| json_len(word)).sum::<usize>();
    let mut room = ROOM.checked_sub(env_and_argv).ok_or_else(|| {
        HvError::Refused(format!(
            "a job's arguments and environment take {env_and_argv} of {ROOM} bytes"
        ))
    })?;
    let mut staged_files = Vec::new();
    let mut stdin = Vec::new();
    let script = match script {
        None => Part::None,
        Some(text) if fits_an_argument(text) && json_len(text) <= room => {
            room -= json_len(text);
            Part::Text(text.clone())
        }
        Some(text) => {
            staged_files.push(("script", text.as_bytes()));
            Part::Staged { size: text.len() }
        }
    };
    let size = job.input.len();
    let input = match std::str::from_utf8(&job.input) {
        Ok(text) if fits_an_argument(text) && json_len(text) <= room => Part::Text(text.to_owned()),
        _ if size.div_ceil(3) * 4 <= room => {
            stdin.clone_from(&job.input);
            Part::Stdin { size }
        }
        _ => {
            staged_files.push(("input", &job.input));
            Part::Staged { size }
        }
    };
    // A folder of its own per try, so that two tries cannot mix their files.
    let staged = (!staged_files.is_empty()).then(|| {
        let fresh = Uuid::new_v4().simple();
        format!("{}/{}.{fresh}", JobPaths::ROOT, job.attempt)
    });
    let launch = Launch {
        root: JobPaths::ROOT.to_owned(),
        block: "/sys/block".to_owned(),
        dev: "/dev".to_owned(),
        attempt: job.attempt,
        disk_serial: job.disk_serial.clone(),
        staged,
        input,
        script,
        env: job
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        argv,
    };
    Ok(Plan {
        launch,
        stdin,
        staged_files,
    })
}

/// Upper bound of a text's length in a JSON message.
fn json_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    3 + text.bytes().map(escaped).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::AttemptId;

    fn job(script: &str, input: &[u8]) -> Job {
        Job {
            attempt: AttemptId::fresh(),
            work: JobWork::Script(script.into()),
            input: input.to_vec(),
            env: Default::default(),
            disk_serial: None,
        }
    }

    #[test]
    fn the_launcher_leaves_the_room_that_is_counted_on() {
        let job = job("", b"");
        let message =
            serde_json::to_string(&exec(&plan(&job).unwrap().launch.argv(), None, false)).unwrap();
        assert!(message.len() < MESSAGE_CAP - ROOM, "{}", message.len());
    }

    #[test]
    fn small_jobs_are_one_message_and_large_ones_come_as_files() {
        let small = plan_of("echo hello", b"{\"a\": 1}");
        assert_eq!(
            small,
            (
                Part::Text("echo hello".into()),
                Part::Text("{\"a\": 1}".into()),
                0
            )
        );
        let binary = plan_of("x", &[0xff, 0, 1]);
        assert_eq!(binary, (Part::Text("x".into()), Part::Stdin { size: 3 }, 0));
        let large = plan_of("x", &[b'a'; 200_000]);
        assert_eq!(
            large,
            (Part::Text("x".into()), Part::Staged { size: 200_000 }, 1)
        );
        let odd = plan_of("echo \0", b"");
        assert_eq!(
            odd,
            (Part::Staged { size: 6 }, Part::Text(String::new()), 1)
        );
    }

    fn plan_of(script: &str, input: &[u8]) -> (Part, Part, usize) {
        let job = job(script, input);
        let plan = plan(&job).unwrap();
        (
            plan.launch.script,
            plan.launch.input,
            plan.staged_files.len(),
        )
    }
}
