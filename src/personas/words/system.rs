//! Words for the kernel, systemd, and nft.

use super::{only, small};
use crate::chain::faults::quoted;
use crate::personas::shape::{Word, Wrong};

/// Words of a kernel command line that the boot loader sets, or that take the system away from its owner.
pub(super) const BOOT_WORDS: [&str; 8] = [
    "root",
    "init",
    "rdinit",
    "initrd",
    "BOOT_IMAGE",
    "ro",
    "rw",
    "break",
];

pub static KERNEL_WORD: Word = Word {
    expected: "a word for the kernel's command line, such as `console=ttyS0`",
    parse: |text| {
        let word = only(text, 128, |c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_' | '-' | '=' | ',' | ':' | '/' | '@' | '+')
        })?;
        let key = word.split('=').next().unwrap_or_default();
        if BOOT_WORDS.contains(&key) || key.starts_with("rd.") {
            return Err(Wrong::new(format!(
                "{} is set by the boot loader",
                quoted(key)
            )));
        }
        Ok(word)
    },
};

pub static SYSCTL: Word = Word {
    expected: "a kernel setting such as `net.ipv4.ip_forward`",
    parse: |text| {
        let key = only(text, 128, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
        })?;
        let parts: Vec<&str> = key.split('.').collect();
        if parts.len() < 2 || parts.iter().any(|part| part.is_empty()) {
            return Err(Wrong::new(format!(
                "{} is not a kernel setting",
                quoted(text)
            )));
        }
        Ok(key)
    },
};

pub static SYSCTL_VALUE: Word = Word {
    expected: "a kernel setting's value: letters, digits, blanks, `.`, `,`, `:`, `/`, `|`, `%`, `_`, `-`",
    parse: |text| {
        only(text, 128, |c| {
            c.is_ascii_alphanumeric()
                || matches!(c, ' ' | '.' | ',' | ':' | '/' | '|' | '%' | '_' | '-')
        })
    },
};

pub static MOUNT: Word = Word {
    expected: "a folder below /srv, /data or /var/lib, such as `/srv/data`",
    parse: |text| {
        let below = ["/srv/", "/data/", "/var/lib/"]
            .iter()
            .find_map(|root| text.strip_prefix(root));
        let parts: Vec<&str> = below.unwrap_or_default().split('/').collect();
        let part_ok = |part: &&str| {
            part.starts_with(small)
                && part.len() <= 32
                && part.chars().all(|c| small(c) || matches!(c, '_' | '-'))
        };
        if below.is_none() || parts.len() > 3 || !parts.iter().all(part_ok) {
            return Err(Wrong::new(format!(
                "{} cannot be a partition's place",
                quoted(text)
            )));
        }
        Ok(text.to_owned())
    },
};

pub static UNIT: Word = Word {
    expected: "a systemd service such as `nginx.service`",
    parse: |text| {
        let name = text.strip_suffix(".service").ok_or_else(|| {
            Wrong::new(format!("{} is not the name of a service", quoted(text)))
                .suggesting(format!("write `{text}.service`"))
        })?;
        only(name, 128, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':')
        })?;
        Ok(text.to_owned())
    },
};

/// Words that would end the chain that a rule stands in, open files, or change something else.
pub(super) const NOT_IN_RULES: [&str; 17] = [
    "include", "define", "redefine", "undefine", "table", "chain", "flush", "delete", "destroy",
    "insert", "create", "reset", "rename", "replace", "import", "export", "monitor",
];

pub static NFT_RULE: Word = Word {
    expected: "one rule in nft's words, such as `tcp dport 8080 accept`",
    parse: |text| {
        let rule = only(text.trim(), 500, |c| {
            c.is_ascii_alphanumeric() || " .:,/_-@<>=!&|{}\"+*".contains(c)
        })?;
        let mut depth = 0_i32;
        for c in rule.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth < 0 {
                break;
            }
        }
        if depth != 0 || rule.matches('"').count() % 2 != 0 {
            return Err(Wrong::new(
                "the rule has a brace or a quote without its other half",
            ));
        }
        let words = rule.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'));
        for word in words {
            if NOT_IN_RULES.contains(&word) {
                return Err(
                    Wrong::new(format!("{} does not belong in a rule", quoted(word))).suggesting(
                        "a rule matches packets and ends in a verdict such as `accept`",
                    ),
                );
            }
        }
        Ok(rule)
    },
};
