//! The files that a chain may name, and those it may not reach.

use std::os::unix::fs::symlink;

use greenroom::chain::files::{FileRefusal, ScriptFiles, ScriptFolder};

#[test]
fn only_regular_files_beside_the_chain_are_read() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("chains");
    std::fs::create_dir_all(folder.join("scripts")).expect("folders");
    std::fs::write(outer.path().join("secret"), "secret").expect("a file");
    std::fs::write(folder.join("scripts/a.sh"), "true\n").expect("a file");
    std::fs::write(folder.join("large"), vec![b'x'; 256 * 1024 + 1]).expect("a file");
    std::fs::write(folder.join("binary"), b"\xff\xfe").expect("a file");
    symlink("a.sh", folder.join("scripts/inside")).expect("a link");
    symlink("../secret", folder.join("up")).expect("a link");
    symlink("/etc/passwd", folder.join("absolute")).expect("a link");
    symlink("..", folder.join("parent")).expect("a link");
    symlink("loop", folder.join("loop")).expect("a link");
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let files = ScriptFolder::new(&folder);
    assert_eq!(files.text("scripts/a.sh").as_deref(), Ok("true\n"));
    assert_eq!(files.text("scripts/inside").as_deref(), Ok("true\n"));
    for (name, refusal) in [
        ("nowhere", FileRefusal::Missing),
        ("scripts/a.sh/x", FileRefusal::Missing),
        ("scripts", FileRefusal::NotRegular),
        ("pipe", FileRefusal::NotRegular),
        ("large", FileRefusal::TooLarge),
        ("binary", FileRefusal::NotUtf8),
        ("up", FileRefusal::Outside),
        ("absolute", FileRefusal::Outside),
        ("parent/secret", FileRefusal::Outside),
        ("../secret", FileRefusal::Name),
        ("/etc/passwd", FileRefusal::Name),
        ("./scripts/a.sh", FileRefusal::Name),
        ("scripts//a.sh", FileRefusal::Name),
        ("", FileRefusal::Name),
        ("a\0b", FileRefusal::Name),
    ] {
        assert_eq!(files.text(name), Err(refusal), "{name:?}");
    }
    assert!(files.text("loop").is_err());
}

#[test]
fn a_near_name_is_suggested() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("scripts")).expect("a folder");
    std::fs::write(folder.path().join("scripts/facts.sh"), "true").expect("a file");
    let source = "chain: c\nstages: [{ name: a, image: tiny, script: scripts/fact.sh }]";
    let faults = greenroom::chain::check(source, &ScriptFolder::new(folder.path()))
        .expect_err("no such file");
    assert_eq!(
        faults.faults[0].suggestion.as_deref(),
        Some("did you mean `scripts/facts.sh`?")
    );
}
