//! Interfaces and bonds: addresses, gateways, members.

use std::net::IpAddr;

use super::super::network::{Cidr, fact};
use super::{Finding, Judge, listed};
use crate::chain::faults::quoted;
use crate::vocab::persona::Addressing;

/// An interface or bond under its place.
struct Link<'d> {
    at: String,
    name: &'d str,
    addressing: &'d Addressing,
}

impl Judge<'_> {
    pub fn network(&mut self) {
        let network = &self.document().network;
        let interfaces = network.interfaces.iter().map(|interface| Link {
            at: format!("network.interfaces[{}]", interface.role),
            name: &interface.role,
            addressing: &interface.addressing,
        });
        let bonds = network.bonds.iter().map(|bond| Link {
            at: format!("network.bonds[{}]", bond.name),
            name: &bond.name,
            addressing: &bond.addressing,
        });
        let links: Vec<Link<'_>> = interfaces.chain(bonds).collect();
        for link in &links {
            self.addressing(link);
        }
        self.between(&links);
        self.members();
    }

    fn addressing(&mut self, link: &Link<'_>) {
        let Link { at, addressing, .. } = link;
        let field = |name: &str| format!("{at}.{name}");
        if addressing.dhcp == Some(true) && addressing.address.is_some() {
            let finding = Finding::new(format!(
                "{} has both `dhcp` and an address",
                quoted(link.name)
            ));
            self.fault(
                &[&field("address"), &field("dhcp")],
                finding.suggesting("write `dhcp: false`, or remove the address"),
            );
        }
        // An address that was refused has had its fault.
        let is_written = self.matter.places.get(&field("address")).is_some();
        if addressing.gateway.is_some() && addressing.address.is_none() && !is_written {
            let finding = Finding::new("a gateway without an address");
            self.fault(
                &[&field("gateway")],
                finding.suggesting("DHCP brings its own gateway; give an address, or remove this"),
            );
        }
        let address = addressing.address.as_deref().and_then(Cidr::parse);
        if let Some(cidr) = address.filter(|cidr| !cidr.is_host()) {
            let finding = Finding::new(format!(
                "{}/{} is not an address for a host in its network",
                cidr.address, cidr.prefix
            ));
            self.fault(
                &[&field("address")],
                finding.suggesting(
                    "the first address of a network names it, the last one is for broadcasts",
                ),
            );
        }
        let gateway = addressing
            .gateway
            .as_deref()
            .filter(|text| fact(text).is_none());
        let gateway: Option<IpAddr> = gateway.and_then(|text| text.parse().ok());
        if let (Some(cidr), Some(gateway)) = (address, gateway) {
            if gateway == cidr.address {
                let finding = Finding::new(format!(
                    "the gateway {gateway} is the interface's own address"
                ));
                self.fault(&[&field("gateway"), &field("address")], finding);
            } else if !cidr.contains(gateway) {
                let finding = Finding::new(format!(
                    "the gateway {gateway} is not in the network {}/{}",
                    cidr.network(),
                    cidr.prefix
                ));
                self.fault(
                    &[&field("gateway"), &field("address")],
                    finding.expecting(format!("an address in {}/{}", cidr.network(), cidr.prefix)),
                );
            }
        }
    }

    /// Duplicates, overlaps and more than one way out.
    fn between(&mut self, links: &[Link<'_>]) {
        let placed: Vec<(&Link<'_>, Cidr)> = links
            .iter()
            .filter_map(|link| Some((link, Cidr::parse(link.addressing.address.as_deref()?)?)))
            .collect();
        for (index, (link, cidr)) in placed.iter().enumerate() {
            let Some((other, theirs)) = placed[..index]
                .iter()
                .find(|(_, other)| cidr.overlaps(*other))
            else {
                continue;
            };
            let at = format!("{}.address", link.at);
            let there = format!("{}.address", other.at);
            if cidr.address == theirs.address {
                let finding = Finding::new(format!(
                    "{} has the address {} too",
                    quoted(other.name),
                    cidr.address
                ));
                self.fault(&[&at, &there], finding.expecting("an address of its own"));
            } else {
                let finding = Finding::new(format!(
                    "the network {}/{} overlaps that of {}, {}/{}",
                    cidr.network(),
                    cidr.prefix,
                    quoted(other.name),
                    theirs.network(),
                    theirs.prefix
                ));
                self.fault(
                    &[&at, &there],
                    finding.suggesting("give each interface a network of its own, or bond them"),
                );
            }
        }
        let mut ways = links
            .iter()
            .filter(|link| link.addressing.gateway.is_some());
        if let (Some(first), Some(second)) = (ways.next(), ways.next()) {
            let finding = Finding::new(format!(
                "{} has a gateway too: two ways out, and either may be taken",
                quoted(first.name)
            ));
            self.warn(
                &[&format!("{}.gateway", second.at)],
                finding.suggesting("leave one gateway"),
            );
        }
    }

    fn members(&mut self) {
        let network = &self.document().network;
        let roles: Vec<&String> = network
            .interfaces
            .iter()
            .map(|interface| &interface.role)
            .collect();
        let mut taken: Vec<(&str, &str)> = Vec::new();
        for bond in &network.bonds {
            let at = format!("network.bonds[{}]", bond.name);
            let members_at = format!("{at}.members");
            if roles.contains(&&bond.name) {
                let finding = Finding::new(format!(
                    "{} is the role of an interface too",
                    quoted(&bond.name)
                ));
                self.fault(
                    &[&format!("{at}.name"), &at],
                    finding.expecting("a name of its own"),
                );
            }
            if bond.members.len() < 2 {
                let finding = Finding::new(format!(
                    "the bond {} has {} members",
                    quoted(&bond.name),
                    bond.members.len()
                ));
                self.fault(
                    &[&members_at, &at],
                    finding.expecting("at least two roles of interfaces"),
                );
            }
            for (index, role) in bond.members.iter().enumerate() {
                let place = format!("{members_at}[{index}]");
                let Some(interface) = network
                    .interfaces
                    .iter()
                    .find(|interface| interface.role == *role)
                else {
                    let finding =
                        Finding::new(format!("no interface has the role {}", quoted(role)));
                    self.fault(
                        &[&place, &members_at],
                        finding.expecting(format!("one of {}", listed(roles.iter().copied()))),
                    );
                    continue;
                };
                if !interface.addressing.is_bare() {
                    let finding = Finding::new(format!(
                        "{} is a member of {} and has addresses of its own",
                        quoted(role),
                        quoted(&bond.name)
                    ));
                    self.fault(&[&format!("network.interfaces[{role}]"), &place], finding.suggesting("addresses, VLAN and DNS belong to the bond; a member has its role and perhaps its MTU"));
                }
                if let Some((_, other)) = taken.iter().find(|(member, _)| member == role) {
                    let finding = Finding::new(format!(
                        "{} is a member of {} already",
                        quoted(role),
                        quoted(other)
                    ));
                    self.fault(&[&place, &members_at], finding);
                }
                taken.push((role, &bond.name));
            }
        }
    }
}
