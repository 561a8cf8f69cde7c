//! What a device can be given: `images/catalogue.yaml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub variants: BTreeMap<String, Variant>,
    pub applications: BTreeMap<String, Offer>,
}

/// A system that a device can have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    #[serde(default)]
    pub description: String,
    pub arch: Vec<String>,
    /// Needed by the system alone.
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub locales: Vec<String>,
    pub keyboards: Vec<String>,
    pub desktops: Vec<String>,
    /// Name and program.
    pub shells: BTreeMap<String, String>,
    pub editors: Vec<String>,
    /// Groups that a user can be in.
    pub groups: Vec<String>,
    pub services: Vec<String>,
    /// Most partitions besides the system's own.
    pub data_partitions: usize,
}

/// An application that can be installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    #[serde(default)]
    pub description: String,
    /// By variant; where none is, it cannot be had.
    pub versions: BTreeMap<String, String>,
    pub memory_mib: u64,
    pub disk_mib: u64,
    /// Such as `80/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
    #[serde(default)]
    pub services: Vec<String>,
    /// By name: the characters that a value may have beside letters and digits.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Every device has it: nothing is installed for it.
    #[serde(default)]
    pub included: bool,
}

static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::parse(include_str!("../../images/catalogue.yaml")).expect("a test reads it")
});

impl Catalogue {
    /// The one that the program brings: it describes the images that the program builds.
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// # Errors
    /// Says what is wrong with the text, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

/// Whether a version keeps a bound such as `>= 1.22`, both in Debian's order of versions.
pub fn keeps(version: &str, bound: &str) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (sign, wanted) = bound.split_once(' ').unwrap_or(("=", bound));
    let order = compare(version, wanted);
    match sign {
        ">=" => order != Less,
        "<=" => order != Greater,
        ">" => order == Greater,
        "<" => order == Less,
        // `1.22` means 1.22 in whichever build.
        _ => {
            order == Equal
                || version
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with(['.', '-', '+']))
        }
    }
}

/// Debian Policy 5.6.12, epochs included.
pub fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    fn epoch(version: &str) -> (u64, &str) {
        match version.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, version),
        }
    }
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    epoch_a.cmp(&epoch_b).then_with(|| {
        let split = |version: &str| match version.rsplit_once('-') {
            Some((upstream, revision)) => (upstream.to_owned(), revision.to_owned()),
            None => (version.to_owned(), String::new()),
        };
        let ((up_a, rev_a), (up_b, rev_b)) = (split(a), split(b));
        parts(&up_a, &up_b).then_with(|| parts(&rev_a, &rev_b))
    })
}

/// Letters and figures in turn: letters before other characters, `~` before everything, even the end.
fn parts(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering::Equal;
    let weight = |c: Option<char>| match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() => c as i32,
        Some(c) => c as i32 + 256,
    };
    let (mut a, mut b) = (a.chars().peekable(), b.chars().peekable());
    loop {
        loop {
            let (x, y) = (a.peek().copied(), b.peek().copied());
            let figures = |c: Option<char>| c.is_none_or(|c| c.is_ascii_digit());
            if figures(x) && figures(y) {
                break;
            }
            let order = weight(x).cmp(&weight(y));
            if order != Equal {
                return order;
            }
            a.next();
            b.next();
        }
        let number = |of: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut value: u128 = 0;
            while let Some(digit) = of.peek().and_then(|c| c.to_digit(10)) {
                value = value.saturating_mul(10).saturating_add(u128::from(digit));
                of.next();
            }
            value
        };
        let order = number(&mut a).cmp(&number(&mut b));
        if order != Equal {
            return order;
        }
        if a.peek().is_none() && b.peek().is_none() {
            return Equal;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalogue_reads() {
        let catalogue = Catalogue::shipped();
        assert!(catalogue.applications.values().all(|offer| {
            offer
                .versions
                .keys()
                .all(|variant| catalogue.variants.contains_key(variant))
        }));
    }

    #[test]
    fn versions_are_ordered_as_debian_orders_them() {
        for pair in [
            ("1.0~rc1", "1.0"),
            ("1.9", "1.22"),
            ("1.22", "1.22.1"),
            ("1.22.1-2", "1.22.1-10"),
            ("2.0", "1:0.1"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+b"),
        ] {
            assert_eq!(
                compare(pair.0, pair.1),
                std::cmp::Ordering::Less,
                "{pair:?}"
            );
            assert_eq!(
                compare(pair.1, pair.0),
                std::cmp::Ordering::Greater,
                "{pair:?}"
            );
        }
        assert!(
            keeps("1.22.1", ">= 1.22")
                && keeps("1.22.1", "= 1.22")
                && !keeps("1.22.1", "> 1.22.1")
                && keeps("1.22.1", "< 2")
        );
        assert!(!keeps("1.220", "= 1.22"));
    }
}
