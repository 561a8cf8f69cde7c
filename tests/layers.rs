//! The import rules of `src/lib.rs`, and a few habits that no compiler checks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Top modules and what each may import, with the reason.
const MAY_IMPORT: &[(&str, &[&str], &str)] = &[
    ("vocab", &[], "nouns are pure and know nobody"),
    (
        "bin",
        &[],
        "the device's agent is a program of its own: it shares netboot/wire.rs and nothing else",
    ),
    ("blocking", &[], "one helper for blocking work"),
    ("clock", &["vocab"], "the time is an argument"),
    (
        "chain",
        &["vocab", "blocking"],
        "the language is pure but for jq's child and reading script files",
    ),
    (
        "access",
        &["vocab"],
        "who is let in, and to what: values in, a verdict out",
    ),
    (
        "store",
        &["vocab", "chain", "blocking", "access", "learn"],
        "rows of nouns, of applied chains, and of the audit log's chain",
    ),
    (
        "hypervisor",
        &["vocab", "blocking"],
        "what is asked of a host, in our words",
    ),
    (
        "images",
        &["vocab", "blocking"],
        "built without database and host",
    ),
    (
        "capacity",
        &["vocab"],
        "room of the host, for runs and pool alike",
    ),
    (
        "learn",
        &["vocab", "blocking"],
        "pure: numbers in, numbers out; others bring observations and keep models",
    ),
    ("fault", &[], "points at which a test may end the daemon"),
    (
        "engines",
        &["vocab", "hypervisor"],
        "ways of obtaining a VM on a host",
    ),
    (
        "pool",
        &[
            "vocab",
            "store",
            "hypervisor",
            "images",
            "engines",
            "capacity",
            "fault",
            "clock",
            "blocking",
        ],
        "shells made ahead of need, for whoever asks",
    ),
    (
        "power",
        &["vocab", "store", "clock", "blocking"],
        "conversations with BMCs; knows the network boot by its rows only",
    ),
    (
        "demand",
        &["vocab", "store", "learn", "pool", "clock", "blocking"],
        "counts who asks the pool, forecasts it, and tells the pool how many are to wait",
    ),
    (
        "foresight",
        &["vocab", "learn", "store", "hypervisor", "clock", "blocking"],
        "what is learned, at work: watches machines, keeps and trains models; asked by runs and web",
    ),
    (
        "personas",
        &["vocab", "chain", "store", "images", "clock", "blocking"],
        "what a device is to become; asked by runs and web",
    ),
    (
        "runs",
        &[
            "foresight",
            "learn",
            "personas",
            "pool",
            "capacity",
            "fault",
            "vocab",
            "chain",
            "store",
            "hypervisor",
            "images",
            "engines",
            "clock",
            "blocking",
        ],
        "the heart",
    ),
    (
        "netboot",
        &[
            "vocab", "access", "chain", "store", "runs", "images", "capacity", "clock", "blocking",
        ],
        "devices on the network; starts runs, and delivers what they made",
    ),
    (
        "reconcile",
        &["vocab", "store", "hypervisor", "runs", "pool"],
        "compares rows and host; changes runs only through their dispatcher",
    ),
    (
        "outbound",
        &["vocab", "access", "store", "clock", "runs", "blocking"],
        "tells others what was written; hears from the runs that there is something",
    ),
    (
        "config",
        &["vocab", "runs", "capacity", "pool", "hypervisor", "netboot"],
        "settings of the parts",
    ),
    (
        "api",
        &["vocab"],
        "wire types and their client; used by web and cli, by nobody deeper",
    ),
    (
        "web",
        &[
            "access",
            "demand",
            "foresight",
            "learn",
            "outbound",
            "vocab",
            "chain",
            "personas",
            "store",
            "hypervisor",
            "images",
            "pool",
            "capacity",
            "fault",
            "runs",
            "reconcile",
            "power",
            "netboot",
            "api",
            "clock",
            "blocking",
        ],
        "routes over the parts",
    ),
    (
        "pages",
        &[
            "access", "api", "chain", "personas", "runs", "store", "vocab", "web",
        ],
        "what people look at: asks the functions behind the routes, and draws",
    ),
    (
        "cli",
        &[
            "vocab",
            "learn",
            "demand",
            "chain",
            "personas",
            "images",
            "api",
            "config",
            "daemon",
            "hypervisor",
            "netboot",
            "store",
            "clock",
            "blocking",
        ],
        "speaks through the client like everyone else",
    ),
    (
        "daemon",
        &[
            "access",
            "demand",
            "foresight",
            "outbound",
            "vocab",
            "chain",
            "store",
            "hypervisor",
            "images",
            "pool",
            "capacity",
            "fault",
            "power",
            "runs",
            "reconcile",
            "netboot",
            "config",
            "pages",
            "web",
            "clock",
            "blocking",
        ],
        "the only place that knows every part",
    ),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            (
                path.strip_prefix(&root).expect("below src").to_owned(),
                text,
            )
        })
        .collect()
}

fn top_module(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .expect("a path")
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Top modules that a text names as `crate::…`, comments left out. Groups such as `crate::{a, b}` too.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        let mut rest = line;
        while let Some(at) = rest.find("crate::") {
            rest = &rest[at + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let group = group.split('}').next().unwrap_or("");
                found.extend(
                    group
                        .split(',')
                        .map(|item| item.trim().split("::").next().unwrap_or("").to_owned()),
                );
            } else {
                found.push(
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn imports_point_one_way() {
    let rules: BTreeMap<&str, (&[&str], &str)> = MAY_IMPORT
        .iter()
        .map(|(module, may, why)| (*module, (*may, *why)))
        .collect();
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let module = top_module(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let Some((may, why)) = rules.get(module.as_str()) else {
            broken.push(format!(
                "{}: module {module} has no rule in tests/layers.rs",
                path.display()
            ));
            continue;
        };
        for import in imports(&text) {
            if import != module
                && rules.contains_key(import.as_str())
                && !may.contains(&import.as_str())
            {
                broken.push(format!(
                    "{}: {module} may not import {import} ({module}: {why})",
                    path.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a header: {}", silent.join(", "));
}

#[test]
fn time_and_blocking_have_one_home() {
    let rules: &[(&str, &[&str], &str)] = &[
        (
            "SystemTime::now",
            &["hypervisor/libvirt/consoles.rs"],
            "take the time from a Clock (files' ages are in the file system's time)",
        ),
        (
            "jiff::Timestamp::now",
            &["clock.rs"],
            "take the time from a Clock",
        ),
        (
            "spawn_blocking",
            &["blocking.rs", "hypervisor/libvirt/"],
            "use blocking::run, which keeps the tracing span",
        ),
        ("todo!(", &[], "nothing is called done that is not"),
        ("unimplemented!(", &[], "nothing is called done that is not"),
    ];
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let shown = path.display().to_string();
        for (needle, homes, why) in rules {
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            if !homes.iter().any(|home| shown.starts_with(home))
                && code.into_iter().any(|line| line.contains(needle))
            {
                broken.push(format!("{shown}: {needle}: {why}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
