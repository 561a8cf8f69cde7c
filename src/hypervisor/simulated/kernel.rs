//! What a simulated guest's kernel knows: its size, its names, its clock, its network cards, its
//! random numbers and its log. Files of `/proc` and `/sys` are made from it when they are read.

use std::time::Duration;

use tokio::time::Instant;

use super::random::SplitMix;

/// 2026-01-01, 00:00 UTC, in seconds of the epoch: the time at which every world begins.
const WORLD_BEGINS_S: u64 = 1_767_225_600;

/// What a guest has touched when it has booted.
const OWN_MEMORY_MIB: u64 = 48;

/// The words of Linux's `drivers/char/random.c` for a new generation id.
pub const RESEED_WORDS: &str = "random: crng reseeded due to virtual machine fork";

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const UUID: &str = "/proc/sys/kernel/random/uuid";

#[derive(Debug, Clone)]
pub struct Kernel {
    pub host_name: String,
    pub vcpus: u32,
    /// What the machine was made with.
    pub memory_mib: u64,
    /// What was added since.
    pub added_mib: u64,
    /// Memory that programs took.
    pub taken_mib: u64,
    /// MAC addresses, `eth0` first.
    pub nics: Vec<String>,
    pub random: SplitMix,
    /// The virtual machine generation id that the kernel saw last.
    pub generation: u64,
    /// Kernel messages with their time stamps, a line each.
    pub log: String,
    booted: Instant,
    /// The clock showed this at `set_at`.
    clock_s: u64,
    set_at: Instant,
}

/// The size and look of a machine that boots.
#[derive(Debug, Clone)]
pub struct Board {
    pub host_name: String,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub mac: Option<String>,
    pub cmdline: String,
    pub seed: u64,
    pub generation: u64,
    /// Since the world began.
    pub world_age: Duration,
}

impl Kernel {
    pub fn boot(board: Board, now: Instant) -> Self {
        let mut kernel = Self {
            host_name: board.host_name,
            vcpus: board.vcpus,
            memory_mib: board.memory_mib,
            added_mib: 0,
            taken_mib: 0,
            nics: board.mac.into_iter().collect(),
            random: SplitMix::new(board.seed),
            generation: board.generation,
            log: String::new(),
            booted: now,
            clock_s: WORLD_BEGINS_S + board.world_age.as_secs(),
            set_at: now,
        };
        kernel.say(now, "Linux version 0 (simulated)");
        kernel.say(now, &format!("Command line: {}", board.cmdline));
        kernel
    }

    /// Adds a line to the log and returns it.
    pub fn say(&mut self, now: Instant, words: &str) -> String {
        let up = now.saturating_duration_since(self.booted).as_secs_f64();
        let line = format!("[{up:12.6}] {words}\n");
        self.log.push_str(&line);
        line
    }

    /// Seconds of the epoch, as the guest believes.
    pub fn clock_s(&self, now: Instant) -> u64 {
        self.clock_s + now.saturating_duration_since(self.set_at).as_secs()
    }

    pub fn set_clock(&mut self, seconds: u64, now: Instant) {
        self.clock_s = seconds;
        self.set_at = now;
    }

    /// A program takes memory; none where there is not enough, and the kernel says whom it ended.
    pub fn take_memory(&mut self, mib: u64, now: Instant) -> Option<()> {
        self.taken_mib = self.taken_mib.max(mib);
        if OWN_MEMORY_MIB + mib <= self.memory_mib + self.added_mib {
            return Some(());
        }
        self.say(now, "Out of memory: Killed process 321 (sh)");
        None
    }

    /// Memory that was ever touched.
    pub fn touched_mib(&self) -> u64 {
        (OWN_MEMORY_MIB + self.taken_mib).min(self.memory_mib + self.added_mib)
    }

    /// The guest did not run for so long and did not notice.
    pub fn skip(&mut self, pause: Duration) {
        self.booted += pause;
        self.set_at += pause;
    }

    /// The guest sees a generation id. A new one makes it forget its random numbers' past.
    pub fn see_generation(&mut self, generation: u64, now: Instant) -> Option<String> {
        if generation == self.generation {
            return None;
        }
        self.generation = generation;
        self.random.reseed(generation);
        Some(self.say(now, RESEED_WORDS))
    }

    pub fn reseeded(&self) -> bool {
        self.log.contains(RESEED_WORDS)
    }

    /// A random UUID (version 4, RFC 9562), as the kernel writes it.
    pub fn draw(&mut self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.random.bytes(16));
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    }

    /// `MemTotal`, KiB: the kernel keeps a thirty-second and 16 MiB for itself, about what a small
    /// guest of Debian's 6.12 kernel shows. Memory that was added counts in full.
    pub fn mem_total_kib(&self) -> u64 {
        let own = self.memory_mib - self.memory_mib / 32;
        (own.saturating_sub(16) + self.added_mib) << 10
    }

    /// A file of `/proc`, `/sys` or a device; `None` for a path that is none. `at_most` bounds what
    /// has no end.
    pub fn file(&mut self, path: &str, at_most: Option<usize>) -> Option<Vec<u8>> {
        let text = match path {
            UUID => format!("{}\n", self.draw()),
            HOSTNAME => format!("{}\n", self.host_name),
            "/proc/meminfo" => {
                let total = self.mem_total_kib();
                let free = total / 4 * 3;
                format!(
                    "MemTotal:       {total:8} kB\nMemFree:        {free:8} kB\nMemAvailable:   {free:8} kB\n"
                )
            }
            "/proc/cpuinfo" => (0..self.vcpus)
                .map(|cpu| format!("processor\t: {cpu}\n\n"))
                .collect(),
            "/dev/urandom" | "/dev/random" => return Some(self.random.bytes(at_most?)),
            _ => {
                let rest = path.strip_prefix("/sys/class/net/")?;
                let mac = match rest.strip_suffix("/address")? {
                    "lo" => "00:00:00:00:00:00",
                    card => self
                        .nics
                        .get(card.strip_prefix("eth")?.parse::<usize>().ok()?)?,
                };
                format!("{mac}\n")
            }
        };
        Some(text.into_bytes())
    }

    /// Whether reading the path makes something; takes nothing from the random numbers.
    pub fn has_file(&self, path: &str) -> bool {
        self.clone().file(path, Some(1)).is_some()
    }

    /// A guest has written a file; some of them change the kernel's mind.
    pub fn was_written(&mut self, path: &str, bytes: &[u8]) {
        if path == HOSTNAME {
            self.host_name = String::from_utf8_lossy(bytes).trim().to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(seed: u64) -> Kernel {
        let board = Board {
            host_name: "guest".into(),
            vcpus: 2,
            memory_mib: 512,
            mac: Some("52:54:00:00:00:01".into()),
            cmdline: String::new(),
            seed,
            generation: 1,
            world_age: Duration::ZERO,
        };
        Kernel::boot(board, Instant::now())
    }

    #[test]
    fn a_new_generation_separates_two_copies() {
        let past = kernel(7);
        let now = Instant::now();
        let (mut a, mut b, mut c) = (past.clone(), past.clone(), past);
        assert_eq!(a.see_generation(1, now), None);
        assert!(b.see_generation(2, now).is_some() && c.see_generation(3, now).is_some());
        let draws = [a.draw(), b.draw(), c.draw()];
        assert!(draws[0] != draws[1] && draws[0] != draws[2] && draws[1] != draws[2]);
        assert!(!a.reseeded() && b.reseeded());
        assert_eq!(draws[0], kernel(7).draw());
        assert_ne!(draws[0], kernel(8).draw());
    }

    #[test]
    fn the_files_say_what_there_is() {
        let mut kernel = kernel(1);
        let mut read = |path| {
            kernel
                .file(path, None)
                .map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(
            read("/sys/class/net/eth0/address").unwrap(),
            "52:54:00:00:00:01\n"
        );
        assert_eq!(read("/sys/class/net/eth1/address"), None);
        assert_eq!(
            read("/proc/cpuinfo").unwrap().matches("processor").count(),
            2
        );
        let before = kernel.mem_total_kib();
        assert!(before > 400 << 10 && before < 512 << 10);
        kernel.added_mib = 256;
        assert_eq!(kernel.mem_total_kib() - before, 256 << 10);
    }

    #[test]
    fn the_clock_stops_while_the_guest_does() {
        let mut kernel = kernel(1);
        let now = Instant::now();
        kernel.set_clock(1_000, now);
        let hour = Duration::from_secs(3600);
        kernel.skip(hour);
        assert_eq!(kernel.clock_s(now + hour + Duration::from_secs(5)), 1_005);
    }
}
