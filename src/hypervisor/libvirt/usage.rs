//! What machines use: libvirt's statistics, and the kernel's account of their processes for memory.
//!
//! The many are asked for over a connection of their own, and with `NOWAIT`: a QEMU that stands still
//! holds up one call once, and no other call of the program with it.

use std::collections::BTreeMap;
use std::time::Duration;

use virt::connect::Connect;
use virt::sys;

use super::connection::{Call, CallKind};
use super::{errors, ffi, machines, memory};
use crate::hypervisor::{HvError, MachineUsage};
use crate::vocab::MachineId;

const GROUPS: u32 = sys::VIR_DOMAIN_STATS_CPU_TOTAL
    | sys::VIR_DOMAIN_STATS_BALLOON
    | sys::VIR_DOMAIN_STATS_INTERFACE
    | sys::VIR_DOMAIN_STATS_BLOCK;

/// One look at several machines, once a second: whoever waits longer has missed the next one.
pub const LOOK: Call = Call {
    what: "usage-of",
    patience: Duration::from_secs(10),
    kind: CallKind::Read,
};

/// Numbers since the start, except that those of detached disks are gone with them.
pub fn of(connect: &Connect, id: MachineId) -> Result<MachineUsage, HvError> {
    let domain = connect
        .lookup_domain_by_uuid(id.0)
        .map_err(errors::about(id))?;
    let stats = ffi::stats(&domain, GROUPS).map_err(errors::about(id))?;
    if stats.is_empty() {
        // libvirt leaves domains that just stopped out of its answer.
        return Err(HvError::NoSuchMachine(id));
    }
    let touched = memory::touched_by(&[id]);
    Ok(sum_up(&stats, touched.get(&id).copied()))
}

/// The same of several, in one look.
pub fn of_all(
    connect: &Connect,
    ids: &[MachineId],
) -> Result<BTreeMap<MachineId, MachineUsage>, HvError> {
    let mut domains = Vec::new();
    for id in ids {
        domains.extend(machines::unless_gone(connect.lookup_domain_by_uuid(id.0))?);
    }
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let stats = ffi::stats_of(&domains, GROUPS, flags).map_err(|error| errors::of(&error))?;
    let touched = memory::touched_by(ids);
    Ok(stats
        .into_iter()
        // Without its processor time it is one that has just stopped.
        .filter(|(_, numbers)| numbers.iter().any(|(name, _)| name == "cpu.time"))
        .map(|(id, numbers)| {
            let id = MachineId(id);
            (id, sum_up(&numbers, touched.get(&id).copied()))
        })
        .collect())
}

/// Names as in virConnectGetAllDomainStats: `cpu.time` in ns, `balloon.rss` in KiB, per-device bytes.
fn sum_up(stats: &[(String, u64)], touched_mib: Option<f64>) -> MachineUsage {
    let one = |name: &str| {
        stats
            .iter()
            .find(|(found, _)| found == name)
            .map_or(0, |(_, value)| *value)
    };
    let all = |group: &str, suffix: &str| {
        let fits = |name: &str| {
            name.strip_prefix(group)
                .is_some_and(|rest| rest.ends_with(suffix))
        };
        stats
            .iter()
            .filter(|(name, _)| fits(name))
            .map(|(_, value)| value)
            .sum()
    };
    MachineUsage {
        cpu_ms: one("cpu.time") as f64 / 1e6,
        rss_mib: one("balloon.rss") as f64 / 1024.0,
        touched_mib: touched_mib.unwrap_or(0.0),
        disk_read_bytes: all("block.", ".rd.bytes"),
        disk_written_bytes: all("block.", ".wr.bytes"),
        net_received_bytes: all("net.", ".rx.bytes"),
        net_sent_bytes: all("net.", ".tx.bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let stats = [
            ("cpu.time", 1_500_000),
            ("balloon.rss", 2048),
            ("block.count", 2),
            ("block.0.rd.bytes", 1),
            ("block.1.rd.bytes", 2),
            ("block.1.wr.bytes", 4),
            ("net.0.rx.bytes", 8),
            ("net.0.tx.bytes", 16),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let expected = MachineUsage {
            cpu_ms: 1.5,
            rss_mib: 2.0,
            touched_mib: 64.0,
            disk_read_bytes: 3,
            disk_written_bytes: 4,
            net_received_bytes: 8,
            net_sent_bytes: 16,
        };
        assert_eq!(sum_up(&stats, Some(64.0)), expected);
    }
}
