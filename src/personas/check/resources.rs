//! What the device must have, against what system, applications and partitions need.

use super::{Finding, Judge};
use crate::vocab::persona::Range;

/// Boot loaders and file systems take so much of a disk beside what is on them.
const DISK_OVERHEAD_MIB: u64 = 128;

impl Judge<'_> {
    pub fn resources(&mut self) {
        let resources = &self.document().resources;
        for (name, range) in [
            ("vcpus", resources.vcpus),
            ("memory_mib", resources.memory_mib),
            ("disk_mib", resources.disk_mib),
        ] {
            self.range(name, range);
        }
        let Some(variant) = self.variant() else {
            return;
        };
        let offers: Vec<_> = self
            .document()
            .applications
            .iter()
            .filter_map(|application| Some((&application.name, self.offer(application)?)))
            .collect();
        let with = if offers.is_empty() {
            String::new()
        } else {
            let names: Vec<&str> = offers.iter().map(|(name, _)| name.as_str()).collect();
            format!(" with {}", names.join(", "))
        };
        let what = format!("{}{with}", self.document().os.variant);
        let memory = variant.memory_mib
            + offers
                .iter()
                .map(|(_, offer)| offer.memory_mib)
                .sum::<u64>();
        if resources.memory_mib.min < memory {
            let finding = Finding::new(format!(
                "{what} needs {memory} MiB of memory, {} MiB are asked for",
                resources.memory_mib.min
            ));
            self.fault(
                &[
                    "resources.memory_mib.min",
                    "resources.memory_mib",
                    "applications",
                ],
                finding.expecting(format!("at least `{memory} MiB`")),
            );
        }
        let parts: u64 = resources
            .partitions
            .iter()
            .map(|partition| partition.size_mib)
            .sum();
        let disk = variant.disk_mib
            + DISK_OVERHEAD_MIB
            + parts
            + offers.iter().map(|(_, offer)| offer.disk_mib).sum::<u64>();
        if resources.disk_mib.min < disk {
            let and = if parts > 0 {
                format!(" and {parts} MiB of partitions")
            } else {
                String::new()
            };
            let finding = Finding::new(format!(
                "{what}{and} needs {disk} MiB of disk, {} MiB are asked for",
                resources.disk_mib.min
            ));
            self.fault(
                &[
                    "resources.disk_mib.min",
                    "resources.disk_mib",
                    "resources.partitions",
                    "applications",
                ],
                finding.expecting(format!("at least `{disk} MiB`")),
            );
        }
        if resources.partitions.len() > variant.data_partitions {
            let finding = Finding::new(format!(
                "there are {} partitions beside the system's",
                resources.partitions.len()
            ));
            let last = resources
                .partitions
                .last()
                .map(|partition| format!("resources.partitions[{}]", partition.mount))
                .unwrap_or_default();
            self.fault(
                &[&last, "resources.partitions"],
                finding.expecting(format!(
                    "at most {} for {}",
                    variant.data_partitions,
                    self.document().os.variant
                )),
            );
        }
        if let Some(idle) = self.document().expected.idle_memory_mib
            && idle > resources.memory_mib.min
        {
            let finding = Finding::new(format!(
                "{idle} MiB are expected to be in use when idle, and the device may have {} MiB",
                resources.memory_mib.min
            ));
            self.warn(
                &["expected.idle_memory_mib", "resources.memory_mib.min"],
                finding,
            );
        }
    }

    fn range(&mut self, name: &str, range: Range) {
        if range.max.is_some_and(|max| max < range.min) {
            let finding = Finding::new("`min` is larger than `max`");
            let (min, max) = (
                format!("resources.{name}.min"),
                format!("resources.{name}.max"),
            );
            self.fault(
                &[&max, &min],
                finding.suggesting("swap them, or give both where one is inherited"),
            );
        }
    }
}
