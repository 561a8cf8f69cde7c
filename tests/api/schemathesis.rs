//! schemathesis reads the OpenAPI document and asks everything that it allows, and much that it does not,
//! with a token of each kind: no answer is a 5xx, and none is otherwise than the document says.
//!
//! The lab installs it and says in GREENROOM_SCHEMATHESIS where it is; elsewhere this says so and passes.
//! Which requests are made hangs on a seed that stays, so that a finding comes again.

use std::process::Stdio;

use greenroom::vocab::access::Role;
use serde_json::Value;

use crate::ground::Ground;
use greenroom::outbound::Settings;

const SEED: &str = "20";
/// What has to hold for every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";
/// An endless stream has no answer to check.
const ENDLESS: &str = "event_stream";

/// Role, client, phases, and requests that are made up for each operation. An admin's are all those at the
/// edges of what is allowed, the others' are drawn: all in all within a minute.
const ASKERS: [(Role, Option<&str>, &str, &str); 5] = [
    (Role::Admin, None, "coverage", "1"),
    (Role::Author, None, "fuzzing", "2"),
    (Role::Operator, None, "fuzzing", "2"),
    (Role::Viewer, None, "fuzzing", "2"),
    (Role::Operator, Some("lab"), "fuzzing", "2"),
];

fn program() -> Option<String> {
    let path = std::env::var("GREENROOM_SCHEMATHESIS").unwrap_or_default();
    if path.is_empty() {
        eprintln!(
            "skipped: schemathesis is not there (GREENROOM_SCHEMATHESIS; `vagrant/lab test --test api` installs it where there is a package index)"
        );
        return None;
    }
    Some(path)
}

/// A house with something of everything, so that what is asked for is sometimes there.
async fn furnished() -> Ground {
    let ground = Ground::with_pool(Settings::default()).await;
    ground.apply_chain().await;
    ground.apply_persona().await;
    ground.add_device("box", "lab").await;
    ground.put_on_network("box").await;
    ground.warm("lab").await;
    ground.take("lab", "mine").await;
    ground.run("box").await;
    ground
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_document_says_is_so_whatever_is_asked() {
    let Some(program) = program() else { return };
    let began = std::time::Instant::now();
    let mut failed = Vec::new();
    let mut answers = std::collections::BTreeMap::<u16, usize>::new();
    for (role, client, phases, most) in ASKERS {
        // Each finds the house as it was made: an admin may take it apart.
        let ground = furnished().await;
        let token = ground.token(role, client).await;
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.ndjson");
        let certificate = ground.house.state.path().join("tls/self-signed.pem");
        let output = tokio::process::Command::new(&program)
            .args(["--no-color", "run"])
            .arg(format!("https://{}/api/v1/openapi.json", ground.address))
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--checks", CHECKS, "--phases", phases])
            .args(["--exclude-operation-id", ENDLESS])
            .args(["--max-examples", most, "--seed", SEED])
            .args([
                "--generation-deterministic",
                "--no-shrink",
                "--suppress-health-check",
                "all",
            ])
            // One worker: with two, its generator of inputs met a KeyError of its own now and then.
            .args([
                "--workers",
                "1",
                "--request-timeout",
                "20",
                "--continue-on-failure",
            ])
            .arg(format!("--tls-verify={}", certificate.display()))
            .args(["--report", "ndjson"])
            .arg(format!("--report-ndjson-path={}", report.display()))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .await
            .expect("schemathesis starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let asked = format!("{role} of {}", client.unwrap_or("all"));
        let counts = count(&std::fs::read_to_string(&report).unwrap_or_default());
        eprintln!("schemathesis as {asked}: {counts:?}");
        for (status, n) in counts {
            *answers.entry(status).or_default() += n;
        }
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            failed.push(format!("as {asked}:\n{said}\n{complaint}"));
        }
    }
    let all: usize = answers.values().sum();
    eprintln!(
        "schemathesis: {all} answers in {:.0} s, by status {answers:?}",
        began.elapsed().as_secs_f64()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        all > 1000,
        "so little was asked that it shows nothing: {all}"
    );
    let broken: Vec<_> = answers.keys().filter(|status| **status >= 500).collect();
    assert!(broken.is_empty(), "{answers:?}");
}

/// Answers by status, from the report of what was asked.
fn count(report: &str) -> std::collections::BTreeMap<u16, usize> {
    fn walk(value: &Value, counts: &mut std::collections::BTreeMap<u16, usize>) {
        match value {
            Value::Object(fields) => {
                if let Some(status) = fields.get("status_code").and_then(Value::as_u64) {
                    *counts.entry(status as u16).or_default() += 1;
                }
                fields.values().for_each(|inner| walk(inner, counts));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, counts)),
            _ => {}
        }
    }
    let mut counts = std::collections::BTreeMap::new();
    for line in report.lines() {
        if let Ok(event) = serde_json::from_str(line) {
            walk(&event, &mut counts);
        }
    }
    counts
}
