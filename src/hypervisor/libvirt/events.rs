//! libvirt's event loop, and what it tells as [`MachineEvent`]s.
//!
//! The loop is one per process and must be registered before the first connection is opened: it
//! reads the sockets of all connections, answers keep-alive questions and runs the callbacks.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;
use uuid::Uuid;
use virt::sys;

use super::ffi::{Heard, Listener};
use crate::hypervisor::{HvError, MachineEvent};
use crate::vocab::MachineId;

/// Events that a slow receiver may lag behind. Losing some is allowed: they are hints.
pub const CHANNEL_SIZE: usize = 1024;

/// Starts the event loop on a thread of its own; later calls find it running.
pub fn start_loop() -> Result<(), HvError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        // libvirt prints each error to standard error otherwise.
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl().map_err(|error| error.message().to_owned())?;
        std::thread::Builder::new()
            .name("libvirt-events".to_owned())
            .spawn(|| {
                loop {
                    if let Err(error) = virt::event::event_run_default_impl() {
                        tracing::error!(%error, "libvirt's event loop failed; trying again");
                        // Never a busy loop, whatever is wrong.
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                }
            })
            .map(drop)
            .map_err(|error| error.to_string())
    });
    started
        .clone()
        .map_err(|why| HvError::Host(format!("libvirt's event loop cannot run: {why}")))
}

/// A listener that posts into `channel` and does nothing else.
pub fn listener(channel: broadcast::Sender<MachineEvent>) -> Listener {
    Arc::new(move |uuid, heard| {
        if let Some(event) = translate(uuid, heard) {
            // Nobody may be listening, which is fine.
            let _ = channel.send(event);
        }
    })
}

fn translate(uuid: Uuid, heard: Heard) -> Option<MachineEvent> {
    let id = MachineId(uuid);
    match heard {
        Heard::Lifecycle {
            event: sys::VIR_DOMAIN_EVENT_STARTED,
            ..
        } => Some(MachineEvent::Started(id)),
        Heard::Lifecycle {
            event: sys::VIR_DOMAIN_EVENT_STOPPED,
            detail,
        } => Some(MachineEvent::Stopped(id, stop_word(detail).to_owned())),
        Heard::Lifecycle {
            event: sys::VIR_DOMAIN_EVENT_CRASHED,
            ..
        } => Some(MachineEvent::Stopped(id, "the guest panicked".to_owned())),
        Heard::Lifecycle { .. } => None,
        Heard::Agent {
            state: sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED,
        } => Some(MachineEvent::AgentConnected(id, true)),
        Heard::Agent {
            state: sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED,
        } => Some(MachineEvent::AgentConnected(id, false)),
        Heard::Agent { .. } => None,
    }
}

/// `virDomainEventStoppedDetailType` in words.
fn stop_word(detail: u32) -> &'static str {
    match detail {
        sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => "shut down by the guest",
        sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => "destroyed",
        sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => "QEMU crashed",
        sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => "migrated away",
        sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => "saved",
        sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => "QEMU failed",
        sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT => "replaced by a snapshot",
        _ => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_waits_for_is_told() {
        let (sender, mut receiver) = broadcast::channel(8);
        let tell = listener(sender);
        let id = MachineId::fresh();
        tell(
            id.0,
            Heard::Lifecycle {
                event: sys::VIR_DOMAIN_EVENT_STARTED,
                detail: 0,
            },
        );
        tell(
            id.0,
            Heard::Lifecycle {
                event: sys::VIR_DOMAIN_EVENT_RESUMED,
                detail: 0,
            },
        );
        tell(id.0, Heard::Agent { state: 1 });
        tell(
            id.0,
            Heard::Lifecycle {
                event: sys::VIR_DOMAIN_EVENT_STOPPED,
                detail: 1,
            },
        );
        let mut heard = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            heard.push(event);
        }
        assert_eq!(
            heard,
            [
                MachineEvent::Started(id),
                MachineEvent::AgentConnected(id, true),
                MachineEvent::Stopped(id, "destroyed".to_owned())
            ]
        );
    }
}
