//! What happens next with an order to boot a device from the network. Pure: the order, what was seen, the
//! time → what to do, and the order after it.
//!
//! ```text
//!  set_boot ─► switch_off ─► switch_on ─► await ─► done
//!     ▲  ▲──────────┴────────────┘          │ (it did not come)
//!     └──┴───────────────────────────────────┘──► failed, after so many tries
//! ```
//!
//! Each step is decided from what the machine is seen to be and may be done twice, so that a daemon that
//! was killed in the middle looks again and goes on. "Accepted" is nothing: a step is over when it is seen
//! to be.

use std::time::Duration;

use super::PowerError;
use crate::vocab::Timestamp;
use crate::vocab::power::{BootOverride, Lasts, NetworkOrder, OrderStep, PowerState, STEP_LASTS};

/// Times that a machine is booted before a person is asked.
pub const MOST_TRIES: u32 = 3;
/// From the switch until its ramdisk has to have registered: servers test memory for minutes.
pub const COMES_WITHIN: Duration = Duration::from_secs(900);
/// From a request to switch until the machine has to be seen to have obeyed; then it is asked again.
pub const OBEYS_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at a machine that is to obey.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Pauses after failures that may pass.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// What the executor has to do with the BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Set "boot once from the network", and read it back.
    SetBoot,
    /// Switch it off when it is not, look until it is.
    SwitchOff,
    /// Switch it on when it is not, look until it is.
    SwitchOn,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Boot(BootOverride),
    Power(PowerState),
    Failed(PowerError),
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub kind: &'static str,
    pub message: String,
}

fn told(kind: &'static str, message: impl Into<String>) -> Option<Told> {
    Some(Told {
        kind,
        message: message.into(),
    })
}

/// What to do now, if anything. The time of an order that waits has not come.
pub fn work(order: &NetworkOrder, now: Timestamp) -> Option<Work> {
    if order.not_before > now {
        return None;
    }
    match order.step {
        OrderStep::SetBoot => Some(Work::SetBoot),
        OrderStep::SwitchOff => Some(Work::SwitchOff),
        OrderStep::SwitchOn => Some(Work::SwitchOn),
        OrderStep::Await | OrderStep::Done | OrderStep::Failed => None,
    }
}

/// The device's network boot says with which boot it last registered.
pub fn look(order: &mut NetworkOrder, boot_id: &str, now: Timestamp) -> Option<Told> {
    if !order.step.is_open() {
        return None;
    }
    if !boot_id.is_empty() && boot_id != order.boot_id {
        let took = now.since(order.asked_at).as_secs();
        enter(order, OrderStep::Done, now, "it came from the network");
        return told(
            "power",
            format!("it came from the network, {took} s after it was asked to"),
        );
    }
    if order.deadline > now {
        return None;
    }
    match order.step {
        OrderStep::Await if order.tries < MOST_TRIES => {
            let tries = order.tries;
            enter(
                order,
                OrderStep::SetBoot,
                now,
                "its BMC is told once more to boot it from the network",
            );
            order.tries = tries;
            told(
                "power_failed",
                format!(
                    "it was booted {tries} times and did not come from the network; it is tried again"
                ),
            )
        }
        OrderStep::Await => fail(
            order,
            now,
            format!(
                "it was booted {} times and did not come from the network: look at its console, its cable and its boot order",
                order.tries
            ),
        ),
        _ => {
            let said = format!(
                "its BMC did not get it to {} within {} s: {}",
                order.step.word(),
                now.since(order.since).as_secs(),
                order.said
            );
            fail(order, now, said)
        }
    }
}

/// What came of the work. `order` is as it was when the work began.
pub fn after(order: &mut NetworkOrder, seen: &Seen, now: Timestamp) -> Option<Told> {
    match (order.step, seen) {
        (OrderStep::SetBoot, Seen::Boot(found)) if found.is_network() => {
            let lasting = match found.lasts {
                Lasts::UntilChanged => "; its BMC keeps this until it is changed",
                _ => "",
            };
            enter(order, OrderStep::SwitchOff, now, "it is switched off");
            told(
                "power",
                format!("its BMC says that it boots next from {found}{lasting}"),
            )
        }
        (OrderStep::SwitchOff, Seen::Power(PowerState::Off)) => {
            enter(order, OrderStep::SwitchOn, now, "it is switched on");
            told("power", "it is off")
        }
        (OrderStep::SwitchOn, Seen::Power(PowerState::On | PowerState::Rising)) => {
            let tries = order.tries + 1;
            enter(
                order,
                OrderStep::Await,
                now,
                "it has been switched on; its ramdisk is awaited, else it is booted once more",
            );
            order.tries = tries;
            order.deadline = now.after(COMES_WITHIN);
            told("power", "it is on; its ramdisk is awaited")
        }
        // The machine has not obeyed yet.
        (_, Seen::Power(state)) => {
            order.failures += 1;
            order.not_before = now.after(pause(order.failures));
            order.said = format!(
                "its BMC says that it is {}; it is asked again",
                state.word()
            );
            None
        }
        (_, Seen::Boot(found)) => {
            let error = PowerError::DidNotStick {
                wanted: "the network".into(),
                found: *found,
            };
            retry(order, &error, now)
        }
        (_, Seen::Failed(PowerError::Person(what))) => {
            enter(order, OrderStep::Await, now, what);
            // A person takes their time, and is asked once.
            order.tries = MOST_TRIES;
            order.deadline = now.after(Duration::from_secs(24 * 3600));
            told("power", what.clone())
        }
        (_, Seen::Failed(error)) if error.may_pass() => retry(order, error, now),
        (_, Seen::Failed(error)) => fail(order, now, error.to_string()),
    }
}

fn pause(failures: u32) -> Duration {
    let index = (failures.saturating_sub(1) as usize).min(PAUSES.len() - 1);
    PAUSES[index]
}

fn retry(order: &mut NetworkOrder, error: &PowerError, now: Timestamp) -> Option<Told> {
    order.failures += 1;
    let pause = pause(order.failures);
    order.not_before = now.after(pause);
    let before = std::mem::replace(
        &mut order.said,
        format!(
            "{error}; it is tried again every {} s at most",
            PAUSES[PAUSES.len() - 1].as_secs()
        ),
    );
    // The same trouble is told once.
    match before == order.said {
        true => None,
        false => told("power_failed", format!("{error}; it is tried again")),
    }
}

fn fail(order: &mut NetworkOrder, now: Timestamp, why: String) -> Option<Told> {
    let why =
        format!("{why}. A person has to help; then `greenroom device reprovision` begins anew");
    enter(order, OrderStep::Failed, now, &why);
    told("power_failed", why)
}

fn enter(order: &mut NetworkOrder, step: OrderStep, now: Timestamp, said: &str) {
    order.step = step;
    order.since = now;
    order.failures = 0;
    order.not_before = now;
    order.deadline = now.after(STEP_LASTS);
    order.said = said.to_owned();
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
