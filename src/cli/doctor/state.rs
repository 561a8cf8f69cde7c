//! The state folder: writable, with room, reachable for QEMU, and its database readable.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::libvirt::QemuUser;
use super::{Finding, text};
use crate::store::Store;

/// Below this a base image's build or a handoff disk will fail.
const LITTLE_MIB: u64 = 5 << 10;
/// Below this the database itself is in danger.
const NOTHING_MIB: u64 = 512;

pub fn folder(state: &Path) -> Vec<Finding> {
    let shown = state.display();
    if !state.exists() {
        return vec![nearest_is_writable(state)];
    }
    let mut found = Vec::new();
    found.push(if !state.is_dir() {
        Finding::bad(
            "state",
            format!("{shown} is not a folder"),
            "name another with --state or GREENROOM_STATE",
        )
    } else if access(state, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        Finding::bad(
            "state",
            format!("{shown} is not writable for you"),
            "run as the daemon's user, or give that user the folder",
        )
    } else {
        Finding::ok("state", shown.to_string())
    });
    if let Ok(system) = statvfs(state) {
        let free_mib =
            (u128::from(system.blocks_available()) * u128::from(system.fragment_size())) >> 20;
        let free_mib = u64::try_from(free_mib).unwrap_or(u64::MAX);
        let shown = format!("{} free in {shown}", text::mib(free_mib));
        found.push(if free_mib < NOTHING_MIB {
            Finding::bad("space", shown, "free some: the database needs it to go on")
        } else if free_mib < LITTLE_MIB {
            Finding::note("space", shown, "free some before building large images")
        } else {
            Finding::ok("space", shown)
        });
    }
    found
}

fn nearest_is_writable(state: &Path) -> Finding {
    let shown = state.display();
    let above = state.ancestors().find(|folder| folder.exists());
    let can_make = above.is_some_and(|folder| access(folder, AccessFlags::W_OK).is_ok());
    if can_make {
        Finding::ok("state", format!("{shown} will be made at the first start"))
    } else {
        Finding::bad(
            "state",
            format!("{shown} is not there and you may not make it"),
            format!(
                "sudo install -d -o $USER {shown}, or name another with --state or GREENROOM_STATE"
            ),
        )
    }
}

/// A running daemon has the database open, which says enough.
pub async fn database(path: &Path, daemon_runs: bool) -> Finding {
    let shown = path.display();
    if daemon_runs {
        return Finding::ok("database", "open in the daemon");
    }
    if !path.exists() {
        return Finding::ok(
            "database",
            format!("{shown} will be made at the first start"),
        );
    }
    match Store::open(path).await {
        Ok(_) => Finding::ok("database", shown.to_string()),
        Err(error) => Finding::bad(
            "database",
            error.to_string(),
            "restore it from a backup, or move it away to begin anew",
        ),
    }
}

/// libvirt gives QEMU's user its files, but not the folders above them.
pub fn reach(state: &Path, user: QemuUser) -> Finding {
    let mut folders: Vec<&Path> = state.ancestors().collect();
    folders.reverse();
    let wall = folders
        .into_iter()
        .filter_map(|folder| Some((folder, folder.metadata().ok()?)))
        .find(|(_, data)| !may_pass(data.mode(), data.uid(), data.gid(), user));
    match wall {
        None => Finding::ok(
            "reach",
            format!("QEMU's user (uid {}) gets to the state folder", user.uid),
        ),
        Some((folder, _)) => Finding::bad(
            "reach",
            format!(
                "QEMU's user (uid {}) cannot pass through {}",
                user.uid,
                folder.display()
            ),
            format!("chmod o+x {}", folder.display()),
        ),
    }
}

/// By the folder's mode; access control lists are not looked at.
fn may_pass(mode: u32, owner: u32, group: u32, user: QemuUser) -> bool {
    if user.uid == 0 {
        return true;
    }
    let bit = if owner == user.uid {
        0o100
    } else if group == user.gid {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lets_through_whom_its_mode_names() {
        let user = QemuUser {
            uid: 64_055,
            gid: 109,
        };
        assert!(may_pass(0o711, 0, 0, user));
        assert!(!may_pass(0o700, 0, 0, user));
        assert!(may_pass(0o710, 0, 109, user));
        assert!(
            !may_pass(0o601, 0, 109, user),
            "the group's bit counts for its members"
        );
        assert!(may_pass(0o700, 0, 0, QemuUser { uid: 0, gid: 0 }));
    }
}
