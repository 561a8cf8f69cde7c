//! Personas from file to run, on a daemon with the simulated host.

use std::path::{Path, PathBuf};

use crate::command::{Said, greenroom};
use crate::daemon::stage_set;

fn example(file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("chains/personas")
        .join(file);
    path.display().to_string()
}

fn said(folder: &Path, line: &[&str]) -> Said {
    greenroom(folder, line)
}

const BASE: &str = "# kept\npersona: base\nos: { timezone: Europe/Rome }\n";
const WEB: &str = "persona: web\nparent: base\napplications: [{ name: nginx-light }]\nsecurity: { firewall: { allow: [{ port: 80 }] } }\n";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn the_examples_are_good_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = example("");
    let said = said(folder.path(), &["persona", "check", &path, "-o", "json"]).exits(0);
    let verdicts = said.json();
    assert_eq!(verdicts.as_array().unwrap().len(), 3);
    assert!(
        verdicts
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["ok"] == true),
        "{verdicts}"
    );
}

#[test]
fn a_check_finds_the_parent_beside_and_tells_all_faults_with_places() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write(here, "base.yaml", BASE);
    write(here, "web.yaml", WEB);
    let good = said(here, &["persona", "check", "web.yaml"]).exits(0);
    assert!(
        good.out.contains("web.yaml") && good.out.contains("base"),
        "{}",
        good.out
    );
    write(
        here,
        "bad.yaml",
        "persona: bad\nparent: base\nos: { varient: debian-12, locale: de }\nnetwork: { interfaces: [{ role: a, vlan: 5000 }] }\n",
    );
    let bad = said(here, &["persona", "check", "bad.yaml", "web.yaml"]).exits(5);
    for expected in [
        "bad.yaml:3:7",
        "did you mean `variant`?",
        "bad.yaml:3:35",
        "bad.yaml:4:42",
        "3 faults in bad.yaml",
    ] {
        assert!(
            bad.err.contains(expected),
            "{expected} is not in\n{}",
            bad.err
        );
    }
    let json = said(here, &["persona", "check", "bad.yaml", "-o", "json"])
        .exits(5)
        .json();
    assert_eq!(json[0]["faults"]["faults"][0]["line"], 3);
    said(here, &["persona", "check", "nowhere.yaml"]).exits(3);
    write(
        here,
        "evil.yaml",
        "persona: \"a\\e[2J\"\ndescription: \x1b]0;owned\x07\n",
    );
    let evil = said(
        here,
        &["persona", "check", "evil.yaml", "--color", "always"],
    )
    .exits(5);
    assert!(
        !evil.err.contains("\x1b]0;") && !evil.err.contains("\x1b[2J"),
        "{:?}",
        evil.err
    );
}

#[test]
fn from_a_file_with_a_mistake_to_a_version_a_change_a_diff_and_back() {
    let (folder, _daemon) = stage_set("exit 0\n");
    let here = folder.path();
    write(here, "base.yaml", BASE);
    write(here, "web.yaml", &WEB.replace("nginx-light", "nginx-lite"));
    let both = ["persona", "apply", "-f", "web.yaml", "-f", "base.yaml"];
    let refused = said(here, &both).exits(5);
    assert!(
        refused.err.contains("web.yaml:3:24")
            && refused.err.contains("did you mean `nginx-light`?"),
        "{}",
        refused.err
    );
    assert!(
        refused
            .err
            .contains("nothing was applied: web.yaml with faults"),
        "{}",
        refused.err
    );
    assert_eq!(
        said(here, &["persona", "list", "-o", "json"])
            .exits(0)
            .json(),
        serde_json::json!([])
    );

    write(here, "web.yaml", WEB);
    let dry = said(here, &[&both[..], &["--dry-run"]].concat()).exits(0);
    assert!(
        dry.out
            .contains("persona web@1 would be created over base@1"),
        "{}",
        dry.out
    );
    let applied = said(here, &[&both[..], &["--reason", "first"]].concat()).exits(0);
    assert!(
        applied.err.contains("greenroom persona promote web"),
        "{}",
        applied.err
    );
    said(here, &["persona", "promote", "web", "--reason", "tested"]).exits(0);
    let source = said(here, &["persona", "show", "base", "--source"]).exits(0);
    assert_eq!(source.out, BASE);

    write(here, "web.yaml", &WEB.replace("port: 80", "port: 8080"));
    let warned = said(
        here,
        &[
            "persona",
            "apply",
            "-f",
            "web.yaml",
            "--promote",
            "--reason",
            "moved",
        ],
    )
    .exits(0);
    assert!(
        warned.out.contains("persona web@2 changed, current"),
        "{}",
        warned.out
    );
    assert!(
        warned.err.contains("nginx-light listens on 80/tcp"),
        "{}",
        warned.err
    );
    let again = said(here, &["persona", "apply", "-f", "web.yaml"]).exits(0);
    assert!(
        again.out.contains("persona web@2 unchanged"),
        "{}",
        again.out
    );
    let diff = said(here, &["persona", "diff", "web"]).exits(0);
    assert!(
        diff.out
            .contains("-security: { firewall: { allow: [{ port: 80 }] } }"),
        "{}",
        diff.out
    );
    assert!(
        diff.out.contains("      port: 8080")
            || diff.out.contains("+    - from: any")
            || diff.out.contains("port: 8080\n"),
        "{}",
        diff.out
    );

    let back = said(
        here,
        &["persona", "rollback", "web", "--reason", "wrong port"],
    )
    .exits(0);
    assert_eq!(back.out, "persona web@1 is current again\n");
    let history = said(here, &["persona", "history", "web", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(history["current"], 1);
    let states: Vec<&str> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["former", "current"]);
    assert_eq!(history["moves"][0]["what"], "rolled back");
    assert_eq!(history["moves"][0]["reason"], "wrong port");
    said(here, &["persona", "rollback", "web"]).exits(4);
    said(here, &["persona", "show", "web@9"]).exits(3);
    said(here, &["persona", "show", "nobody"]).exits(3);
    said(here, &["persona", "show", "web@x"]).exits(2);
    let shown = said(here, &["persona", "show", "web"]).exits(0);
    assert!(
        shown.out.contains("os.timezone from base@1"),
        "{}",
        shown.out
    );
}

#[test]
fn a_run_pins_the_persona_that_it_was_given_and_says_why() {
    let (folder, _daemon) = stage_set("cat \"$GREENROOM_INPUT\"\n");
    let here = folder.path();
    write(here, "base.yaml", BASE);
    write(here, "web.yaml", WEB);
    write(
        here,
        "rules.yaml",
        "persona_rules:\n  - { name: serials, when: device.serial == 'X1', persona: web }\n",
    );
    let early = said(here, &["persona", "rules", "apply", "rules.yaml"]).exits(5);
    assert!(
        early.err.contains("rules.yaml:2:") && early.err.contains("there is no persona `web`"),
        "{}",
        early.err
    );
    said(
        here,
        &["persona", "apply", "base.yaml", "web.yaml", "--promote"],
    )
    .exits(0);
    assert_eq!(
        said(here, &["persona", "rules", "apply", "rules.yaml"])
            .exits(0)
            .out,
        "rules v1 in force\n"
    );
    assert_eq!(
        said(here, &["persona", "rules", "apply", "rules.yaml"])
            .exits(0)
            .out,
        "rules v1 unchanged\n"
    );
    said(here, &["persona", "rules", "list"]).exits(0);

    let why = said(here, &["persona", "why", "box"]).exits(0);
    assert!(
        why.out.contains("persona   web@1") && why.out.contains("because   rule serials"),
        "{}",
        why.out
    );
    said(here, &["run", "start", "--device", "box", "--wait"]).exits(0);
    let run = said(here, &["run", "show", "1", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(
        (
            run["persona"]["name"].as_str(),
            run["persona"]["version"].as_i64()
        ),
        (Some("web"), Some(1))
    );
    assert!(
        said(here, &["run", "show", "1"])
            .exits(0)
            .out
            .contains("persona   web@1: rule serials")
    );
    let output = said(here, &["run", "output", "1", "-o", "json"])
        .exits(0)
        .json();
    let persona = &output["document"]["persona"];
    assert_eq!(persona["resolved"]["hostname"], "box");
    assert_eq!(persona["os"]["timezone"], "Europe/Rome");
    assert_eq!(persona["digest"], run["persona"]["digest"]);
    assert!(
        persona["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| file["path"] == "/etc/nftables.conf")
    );

    let made = said(
        here,
        &[
            "persona", "assign", "--device", "box", "base", "--reason", "ticket 7", "--until",
            "8h", "-o", "json",
        ],
    )
    .exits(0)
    .json();
    assert_eq!(made["id"], 1);
    let why = said(here, &["persona", "why", "box", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(why["persona"], "base@1");
    assert_eq!(
        why["candidates"][1]["verdict"]
            .as_str()
            .unwrap()
            .split(" by ")
            .next(),
        Some("assignment 1 to device box")
    );
    let dry = said(
        here,
        &["run", "start", "--device", "box", "--dry-run", "-o", "json"],
    )
    .exits(0)
    .json();
    assert_eq!(dry["plan"]["persona"]["name"], "base");
    said(
        here,
        &[
            "persona", "assign", "--device", "box", "web", "--reason", "also",
        ],
    )
    .exits(0);
    let unclear = said(here, &["persona", "why", "box"]).exits(4);
    assert!(unclear.out.contains("not clear"), "{}", unclear.out);
    let refused = said(here, &["run", "start", "--device", "box"]).exits(4);
    assert!(
        refused.err.contains("give one a higher precedence"),
        "{}",
        refused.err
    );
    said(here, &["persona", "unassign", "2"]).exits(0);
    said(here, &["persona", "unassign", "2"]).exits(3);
    assert_eq!(
        said(here, &["persona", "assignments", "-o", "json"])
            .exits(0)
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    said(here, &["persona", "assign", "web", "--reason", "nobody"]).exits(2);
    said(here, &["persona", "assign", "--user", "u", "web"]).exits(2);
    said(
        here,
        &[
            "persona", "assign", "--user", "u", "web", "--reason", "r", "--until", "soon",
        ],
    )
    .exits(2);
    // What the first run pinned stays.
    let run = said(here, &["run", "show", "1", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(run["persona"]["name"], "web");
}

#[test]
fn a_preview_shows_files_and_says_whether_the_device_is_large_enough() {
    let (folder, _daemon) = stage_set("exit 0\n");
    let here = folder.path();
    let files = ["base.yaml", "web-server.yaml", "db-node.yaml"].map(example);
    said(
        here,
        &[
            "persona",
            "apply",
            &files[0],
            &files[1],
            &files[2],
            "--promote",
        ],
    )
    .exits(0);
    let device = example("../devices/web-1.yaml");
    said(here, &["device", "add", "-f", &device]).exits(0);
    let web = said(
        here,
        &["persona", "preview", "web-server", "--device", "web-1"],
    )
    .exits(0);
    for expected in [
        "host name web-8x0104",
        "tcp dport 80 ct state new accept",
        "MACAddress=52:54:00:a1:00:01",
        "=== packages",
        "nginx-light",
        "#cloud-config",
    ] {
        assert!(
            web.out.contains(expected),
            "{expected} is not in\n{}",
            web.out
        );
    }
    let db = said(
        here,
        &["persona", "preview", "db-node", "--device", "web-1"],
    )
    .exits(4);
    assert!(
        db.out
            .contains("the address needs the fact `wishes.network.address`"),
        "{}",
        db.out
    );
    let sample = example("../devices/db-1.yaml");
    let db = said(
        here,
        &[
            "persona", "preview", "db-node", "--facts", &sample, "--only", "nftables",
        ],
    )
    .exits(0);
    assert!(
        !db.out.contains("dport 80 ") && db.out.contains("ip saddr 10.20.0.0/16 tcp dport 5432"),
        "{}",
        db.out
    );
    assert_eq!(db.out.matches("\n=== ").count(), 1);
    let list = said(here, &["persona", "list"]).exits(0);
    assert!(
        list.out.contains("db-node") && list.out.contains("hardened"),
        "{}",
        list.out
    );
}

/// One request as another program would send it: status and body.
fn asked(folder: &Path, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    use std::io::{Read, Write};

    let socket = folder.join("state/greenroom.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{method} /api/v1{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer[9..12].parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
    )
}

#[test]
fn another_program_can_preview_a_text_assign_and_is_told_what_to_change() {
    let (folder, _daemon) = stage_set("exit 0\n");
    let here = folder.path();
    let (status, catalogue) = asked(here, "GET", "/persona-catalogue", "");
    assert_eq!(status, 200);
    assert!(catalogue["variants"]["debian-12"]["memory_mib"].is_number());
    let source = |text: &str| {
        serde_json::json!({ "source": text, "facts": { "serial": "X 1" } }).to_string()
    };
    let (status, preview) = asked(
        here,
        "POST",
        "/persona-previews",
        &source("persona: p\nnetwork: { hostname: 'h-{serial}' }\n"),
    );
    assert_eq!((status, preview["hostname"].as_str()), (200, Some("h-x-1")));
    let (status, problem) = asked(
        here,
        "POST",
        "/persona-previews",
        &source("persona: p\nos: { variant: debain-12 }\n"),
    );
    assert_eq!(status, 422, "{problem}");
    assert_eq!(problem["errors"][0]["line"], 2);
    assert_eq!(
        problem["errors"][0]["suggestion"],
        "did you mean `debian-12`?"
    );
    assert_eq!(asked(here, "POST", "/persona-previews", "{}").0, 400);

    let files = |dry: bool, text: &str| {
        serde_json::json!({ "files": [{ "file": "p.yaml", "source": text }], "dry_run": dry, "promote": true }).to_string()
    };
    let (status, checked) = asked(
        here,
        "POST",
        "/personas",
        &files(true, "persona: p\nos: { locale: xx }\n"),
    );
    assert_eq!((status, checked[0]["ok"].as_bool()), (200, Some(false)));
    let fault = &checked[0]["faults"][0];
    let (start, end) = (
        fault["start"].as_u64().unwrap(),
        fault["end"].as_u64().unwrap(),
    );
    assert_eq!(
        (start, end),
        (25, 27),
        "the bytes that an editor marks: {fault}"
    );
    let (status, refused) = asked(
        here,
        "POST",
        "/personas",
        &files(false, "persona: p\nos: { locale: xx }\n"),
    );
    assert_eq!(status, 422, "{refused}");
    assert_eq!(
        asked(here, "POST", "/personas", &files(false, "persona: p\n")).0,
        201
    );
    assert_eq!(
        asked(here, "POST", "/personas", &files(false, "persona: p\n")).0,
        200
    );
    assert_eq!(asked(here, "POST", "/personas", "{\"files\": []}").0, 400);

    let assign = |kind: &str, persona: &str, reason: &str| {
        serde_json::json!({ "kind": kind, "name": "box", "persona": persona, "reason": reason })
            .to_string()
    };
    for (body, expected) in [
        (assign("planet", "p", "r"), 400),
        (assign("device", "p", ""), 400),
        (assign("device", "p\n", "r"), 400),
        (assign("device", "q", "r"), 404),
        (assign("device", "p", "r"), 201),
    ] {
        let (status, answer) = asked(here, "POST", "/persona-assignments", &body);
        assert_eq!(status, expected, "{body}: {answer}");
    }
    assert_eq!(
        asked(here, "POST", "/persona-assignments/7/end", "{}").0,
        404
    );
    assert_eq!(
        asked(here, "GET", "/devices/box/persona", "").1["persona"],
        "p@1"
    );
    assert_eq!(asked(here, "GET", "/devices/nobody/persona", "").0, 404);
    assert_eq!(asked(here, "GET", "/persona-rules", "").0, 404);
    let rules = serde_json::json!({ "source": "persona_rules: []\ndefault: q\n" }).to_string();
    assert_eq!(asked(here, "POST", "/persona-rules", &rules).0, 422);
}
