//! The tables of the network and of security.

use serde_json::Value;

use super::SYSCTL;
use crate::personas::network as net;
use crate::personas::shape::{Field, Shape, by_name, text_of};
use crate::personas::words as w;

use Shape::{Choice, Count, Fields, Flag, List, Named, Seconds, Table, Text};

pub(super) const SECURITY: &[Field] = &[
    Field::may(
        "profile",
        Choice("a security profile", &["standard", "hardened"]),
    ),
    Field::may("ssh", Fields(SSH)),
    Field::may("firewall", Fields(FIREWALL)),
    Field::may(
        "sysctl",
        Table {
            key: &w::SYSCTL,
            value: &SYSCTL,
            most: 256,
        },
    ),
    Field::may("audit", Flag),
    Field::may(
        "secrets",
        Named {
            what: "secret",
            key: by_name,
            fields: SECRET,
            most: 64,
        },
    ),
];

const SSH: &[Field] = &[
    Field::may("from", Text(&net::SOURCE)),
    Field::may("max_tries", Count { least: 1, most: 20 }),
    Field::may("forwarding", Flag),
    Field::may(
        "idle",
        Seconds {
            least: 30.0,
            most: 86_400.0,
        },
    )
    .named("idle_s"),
];

const FIREWALL: &[Field] = &[
    Field::may(
        "allow",
        Named {
            what: "open port",
            key: port_key,
            fields: ALLOW,
            most: 256,
        },
    ),
    Field::may(
        "rules",
        List {
            of: &w::NFT_RULE,
            most: 256,
        },
    ),
];

const ALLOW: &[Field] = &[
    Field::need(
        "port",
        "a port such as 443",
        Count {
            least: 1,
            most: 65_535,
        },
    ),
    Field::may("proto", Choice("a transport", &["tcp", "udp"])),
    Field::may("from", Text(&net::SOURCE)),
];

/// `443/tcp from 10.0.0.0/8`; `remove:` may name the part before the blank.
pub fn port_key(value: &Value) -> String {
    let or = |key: &str, otherwise: &str| match text_of(value, key) {
        text if text.is_empty() => otherwise.to_owned(),
        text => text,
    };
    let port = value.get("port").and_then(Value::as_u64).unwrap_or(0);
    format!("{port}/{} from {}", or("proto", "tcp"), or("from", "any"))
}

const SECRET: &[Field] = &[
    Field::need("name", "the secret's name", Text(&w::NAME)),
    Field::need(
        "ref",
        "where it is kept, such as `vault:shop/tls-key`",
        Text(&w::SECRET_REF),
    ),
];

pub(super) const NETWORK: &[Field] = &[
    Field::may("hostname", Text(&net::HOSTNAME)),
    Field::may(
        "interfaces",
        Named {
            what: "interface",
            key: by_role,
            fields: INTERFACE,
            most: 32,
        },
    ),
    Field::may(
        "bonds",
        Named {
            what: "bond",
            key: by_name,
            fields: BOND,
            most: 16,
        },
    ),
];

fn by_role(value: &Value) -> String {
    text_of(value, "role")
}

const INTERFACE: &[Field] = &[
    Field::need(
        "role",
        "what the interface is for, such as `uplink`",
        Text(&w::ROLE),
    ),
    Field::may("dhcp", Flag),
    Field::may("address", Text(&net::ADDRESS)),
    Field::may("gateway", Text(&net::GATEWAY)),
    Field::may(
        "dns",
        List {
            of: &net::IP,
            most: 8,
        },
    ),
    Field::may(
        "vlan",
        Count {
            least: 1,
            most: 4094,
        },
    ),
    Field::may(
        "mtu",
        Count {
            least: 576,
            most: 9216,
        },
    ),
];

const BOND: &[Field] = &[
    Field::need("name", "the bond's name, such as `bond0`", Text(&net::LINK)),
    Field::may(
        "mode",
        Choice(
            "a mode of bonds",
            &[
                "active-backup",
                "802.3ad",
                "balance-rr",
                "balance-xor",
                "broadcast",
                "balance-tlb",
                "balance-alb",
            ],
        ),
    ),
    Field::may(
        "members",
        List {
            of: &w::ROLE,
            most: 16,
        },
    ),
    Field::may("dhcp", Flag),
    Field::may("address", Text(&net::ADDRESS)),
    Field::may("gateway", Text(&net::GATEWAY)),
    Field::may(
        "dns",
        List {
            of: &net::IP,
            most: 8,
        },
    ),
    Field::may(
        "vlan",
        Count {
            least: 1,
            most: 4094,
        },
    ),
    Field::may(
        "mtu",
        Count {
            least: 576,
            most: 9216,
        },
    ),
];
