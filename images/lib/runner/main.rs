//! Runs stages' jobs in a guest, from within: what `launcher.sh` does by way of the guest agent, in a
//! tenth of the time.
//!
//! ```text
//! greenroom-runner serve         waits for orders on the virtio port dev.greenroom.runner
//! greenroom-runner run WORD…     one job, with the launcher's words after its name
//! ```
//!
//! Started by the image's init and asleep until the host says something. It is a convenience: a host
//! that gets no answer starts the same job through the agent, and the once-only guard lets one win. A
//! job's files, its end record and its codes are those of `launcher.sh` (see
//! `src/hypervisor/guest/launcher.rs`), one test suite for both.
//!
//! Built by `images/lib/runner.sh` with rustc alone, static and without any crate: hence the few
//! declarations of the C library's functions.

mod escape;
mod job;
mod port;
mod system;
mod wire;

use std::os::unix::ffi::OsStringExt;

fn main() {
    let mut words = std::env::args_os().skip(1);
    let mode = words.next().unwrap_or_default();
    let words: Vec<Vec<u8>> = words.map(OsStringExt::into_vec).collect();
    match mode.to_str() {
        Some("serve") if words.is_empty() => serve(),
        Some("run") => match job::Launch::from_words(&words) {
            Some(launch) => {
                system::outlive_the_session();
                std::process::exit(job::run(&launch).code)
            }
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!(
        "use: greenroom-runner serve | greenroom-runner run ROOT ATTEMPT BLOCK DEV SERIAL STAGED …"
    );
    std::process::exit(64);
}

fn serve() -> ! {
    let mut port = port::Port::wait_for();
    system::forget_ended_children();
    let mut lines = wire::Lines::default();
    loop {
        for line in lines.take(&port.read_all()) {
            answer(&mut port, &line);
        }
        port.wait();
    }
}

fn answer(port: &mut port::Port, line: &[u8]) {
    let Some(launch) = wire::order(line).and_then(|words| job::Launch::from_words(&words)) else {
        return;
    };
    // What comes through standard input has no way through the port.
    if launch.needs_stdin() {
        return port.say(&wire::refused(&launch.attempt));
    }
    match system::fork() {
        system::Forked::Child => {
            system::outlive_the_session();
            let end = job::run(&launch);
            if let Some(record) = &end.record {
                port.say(&wire::ended(&launch.attempt, record));
            }
            std::process::exit(end.code);
        }
        system::Forked::Parent => port.say(&wire::started(&launch.attempt)),
        system::Forked::Failed => port.say(&wire::refused(&launch.attempt)),
    }
}
