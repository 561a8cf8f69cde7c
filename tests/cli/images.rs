//! `image build` with recipes that cost nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::greenroom;

const RECIPE: &str = "\
description: Nothing that boots
os: none
arch: x86_64
root: initramfs
cmdline: quiet
min_memory_mib: 64
disk_mib: 64
agent: qemu-guest-agent
";

/// A recipe whose build is this script.
pub fn recipe(folder: &Path, name: &str, build: &str) {
    let own = folder.join("recipes").join(name);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("recipe.yaml"), format!("name: {name}\n{RECIPE}")).unwrap();
    for (file, text) in [("build", build), ("inputs", "echo 1")] {
        let path = own.join(file);
        std::fs::write(&path, format!("#!/bin/sh\nset -e\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

pub const GOOD: &str = "echo making parts
echo kernel > \"$OUT/kernel\"
echo initrd > \"$OUT/initrd\"
echo disk > \"$OUT/disk.qcow2\"";

#[test]
fn an_image_is_built_once_unless_forced_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "fake", GOOD);
    let build = |more: &[&str]| {
        let mut arguments = vec!["image", "build", "fake", "-o", "json"];
        arguments.extend(more);
        let said = greenroom(folder.path(), &arguments).exits(0);
        (said.json()[0].clone(), said.err)
    };
    let (first, err) = build(&[]);
    assert_eq!(first["built"], true);
    assert_eq!(err, "fake: making parts\n");
    let (second, err) = build(&[]);
    assert_eq!(second["built"], false);
    assert_eq!(err, "");
    assert_eq!(build(&["--force"]).0["built"], true);
    recipe(
        folder.path(),
        "fake",
        &format!("{GOOD}\necho more >> \"$OUT/kernel\""),
    );
    let (changed, _) = build(&[]);
    assert_eq!(changed["built"], true);
    assert_ne!(changed["digest"], first["digest"]);
    let listed = greenroom(folder.path(), &["image", "list"]).exits(0);
    assert!(listed.out.contains("fake"), "{}", listed.out);
}

#[test]
fn a_script_that_fails_is_quoted_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    recipe(
        folder.path(),
        "bad",
        "echo 'the mirror is \x1b[31maway' >&2\nexit 7",
    );
    let said = greenroom(folder.path(), &["image", "build", "bad"]).exits(1);
    assert!(said.err.contains("the mirror is"), "{}", said.err);
    assert!(said.err.contains("build.log"), "{}", said.err);
    assert!(!said.err.contains('\x1b'), "{:?}", said.err);
    assert!(said.out.is_empty());
    let own = folder.path().join("state/images/bad");
    let left: Vec<String> = std::fs::read_dir(own)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".building"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let listed = greenroom(folder.path(), &["image", "list"]).exits(0);
    assert!(listed.out.contains("no images"), "{}", listed.out);
}

#[test]
fn unknown_recipes_and_folders_are_told_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let said = greenroom(folder.path(), &["image", "build", "--all"]).exits(3);
    assert!(said.err.contains("--recipes"), "{}", said.err);
    recipe(folder.path(), "fake", GOOD);
    let said = greenroom(folder.path(), &["image", "build", "fkae"]).exits(3);
    assert!(said.err.contains("there are: fake"), "{}", said.err);
}
