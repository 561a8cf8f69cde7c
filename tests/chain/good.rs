//! Good chains: what their keys mean, what is assumed when they are left out, and that YAML and JSON
//! say the same.

use std::path::Path;

use greenroom::chain::files::{FilesInMemory, ScriptFiles, ScriptFolder};
use greenroom::chain::model::*;
use greenroom::chain::{check, check_file, read};
use greenroom::vocab::{FailureKind, StageKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::chain;

#[test]
fn every_chain_in_the_tree_is_good() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("chains").expect("the folder of chains") {
        let path = entry.expect("an entry").path();
        if !path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "json")
        {
            continue;
        }
        let chain = check_file(&path)
            .expect("a readable file")
            .unwrap_or_else(|faults| {
                panic!("{}", faults.render(greenroom::chain::faults::Colour::Plain))
            });
        assert_eq!(
            Some(chain.name.as_str()),
            path.file_stem().and_then(|name| name.to_str())
        );
        assert!(!chain.description.is_empty(), "{}", chain.name);
        names.push(chain.name);
        says_the_same_in_json(
            &std::fs::read_to_string(&path).expect("text"),
            &ScriptFolder::new("chains"),
        );
    }
    for teaching in ["hello", "handoff", "retry"] {
        assert!(names.iter().any(|name| name == teaching), "{teaching}");
    }
}

/// Reads the YAML as a tree, writes the tree as JSON, and expects the same chain.
fn says_the_same_in_json(source: &str, files: &dyn ScriptFiles) -> Chain {
    let from_yaml = check(source, files).unwrap_or_else(|faults| panic!("{faults}"));
    let mut faults = Vec::new();
    let tree = read::read(source.as_bytes()).tree.expect("a tree");
    let json = tree.to_value("", &mut faults);
    for text in [
        json.to_string(),
        serde_json::to_string_pretty(&json).expect("JSON"),
    ] {
        let from_json = check(&text, files).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
        assert_eq!(from_yaml, from_json);
        assert_eq!(from_yaml.digest(), from_json.digest());
    }
    from_yaml
}

const FULL: &str = r#"
chain: onboard
description: Everything at once.
when: device.disks | length > 0 and device.memory_mib >= 1024
handoff_disk: { size: 2 GiB, checkpoint: false }
on_failure: { hold: 1h30m, keep_machine: true }
stages:
  - name: facts
    kind: discovery
    description: 2024
    image: tiny
    resources:
      vcpus: { min: 1, max: 4 }
      memory: { min: 256 MiB, max: 1 GiB }
      disk: 1.5 GiB
      network: { min: 1 MB/s, max: 80 Mbit/s }
      predict: true
    network: true
    handoff_disk: true
    input: { select: device, schema: { type: object }, format: xml }
    command: [sh, -c, exit 0, 7]
    output:
      format: xml
      jq: .facts
      schema_file: schemas/facts.json
      merge: { at: /facts, how: patch }
      max: 256 KiB
    deadline: 5m
    retry:
      - { on: [exit, lost], attempts: 3, backoff: { first: 500ms, factor: 1.5, max: 30s } }
      - { on: boot, attempts: 2 }
    undo: { script: scripts/undo.sh }
"#;

fn full_files() -> FilesInMemory {
    FilesInMemory::default()
        .with("schemas/facts.json", "{\"type\": \"object\"}")
        .with("scripts/undo.sh", "#!/bin/sh\ntrue\n")
}

#[test]
fn every_key_has_its_meaning() {
    let chain = says_the_same_in_json(FULL, &full_files());
    let expected = Chain {
        name: "onboard".into(),
        description: "Everything at once.".into(),
        when: Some("device.disks | length > 0 and device.memory_mib >= 1024".into()),
        handoff_disk: Some(HandoffDisk {
            size_mib: 2048,
            checkpoint: false,
            keep: false,
        }),
        on_failure: OnFailure {
            hold_s: 5400,
            keep_machine: true,
        },
        stages: vec![Stage {
            name: "facts".into(),
            kind: StageKind::Discovery,
            description: "2024".into(),
            after: None,
            image: "tiny".into(),
            resources: Resources {
                vcpus: Bounds { min: 1, max: 4 },
                memory_mib: Bounds {
                    min: 256,
                    max: 1024,
                },
                disk_mib: Bounds {
                    min: 1536,
                    max: 1536,
                },
                network_kbytes_per_s: Some(Bounds {
                    min: 1000,
                    max: 10_000,
                }),
                predict: true,
            },
            network: true,
            handoff_disk: true,
            input: Input {
                transform: Some(Transform::Jmespath {
                    expression: "device".into(),
                }),
                schema: Some(json!({ "type": "object" })),
                format: DocumentFormat::Xml,
            },
            work: Work::Command {
                argv: ["sh", "-c", "exit 0", "7"].map(str::to_owned).to_vec(),
            },
            output: Output::Xml {
                schema: Some(json!({ "type": "object" })),
                transform: Some(Transform::Jq {
                    expression: ".facts".into(),
                }),
                merge: Merge {
                    at: "/facts".into(),
                    how: MergeHow::Patch,
                },
                max_bytes: 256 * 1024,
            },
            deadline: Deadline::Seconds(300),
            retry: vec![
                Retry {
                    on: vec![FailureKind::Exit, FailureKind::Lost],
                    attempts: 3,
                    backoff: Backoff {
                        first_s: 0.5,
                        factor: 1.5,
                        max_s: 30.0,
                    },
                },
                Retry {
                    on: vec![FailureKind::Boot],
                    attempts: 2,
                    backoff: Backoff {
                        first_s: 1.0,
                        factor: 2.0,
                        max_s: 60.0,
                    },
                },
            ],
            undo: Some(Work::Script {
                text: "#!/bin/sh\ntrue\n".into(),
                file: Some("scripts/undo.sh".into()),
            }),
        }],
    };
    assert_eq!(chain, expected);
}

#[test]
fn little_needs_to_be_said() {
    let chain = chain("chain: small\nstages:\n- name: one\n  image: tiny\n  run: echo hello\n");
    assert_eq!(
        chain.on_failure,
        OnFailure {
            hold_s: 3600,
            keep_machine: false
        }
    );
    assert_eq!((chain.when, chain.handoff_disk), (None, None));
    let stage = &chain.stages[0];
    assert_eq!(stage.kind, StageKind::Custom);
    assert_eq!(stage.output, Output::None);
    assert_eq!(stage.deadline, Deadline::Derived);
    assert_eq!(
        stage.input,
        Input {
            transform: None,
            schema: None,
            format: DocumentFormat::Json
        }
    );
    assert_eq!(
        stage.work,
        Work::Script {
            text: "echo hello".into(),
            file: None
        }
    );
    assert!(!stage.network && !stage.handoff_disk && !stage.resources.predict);
    assert_eq!(stage.resources.memory_mib, Bounds { min: 256, max: 256 });
}

#[test]
fn an_output_is_merged_under_its_stage_unless_told_otherwise() {
    let chain = chain("chain: c\nstages: [{ name: one, image: tiny, run: x, output: json }]");
    let Output::Json {
        merge, max_bytes, ..
    } = &chain.stages[0].output
    else {
        panic!("JSON")
    };
    assert_eq!(
        *merge,
        Merge {
            at: "/one".into(),
            how: MergeHow::Replace
        }
    );
    assert_eq!(*max_bytes, 1 << 20);
}

#[test]
fn a_stored_chain_is_the_chain() {
    let chain = check(FULL, &full_files()).expect("good");
    let stored = serde_json::to_string(&chain).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Chain>(&stored).expect("a chain"),
        chain
    );
}

#[test]
fn a_script_is_part_of_the_version() {
    let source = "chain: c\nstages: [{ name: one, image: tiny, script: a.sh }]";
    let digest = |text: &str| {
        check(source, &FilesInMemory::default().with("a.sh", text))
            .expect("good")
            .digest()
    };
    assert_ne!(digest("echo 1"), digest("echo 2"));
    assert_eq!(digest("echo 1"), digest("echo 1"));
}

#[test]
fn a_missing_chain_file_is_an_error_of_its_own() {
    assert!(check_file(Path::new("chains/no-such.yaml")).is_err());
    assert!(check_file(Path::new("chains")).is_err());
}

/// The surface of a random good chain, as a document.
fn surface() -> impl Strategy<Value = Value> {
    let name = "[a-z][a-z0-9_.-]{0,12}";
    let size = prop::sample::select(vec!["64 MiB", "1 GiB", "1.5GiB", "512 MB"]);
    let bounds = prop_oneof![
        size.clone().prop_map(|size| json!(size)),
        Just(json!({ "min": "64 MiB", "max": "2 GiB" })),
    ];
    let output = prop_oneof![
        Just(json!("none")),
        Just(json!("json")),
        Just(
            json!({ "format": "xml", "max": "10 KiB", "merge": { "at": "/a~1b/c", "how": "append" } })
        ),
        Just(json!({ "format": "binary", "media_type": "text/plain" })),
        Just(
            json!({ "select": "a[?b == `1`].{ x: y }", "schema": { "type": ["object", "null"], "maximum": 1.5 } })
        ),
    ];
    let work = prop_oneof![
        "[ -~\n]{0,40}[a-z]".prop_map(|text| json!({ "run": text })),
        prop::collection::vec("[ -~é]{1,10}", 1..4).prop_map(|argv| json!({ "command": argv })),
    ];
    let retry = prop::option::of((1u64..20, prop::sample::subsequence(vec!["host", "exit", "lost"], 1..3)).prop_map(
        |(attempts, on)| json!([{ "on": on, "attempts": attempts, "backoff": { "first": "1s", "factor": 1.5 } }]),
    ));
    let stage = (
        1u64..64,
        bounds,
        output,
        work,
        retry,
        any::<bool>(),
        "[ -~é]{0,30}",
    );
    let stages = prop::collection::vec(stage, 1..4);
    (name, stages, any::<bool>()).prop_map(|(name, stages, disk)| {
        let stages: Vec<Value> = stages
            .into_iter()
            .enumerate()
            .map(|(index, (vcpus, memory, output, work, retry, network, description))| {
                let mut stage = json!({
                    "name": format!("stage-{index}"), "image": "tiny", "network": network, "output": output,
                    "resources": { "vcpus": vcpus, "memory": memory }, "handoff_disk": disk, "description": description,
                });
                let members = stage.as_object_mut().expect("an object");
                members.extend(work.as_object().expect("an object").clone());
                members.extend(retry.map(|retry| ("retry".to_owned(), retry)));
                stage
            })
            .collect();
        let mut chain = json!({ "chain": name, "stages": stages });
        if disk {
            chain["handoff_disk"] = json!({ "size": "1 GiB" });
        }
        chain
    })
}

/// The same document as block YAML, written by hand so that no other reader's habits come in.
fn yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(members) if !members.is_empty() => members
            .iter()
            .map(|(key, value)| format!("\n{pad}{}:{}", json!(key), yaml(value, indent + 2)))
            .collect(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("\n{pad}-{}", yaml(item, indent + 2)))
            .collect(),
        Value::String(text)
            if !text.is_empty()
                && text
                    .lines()
                    .all(|line| !line.starts_with(' ') && !line.is_empty())
                && !text.ends_with('\n') =>
        {
            let lines: String = text
                .split('\n')
                .map(|line| format!("\n{pad}  {line}"))
                .collect();
            format!(" |-{lines}")
        }
        Value::String(text) => format!(" '{}'", text.replace('\'', "''").replace('\n', "\n\n")),
        scalar => format!(" {scalar}"),
    }
}

proptest! {
    #[test]
    fn yaml_and_json_give_the_same_chain(surface in surface()) {
        let json_text = surface.to_string();
        let from_json = check(&json_text, &FilesInMemory::default()).map_err(|faults| TestCaseError::fail(format!("{faults}\n{json_text}")))?;
        let json_as_yaml = format!("# a comment makes this YAML and not JSON\n{json_text}");
        let from_flow = check(&json_as_yaml, &FilesInMemory::default());
        prop_assert_eq!(from_flow.as_ref(), Ok(&from_json));
        if surface.to_string().contains("\\n") {
            // Text with line breaks is written as a block only when it has no odd lines.
            return Ok(());
        }
        let block = yaml(&surface, 0);
        let from_block = check(&block, &FilesInMemory::default()).map_err(|faults| TestCaseError::fail(format!("{faults}\n{block}")))?;
        prop_assert_eq!(from_block, from_json);
    }
}

#[test]
fn a_stage_may_wait_for_the_device_that_gets_the_disk() {
    let source = |after: &str| {
        format!(
            "chain: c\nhandoff_disk: {{ size: 1 GiB }}\nstages:\n- {{ name: make, image: tiny, run: 'true', handoff_disk: true }}\n- {{ name: look, kind: monitoring, image: tiny, run: 'true', after: {after} }}\n"
        )
    };
    let after = |text: &str| {
        says_the_same_in_json(&source(text), &FilesInMemory::default()).stages[1].after
    };
    let event = AfterEvent::Delivered;
    assert_eq!(
        after("delivered"),
        Some(After {
            event,
            watch_s: 30,
            within_s: 3600
        })
    );
    assert_eq!(
        after("{ event: delivered, watch: 1m, within: 1d }"),
        Some(After {
            event,
            watch_s: 60,
            within_s: 86_400
        })
    );
    // Chains that do not wait are what they were before stages could.
    let plain = chain("chain: c\nstages:\n- { name: a, image: tiny, run: 'true' }\n");
    assert!(
        !serde_json::to_string(&plain)
            .expect("JSON")
            .contains("after")
    );
}
