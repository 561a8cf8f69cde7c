//! Making and releasing machines.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pooled::{self, Pooled};
use super::{Order, elapsed_ms, failure_of, guest, insistently, patiently};
use crate::capacity::Urgency;
use crate::engines;
use crate::hypervisor::{HvError, MachineSpec, Nic, Start};
use crate::runs::plan::{Outcome, Served};
use crate::runs::services::Services;
use crate::vocab::machine::{EngineKind, Machine, MachinePhases};
use crate::vocab::{Failure, FailureKind};

/// Lines of a guest's console that go into the report of a failed boot.
const CONSOLE_LINES: usize = 6;

pub async fn make(
    services: &Services,
    order: &Order,
    cancel: &CancellationToken,
) -> Result<Outcome, Failure> {
    let machine = order.machine()?;
    let mut phases = MachinePhases::default();

    let begun = Instant::now();
    let urgency = if order.wanted {
        Urgency::Wanted
    } else {
        Urgency::Ahead
    };
    tokio::select! {
        room = services.capacity.take(machine.id, machine.size, urgency) => {
            room.map_err(|error| {
                Failure::new(FailureKind::Host, error.to_string()).with_way_out("give Greenroom more of the host, or lower the stage's resources")
            })?;
        }
        () = cancel.cancelled() => return Ok(Outcome::Cancelled),
    }
    phases.admit_ms = elapsed_ms(begun);

    let spec = specification(services, order, machine)?;
    let there = patiently(services, || services.hypervisor.machine(machine.id))
        .await
        .map_err(|e| failure_of(&e, "looking for the machine"))?
        .is_some();
    let mut served = Served {
        shell: None,
        engine: machine.engine,
        reason: machine.engine_reason.clone(),
    };
    // One that was begun in an earlier life of the daemon is not exchanged for a shell.
    if there && engines::is_from_pool(machine.engine) {
        served.engine = EngineKind::Clone;
        served.reason = "it was being made when the daemon was started".to_owned();
    } else if engines::is_from_pool(machine.engine) {
        match pooled::claim(services, order, machine, cancel).await? {
            Pooled::Served {
                phases: of_claim,
                served,
            } => {
                let admit_ms = phases.admit_ms;
                return Ok(Outcome::MachineUp {
                    phases: MachinePhases {
                        admit_ms,
                        ..of_claim
                    },
                    served,
                });
            }
            Pooled::Nothing { reason } => {
                served.engine = EngineKind::Clone;
                served.reason = reason;
            }
            Pooled::Cancelled => return Ok(Outcome::Cancelled),
        }
    }
    let begun = Instant::now();
    if !there {
        let image = &order.plan.images[&order.plan.chain.stages[machine.stage_index].image];
        let disk = engines::disk_order(served.engine, image, machine.size, spec.root_disk.clone());
        patiently(services, || services.hypervisor.make_disk(&disk))
            .await
            .map_err(|e| failure_of(&e, "making the machine's disk"))?;
        phases.disk_ms = elapsed_ms(begun);
        if cancel.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        let begun = Instant::now();
        patiently(services, || services.hypervisor.start_machine(&spec))
            .await
            .map_err(|e| failure_of(&e, "starting the machine"))?;
        phases.define_ms = elapsed_ms(begun);
    }

    let begun = Instant::now();
    let guest = guest(services, machine.id);
    tokio::select! {
        up = guest.wait_until_up(services.settings.boot_deadline) => {
            if let Err(error) = up {
                return Err(boot_failure(services, machine, &error).await);
            }
        }
        () = cancel.cancelled() => return Ok(Outcome::Cancelled),
    }
    phases.boot_ms = elapsed_ms(begun);
    Ok(Outcome::MachineUp { phases, served })
}

fn specification(
    services: &Services,
    order: &Order,
    machine: &Machine,
) -> Result<MachineSpec, Failure> {
    let stage = &order.plan.chain.stages[machine.stage_index];
    let image = order.plan.images.get(&stage.image).ok_or_else(|| {
        Failure::new(
            FailureKind::Internal,
            format!("image {} was not pinned", stage.image),
        )
    })?;
    Ok(MachineSpec {
        id: machine.id,
        name: machine.name.clone(),
        tag: machine.tag.clone(),
        size: machine.size,
        kernel: image.kernel.path.clone(),
        initrd: image.initrd.path.clone(),
        cmdline: image.cmdline.clone(),
        root_disk: services.settings.machine_disk(machine),
        nic: stage.network.then(|| Nic {
            network: services.settings.network.clone(),
            mac: mac_of(machine),
        }),
        start: Start::Boot,
        growth_mib: 0,
    })
}

/// A locally administered address with QEMU's prefix; 24 bits of the machine's random id.
fn mac_of(machine: &Machine) -> String {
    let bytes = machine.id.0.as_bytes();
    format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        bytes[13], bytes[14], bytes[15]
    )
}

async fn boot_failure(services: &Services, machine: &Machine, error: &HvError) -> Failure {
    let console = services
        .hypervisor
        .console_tail(machine.id, 4096)
        .await
        .unwrap_or_default();
    let console: String = String::from_utf8_lossy(&console)
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    let lines: Vec<&str> = console
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join(" | ");
    let said = if tail.is_empty() {
        "its console is empty".to_owned()
    } else {
        format!("its console ends: {tail}")
    };
    match error {
        HvError::NoSuchMachine(_) => Failure::new(
            FailureKind::Boot,
            format!("{} stopped while it booted; {said}", machine.name),
        ),
        HvError::AgentAbsent(_) | HvError::AgentTimeout(..) => Failure::new(
            FailureKind::Boot,
            format!(
                "the guest agent of {} did not answer within {} s; {said}",
                machine.name,
                services.settings.boot_deadline.as_secs()
            ),
        ),
        other => failure_of(other, "waiting for the guest"),
    }
}

/// Destroys and removes, however long the host takes: a machine is never forgotten.
pub async fn release(
    services: &Services,
    order: &Order,
    cancel: &CancellationToken,
) -> Result<Outcome, Failure> {
    let machine = order.machine()?;
    let begun = Instant::now();
    let gone = insistently(cancel, "machine", || async {
        pooled::release(services, machine).await?;
        if machine.shell.is_some() {
            return Ok(());
        }
        services.hypervisor.destroy_machine(machine.id).await?;
        let disk = services.settings.machine_disk(machine);
        services.hypervisor.remove_disk(&disk).await
    });
    Ok(match gone.await {
        Some(()) => Outcome::MachineGone {
            teardown_ms: elapsed_ms(begun),
        },
        None => Outcome::Cancelled,
    })
}
