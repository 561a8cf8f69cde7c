//! Files with mistakes, and the reports that people see for them.
//!
//! To accept changed reports: `INSTA_UPDATE=always cargo test --test chain`, then read the diff.

use std::path::{Path, PathBuf};

use greenroom::chain::check_file;
use greenroom::chain::faults::Colour;

use crate::faults;

const FOLDER: &str = "tests/chain/broken";

fn broken_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(FOLDER)
        .expect("the folder of broken chains")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "yaml" || ending == "json")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn reports_are_as_reviewed() {
    let files = broken_files();
    assert!(files.len() >= 15);
    for path in files {
        let faults = check_file(&path)
            .expect("a readable file")
            .expect_err("a broken chain");
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "broken" }, {
            insta::assert_snapshot!(name, faults.render(Colour::Plain));
        });
    }
}

#[test]
fn every_fault_points_into_its_file() {
    for path in broken_files() {
        let source = std::fs::read_to_string(&path).expect("text");
        let faults = check_file(&path)
            .expect("a readable file")
            .expect_err("a broken chain");
        let lines = source.lines().count();
        for fault in &faults.faults {
            assert!(fault.line >= 1 && fault.line <= lines.max(1), "{fault:?}");
            assert!(fault.column >= 1, "{fault:?}");
            assert!(source.get(fault.bytes.clone()).is_some(), "{fault:?}");
            assert!(!fault.message.ends_with('.'), "{fault:?}");
        }
    }
}

#[test]
fn a_program_gets_faults_as_json() {
    let faults = check_file(Path::new("tests/chain/broken/units.yaml"))
        .expect("a file")
        .expect_err("faults");
    let json = serde_json::to_value(&faults).expect("JSON");
    let first = &json["faults"][0];
    assert_eq!(json["file"], "tests/chain/broken/units.yaml");
    assert_eq!(first["path"], "handoff_disk.size");
    assert_eq!(first["line"], 2);
    assert_eq!(first["suggestion"], "write for example `2 MiB`");
    assert!(first.get("bytes").is_none());
    let received: greenroom::chain::Faults = serde_json::from_value(json).expect("faults");
    assert_eq!(received.render(Colour::Plain), format!("{faults}\n"));
}

#[test]
fn one_mistake_is_one_fault() {
    let good = "chain: c\nstages:\n- { name: a, image: tiny, run: 'true' }\n";
    for (from, to) in [
        ("chain: c", "chian: c"),
        ("name: a", "nmae: a"),
        ("image: tiny", "image: ti ny"),
        ("image: tiny", "image:"),
        ("run: 'true'", "run: ''"),
        ("run: 'true'", "cmd: [a]"),
        ("run: 'true'", "run: 'true', output: yaml"),
        (
            "run: 'true'",
            "run: 'true', output: { format: jsn, merge: /facts }",
        ),
        ("run: 'true'", "run: 'true', resources: { predict: yes }"),
        (
            "run: 'true'",
            "run: 'true', resources: { memory: { min: 1, max: 2 GiB }, predict: true }",
        ),
        ("stages:", "stages: &x"),
        ("chain: c", "chain: [c]"),
        ("chain: c", "chain: *c"),
    ] {
        assert!(good.contains(from));
        let found = faults(&good.replace(from, to));
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
    }
}

#[test]
fn independent_mistakes_are_all_reported() {
    let found = faults(
        "chain: no spaces please\nwhen: device.\nstages:\n- name: a\n  image: tiny\n  run: 'true'\n  deadline: 5\n  retry: [{ on: explode, attempts: 0 }]\n- name: a\n  kind: magic\n  image: tiny\n  command: [x]\n  script: y.sh\n",
    );
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn mistakes_beside_each_other_do_not_hide_each_other() {
    for (parts, count) in [
        ("run: x, output: { format: jsn, merge: facts, max: 1 }", 3),
        ("command: [a, [b], {}]", 2),
        (
            "run: x, input: { schema: { minLength: 01, type: objekt, enum: &a [1] } }",
            3,
        ),
        (
            "run: x, resources: { vcpus: 0, memory: 1, disk: x, network: y, predict: 5 }",
            5,
        ),
        ("run: x, input: { select: 'a[', schema: 5, format: z }", 3),
    ] {
        let found = faults(&format!(
            "chain: c\nstages:\n- {{ name: a, image: tiny, {parts} }}"
        ));
        assert_eq!(found.len(), count, "{parts}: {found:#?}");
    }
}

#[test]
fn a_flood_of_faults_is_cut() {
    let keys: String = (0..5000).map(|n| format!("key{n}: 1\n")).collect();
    let faults = greenroom::chain::check(&keys, &greenroom::chain::files::FilesInMemory::default())
        .expect_err("faults");
    assert_eq!(faults.faults.len(), 100);
    assert_eq!(faults.left_out, 4902);
    assert!(
        faults
            .render(Colour::Plain)
            .ends_with("5002 faults in the chain (4902 not shown)\n")
    );
}

#[test]
fn a_report_never_carries_terminal_escapes_from_the_file() {
    let source = "chain: \"\u{1b}[31mred\"\n";
    let faults =
        greenroom::chain::check(source, &greenroom::chain::files::FilesInMemory::default())
            .expect_err("faults");
    assert!(!faults.render(Colour::Plain).contains('\u{1b}'));
    let source = "chain: \"\\e[31mred\"\nstages: []\n";
    let faults =
        greenroom::chain::check(source, &greenroom::chain::files::FilesInMemory::default())
            .expect_err("faults");
    assert!(!faults.render(Colour::Plain).contains('\u{1b}'));
    assert!(!faults.to_string().contains('\u{1b}'));
}

#[test]
fn a_very_long_line_is_shown_in_part() {
    let source = format!(
        "{{\"chain\": \"c\", \"description\": \"{}\", \"stages\": 5}}",
        "é ".repeat(1500)
    );
    let faults =
        greenroom::chain::check(&source, &greenroom::chain::files::FilesInMemory::default())
            .expect_err("faults");
    let report = faults.render(Colour::Plain);
    assert!(report.len() < 2000, "{report}");
    assert!(report.contains("\"stages\": 5"), "{report}");
}
