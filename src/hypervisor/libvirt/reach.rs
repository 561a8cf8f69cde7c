//! Can QEMU's user get to our files? libvirt gives it the files but not the folders above them, and
//! what QEMU says then ("Could not open …: Permission denied") does not name the folder.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::hypervisor::HvError;

/// The user that QEMU runs as, from libvirt's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QemuUser {
    pub uid: u32,
    pub gid: u32,
}

impl QemuUser {
    /// Refuses when a folder above one of `paths` cannot be passed through. Asks the kernel itself,
    /// with the user's file system identity on a thread of its own, so that access control lists
    /// count too. Passes when we are not root and cannot ask.
    pub fn check_reach(self, paths: Vec<PathBuf>) -> Result<(), HvError> {
        if !Uid::effective().is_root() || self.uid == 0 {
            return Ok(());
        }
        let ask = move || {
            // Affects this thread only (setfsuid(2)) and takes away root's right to ignore modes.
            setfsgid(Gid::from_raw(self.gid));
            setfsuid(Uid::from_raw(self.uid));
            paths.iter().find_map(|path| first_wall(path))
        };
        let wall = std::thread::Builder::new()
            .name("reach".to_owned())
            .spawn(ask)
            .map(|thread| thread.join());
        match wall {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(folder))) => Err(HvError::Refused(format!(
                "{0} cannot be passed through by QEMU's user (uid {1}); allow it with: chmod o+x {0}",
                folder.display(),
                self.uid
            ))),
            Ok(Err(_)) | Err(_) => Err(HvError::Host(
                "cannot check what QEMU's user may reach".to_owned(),
            )),
        }
    }
}

/// The first folder on the way to `path` in which nothing can be looked up.
fn first_wall(path: &Path) -> Option<PathBuf> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    ways.into_iter().find_map(|way| {
        let denied = way
            .symlink_metadata()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        if denied {
            way.parent().map(Path::to_owned)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_folder_that_is_in_the_way_is_named() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: only root can ask for another user");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let open = |mode| {
            std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(mode)).unwrap()
        };
        let file = root.path().join("a/disk");
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(&file, b"").unwrap();
        let user = QemuUser {
            uid: 64055,
            gid: 64055,
        };
        open(0o711);
        user.check_reach(vec![file.clone()]).unwrap();
        open(0o700);
        let error = user
            .check_reach(vec![file.clone()])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&root.path().display().to_string()),
            "{error}"
        );
        assert!(file.exists(), "our own rights are as before");
    }
}
