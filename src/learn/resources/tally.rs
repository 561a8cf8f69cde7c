//! Looks at a machine, added up to what it used. Pure; the same whether looks come once a second or are
//! read back after a restart.

use serde::{Deserialize, Serialize};

use crate::vocab::Timestamp;
use crate::vocab::prediction::Used;

/// One look: numbers since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    pub at: Timestamp,
    pub cpu_ms: f64,
    pub touched_mib: f64,
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    pub net_received_bytes: u64,
    pub net_sent_bytes: u64,
}

/// What was seen so far. A second with both ends is needed for a rate; looks nearer together than
/// [`LEAST_S`] are added to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    first: Option<Look>,
    last: Look,
    /// The look that the present rate is measured from.
    mark: Look,
    used: Used,
    short_s: f64,
}

/// A rate over less time is mostly rounding.
const LEAST_S: f64 = 0.5;
/// Longer without a look than this is a gap; rates over it are still right.
const GAP_S: f64 = 3.0;
/// From this share of what it has on, a machine uses all its processor time: QEMU's own threads and the
/// quota's period take the rest.
const ALL: f64 = 0.95;
/// More processor time than so many times the machine's vCPUs is a clock that jumped, not work: the
/// emulator's own threads were seen to add a fifth.
const MOST: f64 = 2.0;

impl Tally {
    /// Takes the next look; `vcpus` is what the machine has. Looks that are not later than the last, and
    /// numbers that went down (a detached disk takes its own along), add nothing.
    pub fn take(&mut self, look: Look, vcpus: u32) {
        if !look.cpu_ms.is_finite() || !look.touched_mib.is_finite() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(look);
            (self.last, self.mark) = (look, look);
            self.used.memory_mib = look.touched_mib;
            self.used.looks = 1;
            return;
        }
        let since = look.at.since(self.last.at).as_secs_f64();
        if since <= 0.0 {
            return;
        }
        let (used, last) = (&mut self.used, &self.last);
        used.looks += 1;
        used.watched_s += since;
        if since > GAP_S {
            used.gaps_s += since;
        }
        let most_ms = 1000.0 * since * MOST * f64::from(vcpus.max(1));
        used.cpu_ms += (look.cpu_ms - last.cpu_ms).clamp(0.0, most_ms);
        used.memory_mib = used.memory_mib.max(look.touched_mib);
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        used.disk_read_bytes += grown(look.disk_read_bytes, last.disk_read_bytes);
        used.disk_written_bytes += grown(look.disk_written_bytes, last.disk_written_bytes);
        used.net_received_bytes += grown(look.net_received_bytes, last.net_received_bytes);
        used.net_sent_bytes += grown(look.net_sent_bytes, last.net_sent_bytes);
        self.last = look;
        self.rate(look, vcpus);
    }

    fn rate(&mut self, look: Look, vcpus: u32) {
        let span = look.at.since(self.mark.at).as_secs_f64();
        if span < LEAST_S {
            return;
        }
        let most = 100.0 * MOST * f64::from(vcpus.max(1));
        let cpu = ((look.cpu_ms - self.mark.cpu_ms) / span / 10.0).clamp(0.0, most);
        self.used.cpu_peak_percent = self.used.cpu_peak_percent.max(cpu);
        if cpu >= ALL * 100.0 * f64::from(vcpus.max(1)) {
            self.short_s += span;
        }
        let received = look
            .net_received_bytes
            .saturating_sub(self.mark.net_received_bytes);
        let sent = look.net_sent_bytes.saturating_sub(self.mark.net_sent_bytes);
        let net = received.max(sent) as f64 / 1000.0 / span;
        self.used.net_peak_kbytes_per_s = self.used.net_peak_kbytes_per_s.max(net);
        self.mark = look;
    }

    /// What was used so far; none before the first look.
    pub fn used(&self) -> Option<Used> {
        self.first?;
        let mut used = self.used;
        if used.watched_s > 0.0 {
            used.cpu_mean_percent = used.cpu_ms / used.watched_s / 10.0;
            used.cpu_short_share = (self.short_s / used.watched_s).min(1.0);
        }
        // Work that was over before there was a rate.
        used.cpu_peak_percent = used.cpu_peak_percent.max(used.cpu_mean_percent);
        if used.net_peak_kbytes_per_s == 0.0 && used.watched_s > 0.0 {
            let bytes = used.net_received_bytes.max(used.net_sent_bytes);
            used.net_peak_kbytes_per_s = bytes as f64 / 1000.0 / used.watched_s;
        }
        Some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_ms: i64, cpu_ms: f64, touched_mib: f64, read: u64, received: u64) -> Look {
        Look {
            at: Timestamp(at_ms * 1000),
            cpu_ms,
            touched_mib,
            disk_read_bytes: read,
            net_received_bytes: received,
            ..Look::default()
        }
    }

    fn used(looks: &[Look]) -> Used {
        let mut tally = Tally::default();
        for look in looks {
            tally.take(*look, 1);
        }
        tally.used().unwrap()
    }

    #[test]
    fn peaks_means_and_sums() {
        let used = used(&[
            look(0, 500.0, 50.0, 100, 0),
            look(1000, 1500.0, 80.0, 300, 5_000),
            look(2000, 1700.0, 80.0, 300, 7_000),
        ]);
        assert_eq!(
            (used.cpu_ms, used.cpu_mean_percent, used.cpu_peak_percent),
            (1200.0, 60.0, 100.0)
        );
        assert_eq!((used.memory_mib, used.disk_read_bytes), (80.0, 200));
        assert_eq!(
            (used.net_peak_kbytes_per_s, used.cpu_short_share),
            (5.0, 0.5)
        );
    }

    #[test]
    fn gaps_duplicates_and_clocks_that_jump_add_nothing_absurd() {
        let steady = [
            look(0, 0.0, 50.0, 0, 0),
            look(1000, 100.0, 50.0, 10, 0),
            look(11_000, 1100.0, 60.0, 110, 0),
        ];
        let calm = used(&steady);
        assert_eq!((calm.gaps_s, calm.cpu_mean_percent.round()), (10.0, 10.0));
        let mut wild = steady.to_vec();
        // Twice the same, one from an hour ago, numbers that went down, and nonsense.
        wild.insert(2, steady[1]);
        wild.insert(3, look(-3_600_000, 50.0, 1.0, 5, 0));
        wild.insert(4, look(1500, 90.0, 50.0, 0, 0));
        wild.insert(5, look(1600, f64::NAN, 50.0, 0, 0));
        let seen = used(&wild);
        assert!((seen.cpu_ms - 1110.0).abs() < 1.0, "{seen:?}");
        assert!(seen.cpu_peak_percent <= 30.0, "{seen:?}");
        // A clock that stood still while the machine worked for an hour.
        let jump = used(&[look(0, 0.0, 1.0, 0, 0), look(1000, 3_600_000.0, 1.0, 0, 0)]);
        assert!(
            jump.cpu_peak_percent <= 200.0 && jump.cpu_ms <= 2000.0,
            "{jump:?}"
        );
    }

    #[test]
    fn one_look_and_short_work() {
        assert_eq!(Tally::default().used(), None);
        let one = used(&[look(0, 5.0, 9.0, 1, 1)]);
        assert_eq!((one.looks, one.cpu_ms, one.memory_mib), (1, 0.0, 9.0));
        let short = used(&[look(0, 0.0, 9.0, 0, 0), look(20, 10.0, 9.0, 0, 200)]);
        assert_eq!(
            (short.cpu_peak_percent, short.net_peak_kbytes_per_s),
            (50.0, 10.0)
        );
    }
}
