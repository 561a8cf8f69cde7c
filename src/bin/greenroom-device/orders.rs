//! In the ramdisk: who I am, what I am, then heartbeats; an order is done by a thread of its own, so
//! that long work is never taken for silence.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Failure, Server};
use crate::sys::{boot_id, kernel_argument, uptime_ms};
use crate::wire::{Doing, Heartbeat, Inventory, Order, PROTOCOL, Register, Registered};
use crate::{image, inventory};

/// What the work has to say, for the next heartbeat.
pub type Progress = Arc<Mutex<Doing>>;

pub fn serve() -> Result<(), String> {
    let url =
        kernel_argument("greenroom.url").ok_or("the kernel command line has no greenroom.url=")?;
    let server = Server::new(&url)?;
    let found = inventory::take();
    loop {
        let session = register(&server, &found);
        println!("greenroom: this device is {}", session.device);
        obey(&server, &session, &found);
        // The session is not known any more: begin anew.
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn register(server: &Server, found: &Inventory) -> Registered {
    let boot_mac = kernel_argument("greenroom.mac")
        .unwrap_or_default()
        .replace('-', ":");
    let mut pause = Duration::from_millis(250);
    loop {
        let order = Register {
            protocol: PROTOCOL,
            boot_id: boot_id(),
            boot_mac: boot_mac.clone(),
            claims: found.claims(),
            uptime_ms: uptime_ms(),
        };
        match server.post("/device/v1/register", None, &order) {
            Ok(registered) => return registered,
            Err(why) => {
                println!("greenroom: registering: {why}; again in {pause:?}");
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(15));
            }
        }
    }
}

/// Returns when the server does not know the session.
fn obey(server: &Server, session: &Registered, found: &Inventory) {
    let every = Duration::from_millis(session.heartbeat_ms.clamp(100, 60_000));
    let bearer = Some(session.session.as_str());
    let mut told = false;
    let progress: Progress = Arc::new(Mutex::new(Doing::Idle));
    let mut work: Option<Receiver<Doing>> = None;
    let mut sequence = 0;
    let mut said = String::new();
    loop {
        if !told {
            told = match server.post::<Value>("/device/v1/inventory", bearer, found) {
                Ok(_) => true,
                Err(Failure::Refused(401, _)) => return,
                Err(why) => {
                    println!("greenroom: telling the inventory: {why}");
                    false
                }
            };
        }
        if let Some(ended) = &work {
            match ended.try_recv() {
                Ok(result) => {
                    *lock(&progress) = result;
                    work = None;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    let run = run_of(&lock(&progress));
                    *lock(&progress) = Doing::Failed {
                        run,
                        why: "the work ended without a result".to_owned(),
                    };
                    work = None;
                }
            }
        }
        let doing = lock(&progress).clone();
        let is_result = matches!(doing, Doing::Installed { .. } | Doing::Failed { .. });
        sequence += 1;
        let heartbeat = Heartbeat {
            boot_id: boot_id(),
            sequence,
            doing,
        };
        match server.post::<Order>("/device/v1/heartbeat", bearer, &heartbeat) {
            Ok(order) => {
                if is_result && work.is_none() {
                    // It was heard.
                    *lock(&progress) = Doing::Idle;
                }
                let shown = format!("{order:?}");
                if shown != said && !matches!(order, Order::Install { .. }) {
                    println!("greenroom: {shown}");
                    said = shown;
                }
                match order {
                    Order::Wait { .. } => {}
                    Order::Reboot => leave("reboot"),
                    Order::PowerOff => leave("poweroff"),
                    Order::Install { run, token, disk } if work.is_none() => {
                        println!("greenroom: installing run {run} on {disk}");
                        *lock(&progress) = Doing::Installing {
                            run,
                            written: 0,
                            of: 0,
                        };
                        work = Some(start(server, session, run, token, disk, &progress));
                    }
                    Order::Install { .. } => {}
                }
            }
            Err(Failure::Refused(401, _)) => return,
            Err(why) => println!("greenroom: heartbeat: {why}"),
        }
        std::thread::sleep(every);
    }
}

fn start(
    server: &Server,
    session: &Registered,
    run: i64,
    token: String,
    disk: String,
    progress: &Progress,
) -> Receiver<Doing> {
    let (done, ended) = mpsc::channel();
    let (server, session, progress) = (server.clone(), session.session.clone(), progress.clone());
    std::thread::spawn(move || {
        let result = match image::install(&server, &session, run, &token, &disk, &progress) {
            Ok(digest) => Doing::Installed { run, digest },
            Err(why) => {
                println!("greenroom: installing: {why}");
                Doing::Failed {
                    run,
                    why: why.chars().take(500).collect(),
                }
            }
        };
        let _ = done.send(result);
    });
    ended
}

pub fn lock(progress: &Progress) -> std::sync::MutexGuard<'_, Doing> {
    progress
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn run_of(doing: &Doing) -> i64 {
    match doing {
        Doing::Idle => 0,
        Doing::Installing { run, .. }
        | Doing::Installed { run, .. }
        | Doing::Failed { run, .. } => *run,
    }
}

/// Busybox's init ends the system; the hard way where it does not.
fn leave(how: &str) {
    println!("greenroom: {how}");
    let _ = std::process::Command::new("/bin/sync").status();
    let _ = std::process::Command::new(format!("/sbin/{how}"))
        .arg("-f")
        .status();
    std::thread::sleep(Duration::from_secs(60));
}
