//! The alphabets of single texts. What passes here can be written into the file it is meant for as it
//! is: no quote, separator or control character that means something there.

mod system;

pub use system::{KERNEL_WORD, MOUNT, NFT_RULE, SYSCTL, SYSCTL_VALUE, UNIT};

use super::shape::{Word, Wrong};
use crate::chain::faults::quoted;

pub fn only(text: &str, longest: usize, ok: impl Fn(char) -> bool) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("the text is empty"));
    }
    if text.len() > longest {
        return Err(Wrong::new(format!(
            "the text has {} characters",
            text.len()
        )));
    }
    match text.chars().find(|c| !ok(*c)) {
        None => Ok(text.to_owned()),
        Some(c) => Err(Wrong::new(format!(
            "{} contains {}",
            quoted(text),
            quoted(&c.to_string())
        ))),
    }
}

fn starts(text: &str, ok: impl Fn(char) -> bool) -> Result<(), Wrong> {
    match text.chars().next() {
        Some(c) if !ok(c) => Err(Wrong::new(format!(
            "{} begins with {}",
            quoted(text),
            quoted(&c.to_string())
        ))),
        _ => Ok(()),
    }
}

fn small(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

pub static NAME: Word = Word {
    expected: "a name: letters, digits, `.`, `_`, `-`",
    parse: |text| {
        starts(text, |c| c.is_ascii_alphanumeric())?;
        only(text, 64, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
        })
    },
};

pub static LABEL: Word = Word {
    expected: "a label: small letters, digits, `.`, `_`, `-`, `/`",
    parse: |text| only(text, 64, |c| small(c) || matches!(c, '.' | '_' | '-' | '/')),
};

pub static LABEL_VALUE: Word = Word {
    expected: "a label's value: letters, digits, `.`, `_`, `-`, at most 64",
    parse: |text| {
        only(text, 64, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
        })
    },
};

/// A role becomes part of the names of files and, with a VLAN's number, of an interface, which has at
/// most 15 characters (IFNAMSIZ).
pub static ROLE: Word = Word {
    expected: "a role: small letters, digits, `-`, at most 10",
    parse: |text| {
        starts(text, |c| c.is_ascii_lowercase())?;
        only(text, 10, |c| small(c) || c == '-')
    },
};

pub static LOCALE: Word = Word {
    expected: "a locale such as `C.UTF-8`",
    parse: |text| {
        only(text, 32, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@')
        })
    },
};

pub static TIMEZONE: Word = Word {
    expected: "a time zone such as `Europe/Berlin`",
    parse: |text| {
        let zone = only(text, 64, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+')
        })?;
        if zone.split('/').any(str::is_empty) {
            return Err(Wrong::new(format!(
                "{} is not the name of a time zone",
                quoted(text)
            )));
        }
        Ok(zone)
    },
};

pub static PACKAGE: Word = Word {
    expected: "an application's name: small letters, digits, `+`, `.`, `-`",
    parse: |text| {
        starts(text, small)?;
        only(text, 63, |c| small(c) || matches!(c, '+' | '.' | '-'))
    },
};

pub static CONSTRAINT: Word = Word {
    expected: "a version such as `1.22.1`, or a bound such as `>= 1.22`",
    parse: |text| {
        let bound = text.trim();
        let (sign, version) = ["<=", ">=", "<", ">", "="]
            .iter()
            .find_map(|sign| bound.strip_prefix(sign).map(|rest| (*sign, rest.trim())))
            .unwrap_or(("=", bound));
        let figure = version.starts_with(|c: char| c.is_ascii_digit());
        let plain = version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '~' | ':' | '-'));
        if !figure || !plain || version.len() > 64 {
            return Err(Wrong::new(format!("{} is not a version", quoted(text))));
        }
        Ok(format!("{sign} {version}"))
    },
};

pub static SETTING: Word = Word {
    expected: "a setting's name: small letters, digits, `_`",
    parse: |text| only(text, 64, |c| small(c) || c == '_'),
};

/// Settings go into documents, never into a configuration file as they are.
pub static SETTING_VALUE: Word = Word {
    expected: "a line of text of at most 256 characters",
    parse: |text| only(text, 256, |c| !c.is_control()),
};

pub static SECRET_REF: Word = Word {
    expected: "a reference: where the secret is kept, such as `vault:shop/tls-key`",
    parse: |text| {
        let wrong = || {
            Wrong::new("this is not a reference to a secret")
                .suggesting("keep the secret in a store and write `store:path` here")
        };
        let (store, path) = text.split_once(':').ok_or_else(wrong)?;
        let plain = |text: &str, more: &[char]| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
        };
        if text.len() > 200
            || !plain(store, &['-'])
            || !plain(path, &['/', '.', '_', '-', '#'])
            || path.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(wrong());
        }
        Ok(text.to_owned())
    },
};

pub static PROSE: Word = Word {
    expected: "text of at most 2000 characters",
    parse: |text| {
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(String::new());
        }
        only(text, 2000, |c| c == '\n' || !c.is_control())
    },
};

/// Names that Debian's base system has taken.
const TAKEN: [&str; 26] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "gnats",
    "nobody",
    "sshd",
    "messagebus",
    "_apt",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "systemd-coredump",
    "sudo",
];

pub static USER_NAME: Word = Word {
    expected: "a user's name: small letters, digits, `_`, `-`, at most 31, first a letter or `_`",
    parse: |text| {
        starts(text, |c| c.is_ascii_lowercase() || c == '_')
            .map_err(|wrong| mended(wrong, text))?;
        let name = only(text, 31, |c| small(c) || matches!(c, '_' | '-'))
            .map_err(|wrong| mended(wrong, text))?;
        if TAKEN.contains(&name.as_str()) || name.starts_with("systemd-") {
            return Err(Wrong::new(format!(
                "the user name {} is taken by the system",
                quoted(text)
            )));
        }
        Ok(name)
    },
};

fn mended(wrong: Wrong, text: &str) -> Wrong {
    let name: String = text
        .to_lowercase()
        .chars()
        .filter(|c| small(*c) || matches!(c, '_' | '-'))
        .take(31)
        .collect();
    if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return wrong.suggesting(format!("for example `{name}`"));
    }
    wrong
}

pub static GROUP_NAME: Word = Word {
    expected: "a group's name: small letters, digits, `_`, `-`, at most 31",
    parse: |text| {
        starts(text, |c| c.is_ascii_lowercase() || c == '_')?;
        only(text, 31, |c| small(c) || matches!(c, '_' | '-'))
    },
};
