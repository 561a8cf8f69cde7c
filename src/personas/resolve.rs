//! A document meets a device: host name, interfaces and addresses from its facts, and whether the
//! device is large enough. Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::network::{Cidr, LONGEST_HOSTNAME, Piece, fact, pieces};
use crate::chain::faults::quoted;
use crate::vocab::persona::{Addressing, Bond, Document, Interface};

/// What the persona means for one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resolved {
    pub hostname: String,
    /// Each with the facts that it names in place.
    pub interfaces: Vec<Matched>,
    pub bonds: Vec<Bond>,
    /// What keeps the persona from being given to this device.
    pub problems: Vec<String>,
    /// What could not be compared, because the facts do not say it.
    pub unknown: Vec<String>,
}

/// An interface of the persona and the device's that has its role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matched {
    #[serde(flatten)]
    pub interface: Interface,
    /// Small letters; none: the device has no interface for it.
    pub mac: Option<String>,
    pub nic: Option<String>,
}

type Facts = Map<String, Value>;

pub fn resolve(document: &Document, device: &str, facts: &Facts) -> Resolved {
    let mut resolved = Resolved::default();
    match hostname(&document.network.hostname, device, facts) {
        Ok(name) => resolved.hostname = name,
        Err(why) => resolved.problems.push(why),
    }
    let nics = nics(facts);
    let mut taken = vec![false; nics.len()];
    let mut matches: Vec<Option<usize>> = document
        .network
        .interfaces
        .iter()
        .map(|interface| {
            let at = nics
                .iter()
                .position(|nic| nic.role.as_deref() == Some(&interface.role))?;
            taken[at] = true;
            Some(at)
        })
        .collect();
    for found in matches.iter_mut().filter(|found| found.is_none()) {
        let next = (0..nics.len()).find(|at| !taken[*at] && nics[*at].role.is_none());
        if let Some(at) = next {
            taken[at] = true;
            *found = Some(at);
        }
    }
    for (interface, found) in document.network.interfaces.iter().zip(matches) {
        let mut interface = interface.clone();
        fill(
            &mut interface.addressing,
            &interface.role,
            facts,
            &mut resolved.problems,
        );
        let nic = found.map(|at| &nics[at]);
        if nic.is_none() {
            let why = if nics.is_empty() {
                "the facts name no network interfaces".to_owned()
            } else {
                format!(
                    "the device has {} network interfaces, all taken",
                    nics.len()
                )
            };
            resolved.problems.push(format!(
                "no network interface for the role {}: {why}",
                interface.role
            ));
        }
        resolved.interfaces.push(Matched {
            interface,
            mac: nic.map(|nic| nic.mac.clone()),
            nic: nic.map(|nic| nic.name.clone()),
        });
    }
    for bond in &document.network.bonds {
        let mut bond = bond.clone();
        fill(
            &mut bond.addressing,
            &bond.name,
            facts,
            &mut resolved.problems,
        );
        resolved.bonds.push(bond);
    }
    room(document, facts, &mut resolved);
    resolved
}

struct Nic {
    name: String,
    mac: String,
    role: Option<String>,
}

/// `hardware.nics`, those with a hardware address.
fn nics(facts: &Facts) -> Vec<Nic> {
    let found = lookup(facts, "hardware.nics").and_then(Value::as_array);
    let text = |nic: &Value, key: &str| nic.get(key).and_then(Value::as_str).map(str::to_owned);
    found
        .into_iter()
        .flatten()
        .filter_map(|nic| {
            let mac = text(nic, "mac")?.to_ascii_lowercase();
            let parts: Vec<&str> = mac.split(':').collect();
            let is_mac = parts.len() == 6
                && parts
                    .iter()
                    .all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()));
            let name = text(nic, "name").unwrap_or_default();
            let is_name = !name.is_empty()
                && name.len() <= 15
                && name.chars().all(|c| c.is_ascii_alphanumeric());
            (is_mac && is_name).then(|| Nic {
                name,
                mac,
                role: text(nic, "role"),
            })
        })
        .collect()
}

fn lookup<'f>(facts: &'f Facts, path: &str) -> Option<&'f Value> {
    let mut parts = path.split('.');
    let first = facts.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// A fact as text: texts and whole numbers.
fn text_of(facts: &Facts, path: &str) -> Option<String> {
    match lookup(facts, path)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The host name, or why there is none. What a host name cannot have becomes a hyphen.
pub fn hostname(pattern: &str, device: &str, facts: &Facts) -> Result<String, String> {
    let mut name = String::new();
    for piece in pieces(pattern)? {
        match piece {
            Piece::Literal(literal) => name.push_str(literal),
            Piece::Fact { path, last } => {
                let text = if path == "name" {
                    Some(device.to_owned())
                } else {
                    text_of(facts, path)
                };
                let text = text.ok_or_else(|| {
                    format!("the host name needs the fact {}, which the device does not have; add it with `greenroom device add`", quoted(path))
                })?;
                let mut clean = String::new();
                for c in text.chars() {
                    if c.is_ascii_alphanumeric() {
                        clean.push(c.to_ascii_lowercase());
                    } else if !clean.is_empty() && !clean.ends_with('-') {
                        clean.push('-');
                    }
                }
                let clean = clean.trim_end_matches('-');
                let from = clean
                    .len()
                    .saturating_sub(last.unwrap_or(LONGEST_HOSTNAME + 1));
                let end = clean[from..].trim_start_matches('-');
                if end.is_empty() {
                    return Err(format!(
                        "the fact {} leaves nothing for the host name: {}",
                        quoted(path),
                        quoted(&text)
                    ));
                }
                name.push_str(end);
            }
        }
    }
    if name.is_empty() || name.len() > LONGEST_HOSTNAME {
        return Err(format!(
            "the host name {} has {} characters, at most {LONGEST_HOSTNAME} are allowed; take the end of a fact, as in `{{hardware.serial:8}}`",
            quoted(&name),
            name.len()
        ));
    }
    Ok(name)
}

/// Puts facts in place of `{fact}`, and looks at them as the check looks at what is written.
fn fill(addressing: &mut Addressing, name: &str, facts: &Facts, problems: &mut Vec<String>) {
    if let Some(path) = addressing
        .address
        .as_deref()
        .and_then(fact)
        .map(str::to_owned)
    {
        let text = text_of(facts, &path);
        match text
            .as_deref()
            .and_then(Cidr::parse)
            .filter(|cidr| cidr.is_host())
        {
            Some(cidr) => addressing.address = Some(format!("{}/{}", cidr.address, cidr.prefix)),
            None => problems.push(missing(
                name,
                "address",
                &path,
                text.as_deref(),
                "10.0.0.5/24",
            )),
        }
    }
    if let Some(path) = addressing
        .gateway
        .as_deref()
        .and_then(fact)
        .map(str::to_owned)
    {
        let text = text_of(facts, &path);
        match text
            .as_deref()
            .and_then(|text| text.parse::<std::net::IpAddr>().ok())
        {
            Some(gateway) => addressing.gateway = Some(gateway.to_string()),
            None => problems.push(missing(name, "gateway", &path, text.as_deref(), "10.0.0.1")),
        }
    }
    let cidr = addressing.address.as_deref().and_then(Cidr::parse);
    let gateway = addressing
        .gateway
        .as_deref()
        .and_then(|text| text.parse().ok());
    if let (Some(cidr), Some(gateway)) = (cidr, gateway)
        && !cidr.contains(gateway)
    {
        problems.push(format!(
            "{name}: the gateway {gateway} is not in the network {}/{}",
            cidr.network(),
            cidr.prefix
        ));
    }
}

fn missing(name: &str, what: &str, path: &str, text: Option<&str>, example: &str) -> String {
    match text {
        Some(text) => format!(
            "{name}: the fact {} is {}, not an {what} such as {example}",
            quoted(path),
            quoted(text)
        ),
        None => format!(
            "{name}: the {what} needs the fact {}, which the device does not have",
            quoted(path)
        ),
    }
}

/// Whether processor, memory, disk and architecture are enough.
fn room(document: &Document, facts: &Facts, resolved: &mut Resolved) {
    let number = |paths: &[&str]| paths.iter().find_map(|path| lookup(facts, path)?.as_u64());
    let disks = lookup(facts, "hardware.disks").and_then(Value::as_array);
    let largest = disks.and_then(|disks| {
        let sizes = disks
            .iter()
            .filter(|disk| disk.get("removable").and_then(Value::as_bool) != Some(true));
        sizes
            .filter_map(|disk| disk.get("size_gib")?.as_u64())
            .max()
    });
    let resources = &document.resources;
    for (what, unit, has, range) in [
        (
            "processor cores",
            "",
            number(&["hardware.cpu_cores", "cpu_cores"]),
            resources.vcpus,
        ),
        (
            "of memory",
            " MiB",
            number(&["hardware.memory_mib", "memory_mib"]),
            resources.memory_mib,
        ),
        (
            "of disk",
            " MiB",
            largest.map(|gib| gib.saturating_mul(1024)),
            resources.disk_mib,
        ),
    ] {
        match (has, range.max) {
            (None, _) => resolved
                .unknown
                .push(format!("whether the device has {}{unit} {what}", range.min)),
            (Some(has), _) if has < range.min => resolved.problems.push(format!(
                "the device has {has}{unit} {what}, the persona needs {}{unit}",
                range.min
            )),
            (Some(has), Some(max)) if has > max => resolved.problems.push(format!(
                "the device has {has}{unit} {what}, the persona is for at most {max}{unit}"
            )),
            _ => {}
        }
    }
    match lookup(facts, "hardware.arch").and_then(Value::as_str) {
        None => resolved.unknown.push("the device's architecture".into()),
        Some(arch) if arch != document.os.arch => {
            resolved.problems.push(format!(
                "the device is {}, the persona for {}",
                quoted(arch),
                document.os.arch
            ));
        }
        Some(_) => {}
    }
}
