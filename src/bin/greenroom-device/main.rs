//! The program inside the device: says what the device is, asks what to do, and does only that.
//!
//! ```text
//! greenroom-device ramdisk     in the network-booted ramdisk: register, inventory, then orders
//! greenroom-device report      on the delivered system: telemetry
//! greenroom-device inventory   prints the inventory as JSON
//! ```
//!
//! In the ramdisk, server and boot card come from the kernel command line (`greenroom.url=`,
//! `greenroom.mac=`). Small on purpose: threads and blocking sockets, no runtime.

use std::process::ExitCode;

mod code;
mod details;
mod http;
mod image;
mod inventory;
mod orders;
mod report;
mod seed;
mod sys;
#[path = "../../netboot/wire.rs"]
#[allow(dead_code)]
mod wire;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("ramdisk") => orders::serve(),
        Some("report") => report::serve(),
        Some("inventory") => inventory::print(),
        _ => Err("use: greenroom-device ramdisk | report | inventory".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("greenroom-device: {why}");
            ExitCode::FAILURE
        }
    }
}
