//! Disks: making, attaching, and what travels on them.

use std::time::Duration;

use greenroom::hypervisor::guest::Job;
use greenroom::hypervisor::{AttachedDisk, DiskOrder, HvError};

use crate::fixture::{Fixture, done, follow, script};

fn on_disk(text: &str) -> Job {
    Job {
        disk_serial: Some("handoff".into()),
        ..script(text)
    }
}

pub async fn making_a_disk_twice_makes_it_once(f: &Fixture) {
    let (base, n) = (f.base_disk.clone(), f.next());
    let path = |kind: &str| f.disks.join(format!("{kind}-{n}"));
    let orders = [
        DiskOrder::Overlay {
            path: path("overlay"),
            base: base.clone(),
            size_mib: 300,
        },
        DiskOrder::Copy {
            path: path("copy"),
            base,
            size_mib: 300,
        },
        DiskOrder::Raw {
            path: path("raw"),
            size_mib: 4,
        },
        DiskOrder::Duplicate {
            path: path("duplicate"),
            from: path("raw"),
        },
    ];
    for order in &orders {
        f.hypervisor.make_disk(order).await.unwrap();
        f.hypervisor.make_disk(order).await.unwrap();
        assert!(
            f.hypervisor
                .disks()
                .await
                .unwrap()
                .contains(&order.path().to_owned()),
            "{order:?}"
        );
    }
    for order in &orders {
        f.hypervisor.remove_disk(order.path()).await.unwrap();
        f.hypervisor.remove_disk(order.path()).await.unwrap();
        assert!(
            !f.hypervisor
                .disks()
                .await
                .unwrap()
                .contains(&order.path().to_owned()),
            "{order:?}"
        );
    }
    let from_nothing = DiskOrder::Duplicate {
        path: path("duplicate"),
        from: path("raw"),
    };
    assert!(f.hypervisor.make_disk(&from_nothing).await.is_err());
    assert!(
        !f.hypervisor
            .disks()
            .await
            .unwrap()
            .contains(&path("duplicate"))
    );
}

pub async fn a_disk_is_found_by_its_serial(f: &Fixture) {
    let guest = f.shared().await;
    let first = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "first-1".into(),
    };
    let second = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "second-2".into(),
    };
    for disk in [&first, &second, &first] {
        f.hypervisor.attach_disk(guest.machine, disk).await.unwrap();
    }
    let seen = f.hypervisor.machine(guest.machine).await.unwrap().unwrap();
    assert_eq!(seen.attached.len(), 2, "{:?}", seen.attached);
    for disk in [&first, &second] {
        let text = format!("printf {}. > \"$GREENROOM_HANDOFF_DISK\"\n", disk.serial);
        let job = Job {
            disk_serial: Some(disk.serial.clone()),
            ..script(&text)
        };
        let done = done(&guest, &job).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    for disk in [&first, &second] {
        let text = "[ -b \"$GREENROOM_HANDOFF_DISK\" ] && head -c 8 \"$GREENROOM_HANDOFF_DISK\"";
        let job = Job {
            disk_serial: Some(disk.serial.clone()),
            ..script(text)
        };
        let done = done(&guest, &job).await;
        assert_eq!(
            (done.code, &done.out[..7]),
            (0, &format!("{}.", disk.serial)[..7]),
            "{done:?}"
        );
        f.hypervisor.detach_disk(guest.machine, disk).await.unwrap();
        f.hypervisor.detach_disk(guest.machine, disk).await.unwrap();
    }
}

pub async fn a_disk_belongs_to_one_machine_at_a_time(f: &Fixture) {
    let (shared, other) = (f.shared().await, f.fresh().await);
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    f.hypervisor
        .attach_disk(shared.machine, &disk)
        .await
        .unwrap();
    assert!(matches!(
        f.hypervisor.attach_disk(other.machine, &disk).await,
        Err(HvError::Refused(_))
    ));
    // It is not the other's to detach either: a success that changes nothing.
    f.hypervisor
        .detach_disk(other.machine, &disk)
        .await
        .unwrap();
    let seen = f.hypervisor.machine(shared.machine).await.unwrap().unwrap();
    assert_eq!(seen.attached, std::slice::from_ref(&disk.path));

    f.hypervisor
        .detach_disk(shared.machine, &disk)
        .await
        .unwrap();
    f.hypervisor
        .attach_disk(other.machine, &disk)
        .await
        .unwrap();
    // A machine that goes lets go.
    f.hypervisor.destroy_machine(other.machine).await.unwrap();
    f.hypervisor
        .attach_disk(shared.machine, &disk)
        .await
        .unwrap();
    f.hypervisor
        .detach_disk(shared.machine, &disk)
        .await
        .unwrap();
    let absent = AttachedDisk {
        path: f.disks.join("absent"),
        serial: "absent".into(),
    };
    assert!(
        f.hypervisor
            .attach_disk(shared.machine, &absent)
            .await
            .is_err()
    );
    f.hypervisor
        .detach_disk(shared.machine, &absent)
        .await
        .unwrap();
}

pub async fn contents_travel_from_machine_to_machine(f: &Fixture) {
    let (writer, reader) = (f.fresh().await, f.shared().await);
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    f.hypervisor
        .attach_disk(writer.machine, &disk)
        .await
        .unwrap();
    let wrote = done(
        &writer,
        &on_disk("printf %s carried > \"$GREENROOM_HANDOFF_DISK\""),
    )
    .await;
    assert_eq!(wrote.code, 0, "{wrote:?}");
    // Kept as it is now, as before a try that may fail.
    let kept = f.disks.join(format!("kept-{}", f.next()));
    let keep = DiskOrder::Duplicate {
        path: kept.clone(),
        from: disk.path.clone(),
    };
    f.hypervisor.make_disk(&keep).await.unwrap();
    let again = done(
        &writer,
        &on_disk("printf %s changed > \"$GREENROOM_HANDOFF_DISK\""),
    )
    .await;
    assert_eq!(again.code, 0, "{again:?}");
    f.hypervisor.destroy_machine(writer.machine).await.unwrap();

    let look = "head -c 7 \"$GREENROOM_HANDOFF_DISK\"";
    for (path, expected) in [(&disk.path, "changed"), (&kept, "carried")] {
        let disk = AttachedDisk {
            path: path.clone(),
            serial: "handoff".into(),
        };
        f.hypervisor
            .attach_disk(reader.machine, &disk)
            .await
            .unwrap();
        assert_eq!(done(&reader, &on_disk(look)).await.out, expected);
        f.hypervisor
            .detach_disk(reader.machine, &disk)
            .await
            .unwrap();
    }
    // A duplicate replaces what is there.
    let back = DiskOrder::Duplicate {
        path: disk.path.clone(),
        from: kept,
    };
    f.hypervisor.make_disk(&back).await.unwrap();
    f.hypervisor
        .attach_disk(reader.machine, &disk)
        .await
        .unwrap();
    assert_eq!(done(&reader, &on_disk(look)).await.out, "carried");
    f.hypervisor
        .detach_disk(reader.machine, &disk)
        .await
        .unwrap();
}

pub async fn a_disk_may_come_after_the_job_started(f: &Fixture) {
    let guest = f.shared().await;
    let disk = AttachedDisk {
        path: f.raw_disk(1).await,
        serial: "handoff".into(),
    };
    let job = on_disk("[ -b \"$GREENROOM_HANDOFF_DISK\" ] && echo there");
    guest.start_job(&job).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    f.hypervisor
        .attach_disk(guest.machine, &disk)
        .await
        .unwrap();
    let done = follow(&guest, job.attempt).await.unwrap();
    assert_eq!((done.code, done.out.as_str()), (0, "there\n"), "{done:?}");
    f.hypervisor
        .detach_disk(guest.machine, &disk)
        .await
        .unwrap();
}

pub async fn a_disk_that_never_comes_fails_the_job(f: &Fixture) {
    let guest = f.shared().await;
    let done = done(&guest, &on_disk("echo not reached")).await;
    assert_eq!((done.code, done.out.as_str()), (125, ""));
    assert!(
        done.err.contains("serial handoff did not appear"),
        "{done:?}"
    );
}
