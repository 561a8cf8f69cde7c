//! A machine's share of its host: processor time as a quota of its control group, memory through a
//! device that was there, empty, from the start.
//!
//! Fewer vCPUs than the machine has are a quota, because adding vCPUs later does not reach an emulated
//! Linux guest: tried with QEMU 10.0 and Linux 6.12, in one package and in several, it counts "plus 0
//! hotplug CPUs" at boot and then is "Unable to map lapic to logical cpu number". The quota is that of
//! the whole process, so that QEMU's own threads count. Where there is not enough for all, a fork that
//! is being made ready weighs less than machines that are used.

use std::path::Path;
use std::time::Duration;

use qapi::qmp;
use virt::domain::{Domain, SchedulerInfo};
use virt::sys;

use super::connection::Call;
use super::forks::is_empty_fork;
use super::monitor::{Fault, Monitor};
use super::qemu_args::{GROWTH, GROWTH_BLOCK_MIB};
use super::{Libvirt, errors};
use crate::hypervisor::{HvError, Share};
use crate::vocab::MachineId;

const RESIZE: Call = Call::change("resize", Duration::from_secs(30));

/// The kernel's default for the period of a quota, microseconds (Documentation/scheduler/sched-bwc.rst).
const PERIOD_US: u64 = 100_000;

/// A control group's weight, as all begin with it: 100 where groups are of version 2, else 1024
/// (Documentation/admin-guide/cgroup-v2.rst, Documentation/scheduler/sched-design-CFS.rst).
fn weight() -> u64 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        100
    } else {
        1024
    }
}

/// What a fork that nobody has weighs beside a machine that somebody has: 1 to 20.
const LIGHTER: u64 = 20;

impl Libvirt {
    /// A fresh fork steps back behind machines that are used, until it gets its share. Best effort: a
    /// host without control groups for CPUs lets all run alike.
    pub(super) async fn step_back(&self, id: MachineId) {
        let known = self.known(id);
        let set = self.control.call(RESIZE, move |connect| {
            let light = SchedulerInfo {
                cpu_shares: Some(weight() / LIGHTER),
                ..SchedulerInfo::default()
            };
            let set = known
                .find(connect)?
                .set_scheduler_parameters_flags(&light, sys::VIR_DOMAIN_AFFECT_LIVE);
            set.map_err(errors::about(id)).map(|_| ())
        });
        if let Err(error) = set.await {
            tracing::debug!(%id, %error, "it has the weight of all others");
        }
    }

    pub(super) async fn give_share(&self, id: MachineId, share: Share) -> Result<(), HvError> {
        let _turn = self.changes.take(&id).await;
        let (known, loaded) = (self.known(id), self.loaded.contains(&id));
        self.control
            .call(RESIZE, move |connect| {
                let domain = known.find(connect)?;
                limit_cpu(&domain, id, share.cpu_percent)?;
                if share.added_memory_mib == 0 {
                    return Ok(());
                }
                if !loaded && is_empty_fork(&domain, id)? {
                    return Err(HvError::Refused(format!(
                        "nothing was loaded into the fork {id} yet, and what is added before would be lost"
                    )));
                }
                add_memory(&domain, id, share.added_memory_mib)
            })
            .await
    }
}

fn limit_cpu(domain: &Domain, id: MachineId, percent: Option<u32>) -> Result<(), HvError> {
    const LIVE: u32 = sys::VIR_DOMAIN_AFFECT_LIVE;
    let of = |error| {
        if errors::is_not_running(&error) {
            HvError::NoSuchMachine(id)
        } else {
            errors::about(id)(error)
        }
    };
    let quota = match percent {
        Some(0) => {
            return Err(HvError::Refused(
                "a machine needs at least 1 percent of a CPU".to_owned(),
            ));
        }
        Some(percent) => i64::from(percent) * (PERIOD_US / 100) as i64,
        None => {
            // A host without control groups for CPUs has no limits, which is what is asked for.
            let Ok(now) = domain.scheduler_parameters_flags(LIVE) else {
                return Ok(());
            };
            let is_light = now.cpu_shares.is_some_and(|shares| shares < weight());
            if now.global_bw.quota.unwrap_or(0) <= 0 && !is_light {
                return Ok(());
            }
            -1
        }
    };
    let mut wanted = SchedulerInfo {
        cpu_shares: Some(weight()),
        ..SchedulerInfo::default()
    };
    if percent.is_some() {
        wanted.global_bw.period = Some(PERIOD_US);
    }
    wanted.global_bw.quota = Some(quota);
    domain
        .set_scheduler_parameters_flags(&wanted, LIVE)
        .map_err(of)
}

fn add_memory(domain: &Domain, id: MachineId, mib: u64) -> Result<(), HvError> {
    let monitor = Monitor { domain, id };
    let device = format!("/machine/peripheral/{GROWTH}");
    let Some(now) = monitor.property(&device, "requested-size")? else {
        return Err(HvError::Refused(format!(
            "no memory can be added to {id}: it was made without room for more"
        )));
    };
    let wanted = mib.next_multiple_of(GROWTH_BLOCK_MIB) << 20;
    if now.as_u64().is_some_and(|now| now >= wanted) {
        return Ok(());
    }
    let set = monitor.ask(qmp::qom_set {
        path: device,
        property: "requested-size".to_owned(),
        value: wanted.into(),
    });
    match set {
        Ok(_) => Ok(()),
        Err(Fault::Qemu(said)) => Err(HvError::Refused(format!(
            "{mib} MiB cannot be added to {id}: {said}"
        ))),
        Err(fault) => Err(fault.into()),
    }
}
