//! Addresses, networks and host names as texts of a persona.

use std::net::{IpAddr, Ipv4Addr};

use super::shape::{Word, Wrong};
use super::words::only;
use crate::chain::faults::quoted;

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        if prefix.len() > 3 || !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let prefix: u8 = prefix.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (1..=most)
            .contains(&prefix)
            .then_some(Self { address, prefix })
    }

    fn bits(address: IpAddr) -> (u128, u32) {
        match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        }
    }

    fn net_of(self, address: IpAddr) -> u128 {
        let (bits, width) = Self::bits(address);
        bits.checked_shr(width - u32::from(self.prefix))
            .unwrap_or(0)
    }

    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && self.net_of(address) == self.net_of(self.address)
    }

    pub fn overlaps(self, other: Self) -> bool {
        let wider = if self.prefix <= other.prefix {
            self
        } else {
            other
        };
        self.address.is_ipv4() == other.address.is_ipv4()
            && wider.net_of(self.address) == wider.net_of(other.address)
    }

    /// Whether a host can have this address: neither the network's own nor its broadcast address.
    /// Networks of two or one addresses (RFC 3021) have neither.
    pub fn is_host(self) -> bool {
        let (bits, width) = Self::bits(self.address);
        let host_bits = width - u32::from(self.prefix);
        if host_bits < 2 || self.address.is_ipv6() {
            return true;
        }
        let host = bits & ((1 << host_bits) - 1);
        host != 0 && host != (1 << host_bits) - 1
    }

    /// The network's own address.
    pub fn network(self) -> String {
        let (bits, width) = Self::bits(self.address);
        let host_bits = width - u32::from(self.prefix);
        let net = bits
            .checked_shr(host_bits)
            .unwrap_or(0)
            .checked_shl(host_bits)
            .unwrap_or(0);
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(net).unwrap_or(0)).to_string(),
            IpAddr::V6(_) => std::net::Ipv6Addr::from(net).to_string(),
        }
    }
}

/// `{hardware.serial}` as a whole text: the fact that it names.
pub fn fact(text: &str) -> Option<&str> {
    let path = text.strip_prefix('{')?.strip_suffix('}')?;
    is_fact_path(path).then_some(path)
}

fn is_fact_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 64
        && path.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

pub static IP: Word = Word {
    expected: "an address such as `10.0.0.2`",
    parse: |text| {
        text.parse::<IpAddr>()
            .map(|address| address.to_string())
            .map_err(|_| Wrong::new(format!("{} is not an IP address", quoted(text))))
    },
};

pub static GATEWAY: Word = Word {
    expected: "an address such as `10.0.0.1`, or a fact such as `{network.gateway}`",
    parse: |text| match fact(text) {
        Some(_) => Ok(text.to_owned()),
        None => (IP.parse)(text),
    },
};

pub static ADDRESS: Word = Word {
    expected: "an address with its network's length such as `10.0.0.5/24`, or a fact such as `{network.address}`",
    parse: |text| {
        if fact(text).is_some() {
            return Ok(text.to_owned());
        }
        if let Some(cidr) = Cidr::parse(text) {
            return Ok(format!("{}/{}", cidr.address, cidr.prefix));
        }
        let wrong = Wrong::new(format!(
            "{} is not an address with the length of its network",
            quoted(text)
        ));
        Err(match text.parse::<IpAddr>() {
            Ok(_) => wrong.suggesting(format!("for example `{text}/24`")),
            Err(_) => wrong,
        })
    },
};

/// Packet filters take networks, and have been given hosts by people who meant networks.
pub static SOURCE: Word = Word {
    expected: "`any`, or an IPv4 network such as `10.0.0.0/8`",
    parse: |text| {
        if text == "any" {
            return Ok(text.to_owned());
        }
        let cidr = Cidr::parse(text)
            .filter(|cidr| cidr.address.is_ipv4())
            .ok_or_else(|| Wrong::new(format!("{} is not an IPv4 network", quoted(text))))?;
        let network = cidr.network();
        if network != cidr.address.to_string() {
            return Err(Wrong::new(format!(
                "{} is a host in a network, not a network",
                quoted(text)
            ))
            .suggesting(format!(
                "write `{network}/{}`, or `{}/32` for the host alone",
                cidr.prefix, cidr.address
            )));
        }
        Ok(format!("{network}/{}", cidr.prefix))
    },
};

/// Linux interface names have at most 15 bytes (IFNAMSIZ - 1), and a VLAN on it adds up to five.
pub static LINK: Word = Word {
    expected: "an interface's name: small letters, digits, at most 10",
    parse: |text| {
        let name = only(text, 10, |c| c.is_ascii_lowercase() || c.is_ascii_digit())?;
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(Wrong::new(format!(
                "{} does not begin with a letter",
                quoted(text)
            )));
        }
        Ok(name)
    },
};

/// Longest host name (RFC 1123: one label of a domain name).
pub const LONGEST_HOSTNAME: usize = 63;

/// A part of a host name pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    Literal(&'t str),
    /// A fact, or `name` for the device's own; at most so many characters of its end.
    Fact {
        path: &'t str,
        last: Option<usize>,
    },
}

/// Takes a pattern such as `web-{hardware.serial:6}` apart.
pub fn pieces(pattern: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        let Some(open) = rest.find(['{', '}']) else {
            found.push(Piece::Literal(rest));
            break;
        };
        if rest[open..].starts_with('}') {
            return Err("there is a `}` without its `{`".into());
        }
        if open > 0 {
            found.push(Piece::Literal(&rest[..open]));
        }
        let inner = &rest[open + 1..];
        let close = inner.find('}').ok_or("there is a `{` without its `}`")?;
        let (path, last) = match inner[..close].split_once(':') {
            None => (&inner[..close], None),
            Some((path, last)) => match last.parse::<usize>() {
                Ok(last) if (1..=LONGEST_HOSTNAME).contains(&last) => (path, Some(last)),
                _ => return Err(format!("{} is not a number of characters", quoted(last))),
            },
        };
        if !is_fact_path(path) {
            return Err(format!("{} is not the name of a fact", quoted(path)));
        }
        found.push(Piece::Fact { path, last });
        rest = &inner[close + 1..];
    }
    Ok(found)
}

pub static HOSTNAME: Word = Word {
    expected: "a host name of small letters, digits and hyphens, with facts in braces, such as `web-{hardware.serial}`",
    parse: |text| {
        let pieces = pieces(text).map_err(Wrong::new)?;
        let mut least = 0;
        for piece in &pieces {
            match piece {
                Piece::Fact { .. } => least += 1,
                Piece::Literal(literal) => {
                    least += literal.len();
                    if let Some(c) = literal
                        .chars()
                        .find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-'))
                    {
                        let wrong = Wrong::new(format!(
                            "{} cannot stand in a host name",
                            quoted(&c.to_string())
                        ));
                        return Err(match c {
                            'A'..='Z' => {
                                wrong.suggesting(format!("write `{}`", text.to_lowercase()))
                            }
                            '_' | '.' | ' ' => wrong.suggesting("write `-`"),
                            _ => wrong,
                        });
                    }
                }
            }
        }
        let edge = |piece: Option<&Piece>, at_start: bool| {
            matches!(piece,
            Some(Piece::Literal(literal)) if if at_start { literal.starts_with('-') } else { literal.ends_with('-') })
        };
        if pieces.is_empty() {
            return Err(Wrong::new("the host name is empty"));
        }
        if edge(pieces.first(), true) || edge(pieces.last(), false) {
            return Err(Wrong::new(
                "a host name neither begins nor ends with a hyphen",
            ));
        }
        if least > LONGEST_HOSTNAME {
            return Err(
                Wrong::new(format!("the host name has at least {least} characters"))
                    .suggesting(format!("a host name has at most {LONGEST_HOSTNAME}")),
            );
        }
        Ok(text.to_owned())
    },
};
