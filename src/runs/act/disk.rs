//! The handoff disk: raw, of fixed size, one machine's at a time, never probed or mounted here.

use std::path::PathBuf;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Order, elapsed_ms, failure_of, insistently, patiently};
use crate::hypervisor::{AttachedDisk, DiskOrder, HvError};
use crate::runs::plan::Outcome;
use crate::runs::services::{HANDOFF_SERIAL, Services};
use crate::vocab::run::Purpose;
use crate::vocab::{Failure, FailureKind};

/// Makes the disk what the stage is to find: new and empty for the first stage that uses it; as its
/// predecessor left it for the others, from the checkpoint when this is not the first try.
pub async fn prepare(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let attempt = order.attempt()?;
    let wanted = order
        .plan
        .chain
        .handoff_disk
        .as_ref()
        .ok_or_else(|| Failure::new(FailureKind::Internal, "the chain has no handoff disk"))?;
    if attempt.purpose == Purpose::Work {
        let disk = services.settings.handoff_disk(order.run.id);
        let first = !order.plan.chain.stages[..attempt.stage_index]
            .iter()
            .any(|stage| stage.handoff_disk);
        let checkpoint = services
            .settings
            .checkpoint(order.run.id, attempt.stage_index);
        let steps = async {
            let present = services.hypervisor.disks().await?;
            // Checkpoints of later stages are from before a retry of this one.
            for later in attempt.stage_index + 1..order.plan.stages.len() {
                services
                    .hypervisor
                    .remove_disk(&services.settings.checkpoint(order.run.id, later))
                    .await?;
            }
            if let Some(replay) = order.run.replay_of.as_ref().filter(|_| first) {
                let index = replayed_index(order);
                let from = services.settings.checkpoint(replay.run, index);
                return match present.contains(&from) {
                    true => make(services, DiskOrder::Duplicate { path: disk, from }).await,
                    false if index == 0 || replayed_first(order) => {
                        fresh(services, disk, wanted.size_mib).await
                    }
                    false => Err(HvError::Refused(format!(
                        "the handoff disk from before stage {} of run {} is not kept any more; replay while that run is running or held",
                        replay.stage, replay.run
                    ))),
                };
            }
            if first {
                fresh(services, disk, wanted.size_mib).await
            } else if !wanted.checkpoint {
                Ok(())
            } else if present.contains(&checkpoint) {
                make(
                    services,
                    DiskOrder::Duplicate {
                        path: disk,
                        from: checkpoint,
                    },
                )
                .await
            } else {
                make(
                    services,
                    DiskOrder::Duplicate {
                        path: checkpoint,
                        from: disk,
                    },
                )
                .await
            }
        };
        steps
            .await
            .map_err(|error| failure_of(&error, "preparing the handoff disk"))?;
    }
    Ok(Outcome::DiskPrepared {
        took_ms: elapsed_ms(begun),
    })
}

/// Where the replayed stage stands in the chain it came from; a replay's own chain has one stage.
fn replayed_index(order: &Order) -> usize {
    order.plan.replayed_index.unwrap_or(0)
}

fn replayed_first(order: &Order) -> bool {
    order.plan.replayed_first_on_disk
}

async fn fresh(services: &Services, path: PathBuf, size_mib: u64) -> Result<(), HvError> {
    services.hypervisor.remove_disk(&path).await?;
    make(services, DiskOrder::Raw { path, size_mib }).await
}

async fn make(services: &Services, order: DiskOrder) -> Result<(), HvError> {
    patiently(services, || services.hypervisor.make_disk(&order)).await
}

pub async fn attach(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let machine = order.machine()?;
    let disk = handoff(services, order);
    patiently(services, || {
        services.hypervisor.attach_disk(machine.domain(), &disk)
    })
    .await
    .map_err(|error| failure_of(&error, "attaching the handoff disk"))?;
    Ok(Outcome::Attached {
        took_ms: elapsed_ms(begun),
    })
}

pub async fn detach(services: &Services, order: &Order) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let machine = order.machine()?;
    let disk = handoff(services, order);
    patiently(services, || {
        services.hypervisor.detach_disk(machine.domain(), &disk)
    })
    .await
    .map_err(|error| failure_of(&error, "taking the handoff disk back"))?;
    Ok(Outcome::Detached {
        took_ms: elapsed_ms(begun),
    })
}

/// Removes what the run had, but for the handoff disk when it is the run's result.
pub async fn remove(
    services: &Services,
    order: &Order,
    cancel: &CancellationToken,
) -> Result<Outcome, Failure> {
    let run = order.run.id;
    let mut disks: Vec<PathBuf> = (0..order.plan.stages.len())
        .map(|index| services.settings.checkpoint(run, index))
        .collect();
    if !order.plan.keeps_disk(&order.run) {
        disks.push(services.settings.handoff_disk(run));
    }
    let gone = insistently(cancel, "disk", || async {
        for disk in &disks {
            services.hypervisor.remove_disk(disk).await?;
        }
        Ok(())
    });
    Ok(gone
        .await
        .map_or(Outcome::Cancelled, |()| Outcome::DisksRemoved))
}

fn handoff(services: &Services, order: &Order) -> AttachedDisk {
    AttachedDisk {
        path: services.settings.handoff_disk(order.run.id),
        serial: HANDOFF_SERIAL.to_owned(),
    }
}
