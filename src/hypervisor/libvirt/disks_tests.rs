//! Disks are real files here; `qemu-img` is needed.

use super::*;

struct Yard {
    _root: tempfile::TempDir,
    disks: Disks,
}

impl Yard {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let folders = Folders {
            disks: at("disks"),
            templates: at("templates"),
            consoles: at("consoles"),
            scratch: at("scratch"),
            images: vec![at("images")],
        };
        Self {
            disks: Disks::new(folders, PathBuf::from("qemu-img")),
            _root: root,
        }
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.disks.folders.disks.join(name)
    }

    /// A qcow2 base image of 4 MiB.
    async fn base(&self) -> PathBuf {
        let path = self.disks.folders.images[0].join("base.qcow2");
        let argv = ["create", "-q", "-f", "qcow2"].map(OsStr::new).into_iter();
        run(
            Path::new("qemu-img"),
            argv.chain([path.as_os_str(), OsStr::new("4M")]),
            &path,
            CREATE_PATIENCE,
        )
        .await
        .unwrap();
        path
    }
}

#[tokio::test]
async fn an_overlay_is_at_least_as_large_as_its_base() {
    let yard = Yard::new();
    let base = yard.base().await;
    for (name, size_mib, bytes) in [("1/small.qcow2", 1, 4 << 20), ("large.qcow2", 64, 64 << 20)] {
        let order = DiskOrder::Overlay {
            path: yard.disk(name),
            base: base.clone(),
            size_mib,
        };
        yard.disks.make(&order).await.unwrap();
        yard.disks.make(&order).await.unwrap();
        assert_eq!(qcow2_size(&yard.disk(name)).unwrap(), bytes);
    }
    assert_eq!(
        yard.disks.list().await.unwrap(),
        [yard.disk("1/small.qcow2"), yard.disk("large.qcow2")]
    );
}

#[tokio::test]
async fn a_copy_does_not_need_its_base_any_more() {
    let yard = Yard::new();
    let base = yard.base().await;
    yard.disks
        .make(&DiskOrder::Copy {
            path: yard.disk("c.qcow2"),
            base: base.clone(),
            size_mib: 8,
        })
        .await
        .unwrap();
    std::fs::remove_file(base).unwrap();
    assert_eq!(qcow2_size(&yard.disk("c.qcow2")).unwrap(), 8 << 20);
    // A header without a backing file has zero at byte 8.
    let header = std::fs::read(yard.disk("c.qcow2")).unwrap();
    assert_eq!(header[8..16], [0; 8]);
}

#[tokio::test]
async fn a_raw_disk_is_sparse_and_of_exactly_its_size() {
    let yard = Yard::new();
    let path = yard.disk("h.raw");
    let order = DiskOrder::Raw {
        path: path.clone(),
        size_mib: 64,
    };
    // What a killed try left is replaced.
    std::fs::write(part_of(&path), b"half").unwrap();
    yard.disks.make(&order).await.unwrap();
    yard.disks.make(&order).await.unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.len(), found.mode() & 0o777), (64 << 20, 0o600));
    assert!(found.blocks() < 64, "{} blocks", found.blocks());
    assert!(!part_of(&path).exists());
    let other_size = DiskOrder::Raw { path, size_mib: 32 };
    assert!(matches!(
        yard.disks.make(&other_size).await,
        Err(HvError::Refused(_))
    ));
}

#[tokio::test]
async fn a_duplicate_replaces_what_was_there() {
    let yard = Yard::new();
    let (from, to) = (yard.disk("a.raw"), yard.disk("b.raw"));
    yard.disks
        .make(&DiskOrder::Raw {
            path: from.clone(),
            size_mib: 2,
        })
        .await
        .unwrap();
    std::fs::write(&to, b"old").unwrap();
    let order = DiskOrder::Duplicate {
        path: to.clone(),
        from: from.clone(),
    };
    yard.disks.make(&order).await.unwrap();
    assert_eq!(std::fs::metadata(&to).unwrap().len(), 2 << 20);
    std::fs::remove_file(from).unwrap();
    assert!(yard.disks.make(&order).await.is_err());
    assert_eq!(
        std::fs::metadata(&to).unwrap().len(),
        2 << 20,
        "a failed try leaves the old one"
    );
}

#[tokio::test]
async fn removing_is_content_with_nothing() {
    let yard = Yard::new();
    let path = yard.disk("x.raw");
    yard.disks
        .make(&DiskOrder::Raw {
            path: path.clone(),
            size_mib: 1,
        })
        .await
        .unwrap();
    yard.disks.remove(&path).await.unwrap();
    yard.disks.remove(&path).await.unwrap();
    assert_eq!(yard.disks.list().await.unwrap(), Vec::<PathBuf>::new());
    assert!(matches!(
        yard.disks.remove(Path::new("/etc/hostname")).await,
        Err(HvError::Refused(_))
    ));
}

#[tokio::test]
async fn what_is_being_made_is_not_listed() {
    let yard = Yard::new();
    let path = yard.disk("x.qcow2");
    std::fs::write(part_of(&path), b"half").unwrap();
    let turn = yard.disks.turns.take(&path).await;
    assert_eq!(yard.disks.list().await.unwrap(), Vec::<PathBuf>::new());
    drop(turn);
    assert_eq!(
        yard.disks.list().await.unwrap(),
        [part_of(&path)],
        "a leftover of an earlier life is"
    );
}

#[tokio::test]
async fn bases_and_sources_must_be_ours_too() {
    let yard = Yard::new();
    let overlay = DiskOrder::Overlay {
        path: yard.disk("o"),
        base: PathBuf::from("/etc/hostname"),
        size_mib: 1,
    };
    assert!(matches!(
        yard.disks.make(&overlay).await,
        Err(HvError::Refused(_))
    ));
    let duplicate = DiskOrder::Duplicate {
        path: yard.disk("d"),
        from: PathBuf::from("/etc/hostname"),
    };
    assert!(matches!(
        yard.disks.make(&duplicate).await,
        Err(HvError::Refused(_))
    ));
    let not_qcow2 = yard.disks.folders.images[0].join("raw");
    std::fs::write(&not_qcow2, [0; 512]).unwrap();
    let error = yard
        .disks
        .make(&DiskOrder::Overlay {
            path: yard.disk("o"),
            base: not_qcow2,
            size_mib: 1,
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a qcow2 image"), "{error}");
}
