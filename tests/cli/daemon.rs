//! A daemon on the simulated host, and commands that speak to it.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{Said, command, greenroom, greenroom_fed};
use crate::images::{GOOD, recipe};

/// Ends with the test, however that ends.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts one and returns when it answers.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// With further options.
    pub fn start_with(folder: &Path, options: &[&str]) -> Self {
        let arguments = [&["serve", "--hypervisor", "simulated"], options].concat();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("serve.log"))
            .unwrap();
        let child = command(folder, &arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while greenroom(folder, &["status"]).code != 0 {
            let log = std::fs::read_to_string(folder.join("serve.log")).unwrap();
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "no daemon: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child }
    }

    /// Asks it to stop and returns how long that took.
    pub fn stop(mut self) -> Duration {
        let began = Instant::now();
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        began.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PAIR: &str = "\
chain: pair
when: device.serial == \"X1\"
stages:
  - name: first
    kind: discovery
    image: fake
    resources: { memory: 64 MiB }
    run: |
      echo greetings
      echo '{\"size\": 5}' > \"$GREENROOM_OUTPUT\"
    output: { format: json }
  - name: second
    kind: custom
    image: fake
    resources: { memory: 64 MiB }
    script: second.sh
    output: { format: none }
";

/// A folder with an image, a chain of two stages and a daemon.
pub fn stage_set(second: &str) -> (tempfile::TempDir, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "fake", GOOD);
    greenroom(folder.path(), &["image", "build", "fake"]).exits(0);
    std::fs::write(folder.path().join("pair.yaml"), PAIR).unwrap();
    std::fs::write(folder.path().join("second.sh"), second).unwrap();
    let daemon = Daemon::start(folder.path());
    greenroom(folder.path(), &["chain", "apply", "pair.yaml"]).exits(0);
    let facts = "{\"serial\": \"X1\"}";
    greenroom_fed(
        folder.path(),
        &["device", "add", "box", "--facts", "-"],
        facts,
    )
    .exits(0);
    (folder, daemon)
}

fn spawned(folder: &Path, arguments: &[&str]) -> Child {
    command(folder, arguments).spawn().unwrap()
}

fn ended(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_run_from_start_to_success() {
    let (folder, _daemon) = stage_set("echo done\n");
    let here = folder.path();
    let dry = greenroom(
        here,
        &["run", "start", "--device", "box", "--dry-run", "-o", "json"],
    );
    let dry = dry.exits(0).json();
    assert!(dry["run"].is_null());
    assert_eq!(dry["plan"]["chain"], "pair");
    assert_eq!(
        greenroom(here, &["run", "list", "-o", "json"])
            .exits(0)
            .json(),
        serde_json::json!([])
    );

    let said = greenroom(here, &["run", "start", "--device", "box", "--wait"]).exits(0);
    assert!(
        said.out.starts_with("run 1 succeeded after "),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("run 1: stage second: succeeded"),
        "{}",
        said.err
    );

    let run = greenroom(here, &["run", "show", "1", "-o", "json", "--journal"])
        .exits(0)
        .json();
    assert_eq!(run["state"], "succeeded");
    let attempts = run["attempts"].as_array().unwrap();
    assert_eq!(
        attempts[0]["output"], attempts[1]["input"],
        "what one left is what the next got"
    );
    assert_eq!(attempts[0]["machine"], run["machines"][0]["uuid"]);
    assert!(!run["journal"].as_array().unwrap().is_empty());
    let logs = greenroom(here, &["run", "logs", "1"]).exits(0);
    assert_eq!(logs.out, "first | greetings\nsecond | done\n");
    let logs = greenroom(here, &["run", "logs", "1", "--stage", "second", "--follow"]).exits(0);
    assert_eq!(logs.out, "done\n");
    greenroom(here, &["run", "logs", "1", "--stage", "third"]).exits(3);
    greenroom(here, &["run", "watch", "1"]).exits(0);
}

#[test]
fn a_failed_run_is_held_and_says_what_helps() {
    let (folder, _daemon) = stage_set("exit 3\n");
    let here = folder.path();
    let said = greenroom(here, &["run", "start", "--device", "box", "--wait"]).exits(1);
    assert!(said.out.starts_with("run 1 held after "), "{}", said.out);
    assert!(said.err.contains("greenroom run retry 1"), "{}", said.err);
    let shown = greenroom(here, &["run", "show", "1"]).exits(0);
    assert!(shown.out.starts_with("run 1: held for "), "{}", shown.out);
    assert!(shown.out.contains("exit code 3"), "{}", shown.out);

    let status = greenroom(here, &["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["stuck"][0]["run"], 1);
    assert_eq!(status["runs"]["held"], 1);
    let refused = greenroom(here, &["run", "start", "--device", "box"]).exits(4);
    assert!(refused.err.contains("run abort 1"), "{}", refused.err);

    greenroom(here, &["run", "retry", "1", "--wait"]).exits(1);
    let replay = greenroom(
        here,
        &["run", "replay", "1", "first", "--wait", "-o", "json"],
    )
    .exits(0);
    assert_eq!(replay.json()["replay_of"]["run"], 1);
    let said = greenroom(here, &["run", "abort", "1", "--reason", "enough", "--wait"]).exits(0);
    assert!(said.out.contains("aborted"), "{}", said.out);
    let aborted = greenroom(here, &["run", "list", "--state", "aborted", "-o", "json"]).exits(0);
    assert_eq!(aborted.json()[0]["abort_reason"], "enough");
}

#[test]
fn waiting_survives_a_restart_of_the_daemon_and_streams_do_not_hold_it_up() {
    let (folder, daemon) = stage_set("sleep 2\n");
    let here = folder.path();
    let id = greenroom(here, &["-q", "run", "start", "--device", "box"]).exits(0);
    assert_eq!(id.out, "1\n");
    let waiting = spawned(here, &["run", "watch", "1"]);
    let following = spawned(here, &["run", "logs", "1", "--follow"]);
    std::thread::sleep(Duration::from_millis(500));
    let took = daemon.stop();
    assert!(took < Duration::from_secs(5), "it took {took:?} to stop");
    assert!(!here.join("state/greenroom.sock").exists());
    let _again = Daemon::start(here);
    let said = ended(waiting).exits(0);
    assert!(said.err.contains("the daemon is away"), "{}", said.err);
    assert_eq!(ended(following).code, 0);
}

#[test]
fn waiting_ends_at_its_timeout_and_the_run_goes_on() {
    let (folder, _daemon) = stage_set("sleep 60\n");
    let start = [
        "run",
        "start",
        "--device",
        "box",
        "--wait",
        "--timeout",
        "1s",
    ];
    let said = greenroom(folder.path(), &start).exits(7);
    assert!(said.err.contains("greenroom run watch 1"), "{}", said.err);
    let child = spawned(folder.path(), &["run", "watch", "1"]);
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    ended(child).exits(130);
    let run = greenroom(folder.path(), &["run", "show", "1", "-o", "json"]).exits(0);
    assert_eq!(run.json()["state"], "running");
}

#[test]
fn refusals_name_what_is_wrong() {
    let (folder, _daemon) = stage_set("exit 0\n");
    let here = folder.path();
    greenroom(here, &["run", "show", "99"]).exits(3);
    greenroom(here, &["device", "show", "nobody"]).exits(3);
    greenroom(here, &["chain", "show", "pair", "--version", "9"]).exits(3);
    greenroom(here, &["run", "start", "--device", "nobody"]).exits(3);
    let said = greenroom(here, &["run", "list", "--state", "tired"]).exits(2);
    assert!(said.err.contains("succeeded"), "{}", said.err);
    let said = greenroom(here, &["device", "add", "a/b", "--client", "?"]).exits(5);
    assert!(
        said.err.contains("name:") && said.err.contains("client:"),
        "{}",
        said.err
    );
    let said = greenroom(here, &["serve", "--hypervisor", "simulated"]);
    assert_ne!(said.code, 0, "two daemons on one state folder");
    let source = greenroom(here, &["chain", "show", "pair", "--source"]).exits(0);
    assert_eq!(
        source.out,
        std::fs::read_to_string(here.join("pair.yaml")).unwrap()
    );
    let yaml = greenroom(here, &["device", "list", "-o", "yaml"]).exits(0);
    assert!(yaml.out.contains("serial: X1"), "{}", yaml.out);
}

#[test]
fn a_chain_applied_past_the_check_is_refused_with_all_its_faults() {
    use std::io::{Read, Write};

    let (folder, _daemon) = stage_set("exit 0\n");
    let socket = folder.path().join("state/greenroom.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let body = r#"{"source":"chain: x\nstages:\n  - name: a\n    kind: nonsense\n    image: fake\n    script: absent.sh\n"}"#;
    write!(
        stream,
        "POST /api/v1/chains HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(
        answer.contains("nonsense") && answer.contains("absent.sh"),
        "{answer}"
    );
}
