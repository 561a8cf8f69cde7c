//! The files that a persona becomes on a device. What `persona preview` shows is what the chain
//! `onboard` writes.
//!
//! Every file has a writer of its own that knows the file's syntax; no text of a user's or device's
//! is ever put into a template. All values have passed the alphabets of [`super::words`] and
//! [`super::network`]; [`Page`] takes out control characters all the same, so that a value cannot
//! begin a line.

mod firewall;
mod login;
mod network;
mod seed;

use serde::Serialize;

use super::catalogue::Catalogue;
use super::resolve::Resolved;
use crate::vocab::Digest;
use crate::vocab::persona::Document;

pub use firewall::{FIRST_RULE_LINE, nftables};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// On the device; without a leading `/` it is for the installation only.
    pub path: String,
    pub mode: String,
    pub text: String,
}

impl File {
    fn new(path: impl Into<String>, text: String) -> Self {
        Self {
            path: path.into(),
            mode: "0644".into(),
            text,
        }
    }

    fn private(mut self) -> Self {
        self.mode = "0600".into();
        self
    }
}

/// All files, those for the device first.
pub fn files(
    document: &Document,
    resolved: &Resolved,
    catalogue: &Catalogue,
    device: &str,
    digest: Digest,
) -> Vec<File> {
    let mut files = vec![
        File::new(
            "/etc/hostname",
            Page::default().line(&[&resolved.hostname]).done(),
        ),
        File::new(
            "/etc/nftables.conf",
            nftables(&document.security.firewall, &document.security.ssh.from),
        )
        .private(),
        File::new(
            "/etc/ssh/sshd_config.d/10-policy.conf",
            login::sshd(document),
        ),
        File::new(
            "/etc/sysctl.d/zz-policy.conf",
            login::sysctl(&document.security.sysctl),
        ),
    ];
    files.extend(network::files(resolved));
    files.push(File::new(
        "/etc/timezone",
        Page::default().line(&[&document.os.timezone]).done(),
    ));
    files.push(File::new(
        "/etc/default/locale",
        Page::default().line(&["LANG=", &document.os.locale]).done(),
    ));
    files.push(File::new(
        "/etc/default/keyboard",
        Page::default()
            .line(&["XKBLAYOUT=\"", &document.os.keyboard, "\""])
            .done(),
    ));
    if !document.preferences.motd.is_empty() {
        let mut page = Page::default();
        for line in document.preferences.motd.lines() {
            page = page.line(&[line]);
        }
        files.push(File::new("/etc/motd", page.done()));
    }
    files.push(File::new(
        "packages",
        packages(document, catalogue)
            .iter()
            .fold(Page::default(), |page, name| page.line(&[name]))
            .done(),
    ));
    let instance = format!("{device}-{}", digest.short());
    files.extend(seed::files(
        document, resolved, catalogue, &instance, &files,
    ));
    files
}

/// The packages that have to be installed: what a device does not have anyway.
pub fn packages(document: &Document, catalogue: &Catalogue) -> Vec<String> {
    let is_included = |name: &str| {
        catalogue
            .applications
            .get(name)
            .is_some_and(|offer| offer.included)
    };
    document
        .applications
        .iter()
        .map(|application| application.name.clone())
        .filter(|name| !is_included(name))
        .collect()
}

/// Words for the kernel's command line.
pub fn cmdline(document: &Document) -> Vec<String> {
    let mut words = document.os.cmdline.clone();
    if document.security.audit && !words.iter().any(|word| word.starts_with("audit=")) {
        words.push("audit=1".into());
    }
    words
}

/// Lines of a file. A part can neither end its line nor hide anything in it.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    pub fn line(mut self, parts: &[&str]) -> Self {
        for part in parts {
            self.text.extend(part.chars().filter(|c| !c.is_control()));
        }
        self.text.push('\n');
        self
    }

    pub fn done(self) -> String {
        self.text
    }
}
