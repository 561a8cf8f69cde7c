//! The teaching chains do what they teach: their scripts run here in a shell instead of a guest,
//! with the handoff between them as a run performs it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use greenroom::chain::handoff::{stage_input, take_output};
use greenroom::chain::model::{Chain, Stage, Work};
use greenroom::vocab::FailureKind;
use greenroom::vocab::envelope::Envelope;
use serde_json::{Value, json};

fn lesson(name: &str) -> Chain {
    greenroom::chain::check_file(Path::new(&format!("chains/{name}.yaml")))
        .expect("a readable file")
        .expect("a good chain")
}

/// Runs a stage's script as its guest would; gives its exit code and its output file.
fn play(work: &Work, input: &[u8], attempt: u32) -> (i32, Option<Vec<u8>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let Work::Script { text, .. } = work else {
        panic!("a script")
    };
    std::fs::write(at("script"), text).expect("a script");
    std::fs::write(at("input"), input).expect("an input");
    let environment: BTreeMap<&str, String> = [
        ("PATH", applets(&at("bin"))),
        ("TMPDIR", folder.path().display().to_string()),
        ("GREENROOM_INPUT", at("input").display().to_string()),
        ("GREENROOM_OUTPUT", at("output").display().to_string()),
        ("GREENROOM_ATTEMPT", attempt.to_string()),
        ("GREENROOM_STAGE", "lesson".to_owned()),
        ("GREENROOM_RUN", "7".to_owned()),
    ]
    .into();
    let busybox = at("bin").join("sh");
    let shell = if busybox.exists() {
        busybox
    } else {
        "/bin/sh".into()
    };
    let mut shell = Command::new(shell)
        .arg(at("script"))
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    // The script need not read its input; then the pipe is closed early.
    let _ = shell.stdin.take().expect("a pipe").write_all(input);
    let status = shell.wait().expect("an end");
    (
        status.code().unwrap_or(128),
        std::fs::read(at("output")).ok(),
    )
}

async fn pass(stage: &Stage, envelope: &Envelope, attempt: u32) -> Envelope {
    let input = stage_input(stage, envelope).await.expect("an input");
    let (code, output) = play(&stage.work, &input, attempt);
    assert_eq!(code, 0, "{}", stage.name);
    let taken = take_output(stage, envelope, &output.expect("an output")).await;
    taken
        .unwrap_or_else(|failure| panic!("{}: {failure}", stage.name))
        .envelope
}

/// Where busybox is installed the scripts get its tools, which are all that the guest has.
fn applets(folder: &Path) -> String {
    std::fs::create_dir(folder).expect("a folder");
    let installed = Command::new("busybox")
        .args(["--install", "-s"])
        .arg(folder)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if installed {
        folder.display().to_string()
    } else {
        "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
    }
}

fn begin(facts: Value) -> Envelope {
    Envelope::of_facts(facts.as_object().expect("an object"))
}

#[tokio::test]
async fn hello_says_hello() {
    let chain = lesson("hello");
    let end = pass(&chain.stages[0], &begin(json!({})), 1).await;
    assert_eq!(end.document["greet"]["greeting"], "hello");
}

#[tokio::test]
async fn the_handoff_goes_from_json_through_xml_to_binary() {
    let chain = lesson("handoff");
    let mut envelope = pass(&chain.stages[0], &begin(json!({ "lab": true })), 1).await;
    assert!(envelope.document["facts"]["disks"].is_array());
    // Whatever this machine has, the lesson is about these.
    envelope.document["facts"] = json!({
        "seen": 3, "disks": [{ "name": "vda", "kib": 100 }, { "name": "loop0", "kib": 5 }],
    });
    let envelope = pass(&chain.stages[1], &envelope, 1).await;
    let plan =
        json!([{ "disk": "vda", "action": "keep" }, { "disk": "loop0", "action": "ignore" }]);
    assert_eq!(envelope.document["plan"], plan);
    let envelope = pass(&chain.stages[2], &envelope, 1).await;
    assert_eq!(envelope.artefacts.len(), 1);
    assert_eq!(envelope.artefacts[0].media_type, "application/gzip");
}

#[tokio::test]
async fn a_plan_for_one_disk_or_none_is_still_a_list() {
    let chain = lesson("handoff");
    for (disks, steps) in [(json!([]), 0), (json!([{ "name": "vda", "kib": 100 }]), 1)] {
        let mut envelope = begin(json!({}));
        envelope.document["facts"] = json!({ "seen": 0, "disks": disks });
        let after = pass(&chain.stages[1], &envelope, 1).await;
        assert_eq!(after.document["plan"].as_array().map(Vec::len), Some(steps));
    }
}

#[tokio::test]
async fn the_flaky_stage_fails_as_often_as_it_is_told() {
    let chain = lesson("retry");
    let envelope = pass(&chain.stages[0], &begin(json!({})), 1).await;
    assert_eq!(envelope.document["reserve"]["address"], "192.0.2.8");
    let undo = chain.stages[0].undo.as_ref().expect("an undo");
    assert_eq!(play(undo, b"{}", 1).0, 0);
    let flaky = &chain.stages[1];
    let input = stage_input(flaky, &envelope).await.expect("an input");
    assert_eq!(play(&flaky.work, &input, 1).0, 75);
    let after = pass(flaky, &envelope, 2).await;
    assert_eq!(after.document["flaky"]["tries"], 2);
    let policy = flaky.retry_for(FailureKind::Exit);
    assert_eq!(policy.attempts, 3);
    assert_eq!(
        [2, 3, 4, 9].map(|attempt| policy.backoff.pause_s(attempt)),
        [1.0, 2.0, 4.0, 10.0]
    );
}
