//! What an idle daemon takes: the real program, on the lab's libvirt.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Figure, figure};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(30);

pub fn measure() -> Vec<Figure> {
    if std::env::var_os("GREENROOM_LAB_READY").is_none() {
        eprintln!("idle: skipped, because it needs the lab; run `vagrant/lab bench`");
        return Vec::new();
    }
    let lab =
        PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab sets GREENROOM_STATE"));
    let state = tempfile::Builder::new()
        .prefix("idle-")
        .tempdir_in(lab)
        .expect("a folder in the lab");
    let daemon = Daemon::start(state.path());
    // The first reconciliations are part of starting.
    std::thread::sleep(Duration::from_secs(5));
    let before = daemon.cpu_ticks();
    std::thread::sleep(WATCHED);
    let ticks = daemon.cpu_ticks() - before;
    // clock_t is 1/100 s on Linux for every program (proc(5), sysconf(_SC_CLK_TCK)).
    let cpu_pct = ticks as f64 / 100.0 / WATCHED.as_secs_f64() * 100.0;
    vec![
        figure(
            "idle_rss_mib",
            daemon.rss_kib() as f64 / 1024.0,
            "MiB",
            "≤ 60",
            1,
        ),
        figure("idle_cpu_pct", cpu_pct, "%", "< 1", 1),
    ]
}

struct Daemon(Child);

impl Daemon {
    fn start(state: &std::path::Path) -> Self {
        let socket = state.join("greenroom.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_greenroom"))
            .args(["serve", "--state"])
            .arg(state)
            .env("GREENROOM_SOCKET", &socket)
            .env("GREENROOM_ACCELERATOR", "tcg")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        let daemon = Self(child);
        let begun = Instant::now();
        while !socket.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the daemon does not open its socket"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).expect("the daemon runs")
    }

    fn rss_kib(&self) -> u64 {
        let status = self.read("status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a resident size");
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// User and system time, in clock ticks: fields 14 and 15 of proc_pid_stat(5).
    fn cpu_ticks(&self) -> u64 {
        let stat = self.read("stat");
        let after_name = stat.rsplit(')').next().expect("fields");
        let fields: Vec<u64> = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse().expect("a number"))
            .collect();
        fields.iter().sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
