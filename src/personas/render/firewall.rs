//! `/etc/nftables.conf`.

use super::Page;
use crate::vocab::persona::Firewall;

/// The packet filter: what is not named does not come in. Rules in nft's own words stand in a chain
/// of their own, `own`, and come last.
pub fn nftables(firewall: &Firewall, ssh_from: &str) -> String {
    let mut page = Page::default()
        .line(&["#!/usr/sbin/nft -f"])
        .line(&["# What is not named here does not come in."])
        .line(&["flush ruleset"])
        .line(&[])
        .line(&["table inet firewall {"]);
    if !firewall.rules.is_empty() {
        page = page.line(&["    chain own {"]);
        for rule in &firewall.rules {
            page = page.line(&["        ", rule]);
        }
        page = page.line(&["    }"]);
    }
    page = page
        .line(&["    chain input {"])
        .line(&["        type filter hook input priority filter; policy drop;"])
        .line(&["        ct state vmap { established : accept, related : accept, invalid : drop }"])
        .line(&["        iif lo accept"])
        .line(&["        meta l4proto { 1, 58 } limit rate 50/second accept comment \"ICMP; numbers, for systems without /etc/protocols\""])
        .line(&["        udp dport 68 accept comment \"DHCP\""]);
    page = open(page, 22, "tcp", ssh_from);
    for allow in &firewall.allow {
        page = open(page, allow.port, &allow.proto, &allow.from);
    }
    if !firewall.rules.is_empty() {
        page = page.line(&["        jump own"]);
    }
    page.line(&["    }"])
        .line(&["    chain forward {"])
        .line(&["        type filter hook forward priority filter; policy drop;"])
        .line(&["    }"])
        .line(&["    chain output {"])
        .line(&["        type filter hook output priority filter; policy accept;"])
        .line(&["    }"])
        .line(&["}"])
        .done()
}

/// The line of the file in which the first own rule stands, from 1.
pub const FIRST_RULE_LINE: usize = 7;

fn open(page: Page, port: u16, proto: &str, from: &str) -> Page {
    let port = port.to_string();
    let tail = [proto, " dport ", &port, " ct state new accept"];
    if from == "any" {
        page.line(&[&["        "], &tail[..]].concat())
    } else {
        page.line(&[&["        ip saddr ", from, " "], &tail[..]].concat())
    }
}
