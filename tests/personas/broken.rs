//! Files with mistakes, and the reports that people see for them.
//!
//! To accept changed reports: `INSTA_UPDATE=always cargo test --test personas`, then read the diff.

use std::fmt::Write as _;
use std::path::PathBuf;

use greenroom::chain::faults::Colour;
use greenroom::personas::compile::{Known, Means, Outcome, Source, compile};
use greenroom::personas::nft::{Nft, Verdict};

const FOLDER: &str = "tests/personas/broken";

fn broken_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(FOLDER)
        .expect("the folder of broken personas")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

fn parents() -> Known {
    let text = |name: &str| {
        std::fs::read_to_string(format!("{FOLDER}/parents/{name}.yaml")).expect("a parent")
    };
    crate::library(&[&text("base"), &text("middle")])
}

fn outcome(path: &std::path::Path, means: &Means) -> Outcome {
    let source = Source {
        file: path.display().to_string(),
        text: std::fs::read_to_string(path).expect("a readable file"),
    };
    compile(&[source], &parents(), means, &|_| 1).remove(0)
}

fn is_about_nft(path: &std::path::Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "nft")
}

fn report(outcome: &Outcome) -> String {
    let mut report = match &outcome.compiled {
        Ok(_) => "no faults\n".to_owned(),
        Err(faults) => faults.render(Colour::Plain),
    };
    for warning in &outcome.warnings {
        let _ = write!(
            report,
            "\nwarning: {}:{} {}: {}",
            warning.line, warning.column, warning.path, warning.message
        );
        if let Some(suggestion) = &warning.suggestion {
            let _ = write!(report, " ({suggestion})");
        }
    }
    report
}

fn compare(path: &std::path::Path, means: &Means) {
    let outcome = outcome(path, means);
    assert!(
        outcome.compiled.is_err(),
        "{} is not broken",
        path.display()
    );
    let name = path
        .file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "broken" }, {
        insta::assert_snapshot!(name, report(&outcome));
    });
}

#[test]
fn reports_are_as_reviewed() {
    let files = broken_files();
    assert!(files.len() >= 25);
    for path in files.iter().filter(|path| !is_about_nft(path)) {
        compare(path, &crate::means());
    }
}

#[test]
fn nft_judges_rules_that_were_written_by_hand() {
    let means = Means {
        nft: Nft::of_system(),
        ..crate::means()
    };
    match means.nft.check("table inet t {\n}\n") {
        Verdict::Good => {}
        other => {
            eprintln!("SKIPPED: nft cannot be asked here: {other:?}");
            return;
        }
    }
    compare(&PathBuf::from(FOLDER).join("nft.yaml"), &means);
    let rules = "table inet f {\n chain c {\n  tcp dport { 80, 443 } accept\n }\n}\n";
    assert_eq!(means.nft.check(rules), Verdict::Good);
}

#[test]
fn without_nft_hand_written_rules_pass_with_a_warning() {
    let outcome = outcome(&PathBuf::from(FOLDER).join("nft.yaml"), &crate::means());
    assert!(outcome.compiled.is_ok());
    assert!(
        outcome.warnings[0].message.contains("nft is not installed"),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn every_fault_points_into_its_file() {
    for path in broken_files().iter().filter(|path| !is_about_nft(path)) {
        let source = std::fs::read_to_string(path).expect("text");
        let outcome = outcome(path, &crate::means());
        let faults = outcome.compiled.expect_err("a broken persona");
        let lines = source.lines().count();
        for fault in faults.faults.iter().chain(&outcome.warnings) {
            assert!(
                fault.line >= 1 && fault.line <= lines.max(1),
                "{}: {fault:?}",
                path.display()
            );
            assert!(fault.column >= 1, "{fault:?}");
            assert!(source.get(fault.bytes.clone()).is_some(), "{fault:?}");
            assert!(!fault.message.ends_with('.'), "{fault:?}");
        }
    }
}

#[test]
fn one_mistake_is_one_fault() {
    let good = std::fs::read_to_string(format!("{FOLDER}/parents/base.yaml")).expect("a persona");
    crate::persona(&good);
    for (from, to) in [
        ("persona: base", "persnoa: base"),
        ("variant: debian-12", "variant: debian-11"),
        ("timezone: Europe/Berlin", "timezone: Europe/Berlyn"),
        ("name: nginx-light", "name: nginx-heavy"),
        ("\">= 1.20\"", "\">= 3\""),
        ("port: 80", "port: eighty"),
        ("10.0.0.0/8", "10.0.0.0/33"),
        ("10.0.0.5/24", "10.0.0.5"),
        ("gateway: 10.0.0.1", "gateway: 10.1.0.1"),
        ("name: anna", "name: Anna"),
        ("ssh-ed25519 AAAA", "ssh-ed25519 AAA"),
        ("memory: 1 GiB", "memory: 1"),
        ("memory: 1 GiB", "memory: 1 MiB"),
        ("disk: 16 GiB", "disk: 10 MiB"),
        ("profile: standard", "profile:"),
        ("resources:", "resources: &x"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = crate::faults(&good.replace(from, to));
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
    }
}

#[test]
fn limits_of_files_are_those_of_chains() {
    let deep = format!("persona: x\nlabels: {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(crate::faults(&deep)[0].contains("nested deeper"));
    let long = format!("persona: x\ndescription: {}\n", "a".repeat(1 << 20));
    assert!(crate::faults(&long)[0].contains("the file has"));
    let flood: String = (0..5000).map(|n| format!("key{n}: 1\n")).collect();
    assert_eq!(crate::faults(&format!("persona: x\n{flood}")).len(), 100);
}
