//! systemd-networkd: a `.network` for each interface, `.netdev`s for bonds and VLANs.

use super::{File, Page};
use crate::personas::resolve::{Matched, Resolved};
use crate::vocab::persona::Addressing;

const FOLDER: &str = "/etc/systemd/network";

pub fn files(resolved: &Resolved) -> Vec<File> {
    let mut files = Vec::new();
    for bond in &resolved.bonds {
        let page = Page::default()
            .line(&["[NetDev]"])
            .line(&["Name=", &bond.name])
            .line(&["Kind=bond"])
            .line(&[])
            .line(&["[Bond]"])
            .line(&["Mode=", &bond.mode])
            .line(&["MIIMonitorSec=100ms"]);
        files.push(file(&format!("10-{}.netdev", bond.name), page));
    }
    for matched in &resolved.interfaces {
        interface(matched, resolved, &mut files);
    }
    for bond in &resolved.bonds {
        let start = Page::default()
            .line(&["[Match]"])
            .line(&["Name=", &bond.name]);
        link(&bond.name, start, &bond.addressing, &mut files);
    }
    let mut servers: Vec<&String> = Vec::new();
    let links = resolved
        .interfaces
        .iter()
        .map(|matched| &matched.interface.addressing);
    for server in links
        .chain(resolved.bonds.iter().map(|bond| &bond.addressing))
        .flat_map(|link| &link.dns)
    {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    if !servers.is_empty() {
        let page = servers.iter().fold(Page::default(), |page, server| {
            page.line(&["nameserver ", server])
        });
        files.push(File::new("/etc/resolv.conf", page.done()));
    }
    files
}

fn file(name: &str, page: Page) -> File {
    File::new(format!("{FOLDER}/{name}"), page.done())
}

fn interface(matched: &Matched, resolved: &Resolved, files: &mut Vec<File>) {
    let role = &matched.interface.role;
    let bond = resolved
        .bonds
        .iter()
        .find(|bond| bond.members.contains(role));
    let addressing = &matched.interface.addressing;
    // A bond gives its members one address, and a VLAN has that of its interface: what the card was
    // made with tells them apart.
    let key = if bond.is_some() || addressing.vlan.is_some() {
        "PermanentMACAddress="
    } else {
        "MACAddress="
    };
    let start = Page::default().line(&["[Match]"]);
    let start = match &matched.mac {
        Some(mac) => start.line(&[key, mac]),
        // No device has an interface of this name: the file says what is missing and matches nothing.
        None => start
            .line(&["# no network interface of the device has the role ", role])
            .line(&["Name=absent-", role]),
    };
    match bond {
        Some(bond) => {
            let page = mtu(start, addressing)
                .line(&[])
                .line(&["[Network]"])
                .line(&["Bond=", &bond.name]);
            files.push(self::file(&format!("20-{role}.network"), page));
        }
        None => link(role, start, addressing, files),
    }
}

fn mtu(page: Page, addressing: &Addressing) -> Page {
    match addressing.mtu {
        Some(mtu) => page
            .line(&[])
            .line(&["[Link]"])
            .line(&["MTUBytes=", &mtu.to_string()]),
        None => page,
    }
}

/// The link's own file, and where it carries a VLAN, that one's two.
fn link(name: &str, start: Page, addressing: &Addressing, files: &mut Vec<File>) {
    let page = mtu(start, addressing).line(&[]).line(&["[Network]"]);
    let Some(vlan) = addressing.vlan else {
        files.push(file(
            &format!("20-{name}.network"),
            addresses(page, addressing),
        ));
        return;
    };
    let device = format!("{name}.{vlan}");
    files.push(file(
        &format!("20-{name}.network"),
        page.line(&["VLAN=", &device])
            .line(&["LinkLocalAddressing=no"]),
    ));
    let netdev = Page::default()
        .line(&["[NetDev]"])
        .line(&["Name=", &device])
        .line(&["Kind=vlan"])
        .line(&[])
        .line(&["[VLAN]"])
        .line(&["Id=", &vlan.to_string()]);
    files.push(file(&format!("25-{name}-vlan.netdev"), netdev));
    let network = Page::default()
        .line(&["[Match]"])
        .line(&["Name=", &device])
        .line(&[])
        .line(&["[Network]"]);
    files.push(file(
        &format!("25-{name}-vlan.network"),
        addresses(network, addressing),
    ));
}

fn addresses(mut page: Page, addressing: &Addressing) -> Page {
    if addressing.by_dhcp() {
        page = page.line(&["DHCP=yes"]);
    }
    if let Some(address) = &addressing.address {
        page = page.line(&["Address=", address]);
    }
    if let Some(gateway) = &addressing.gateway {
        page = page.line(&["Gateway=", gateway]);
    }
    addressing
        .dns
        .iter()
        .fold(page, |page, server| page.line(&["DNS=", server]))
}
