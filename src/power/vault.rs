//! Passwords of BMCs: a type that does not show them, and the folder in which they are kept.
//!
//! Each is a file of its own, mode 0600 in a folder of mode 0700, with a random name that the BMC's row
//! holds. A new password is a new file: written, flushed to disk, then named by the row, then the old one
//! is removed, so that a crash leaves a file too much and never one too few. [`Vault::tidy`] removes what
//! no row names. `ipmitool` reads the file itself.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest password, bytes.
pub const MAX_PASSWORD_BYTES: usize = 256;

/// Cannot be shown: neither `Debug` nor `Display` nor `Serialize` tells it. Overwritten when it goes.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password as a person gave it; the end of a file's last line is no part of it.
    pub fn parse(text: String) -> Result<Self, String> {
        let mut text = Zeroizing::new(text);
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
        if text.is_empty() {
            return Err("the password is empty".into());
        }
        if text.len() > MAX_PASSWORD_BYTES {
            return Err(format!(
                "the password has {} bytes, {MAX_PASSWORD_BYTES} at most are allowed",
                text.len()
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("the password has a control character in it, such as the end of a line: give one line".into());
        }
        Ok(Self(text))
    }

    /// The one way to see it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The folder of passwords. Its functions block for a file's time.
#[derive(Debug, Clone)]
pub struct Vault {
    folder: PathBuf,
}

impl Vault {
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps a password. Returns the name under which it is kept, which has been flushed to disk.
    pub fn keep(&self, password: &Password) -> io::Result<String> {
        self.prepare()?;
        let name = hex::encode(rand::random::<[u8; 16]>());
        let mut file = std::fs::File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(self.path(&name))?;
        file.write_all(password.reveal().as_bytes())?;
        file.sync_all()?;
        std::fs::File::open(&self.folder)?.sync_all()?;
        Ok(name)
    }

    pub fn read(&self, name: &str) -> Result<Password, String> {
        let path = self.path(name);
        let explain = |why: String| {
            format!(
                "the BMC's password is not in {} ({why}); set it again with `greenroom device bmc set`",
                path.display()
            )
        };
        let file = std::fs::File::open(&path).map_err(|error| explain(error.to_string()))?;
        let mut text = Zeroizing::new(String::with_capacity(MAX_PASSWORD_BYTES + 1));
        file.take(MAX_PASSWORD_BYTES as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|error| explain(error.to_string()))?;
        Password::parse(std::mem::take(&mut *text)).map_err(explain)
    }

    /// Forgets a password. One that is gone already is no failure.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what no row names: a crash came between the file and its row.
    pub fn tidy(&self, named: &[String]) -> io::Result<usize> {
        self.prepare()?;
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !named.contains(&name) {
                self.forget(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The folder, and that nobody else may look into it: an older one may have been copied with less.
    fn prepare(&self) -> io::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o700))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_for_its_owner_alone_and_shows_itself_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::at(folder.path().join("bmc"));
        let password = Password::parse("hunter two\n".into()).unwrap();
        assert_eq!(format!("{password:?}"), "Password(…)");
        let name = vault.keep(&password).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&vault.path(&name)), 0o600);
        assert_eq!(mode(vault.folder()), 0o700);
        assert_eq!(vault.read(&name).unwrap().reveal(), "hunter two");
        let other = vault.keep(&password).unwrap();
        assert_eq!(vault.tidy(std::slice::from_ref(&name)).unwrap(), 1);
        assert!(vault.read(&other).unwrap_err().contains("bmc set"));
        vault.forget(&name).unwrap();
        vault.forget(&name).unwrap();
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for bad in ["", "\n", "a\nb", "a\tb", "x\0"] {
            assert!(Password::parse(bad.into()).is_err(), "{bad:?}");
        }
        assert!(Password::parse("x".repeat(MAX_PASSWORD_BYTES + 1)).is_err());
        assert!(Password::parse("ä".repeat(MAX_PASSWORD_BYTES / 2)).is_ok());
    }
}
