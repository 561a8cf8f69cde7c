//! The socket: claimed by one server at a time, never world-accessible, replaced only when stale.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tokio::net::UnixListener;

/// A socket that is ours until [`Held`] is dropped.
pub struct Claim {
    listener: UnixListener,
    held: Held,
}

/// Keeps others away; removes the socket file at its end.
pub struct Held {
    path: PathBuf,
    inode: u64,
    _lock: Flock<File>,
}

impl Claim {
    pub fn into_parts(self) -> (UnixListener, Held) {
        (self.listener, self.held)
    }
}

/// Listens at `path`, mode 0660, owned by `group` or our own.
pub fn claim(path: &Path, group: Option<&str>) -> io::Result<Claim> {
    let group = group.map(gid_of).transpose()?;
    let lock = lock(path)?;
    remove_stale(path)?;
    // Bound under another name and renamed: there is no moment at which the socket can be found with
    // other permissions than it is to have.
    let new = with_suffix(path, ".new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&new, error)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(|error| named(&new, error))?;
    // The group first: nobody is let in by the mode who is not of it.
    std::os::unix::fs::chown(&new, None, group)
        .and_then(|()| std::fs::set_permissions(&new, Permissions::from_mode(0o660)))
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| named(path, error))?;
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok(Claim {
        listener,
        held: Held {
            path: path.to_owned(),
            inode,
            _lock: lock,
        },
    })
}

fn gid_of(name: &str) -> io::Result<u32> {
    match nix::unistd::Group::from_name(name)? {
        Some(group) => Ok(group.gid.as_raw()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no group {name:?}; see socket_group or GREENROOM_SOCKET_GROUP"),
        )),
    }
}

/// Two servers that start at the same time must not both find the same socket stale.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let lock_path = with_suffix(path, ".lock");
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&lock_path)
        .and_then(|file| {
            // Whoever may open it could hold it.
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        })
        .map_err(|error| named(&lock_path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            taken(path)
        } else {
            named(&lock_path, errno.into())
        }
    })
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(path, error)),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{} is there and is not a socket; move it away",
                path.display()
            ),
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(taken(path)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| named(path, error))
        }
        Err(error) => Err(named(path, error)),
    }
}

fn taken(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::AddrInUse,
        format!(
            "another daemon serves {}; see `greenroom status`",
            path.display()
        ),
    )
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Drop for Held {
    fn drop(&mut self) {
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let lock = with_suffix(&path, ".lock");
        std::fs::write(&lock, "").unwrap();
        std::fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
        let (listener, held) = claim(&path, None).unwrap().into_parts();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let mode = std::fs::metadata(&lock).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "an older one is closed to others too");
        assert_eq!(
            claim(&path, None).err().unwrap().kind(),
            io::ErrorKind::AddrInUse
        );
        drop((listener, held));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_belongs_to_the_group_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let own = nix::unistd::Group::from_gid(nix::unistd::getegid());
        let Ok(Some(own)) = own else {
            eprintln!("skipped: our group has no name here");
            return;
        };
        let _claim = claim(&path, Some(&own.name)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().gid(), own.gid.as_raw());
        let other = folder.path().join("t");
        let error = claim(&other, Some("no-such-group")).err().unwrap();
        assert!(error.to_string().contains("no-such-group"), "{error}");
        assert!(!other.exists());
    }

    #[tokio::test]
    async fn a_server_without_our_lock_is_left_alone_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(
            claim(&path, None).err().unwrap().kind(),
            io::ErrorKind::AddrInUse
        );
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        let error = claim(&path, None).err().unwrap();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
