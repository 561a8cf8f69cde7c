//! The order's way, by table, and under everything that a BMC may answer.

use proptest::prelude::*;

use super::*;
use crate::vocab::DeviceId;
use crate::vocab::power::BootTarget;

const START: Timestamp = Timestamp(1_800_000_000_000_000);
const PXE: BootOverride = BootOverride {
    target: BootTarget::Pxe,
    lasts: Lasts::Once,
};

fn order() -> NetworkOrder {
    NetworkOrder::fresh(DeviceId::fresh(), "web-1", "boot-1", START)
}

fn later(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

fn unreachable() -> Seen {
    Seen::Failed(PowerError::Unreachable("no answer".into()))
}

#[test]
fn the_straight_way_takes_four_steps() {
    let mut order = order();
    assert_eq!(work(&order, START), Some(Work::SetBoot));
    let said = after(&mut order, &Seen::Boot(PXE), later(1)).unwrap();
    assert!(said.message.contains("pxe once"), "{}", said.message);
    assert_eq!(work(&order, later(1)), Some(Work::SwitchOff));
    after(&mut order, &Seen::Power(PowerState::Off), later(2)).unwrap();
    assert_eq!(work(&order, later(2)), Some(Work::SwitchOn));
    after(&mut order, &Seen::Power(PowerState::On), later(3)).unwrap();
    assert_eq!(
        (order.step, work(&order, later(3))),
        (OrderStep::Await, None)
    );
    assert_eq!(
        look(&mut order, "boot-1", later(30)),
        None,
        "that was the boot before"
    );
    let said = look(&mut order, "boot-2", later(33)).unwrap();
    assert!(said.message.contains("33 s"), "{}", said.message);
    assert_eq!(order.step, OrderStep::Done);
    assert_eq!(look(&mut order, "boot-3", later(40)), None, "told once");
}

#[test]
fn a_machine_that_does_not_come_is_booted_again_and_then_left_to_a_person() {
    let (mut order, mut now) = (order(), START);
    for tries in 1..=MOST_TRIES {
        after(&mut order, &Seen::Boot(PXE), now);
        after(&mut order, &Seen::Power(PowerState::Off), now);
        after(&mut order, &Seen::Power(PowerState::On), now);
        assert_eq!((order.step, order.tries), (OrderStep::Await, tries));
        now = now.after(COMES_WITHIN);
        look(&mut order, "boot-1", now).expect("something is told");
    }
    assert_eq!(order.step, OrderStep::Failed);
    assert!(
        order.said.contains("3 times") && order.said.contains("reprovision"),
        "{}",
        order.said
    );
}

#[test]
fn trouble_that_may_pass_is_told_once_and_tried_until_the_step_has_lasted_too_long() {
    let mut order = order();
    assert!(after(&mut order, &unreachable(), later(1)).is_some());
    assert_eq!(work(&order, later(2)), None, "a pause");
    assert_eq!(work(&order, later(5)), Some(Work::SetBoot));
    assert!(after(&mut order, &unreachable(), later(5)).is_none());
    assert_eq!(look(&mut order, "boot-1", later(599)), None);
    let said = look(&mut order, "boot-1", later(600)).unwrap();
    assert!(said.message.contains("no answer"), "{}", said.message);
    assert_eq!(order.step, OrderStep::Failed);
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for error in [
        PowerError::LoginRefused {
            user: "ada".into(),
            why: "HTTP 401".into(),
        },
        PowerError::Locked { refused: 2 },
        PowerError::Untrusted("elsewhere".into()),
        PowerError::Refused("no".into()),
    ] {
        let mut order = order();
        let said = after(&mut order, &Seen::Failed(error.clone()), later(1)).unwrap();
        assert_eq!(
            (order.step, said.kind),
            (OrderStep::Failed, "power_failed"),
            "{error}"
        );
        assert!(order.said.contains(&error.to_string()));
    }
}

#[test]
fn a_person_is_asked_once_and_waited_for() {
    let mut order = order();
    let ask = Seen::Failed(PowerError::Person("a person has to go there".into()));
    assert_eq!(
        after(&mut order, &ask, later(1)).unwrap().message,
        "a person has to go there"
    );
    assert_eq!(
        (order.step, order.said.as_str()),
        (OrderStep::Await, "a person has to go there")
    );
    assert_eq!(look(&mut order, "boot-1", later(3600)), None);
    assert!(look(&mut order, "boot-2", later(7200)).is_some());
    assert_eq!(order.step, OrderStep::Done);
}

#[test]
fn an_override_that_does_not_stick_switches_nothing() {
    let mut order = order();
    let kept = BootOverride {
        target: BootTarget::Disk,
        lasts: Lasts::UntilChanged,
    };
    let said = after(&mut order, &Seen::Boot(kept), later(1)).unwrap();
    assert!(
        said.message.contains("disk until changed"),
        "{}",
        said.message
    );
    assert_eq!(order.step, OrderStep::SetBoot);
}

fn seen() -> impl Strategy<Value = Seen> {
    let states = [
        PowerState::On,
        PowerState::Off,
        PowerState::Rising,
        PowerState::Falling,
        PowerState::Unclear,
    ];
    prop_oneof![
        4 => Just(Seen::Boot(PXE)),
        1 => Just(Seen::Boot(BootOverride::USUAL)),
        6 => prop::sample::select(states.to_vec()).prop_map(Seen::Power),
        2 => Just(unreachable()),
        1 => Just(Seen::Failed(PowerError::Locked { refused: 2 })),
        1 => Just(Seen::Failed(PowerError::Person("go".into()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a BMC answers and however long it takes: an open order always has something that happens
    /// by itself, a machine is switched off only when its next boot is from the network, switched on only
    /// when it was seen off, and no order is open for ever.
    #[test]
    fn every_order_ends_and_nothing_waits_without_limit(steps in prop::collection::vec((seen(), 0..400_u64, prop::bool::weighted(0.02)), 1..200)) {
        let (mut order, mut now) = (order(), START);
        let (mut boot_is_set, mut was_off) = (false, false);
        for (seen, pass, comes) in steps {
            now = now.after(Duration::from_secs(pass));
            look(&mut order, if comes { "boot-2" } else { "boot-1" }, now);
            if !order.step.is_open() {
                prop_assert!(work(&order, now).is_none());
                break;
            }
            prop_assert!(order.deadline > now && !order.said.is_empty());
            if order.step == OrderStep::SetBoot {
                (boot_is_set, was_off) = (false, false);
            }
            let Some(work) = work(&order, now) else {
                prop_assert!(order.step == OrderStep::Await || order.not_before > now);
                continue;
            };
            prop_assert!(work == Work::SetBoot || boot_is_set);
            prop_assert!(work != Work::SwitchOn || was_off);
            boot_is_set |= work == Work::SetBoot && seen == Seen::Boot(PXE);
            was_off |= work == Work::SwitchOff && seen == Seen::Power(PowerState::Off);
            // A step answers what was asked.
            let fits = matches!((work, &seen), (Work::SetBoot, Seen::Boot(_)) | (Work::SwitchOff | Work::SwitchOn, Seen::Power(_)) | (_, Seen::Failed(_)));
            if fits {
                after(&mut order, &seen, now);
            }
        }
        // Silence from here on: every step's deadline passes, and the tries are counted.
        for _ in 0..=3 * MOST_TRIES {
            now = now.after(Duration::from_secs(24 * 3600));
            look(&mut order, "boot-1", now);
        }
        prop_assert!(!order.step.is_open(), "{order:?}");
    }
}
