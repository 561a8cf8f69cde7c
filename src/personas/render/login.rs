//! The SSH server's policy and the kernel's settings.

use std::collections::BTreeMap;

use super::Page;
use crate::vocab::persona::Document;

/// A drop-in for `sshd_config`: the first value of a key counts, and Debian's own file reads the
/// folder of drop-ins first. Passwords and root are never a way in.
pub fn sshd(document: &Document) -> String {
    let ssh = &document.security.ssh;
    let yes = |on: bool| if on { "yes" } else { "no" };
    let mut page = Page::default();
    for (key, value) in [
        ("HostKey", "/etc/ssh/ssh_host_ed25519_key"),
        ("PermitRootLogin", "no"),
        ("PasswordAuthentication", "no"),
        ("KbdInteractiveAuthentication", "no"),
        ("PermitEmptyPasswords", "no"),
        ("MaxAuthTries", &ssh.max_tries.to_string()),
        ("LoginGraceTime", "30"),
        ("ClientAliveInterval", &ssh.idle_s.to_string()),
        ("ClientAliveCountMax", "2"),
        ("AllowAgentForwarding", yes(ssh.forwarding)),
        ("AllowTcpForwarding", yes(ssh.forwarding)),
        ("X11Forwarding", "no"),
        ("PermitUserEnvironment", "no"),
        ("LogLevel", "VERBOSE"),
    ] {
        page = page.line(&[key, " ", value]);
    }
    let users: Vec<&str> = document
        .preferences
        .users
        .iter()
        .map(|user| user.name.as_str())
        .collect();
    if !users.is_empty() {
        page = page.line(&["AllowUsers ", &users.join(" ")]);
    }
    page.done()
}

/// Debian's protect-links.conf is read after every file with a number: hence the name of this one.
pub fn sysctl(settings: &BTreeMap<String, String>) -> String {
    settings
        .iter()
        .fold(Page::default(), |page, (key, value)| {
            page.line(&[key, " = ", value])
        })
        .done()
}
