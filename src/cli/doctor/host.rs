//! The host: accelerator and tools.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Finding;
use crate::api::HostView;
use crate::config::AcceleratorChoice;
use crate::hypervisor::libvirt::NO_PROBE_IMAGE;

/// The daemon's verdict is from a guest that it booted; without a daemon only signs can be read.
pub fn accelerator(choice: AcceleratorChoice, host: Option<&HostView>) -> Finding {
    let slow = "guests are emulated: slower, and no security boundary; on hardware with virtualisation, enable it in the firmware (or nested virtualisation) and load the kvm module";
    if let Some(host) = host {
        let found = format!("{}: {}", host.accelerator, host.accelerator_reason);
        return if host.accelerator == "kvm" {
            Finding::ok("accelerator", found)
        } else {
            let repair = if host.accelerator_reason == NO_PROBE_IMAGE {
                "greenroom image build tiny, then restart the daemon"
            } else {
                slow
            };
            Finding::note("accelerator", found, repair)
        };
    }
    match choice {
        AcceleratorChoice::Tcg => {
            Finding::note("accelerator", "tcg: the configuration says so", slow)
        }
        AcceleratorChoice::Auto | AcceleratorChoice::Kvm if Path::new("/dev/kvm").exists() => {
            Finding::note(
                "accelerator",
                "/dev/kvm is there, which does not prove that it runs guests",
                "start the daemon, with the image tiny built: it boots a guest to find out",
            )
        }
        AcceleratorChoice::Auto => Finding::note("accelerator", "tcg: there is no /dev/kvm", slow),
        AcceleratorChoice::Kvm => Finding::bad(
            "accelerator",
            "the configuration says kvm, and there is no /dev/kvm",
            "load the kvm module, or set hypervisor.accelerator to auto",
        ),
    }
}

/// A program that has to be in PATH.
pub fn tool(name: &'static str, version_flag: &str, repair: &str) -> Finding {
    let output = Command::new(name)
        .arg(version_flag)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            Finding::ok(name, said.lines().next().unwrap_or("is there"))
        }
        Ok(output) => Finding::bad(name, format!("does not work: {}", output.status), repair),
        Err(error) => Finding::bad(name, format!("cannot be run: {error}"), repair),
    }
}
