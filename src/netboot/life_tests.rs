//! The way of a device, and the ways off it.

use proptest::prelude::*;

use super::*;
use crate::vocab::DeviceId;

const SILENCE: Duration = Duration::from_secs(60);

fn device() -> BootDevice {
    BootDevice {
        boot_id: "a".into(),
        ..BootDevice::registered(
            DeviceId::fresh(),
            "box".into(),
            Trust::Network,
            Timestamp(0),
        )
    }
}

fn manifest() -> Digest {
    Digest::of(b"manifest")
}

fn after(device: &mut BootDevice, happenings: &[Happening]) {
    for (index, happening) in happenings.iter().enumerate() {
        step(device, happening, Timestamp(index as i64), SILENCE);
    }
}

fn until_installing() -> BootDevice {
    let mut device = device();
    after(
        &mut device,
        &[
            Happening::Inventory { disk: "vda".into() },
            Happening::RunStarted { run: RunId(7) },
            Happening::ImageReady {
                manifest: manifest(),
                awaited: None,
            },
        ],
    );
    assert_eq!(device.phase, BootPhase::Installing { run: RunId(7) });
    device
}

fn installed(digest: String) -> Happening {
    Happening::Told(Doing::Installed { run: 7, digest })
}

#[test]
fn the_whole_way() {
    let mut device = until_installing();
    let ordered = order(&device, &Doing::Idle);
    assert!(matches!(ordered, Order::Install { run: 7, disk, .. } if disk == "vda"));
    after(&mut device, &[installed(manifest().to_string())]);
    assert_eq!(device.phase.word(), "delivered");
    assert_eq!(order(&device, &Doing::Idle), Order::Reboot);
    after(&mut device, &[Happening::ToOwnDisk, Happening::Reported]);
    assert_eq!(device.phase.word(), "reporting");
}

#[test]
fn an_image_that_is_not_the_one_sent_is_never_delivered() {
    let mut device = until_installing();
    after(&mut device, &[installed(Digest::of(b"other").to_string())]);
    assert_eq!(device.phase.word(), "held");
    let mut device = until_installing();
    let other_run = Happening::Told(Doing::Installed {
        run: 8,
        digest: manifest().to_string(),
    });
    after(&mut device, &[other_run]);
    assert_eq!(device.phase.word(), "installing");
}

#[test]
fn who_is_not_approved_gets_no_order_but_to_wait() {
    let mut device = device();
    device.trust = Trust::Discovery;
    after(&mut device, &[Happening::Inventory { disk: "vda".into() }]);
    assert!(matches!(order(&device, &Doing::Idle), Order::Wait { why } if why.contains("approve")));
}

#[test]
fn a_replayed_token_stops_everything() {
    let mut device = until_installing();
    let told = step(
        &mut device,
        &Happening::TokenReplayed {
            from: "192.0.2.9".into(),
        },
        Timestamp(9),
        SILENCE,
    );
    assert_eq!(told.unwrap().kind, "token_replayed");
    assert_eq!(device.phase.word(), "held");
    assert!(matches!(order(&device, &Doing::Idle), Order::Wait { .. }));
}

#[test]
fn power_lost_while_writing_begins_anew_and_not_for_ever() {
    let mut device = until_installing();
    after(
        &mut device,
        &[Happening::Registered {
            boot_id: "b".into(),
        }],
    );
    assert_eq!(device.phase.word(), "installing");
    device.tries = MOST_TRIES;
    after(&mut device, &[Happening::Overdue]);
    assert_eq!(device.phase.word(), "held");
}

#[test]
fn a_run_that_is_mended_takes_its_device_along() {
    let mut device = device();
    after(
        &mut device,
        &[
            Happening::Inventory { disk: "vda".into() },
            Happening::RunStarted { run: RunId(7) },
            Happening::RunEnded { why: "no".into() },
        ],
    );
    assert_eq!(device.phase.word(), "held");
    after(&mut device, &[Happening::RunGoesOn { run: RunId(8) }]);
    assert_eq!(device.phase.word(), "held");
    after(&mut device, &[Happening::RunGoesOn { run: RunId(7) }]);
    assert_eq!(device.phase.word(), "provisioning");
}

#[test]
fn that_there_is_no_chain_is_told_once_and_looked_for_again() {
    let mut device = device();
    after(&mut device, &[Happening::Inventory { disk: "vda".into() }]);
    let none = Happening::NoRun {
        why: "no trigger holds".into(),
    };
    assert!(step(&mut device, &none, Timestamp(1), SILENCE).is_some());
    for at in [2, 3] {
        assert_eq!(step(&mut device, &none, Timestamp(at), SILENCE), None);
        assert_eq!(
            step(&mut device, &Happening::Overdue, Timestamp(at), SILENCE),
            None
        );
        assert_eq!(device.next, "no trigger holds");
        assert!(device.deadline > Some(Timestamp(at)));
    }
}

#[test]
fn a_stranger_who_asks_for_its_script_does_not_stop_a_device() {
    let mut device = until_installing();
    after(
        &mut device,
        &[installed(manifest().to_string()), Happening::ToOwnDisk],
    );
    assert_eq!(device.boots_since_delivery, 1);
    after(&mut device, &[const { Happening::ToOwnDisk }; 9]);
    assert_eq!(
        device.boots_since_delivery, 1,
        "no machine boots so quickly"
    );
    step(
        &mut device,
        &Happening::Reported,
        Timestamp(100_000_000),
        SILENCE,
    );
    for second in 101..150 {
        step(
            &mut device,
            &Happening::ToOwnDisk,
            Timestamp(second * 1_000_000),
            SILENCE,
        );
    }
    assert_eq!(
        device.boots_since_delivery, 0,
        "it reports, so it is not booting"
    );
    step(
        &mut device,
        &Happening::ToOwnDisk,
        Timestamp(200_000_000),
        SILENCE,
    );
    assert_eq!(device.boots_since_delivery, 1);
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        "[ab]".prop_map(|boot_id| Happening::Registered { boot_id }),
        Just(Happening::Inventory { disk: "vda".into() }),
        Just(Happening::NoRun { why: "none".into() }),
        (1_i64..3).prop_map(|run| Happening::RunStarted { run: RunId(run) }),
        Just(Happening::ImageReady {
            manifest: manifest(),
            awaited: None,
        }),
        Just(Happening::NotAwaited),
        Just(Happening::RunEnded { why: "no".into() }),
        (1_i64..3).prop_map(|run| Happening::RunGoesOn { run: RunId(run) }),
        (1_i64..3).prop_map(|run| Happening::Told(Doing::Installing {
            run,
            written: 1,
            of: 2
        })),
        (1_i64..3, any::<bool>()).prop_map(|(run, right)| Happening::Told(Doing::Installed {
            run,
            digest: if right {
                manifest().to_string()
            } else {
                "x".into()
            }
        })),
        (1_i64..3).prop_map(|run| Happening::Told(Doing::Failed {
            run,
            why: "x".into()
        })),
        Just(Happening::ToOwnDisk),
        Just(Happening::Reported),
        Just(Happening::TokenReplayed { from: "x".into() }),
        Just(Happening::Overdue),
        Just(Happening::Approved),
        Just(Happening::Released),
        Just(Happening::Reprovision),
    ]
}

proptest! {
    /// In whatever order things happen: a device is delivered only out of installing, with the right
    /// digest; and every phase has a deadline and says what comes next.
    #[test]
    fn nothing_is_delivered_by_chance(happenings in proptest::collection::vec(any_happening(), 0..40)) {
        let mut device = device();
        for (index, happening) in happenings.iter().enumerate() {
            let before = device.phase.clone();
            step(&mut device, happening, Timestamp(index as i64), SILENCE);
            if device.phase.boots_from_disk() && !before.boots_from_disk() {
                let was_installing = matches!(before, BootPhase::Installing { .. });
                prop_assert!(was_installing);
                let right = matches!(happening, Happening::Told(Doing::Installed { digest, .. }) if *digest == manifest().to_string());
                prop_assert!(right);
            }
            prop_assert!(device.deadline.is_some());
            let stored = serde_json::to_string(&device).unwrap();
            prop_assert_eq!(&serde_json::from_str::<BootDevice>(&stored).unwrap(), &device);
            prop_assert!(!device.next.is_empty());
        }
    }
}

#[test]
fn a_device_is_watched_for_as_long_as_the_chain_says_and_its_details_are_awaited() {
    let since = Timestamp(0);
    let at = |s: u64| since.after(Duration::from_secs(s));
    let watch = Duration::from_secs(30);
    assert!(!is_watched_enough(since, at(29), watch, true));
    assert!(is_watched_enough(since, at(30), watch, true));
    assert!(!is_watched_enough(since, at(239), watch, false));
    assert!(
        is_watched_enough(since, at(240), watch, false),
        "they do not come"
    );
}

#[test]
fn an_image_whose_run_ended_is_not_installed_and_a_retried_run_makes_another() {
    let mut device = until_installing();
    let run = device.phase.run().unwrap();
    device.awaited = Some(crate::vocab::AttemptId::fresh());
    let why = "run 1 was aborted".to_owned();
    step(
        &mut device,
        &Happening::RunEnded { why },
        Timestamp(1),
        Duration::from_secs(60),
    );
    assert_eq!(device.phase.word(), "held");
    assert_eq!((device.manifest, device.awaited), (None, None));
    step(
        &mut device,
        &Happening::RunGoesOn { run },
        Timestamp(2),
        Duration::from_secs(60),
    );
    assert_eq!(device.phase.word(), "provisioning");
}
