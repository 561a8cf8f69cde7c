//! libvirt as this user finds it: a read-only connection of our own, because the daemon may not run.

use std::time::Duration;

use virt::connect::Connect;

use super::Finding;
use crate::config::HypervisorConfig;

/// A libvirtd that hangs is as bad as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// The user that QEMU runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QemuUser {
    pub uid: u32,
    pub gid: u32,
}

/// What libvirt told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    libvirt: String,
    /// None: it knows no QEMU.
    qemu: Result<String, String>,
    network: NetworkSeen,
    pub qemu_user: Option<QemuUser>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NetworkSeen {
    Active,
    Inactive,
    Missing(String),
}

/// Asks libvirt; in vain after some seconds.
///
/// On a thread that has ended when this returns: one that ends while the process does takes down
/// libvirt's thread-local state during the exit handlers, which corrupts the heap now and then. Only
/// a libvirt that hangs leaves its thread behind.
pub async fn look(config: &HypervisorConfig) -> Result<Seen, String> {
    let (uri, network) = (config.uri.clone(), config.network.clone());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("libvirt".to_owned())
        .spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = answer.send(ask(&uri, &network));
        })
        .map_err(|error| format!("no thread to ask it on: {error}"))?;
    match tokio::time::timeout(PATIENCE, answered).await {
        // The connection is closed: what is left of the thread takes no time.
        Ok(answer) => match (thread.join(), answer) {
            (Ok(()), Ok(answer)) => answer,
            _ => Err("asking it broke".to_owned()),
        },
        Err(_) => Err(format!("it did not answer within {PATIENCE:?}")),
    }
}

fn ask(uri: &str, network: &str) -> Result<Seen, String> {
    // Without this libvirt's library prints every error on standard error by itself.
    virt::error::clear_error_callback();
    let said = |error: virt::error::Error| error.message().to_owned();
    let connect = Connect::open_read_only(Some(uri)).map_err(said)?;
    let seen = Seen {
        libvirt: dotted(connect.lib_version().map_err(said)?),
        qemu: connect.hyp_version().map(dotted).map_err(said),
        network: match connect.lookup_network_by_name(network) {
            Ok(found) if found.is_active().unwrap_or(false) => NetworkSeen::Active,
            Ok(_) => NetworkSeen::Inactive,
            Err(error) => NetworkSeen::Missing(said(error)),
        },
        qemu_user: connect.capabilities().ok().and_then(|xml| qemu_user(&xml)),
    };
    Ok(seen)
}

/// libvirt writes versions as major × 1,000,000 + minor × 1,000 + release.
fn dotted(version: u32) -> String {
    format!(
        "{}.{}.{}",
        version / 1_000_000,
        version / 1_000 % 1_000,
        version % 1_000
    )
}

/// From the capabilities' security model: `<baselabel type='kvm'>+64055:+109</baselabel>`.
fn qemu_user(capabilities: &str) -> Option<QemuUser> {
    let document = roxmltree::Document::parse(capabilities).ok()?;
    let dac = document.descendants().find(|node| {
        node.has_tag_name("secmodel")
            && node
                .children()
                .any(|child| child.has_tag_name("model") && child.text() == Some("dac"))
    })?;
    let label = dac
        .children()
        .find(|child| child.has_tag_name("baselabel"))?
        .text()?;
    let (uid, gid) = label.split_once(':')?;
    let number = |text: &str| text.trim_start_matches('+').parse().ok();
    Some(QemuUser {
        uid: number(uid)?,
        gid: number(gid)?,
    })
}

pub fn findings(config: &HypervisorConfig, seen: Result<Seen, String>) -> Vec<Finding> {
    let uri = &config.uri;
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => {
            let repair = if why.contains("ermission denied") || why.contains("authentication") {
                "join the group libvirt (newgrp libvirt), or use sudo"
            } else {
                "start it with `systemctl start libvirtd`; install libvirt-daemon-system if it is not there"
            };
            return vec![Finding::bad("libvirt", format!("{uri}: {why}"), repair)];
        }
    };
    let network = &config.network;
    vec![
        Finding::ok("libvirt", format!("{} at {uri}", seen.libvirt)),
        match seen.qemu {
            Ok(version) => Finding::ok("qemu", version),
            Err(why) => Finding::bad(
                "qemu",
                format!("libvirt knows none: {why}"),
                "install qemu-system-x86 and restart libvirtd",
            ),
        },
        match seen.network {
            NetworkSeen::Active => Finding::ok("network", network.clone()),
            NetworkSeen::Inactive => Finding::bad(
                "network",
                format!("{network} is not active"),
                format!(
                    "virsh -c {uri} net-start {network} && virsh -c {uri} net-autostart {network}"
                ),
            ),
            NetworkSeen::Missing(why) => Finding::bad(
                "network",
                why,
                format!(
                    "define it, or name another in hypervisor.network or GREENROOM_NETWORK; `virsh -c {uri} net-list --all` lists them"
                ),
            ),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemus_user_is_read_from_the_capabilities() {
        let capabilities = "<capabilities><host>
            <secmodel><model>apparmor</model><doi>0</doi></secmodel>
            <secmodel><model>dac</model><doi>0</doi>
              <baselabel type='kvm'>+64055:+109</baselabel>
              <baselabel type='qemu'>+64055:+109</baselabel></secmodel>
            </host></capabilities>";
        let expected = QemuUser {
            uid: 64_055,
            gid: 109,
        };
        assert_eq!(qemu_user(capabilities), Some(expected));
        assert_eq!(qemu_user("<capabilities/>"), None);
    }

    #[test]
    fn a_refused_socket_and_a_missing_one_have_different_repairs() {
        let config = HypervisorConfig::default();
        let denied = findings(
            &config,
            Err("Failed to connect socket: Permission denied".into()),
        );
        let missing = findings(
            &config,
            Err("Failed to connect socket: No such file".into()),
        );
        assert_ne!(denied[0].repair, missing[0].repair);
        assert_eq!(denied.len(), 1);
    }
}
