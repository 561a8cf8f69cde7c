//! dnsmasq's configuration: a table of what [`decide`] answers to each kind of client.
//!
//! dnsmasq decides by tags that it sets from a packet's options. For each kind of client that can be
//! told apart that way, the decision is asked once, here, and its answer becomes a line. dnsmasq
//! cannot look into iPXE's option 175, so a ROM without HTTP is not told apart from one with it; and
//! it knows no devices: those are told apart by the scripts, over HTTP.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::decide::{self, Answer, Request, Standing, Unknown};
use super::settings::{DhcpMode, PlaneSettings};

/// Kinds of client that dnsmasq can tell apart: a tag, and the architectures of option 93 that set it.
const KINDS: &[(&str, &[u16], &str)] = &[
    ("bios", &[0], "PXEClient"),
    ("x64", &[7, 9], "PXEClient"),
    ("ia32", &[6], "PXEClient"),
    ("arm64", &[11], "PXEClient"),
    ("httpx64", &[16], "HTTPClient"),
];

/// Set by iPXE's user class or its option 175.
const IPXE: &str = "ipxe";

/// Where dnsmasq's own files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Only the boot files: what is in it can be fetched by anybody.
    pub tftp: PathBuf,
    pub leases: PathBuf,
    pub pid: PathBuf,
}

/// The configuration's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<String>);

impl Lines {
    fn flag(&mut self, key: &'static str) {
        self.0.push(key.to_owned());
    }

    /// A value may hold anything but line ends, quotes and `#`: dnsmasq has no other specials.
    fn set(&mut self, key: &'static str, value: &str) {
        debug_assert!(!value.contains(['\n', '"', '#']), "{value:?}");
        let value: String = value
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '"' | '#'))
            .collect();
        self.0.push(format!("{key}={value}"));
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Builds the configuration. Pure: the same settings give the same text.
pub fn configuration(plane: &PlaneSettings, decision: &decide::Settings, places: &Places) -> Lines {
    let mut lines = Lines::default();
    common(&mut lines, plane, places);
    match plane.dhcp {
        DhcpMode::Full => {
            lines.set("dhcp-leasefile", &shown(&places.leases));
            full(&mut lines, plane);
        }
        DhcpMode::Proxy => proxy(&mut lines, plane),
    }
    tags(&mut lines);
    // Who is unknown is not known to dnsmasq: where unknown addresses are to be ignored, they get a
    // script that leaves to the firmware.
    let answers = decide::Settings {
        unknown: Unknown::Discover,
        ..decision.clone()
    };
    for (tag, arches, vendor) in KINDS {
        let client = Client {
            arches: arches.to_vec(),
            vendor_class: Some((*vendor).to_owned()),
            ..Client::default()
        };
        let answer = decide::decide(&client, &Request::Dhcp, &Standing::Unknown, &answers).answer;
        boot(
            &mut lines,
            plane,
            &format!("tag:!{IPXE},tag:{tag}"),
            tag,
            &answer,
        );
    }
    let ipxe = Client {
        user_class: Some("iPXE".to_owned()),
        ..Client::default()
    };
    let answer = decide::decide(&ipxe, &Request::Dhcp, &Standing::Unknown, &answers).answer;
    boot(&mut lines, plane, &format!("tag:{IPXE}"), IPXE, &answer);
    lines
}

fn common(lines: &mut Lines, plane: &PlaneSettings, places: &Places) {
    lines.flag("keep-in-foreground");
    // To standard error, which we read: what clients say is in it.
    lines.set("log-facility", "-");
    lines.flag("log-dhcp");
    lines.set("pid-file", &shown(&places.pid));
    // No DNS, no settings of the host's.
    lines.set("port", "0");
    lines.flag("no-hosts");
    lines.flag("no-resolv");
    // Other dnsmasqs of this host (libvirt's) keep their interfaces.
    lines.flag("bind-dynamic");
    lines.set("interface", &plane.interface);
    lines.set("except-interface", "lo");
    lines.flag("enable-tftp");
    lines.set("tftp-root", &shown(&places.tftp));
    // Both of them: a client that asks for a path outside gets an error, not a file.
    lines.flag("tftp-no-fail");
    lines.set("tftp-max", "128");
}

fn full(lines: &mut Lines, plane: &PlaneSettings) {
    let (first, last) = plane.range;
    let range = format!("{first},{last},{},1h", netmask(plane.prefix_length));
    lines.set("dhcp-range", &range);
    lines.flag("dhcp-authoritative");
    // The check whether an address is in use takes 3 s before each first lease; the range is ours.
    lines.flag("no-ping");
    // Neither router nor name server: the provisioning network leads nowhere.
    lines.set("dhcp-option", "3");
    lines.set("dhcp-option", "6");
    // iPXE's "no-pxedhcp": it need not wait for a second server's boot offer.
    lines.set("dhcp-option", &format!("tag:{IPXE},encap:175,176,1b"));
    if plane.announce_ipv6 {
        // Firmware and iPXE wait 13 s for a router that never answers. One that gives no addresses ends that.
        lines.set(
            "dhcp-range",
            &format!("::,constructor:{},ra-only", plane.interface),
        );
        lines.flag("quiet-ra");
    }
}

fn proxy(lines: &mut Lines, plane: &PlaneSettings) {
    let mask = u32::MAX << (32 - u32::from(plane.prefix_length));
    let network = Ipv4Addr::from(u32::from(plane.address) & mask);
    let range = format!("{network},proxy,{}", netmask(plane.prefix_length));
    lines.set("dhcp-range", &range);
}

fn tags(lines: &mut Lines) {
    lines.set("dhcp-userclass", &format!("set:{IPXE},iPXE"));
    lines.set("dhcp-match", &format!("set:{IPXE},175"));
    for (tag, arches, _) in KINDS {
        for arch in *arches {
            lines.set(
                "dhcp-match",
                &format!("set:{tag},option:client-arch,{arch}"),
            );
        }
    }
}

/// The name of a client system type in dnsmasq's `pxe-service`.
fn pxe_system(tag: &str) -> Option<&'static [&'static str]> {
    match tag {
        "bios" => Some(&["x86PC"]),
        // dnsmasq numbers the two as RFC 4578 has them: 7 is BC_EFI, 9 is X86-64_EFI.
        "x64" => Some(&["BC_EFI", "X86-64_EFI"]),
        _ => None,
    }
}

fn boot(lines: &mut Lines, plane: &PlaneSettings, tags: &str, tag: &str, answer: &Answer) {
    match answer {
        Answer::TftpFile { file } if plane.dhcp == DhcpMode::Full => {
            lines.set(
                "dhcp-boot",
                &format!("{tags},{},,{}", file.name(), plane.address),
            );
        }
        Answer::TftpFile { file } => {
            for system in pxe_system(tag).unwrap_or_default() {
                lines.set(
                    "pxe-service",
                    &format!(
                        "tag:!{IPXE},{system},Greenroom,{},{}",
                        file.name(),
                        plane.address
                    ),
                );
            }
        }
        Answer::ScriptUrl { url } => lines.set("dhcp-boot", &format!("{tags},{url}")),
        Answer::HttpFile { url } => {
            lines.set("dhcp-boot", &format!("{tags},{url}"));
            // Firmware takes the URL only where its vendor class comes back.
            lines.set("dhcp-option-force", &format!("{tags},60,HTTPClient"));
        }
        _ => {}
    }
}

fn netmask(prefix_length: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX << (32 - u32::from(prefix_length)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What dnsmasq's log says about one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A client asked for an address or a boot file.
    Asked {
        mac: crate::vocab::boot::Mac,
        message: String,
    },
    /// It was given an address.
    Leased {
        mac: crate::vocab::boot::Mac,
        address: Ipv4Addr,
    },
    /// A file was sent whole to an address.
    Sent { file: String, address: Ipv4Addr },
}

/// Reads one line of dnsmasq's log. None: it is of no interest, or not what we know.
pub fn read_log(line: &str) -> Option<Heard> {
    // `dnsmasq-dhcp: 1234 DHCPDISCOVER(gr1) 52:54:00:12:34:56 `, numbers where log-dhcp is on.
    let (program, said) = line.split_once(": ")?;
    // With its process id in brackets where the log goes to standard error.
    let program = program.split_once('[').map_or(program, |(name, _)| name);
    if program.ends_with("dnsmasq-tftp") {
        // `sent /x/tftp/undionly.kpxe to 192.168.91.17`
        let (file, address) = said.strip_prefix("sent ")?.rsplit_once(" to ")?;
        let file = Path::new(file).file_name()?.to_str()?;
        return Some(Heard::Sent {
            file: file.chars().take(64).collect(),
            address: address.trim().parse().ok()?,
        });
    }
    if !program.ends_with("dnsmasq-dhcp") {
        return None;
    }
    let mut words = said.split_ascii_whitespace().peekable();
    if words.peek()?.bytes().all(|byte| byte.is_ascii_digit()) {
        words.next();
    }
    let head = words.next()?;
    let (message, _) = head.split_once('(')?;
    match message {
        "DHCPDISCOVER" | "DHCPREQUEST" => {
            // An address that is asked for may come first.
            let mac = words.take(2).find_map(|word| word.parse().ok())?;
            let message = message.to_owned();
            Some(Heard::Asked { mac, message })
        }
        "PXE" => {
            let mac = words.take(2).find_map(|word| word.parse().ok())?;
            Some(Heard::Asked {
                mac,
                message: "PXE".to_owned(),
            })
        }
        "DHCPACK" => {
            let address = words.next()?.parse().ok()?;
            let mac = words.next()?.parse().ok()?;
            Some(Heard::Leased { mac, address })
        }
        _ => None,
    }
}

impl Heard {
    /// In words, for an event.
    pub fn says(&self) -> String {
        let mut said = String::new();
        let _ = match self {
            Self::Asked { message, .. } => write!(said, "it asked by {message}"),
            Self::Leased { address, .. } => write!(said, "it was given {address}"),
            Self::Sent { file, address } => write!(said, "{file} was sent to {address}"),
        };
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plane(dhcp: DhcpMode) -> PlaneSettings {
        PlaneSettings {
            interface: "gr1".into(),
            address: Ipv4Addr::new(192, 168, 91, 1),
            prefix_length: 24,
            port: 8480,
            dhcp,
            range: (
                Ipv4Addr::new(192, 168, 91, 10),
                Ipv4Addr::new(192, 168, 91, 250),
            ),
            announce_ipv6: true,
            files: "/usr/lib/ipxe".into(),
        }
    }

    fn text(dhcp: DhcpMode) -> String {
        let decision = decide::Settings {
            unknown: Unknown::Ignore,
            base_url: "http://192.168.91.1:8480".into(),
            most_boots_after_delivery: 3,
        };
        let places = Places {
            tftp: "/s/boot/tftp".into(),
            leases: "/s/boot/leases".into(),
            pid: "/s/boot/dnsmasq.pid".into(),
        };
        configuration(&plane(dhcp), &decision, &places).to_string()
    }

    #[test]
    fn the_only_dhcp_server_of_a_network() {
        insta::assert_snapshot!(text(DhcpMode::Full));
    }

    #[test]
    fn beside_another_dhcp_server() {
        insta::assert_snapshot!(text(DhcpMode::Proxy));
    }

    #[test]
    fn the_log_says_who_asks() {
        let mac = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(
            read_log("dnsmasq-dhcp: 1837 DHCPDISCOVER(gr1) 52:54:00:12:34:56 "),
            Some(Heard::Asked {
                mac,
                message: "DHCPDISCOVER".into()
            })
        );
        assert_eq!(
            read_log("dnsmasq-dhcp[227]: 1837 DHCPREQUEST(gr1) 192.168.91.17 52:54:00:12:34:56"),
            Some(Heard::Asked {
                mac,
                message: "DHCPREQUEST".into()
            })
        );
        assert_eq!(
            read_log("dnsmasq-dhcp: 1837 DHCPACK(gr1) 192.168.91.17 52:54:00:12:34:56 host"),
            Some(Heard::Leased {
                mac,
                address: Ipv4Addr::new(192, 168, 91, 17)
            })
        );
        assert_eq!(
            read_log("dnsmasq-tftp: sent /s/boot/tftp/undionly.kpxe to 192.168.91.17"),
            Some(Heard::Sent {
                file: "undionly.kpxe".into(),
                address: Ipv4Addr::new(192, 168, 91, 17)
            })
        );
        assert_eq!(
            read_log("dnsmasq-dhcp: 1837 vendor class: PXEClient:Arch:00000"),
            None
        );
        // A client's own words are never at a line's beginning.
        assert_eq!(
            read_log(
                "dnsmasq-dhcp: 1837 client provides name: DHCPACK(x) 10.0.0.1 52:54:00:12:34:56"
            ),
            None
        );
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".{0,200}") {
            let _ = read_log(&line);
            let _ = read_log(&format!("dnsmasq-dhcp: {line}"));
            let _ = read_log(&format!("dnsmasq-tftp: sent {line}"));
        }
    }
}
