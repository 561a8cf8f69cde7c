//! jq in a child process.
//!
//! jq's language has loops without end and reads files (`import`, `include`) and the environment.
//! As a library it can neither be stopped nor kept from aborting the process; as a child it can:
//! an empty environment, no shell, limits on processor time, memory, files and output, a deadline,
//! and a kill by its own process id when any of them is passed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::TransformError;
use crate::chain::document;

const CPU_SECONDS: u64 = 5;
const ADDRESS_SPACE_BYTES: u64 = 512 << 20;
const OPEN_FILES: u64 = 16;
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
const MAX_ERROR_BYTES: u64 = 4096;

/// Refuses `import` and `include`, the two ways to open files. They are keywords, so a plain search
/// for the words is enough; members (`.include`), variables and quoted words stay possible.
pub fn check(expression: &str) -> Result<(), TransformError> {
    for word in ["import", "include"] {
        for (at, _) in expression.match_indices(word) {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let before = expression[..at].chars().next_back();
            let after = expression[at + word.len()..].chars().next();
            let harmless = before.is_some_and(|c| is_part(c) || matches!(c, '.' | '$' | '"'));
            if !harmless && !after.is_some_and(is_part) {
                return Err(TransformError::Expression {
                    message: format!("`{word}` is not available: a transform reads no files"),
                    offset: Some(at),
                    suggestion: Some(format!(
                        "for a member of that name write `.{word}` or `\"{word}\"`"
                    )),
                });
            }
        }
    }
    if expression.contains('\0') {
        return Err(super::expression_error(
            "the expression contains a NUL character",
        ));
    }
    Ok(())
}

pub async fn apply(expression: &str, input: &Value) -> Result<Value, TransformError> {
    let program = find_jq().ok_or(TransformError::NoJq)?;
    let mut command = Command::new(program);
    command
        .arg("--compact-output")
        // The blank keeps an expression such as `-1` from being taken for an option.
        .arg(format!(" {expression}"))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // SAFETY: between fork and exec only setrlimit is called, which POSIX lists as safe there; the
    // closure allocates nothing and touches no lock.
    unsafe {
        command.pre_exec(|| {
            setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS)?;
            setrlimit(
                Resource::RLIMIT_AS,
                ADDRESS_SPACE_BYTES,
                ADDRESS_SPACE_BYTES,
            )?;
            setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
            setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)?;
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            Ok(())
        });
    }
    let mut child = command
        .spawn()
        .map_err(|error| TransformError::Host(error.to_string()))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let bytes = input.to_string().into_bytes();
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A jq that ends early closes its input; its exit status tells the story.
                let _ = stdin.write_all(&bytes).await;
            }
        };
        let (_, out, err) = tokio::join!(
            feed,
            read_up_to(stdout, MAX_OUTPUT_BYTES),
            read_up_to(stderr, MAX_ERROR_BYTES)
        );
        let out = out?;
        let err = err.unwrap_or_default();
        if out.len() as u64 > MAX_OUTPUT_BYTES {
            return Err(TransformError::Limit("jq wrote more than 16 MiB".into()));
        }
        let status = child
            .wait()
            .await
            .map_err(|error| TransformError::Host(error.to_string()))?;
        Ok((status, out, err))
    };
    let outcome = tokio::time::timeout(DEADLINE, talk).await;
    match outcome {
        Ok(Ok((status, out, err))) => conclude(status, &out, &err),
        Ok(Err(error)) => {
            let _ = child.kill().await;
            Err(error)
        }
        Err(_) => {
            let _ = child.kill().await;
            Err(TransformError::Limit(format!(
                "jq did not end within {} s",
                DEADLINE.as_secs()
            )))
        }
    }
}

/// Reads to the end, or to one byte more than `limit`; then the pipe is closed.
async fn read_up_to(
    pipe: Option<impl AsyncRead + Unpin>,
    limit: u64,
) -> Result<Vec<u8>, TransformError> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(limit + 1);
        pipe.read_to_end(&mut bytes)
            .await
            .map_err(|error| TransformError::Host(error.to_string()))?;
    }
    Ok(bytes)
}

fn conclude(status: ExitStatus, out: &[u8], err: &[u8]) -> Result<Value, TransformError> {
    use std::os::unix::process::ExitStatusExt as _;
    if let Some(signal) = status.signal() {
        return Err(TransformError::Limit(format!(
            "jq was stopped by signal {signal}, probably by its limits ({CPU_SECONDS} s of processor time, 512 MiB)"
        )));
    }
    if !status.success() {
        let said = String::from_utf8_lossy(err);
        let said = said.trim().trim_start_matches("jq: ");
        let message = format!("jq says: {}", cut(said));
        return Err(match status.code() {
            Some(3) => super::expression_error(message),
            _ if said.contains("cannot allocate memory") => TransformError::Limit(message),
            _ => TransformError::Evaluation(message),
        });
    }
    let mut values = serde_json::Deserializer::from_slice(out).into_iter::<serde::de::IgnoredAny>();
    let count = values.by_ref().take(2).filter(Result::is_ok).count();
    match count {
        1 if out.len() > document::MAX_BYTES => Err(TransformError::Limit(
            "the result is larger than 4 MiB".into(),
        )),
        1 => document::parse_json(out).map_err(TransformError::Evaluation),
        0 => Err(TransformError::Evaluation(
            "jq gave no result (`empty`); exactly one is needed".into(),
        )),
        _ => Err(TransformError::Evaluation(
            "jq gave several results; put the expression into `[…]` to make one list".into(),
        )),
    }
}

/// The first line of what jq said, without its advice about shells, of which there is none.
fn cut(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    let line = line
        .replace("(Unix shell quoting issues?)", "")
        .replace(" at <top-level>", "");
    let line = line
        .trim_start_matches("error: ")
        .replace("error (at <stdin>:0): ", "");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// By hand, because the child's environment, and with it its search path, is empty.
fn find_jq() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("jq"))
        .find(|file| {
            file.metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}
