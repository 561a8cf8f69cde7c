//! From an expectation to a machine's size: rounding, the chain's bounds, and more after a shortage.

use super::model::after_shortage;
use crate::vocab::Lack;
use crate::vocab::machine::Size;

/// What the chain allows of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub min: u64,
    pub max: u64,
}

/// An amount within its room, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    pub amount: u64,
    /// Empty where nothing was changed.
    pub note: String,
}

impl Room {
    /// The amount, rounded up, within the room; what is not finite is the least.
    pub fn fit(self, amount: f64, unit: &str, round: impl Fn(f64) -> u64) -> Fitted {
        let wanted = if amount.is_finite() {
            round(amount)
        } else {
            self.min
        };
        let most = self.max.max(self.min);
        let (amount, note) = match wanted {
            less if less < self.min => (
                self.min,
                format!(
                    "{less} {unit} were clipped to the chain's least, {}",
                    self.min
                ),
            ),
            more if more > most => (
                most,
                format!("{more} {unit} were clipped to the chain's most, {most}"),
            ),
            fits => (fits, String::new()),
        };
        Fitted { amount, note }
    }
}

/// MiB in steps of about a tenth, so that like wants share machines of the pool.
pub fn round_memory(mib: f64) -> u64 {
    let mib = mib.clamp(1.0, 1e9).ceil() as u64;
    let step = match mib {
        0..=128 => 8,
        129..=512 => 32,
        513..=2048 => 64,
        _ => 256,
    };
    mib.next_multiple_of(step)
}

/// Whole vCPUs for percents of a CPU. A little more than whole does not buy another: the emulator's own
/// threads take that much.
pub fn round_vcpus(percent: f64) -> u64 {
    const SPARED: f64 = 25.0;
    ((percent.clamp(0.0, 1e6) - SPARED) / 100.0).ceil().max(1.0) as u64
}

/// kB/s in steps of two digits.
pub fn round_network(kbytes_per_s: f64) -> u64 {
    let rate = kbytes_per_s.clamp(1.0, 1e12).ceil() as u64;
    let step = 10u64.pow(rate.ilog10().saturating_sub(1));
    rate.next_multiple_of(step)
}

/// The size of the next try after tries with these sizes lacked something: more of that, up to what the
/// chain allows.
pub fn after(planned: Size, tries: &[(Size, Lack)], memory: Room, vcpus: Room) -> Size {
    let mut size = planned;
    for (given, lacked) in tries {
        match lacked {
            Lack::Memory => {
                let more = after_shortage(given.memory_mib as f64, memory.max as f64);
                let more = round_memory(more).min(memory.max);
                size.memory_mib = size.memory_mib.max(more).max(given.memory_mib);
            }
            Lack::Cpu => {
                let more = u64::from(given.vcpus) + 1;
                let more = u32::try_from(more.min(vcpus.max)).unwrap_or(u32::MAX);
                size.vcpus = size.vcpus.max(more).max(given.vcpus);
            }
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 64,
        network_kbytes_per_s: None,
    };

    #[test]
    fn amounts_are_rounded_clipped_and_it_is_said() {
        let room = Room { min: 64, max: 512 };
        let fit = |amount| room.fit(amount, "MiB", round_memory);
        assert_eq!((fit(130.0).amount, fit(130.0).note.as_str()), (160, ""));
        assert_eq!(fit(1e300).amount, 512);
        assert!(fit(4000.0).note.contains("most, 512"), "{:?}", fit(4000.0));
        assert!(fit(-5.0).note.contains("least, 64"));
        assert_eq!(fit(f64::NAN).amount, 64);
        assert_eq!(
            [
                round_vcpus(0.0),
                round_vcpus(99.0),
                round_vcpus(120.0),
                round_vcpus(126.0)
            ],
            [1, 1, 1, 2]
        );
        assert_eq!([round_network(0.0), round_network(1234.0)], [1, 1300]);
    }

    #[test]
    fn a_shortage_gets_more_until_the_chains_most() {
        let (memory, vcpus) = (Room { min: 128, max: 400 }, Room { min: 1, max: 2 });
        let with = |memory_mib, vcpus| Size {
            memory_mib,
            vcpus,
            ..SIZE
        };
        let next = |tries: &[(Size, Lack)]| after(SIZE, tries, memory, vcpus);
        assert_eq!(next(&[]), SIZE);
        let first = (SIZE, Lack::Memory);
        assert_eq!(next(&[first]), with(192, 1));
        let second = (with(192, 1), Lack::Memory);
        assert_eq!(next(&[first, second]), with(288, 1));
        let third = (with(288, 1), Lack::Memory);
        assert_eq!(next(&[first, second, third]), with(400, 1));
        let busy = (SIZE, Lack::Cpu);
        assert_eq!(next(&[busy]), with(128, 2));
        assert_eq!(next(&[busy, first]), with(192, 2));
        assert_eq!(next(&[busy, (with(128, 2), Lack::Cpu)]), with(128, 2));
    }
}
