//! A template's files without a machine: what is sealed, what is refused, and by which name.

use super::*;

struct Yard {
    root: tempfile::TempDir,
    files: TemplateFiles,
}

impl Yard {
    /// With all four files, as after a capture.
    fn captured() -> Self {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("kernel");
        fs::write(&kernel, vec![7; 300 << 10]).unwrap();
        let files = TemplateFiles {
            folder: root.path().join("t/1"),
        };
        let yard = Self { root, files };
        prepare(&yard.files, 1, &kernel, None).unwrap();
        prepare_state(&yard.files, None).unwrap();
        fs::write(yard.files.state(), b"state").unwrap();
        fs::write(yard.files.disk(), b"disk").unwrap();
        yard
    }

    fn sealed() -> Self {
        let yard = Self::captured();
        seal(&yard.files).unwrap();
        yard
    }
}

#[test]
fn sealing_makes_everything_read_only_and_may_be_repeated() {
    let yard = Yard::captured();
    assert!(matches!(
        inspect(&yard.files, Look::Quick),
        Err(HvError::Refused(_))
    ));
    let seal_once = seal(&yard.files).unwrap();
    assert_eq!(seal(&yard.files).unwrap(), seal_once);
    assert_eq!(inspect(&yard.files, Look::Thorough).unwrap(), seal_once);
    let quick = inspect(&yard.files, Look::Quick).unwrap();
    assert_eq!(quick.disk.stamp, seal_once.disk.stamp);
    assert_eq!(
        (quick.disk.digest, seal_once.disk.digest),
        (None, Some(Digest::of(b"disk")))
    );
    for path in [yard.files.memory(), yard.files.state(), yard.files.disk()] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o444
        );
    }
    check_forkable(&yard.files, 1).unwrap();
}

#[test]
fn a_sealed_template_is_never_made_again_in_place() {
    let yard = Yard::sealed();
    let kernel = yard.root.path().join("kernel");
    assert!(matches!(
        prepare(&yard.files, 1, &kernel, None),
        Err(HvError::Refused(_))
    ));
    assert!(matches!(
        prepare_state(&yard.files, None),
        Err(HvError::Refused(_))
    ));
}

#[test]
fn what_is_wrong_is_named() {
    let refused = |spoil: &dyn Fn(&TemplateFiles)| {
        let yard = Yard::sealed();
        spoil(&yard.files);
        match check_forkable(&yard.files, 1) {
            Err(HvError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        refused(&|files| fs::remove_file(files.state()).unwrap()).contains("t/1/state is missing")
    );
    assert!(
        refused(&|files| fs::remove_file(files.disk()).unwrap())
            .contains("t/1/disk.qcow2 is missing")
    );
    let head = |files: &TemplateFiles| kernel_head(&files.folder);
    assert!(
        refused(&|files| fs::remove_file(head(files)).unwrap()).contains("kernel-head is missing")
    );
    let loosened = refused(&|files| {
        fs::set_permissions(files.memory(), Permissions::from_mode(0o644)).unwrap();
    });
    assert!(
        loosened.contains("t/1/memory is not a read-only file"),
        "{loosened}"
    );
    let replaced = |path: PathBuf, bytes: &[u8]| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(SEALED)).unwrap();
    };
    assert!(
        refused(&|files| replaced(files.memory(), b"short")).contains("t/1/memory has 5 bytes")
    );
    assert!(refused(&|files| replaced(files.state(), b"")).contains("t/1/state is empty"));
}

#[test]
fn another_file_has_another_stamp() {
    let yard = Yard::sealed();
    let before = inspect(&yard.files, Look::Quick).unwrap();
    let path = yard.files.disk();
    let moved = path.with_extension("old");
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, b"DISK").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(SEALED)).unwrap();
    let after = inspect(&yard.files, Look::Quick).unwrap();
    assert_ne!(after.disk.stamp, before.disk.stamp);
    assert_eq!(after.memory.stamp, before.memory.stamp);
}

#[test]
fn folders_are_listed_and_removed() {
    let yard = Yard::sealed();
    let folders = Folders {
        disks: PathBuf::from("/nowhere"),
        templates: yard.root.path().join("t"),
        consoles: PathBuf::from("/nowhere"),
        scratch: PathBuf::from("/nowhere"),
        images: Vec::new(),
    };
    assert_eq!(
        list(&folders).unwrap(),
        std::slice::from_ref(&yard.files.folder)
    );
    remove_all(&yard.files).unwrap();
    remove_all(&yard.files).unwrap();
    assert!(list(&folders).unwrap().is_empty());
}

#[test]
fn the_head_of_a_kernel_is_what_its_header_says() {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, head) = (folder.path().join("kernel"), folder.path().join("head"));
    let mut bytes = vec![0; 1 << 20];
    bytes[0x1f1] = 39;
    fs::write(&kernel, &bytes).unwrap();
    write_head(&kernel, &head).unwrap();
    assert_eq!(fs::metadata(&head).unwrap().len(), 40 * 512 + 4096);
}
