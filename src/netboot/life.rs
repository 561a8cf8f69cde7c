//! What happens next with a device. Pure: a device, what happened, the time → the device after it.
//!
//! Each phase has a deadline and something that happens by itself then; the picture is in
//! [`crate::vocab::boot`].

use std::time::Duration;

use super::wire::{Doing, Order};
use crate::vocab::boot::{BootDevice, BootPhase, Trust};
use crate::vocab::{AttemptId, Digest, RunId, Timestamp};

/// Installations that are begun for one run before a person is asked.
pub const MOST_TRIES: u32 = 4;
/// Between two looks for a chain whose trigger holds.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// From the registration until the inventory has to be there.
const INVENTORY: Duration = Duration::from_secs(60);
/// From "booted" until the delivered system's first report: a slow machine's first boot.
const FIRST_REPORT: Duration = Duration::from_secs(900);
/// Between two reports of a delivered system: they come every 15 s.
const REPORTS: Duration = Duration::from_secs(120);
/// Between two boots of one machine, at least: the firmware of the quickest takes as long.
const QUICKEST_BOOT: Duration = Duration::from_secs(3);
/// How often a person is reminded of a device that waits for them.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    Registered {
        boot_id: String,
    },
    Inventory {
        disk: String,
    },
    /// No run can be started; the reason.
    NoRun {
        why: String,
    },
    RunStarted {
        run: RunId,
    },
    /// The run's image is packed and can be fetched.
    ImageReady {
        manifest: Digest,
        /// The run waits for the device to report from this image, which that attempt finished.
        awaited: Option<AttemptId>,
    },
    /// The run did not succeed, or left nothing.
    RunEnded {
        why: String,
    },
    /// A run that had stopped goes on.
    RunGoesOn {
        run: RunId,
    },
    Told(Doing),
    /// It was told to leave for its own disk.
    ToOwnDisk,
    Reported,
    /// The run that waited for its report does not any more.
    NotAwaited,
    TokenReplayed {
        from: String,
    },
    Overdue,
    Approved,
    /// It gave a code that a person made for it.
    CodeGiven,
    Quarantined {
        reason: String,
    },
    Held {
        reason: String,
    },
    Released,
    Reprovision,
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub kind: &'static str,
    pub message: String,
}

fn note(kind: &'static str, message: impl Into<String>) -> Option<Note> {
    Some(Note {
        kind,
        message: message.into(),
    })
}

/// Changes the device. A happening that does not fit the phase changes nothing.
pub fn step(
    device: &mut BootDevice,
    happening: &Happening,
    now: Timestamp,
    silence: Duration,
) -> Option<Note> {
    let before = device.phase.clone();
    let told = happen(device, happening, now);
    if device.phase != before {
        device.since = now;
    }
    let (after, next) = deadline(&device.phase, device.trust, silence);
    // A run that stops waiting for it is nothing that it did.
    if device.deadline.is_none() || !matches!(happening, Happening::NotAwaited) {
        device.deadline = Some(now.after(after));
    }
    // Why no run could be started is the more telling, until something else happens.
    let keeps_reason = matches!(happening, Happening::NoRun { .. } | Happening::Overdue);
    if device.phase != before || !keeps_reason || device.next.is_empty() {
        device.next = next.to_owned();
    }
    told
}

fn happen(device: &mut BootDevice, happening: &Happening, now: Timestamp) -> Option<Note> {
    use BootPhase as P;
    use Happening as H;
    match (device.phase.clone(), happening) {
        (phase, H::Registered { boot_id }) => {
            let again = !device.boot_id.is_empty() && device.boot_id != *boot_id;
            device.boot_id.clone_from(boot_id);
            device.heard_at = now;
            match phase {
                P::Registered | P::Discovered => {
                    device.phase = P::Registered;
                    note("registered", "its ramdisk runs")
                }
                P::Provisioning { run } if again => note(
                    "rebooted",
                    format!("it booted again while run {run} makes its image"),
                ),
                P::Installing { run } if again => note(
                    "rebooted",
                    format!(
                        "it booted again while the image of run {run} was written; that begins anew"
                    ),
                ),
                phase => again.then(|| Note {
                    kind: "rebooted",
                    message: format!("its ramdisk runs while it is {}", phase.word()),
                }),
            }
        }
        (P::Registered | P::Discovered, H::Inventory { disk }) => {
            device.phase = P::Discovered;
            device.disk.clone_from(disk);
            note("discovered", "its inventory is stored")
        }
        (_, H::Inventory { disk }) => {
            device.disk.clone_from(disk);
            None
        }
        (P::Discovered, H::NoRun { why }) => {
            let told = device.next != *why;
            device.next.clone_from(why);
            if told {
                note("no_run", why.clone())
            } else {
                None
            }
        }
        (P::Discovered, H::RunStarted { run }) => {
            device.phase = P::Provisioning { run: *run };
            device.run = Some(*run);
            device.tries = 0;
            device.manifest = None;
            device.awaited = None;
            note("provisioning", format!("run {run} makes its image"))
        }
        (P::Held { .. }, H::RunGoesOn { run }) if device.run == Some(*run) => {
            device.phase = P::Provisioning { run: *run };
            note("provisioning", format!("run {run} goes on"))
        }
        (P::Provisioning { run }, H::ImageReady { manifest, awaited }) => {
            device.phase = P::Installing { run };
            device.manifest = Some(*manifest);
            device.awaited = *awaited;
            device.written = 0;
            device.of = 0;
            note(
                "installing",
                format!("the image of run {run} is ready for its disk"),
            )
        }
        (P::Provisioning { .. }, H::RunEnded { why }) => hold(device, why.clone()),
        (P::Installing { .. }, H::RunEnded { why }) => {
            // A run that is retried makes another image.
            device.manifest = None;
            device.awaited = None;
            hold(device, why.clone())
        }
        (
            P::Installing { run },
            H::Told(Doing::Installing {
                run: told,
                written,
                of,
            }),
        ) if run.0 == *told => {
            device.heard_at = now;
            device.written = *written;
            device.of = *of;
            None
        }
        (P::Installing { run }, H::Told(Doing::Installed { run: told, digest }))
            if run.0 == *told =>
        {
            device.heard_at = now;
            if device
                .manifest
                .is_some_and(|manifest| manifest.to_string() == *digest)
            {
                device.phase = P::Delivered { run };
                device.boots_since_delivery = 0;
                device.written = device.of;
                note(
                    "delivered",
                    format!(
                        "the image of run {run} is on its disk, read back and as it should be; the network boots it no more"
                    ),
                )
            } else {
                hold(
                    device,
                    format!("it says that it installed another image than that of run {run}"),
                )
            }
        }
        (P::Installing { run }, H::Told(Doing::Failed { run: told, why })) if run.0 == *told => {
            device.heard_at = now;
            if device.tries >= MOST_TRIES {
                hold(
                    device,
                    format!(
                        "its image could not be installed in {} tries: {why}",
                        device.tries
                    ),
                )
            } else {
                note("install_failed", why.clone())
            }
        }
        (_, H::Told(_)) => {
            device.heard_at = now;
            None
        }
        (P::Delivered { run }, H::ToOwnDisk) => {
            device.boots_since_delivery += 1;
            device.sent_at = now;
            device.phase = P::Booted { run };
            note("booted", "it was sent to its own disk")
        }
        // Anybody can ask for its script: what cannot be a boot of it is not counted against it.
        (P::Reporting { .. }, H::ToOwnDisk) if now.since(device.heard_at) < REPORTS / 2 => None,
        (P::Booted { .. }, H::ToOwnDisk) if now.since(device.sent_at) < QUICKEST_BOOT => None,
        (P::Booted { .. } | P::Reporting { .. }, H::ToOwnDisk) => {
            device.sent_at = now;
            device.boots_since_delivery += 1;
            note(
                "booted",
                format!(
                    "it was sent to its own disk for the {}. time",
                    device.boots_since_delivery
                ),
            )
        }
        (P::Delivered { run } | P::Booted { run }, H::Reported) => {
            device.heard_at = now;
            device.phase = P::Reporting { run };
            device.boots_since_delivery = 0;
            note("reporting", "its own system reports")
        }
        (P::Reporting { .. }, H::Reported) => {
            device.heard_at = now;
            device.boots_since_delivery = 0;
            None
        }
        (_, H::NotAwaited) => {
            device.awaited = None;
            None
        }
        (_, H::TokenReplayed { from }) => {
            hold(
                device,
                format!("a token of it was used a second time, by {from}"),
            );
            note(
                "token_replayed",
                format!("a token of it was used a second time, by {from}"),
            )
        }
        (_, H::Overdue) => overdue(device),
        (_, H::Approved) => {
            device.trust = Trust::Operator;
            note("approved", "a person approved it")
        }
        (P::Quarantined { .. }, H::CodeGiven) => None,
        (_, H::CodeGiven) => {
            if device.trust != Trust::Operator {
                device.trust = Trust::Code;
            }
            note("approved", "it gave a one-time code")
        }
        (_, H::Quarantined { reason }) => {
            device.phase = P::Quarantined {
                reason: reason.clone(),
            };
            note("quarantined", reason.clone())
        }
        (_, H::Held { reason }) => hold(device, reason.clone()),
        (P::Quarantined { .. } | P::Held { .. }, H::Released) => {
            device.phase = P::Registered;
            device.tries = 0;
            device.boots_since_delivery = 0;
            note(
                "released",
                "a person released it; it begins anew with its next boot",
            )
        }
        (_, H::Reprovision) => {
            device.phase = P::Registered;
            device.run = None;
            device.manifest = None;
            device.awaited = None;
            device.tries = 0;
            device.boots_since_delivery = 0;
            note(
                "reprovision",
                "it is to be provisioned anew, from its next boot",
            )
        }
        _ => None,
    }
}

fn hold(device: &mut BootDevice, reason: String) -> Option<Note> {
    device.phase = BootPhase::Held {
        reason: reason.clone(),
    };
    note("held", reason)
}

/// The deadline of the phase has passed.
fn overdue(device: &mut BootDevice) -> Option<Note> {
    match device.phase.clone() {
        BootPhase::Registered => note(
            "silent",
            "it has not told its inventory; its next boot begins anew",
        ),
        // Both are looked at all the time; nothing is told again.
        BootPhase::Discovered | BootPhase::Provisioning { .. } => None,
        BootPhase::Installing { run } => {
            if device.tries >= MOST_TRIES {
                hold(
                    device,
                    format!(
                        "it went silent while the image of run {run} was written, {} times",
                        device.tries
                    ),
                )
            } else {
                note(
                    "silent",
                    "it went silent while its image was written; its next boot goes on with it",
                )
            }
        }
        BootPhase::Delivered { .. } => hold(
            device,
            "its image is on its disk, and it did not boot again: switch it off and on".to_owned(),
        ),
        BootPhase::Booted { .. } => {
            note("silent", "its own system has not reported; see its console")
        }
        BootPhase::Reporting { .. } => note("silent", "its own system does not report any more"),
        BootPhase::Quarantined { reason } | BootPhase::Held { reason } => note("waits", reason),
    }
}

/// How long a phase may take, and what happens then.
pub fn deadline(phase: &BootPhase, trust: Trust, silence: Duration) -> (Duration, &'static str) {
    match phase {
        BootPhase::Registered => (
            INVENTORY,
            "its inventory is awaited; without it its next boot begins anew",
        ),
        BootPhase::Discovered if !trust.may_be_provisioned() => (
            REMINDER,
            "waits for `greenroom device approve`; a reminder then",
        ),
        BootPhase::Discovered => (
            LOOK_AGAIN,
            "a chain whose trigger holds is looked for again",
        ),
        BootPhase::Provisioning { .. } => (
            LOOK_AGAIN,
            "the run is looked at again; its own deadlines count",
        ),
        BootPhase::Installing { .. } => (
            silence,
            "its silence is noted; its next boot goes on, the fourth holds it",
        ),
        BootPhase::Delivered { .. } => (silence * 5, "it is held, because it did not boot again"),
        BootPhase::Booted { .. } => (FIRST_REPORT, "its silence is noted"),
        BootPhase::Reporting { .. } => (REPORTS, "its silence is noted"),
        BootPhase::Quarantined { .. } => (
            REMINDER,
            "a reminder; `greenroom device release` lets it on",
        ),
        BootPhase::Held { .. } => (
            REMINDER,
            "a reminder; `greenroom device release` or `reprovision` lets it on",
        ),
    }
}

/// Whether a device has reported for long enough for a run to go on: for as long as the chain says, and
/// then until what takes longer to find out has come too, within reason.
pub fn is_watched_enough(
    reporting_since: Timestamp,
    now: Timestamp,
    watch: Duration,
    has_details: bool,
) -> bool {
    let span = now.since(reporting_since);
    span >= watch && (has_details || span >= watch * 2 + DETAILS)
}

/// What takes longer to find out has come by then, or does not come.
const DETAILS: Duration = Duration::from_secs(180);

/// What a device in its ramdisk is told to do. `Order::Install` comes with an empty token: the caller
/// makes one.
pub fn order(device: &BootDevice, doing: &Doing) -> Order {
    let wait = |why: String| Order::Wait { why };
    match &device.phase {
        BootPhase::Registered => wait("tell the inventory".to_owned()),
        BootPhase::Discovered if !device.trust.may_be_provisioned() => {
            wait(format!("an operator has to approve {}", device.name))
        }
        BootPhase::Discovered => wait("a chain is looked for".to_owned()),
        BootPhase::Provisioning { run } => wait(format!("run {run} makes the image")),
        BootPhase::Installing { run } => match doing {
            Doing::Installing { .. } => wait("the image is written".to_owned()),
            _ if device.disk.is_empty() => wait("it has no disk for an image".to_owned()),
            _ => Order::Install {
                run: run.0,
                token: String::new(),
                disk: device.disk.clone(),
            },
        },
        phase if phase.boots_from_disk() => Order::Reboot,
        phase => wait(format!("{}: an operator has to look", phase.word())),
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
