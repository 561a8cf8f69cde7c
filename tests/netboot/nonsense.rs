//! Nonsense on the wire for the first hop: malformed DHCP and TFTP as raw frames, before the real
//! dnsmasq that the daemon supervises. It neither ends nor sends what is not ours, and the next lawful
//! client is answered.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;

use crate::field::{Field, run};

const OWN_MAC: [u8; 6] = [0x52, 0x54, 0, 0x7e, 0x59, 1];
const OWN: [u8; 4] = [192, 168, 91, 251];
const SERVER: [u8; 4] = [192, 168, 91, 1];
const CARD: &str = "gr-hx1";

/// A cable into the devices' bridge.
struct Cable {
    socket: File,
    server_mac: [u8; 6],
}

impl Cable {
    fn plug() -> Self {
        let ip = |words: &[&str]| run(Command::new("ip").args(words));
        let own = OWN_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let _ = Command::new("ip").args(["link", "del", CARD]).output();
        ip(&[
            "link", "add", "gr-hx0", "type", "veth", "peer", "name", CARD,
        ]);
        ip(&["link", "set", CARD, "address", &own]);
        ip(&["link", "set", "gr-hx0", "master", "gr1", "up"]);
        ip(&["link", "set", CARD, "up"]);
        ip(&[
            "neigh",
            "replace",
            "192.168.91.251",
            "lladdr",
            &own,
            "dev",
            "gr1",
        ]);
        let text = |path: &str| std::fs::read_to_string(path).unwrap();
        let bytes: Vec<u8> = text("/sys/class/net/gr1/address")
            .trim()
            .split(':')
            .map(|two| u8::from_str_radix(two, 16).unwrap())
            .collect();
        let index: i32 = text(&format!("/sys/class/net/{CARD}/ifindex"))
            .trim()
            .parse()
            .unwrap();
        let every_protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: plain calls of packet(7) with structs of their own sizes.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(every_protocol));
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = every_protocol;
            address.sll_ifindex = index;
            let size = std::mem::size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
            let patience = libc::timeval {
                tv_sec: 0,
                tv_usec: 200_000,
            };
            let size = std::mem::size_of::<libc::timeval>() as u32;
            let value = (&raw const patience).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, size);
            File::from(OwnedFd::from_raw_fd(fd))
        };
        Self {
            socket,
            server_mac: bytes.try_into().unwrap(),
        }
    }

    fn udp(&mut self, ports: (u16, u16), broadcast: bool, payload: &[u8]) {
        let (mac, from, to) = match broadcast {
            true => ([0xff; 6], [0; 4], [255; 4]),
            false => (self.server_mac, OWN, SERVER),
        };
        let mut frame = Vec::new();
        frame.extend(mac);
        frame.extend(OWN_MAC);
        frame.extend([8, 0]);
        let length = (28 + payload.len()) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip.extend(from);
        ip.extend(to);
        let sum: u32 = ip
            .chunks(2)
            .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(ip);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.extend((8 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        let _ = self.socket.write(&frame);
    }

    /// Payloads that come to a port within a moment.
    fn heard(&mut self, port: u16, patience: Duration) -> Vec<Vec<u8>> {
        let (begun, mut all) = (Instant::now(), Vec::new());
        let mut frame = [0; 2048];
        while begun.elapsed() < patience {
            let Ok(length) = self.socket.read(&mut frame) else {
                continue;
            };
            let is_ours = length > 42
                && frame[12..14] == [8, 0]
                && frame[23] == 17
                && frame[36..38] == port.to_be_bytes();
            if is_ours {
                all.push(frame[42..length].to_vec());
            }
        }
        all
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", CARD]).output();
        let _ = Command::new("ip")
            .args(["neigh", "del", "192.168.91.251", "dev", "gr1"])
            .output();
    }
}

/// A DHCPDISCOVER of a BIOS that boots from the network (RFC 2131, RFC 4578).
fn discover() -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend(OWN_MAC);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, 1]);
    packet.extend([93, 2, 0, 0]);
    let class = b"PXEClient:Arch:00000:UNDI:002001";
    packet.extend([60, class.len() as u8]);
    packet.extend(class);
    packet.extend([97, 17, 0]);
    packet.extend([7; 16]);
    packet.extend([255]);
    packet
}

#[test]
fn the_first_hop_survives_nonsense() {
    let _alone = crate::field::alone();
    let Some(field) = Field::open("operator") else {
        return;
    };
    let mut cable = Cable::plug();
    let good = discover();
    // Cut off at every length, and each byte of the options made wrong in turn.
    for end in 0..good.len() {
        cable.udp((68, 67), true, &good[..end]);
    }
    for at in (0..good.len()).filter(|at| *at < 44 || *at >= 236) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut spoilt = good.clone();
            spoilt[at] = value;
            cable.udp((68, 67), true, &spoilt);
        }
    }
    let mut endless = good.clone();
    endless.truncate(good.len() - 1);
    endless.extend([82, 255].into_iter().chain([1; 700]));
    cable.udp((68, 67), true, &endless);
    // TFTP (RFC 1350): opcode, name, NUL, mode, NUL. Names that lead elsewhere, and no sense at all.
    let ask = |name: &[u8]| [b"\0\x01", name, b"\0octet\0"].concat();
    let long = vec![b'a'; 1200];
    let mut port = 2000;
    for request in [
        ask(b"../greenroom.db"),
        ask(b"../../greenroom.yaml"),
        ask(b"/etc/passwd"),
        ask(b"..\\..\\etc\\passwd"),
        ask(b"undionly.kpxe/../../dnsmasq.conf"),
        ask(b""),
        ask(&long),
        b"\0\x01undionly.kpxe".to_vec(),
        b"\0\x01".to_vec(),
        b"\0".to_vec(),
        b"\0\x02write\0octet\0".to_vec(),
        b"\0\x01undionly.kpxe\0octet\0blksize\0999999999\0tsize\0-1\0".to_vec()[..40].to_vec(),
        b"\0\x09\xff\xff".to_vec(),
    ] {
        port += 1;
        cable.udp((port, 69), false, &request);
        for answer in cable.heard(port, Duration::from_millis(300)) {
            assert_ne!(answer[..2], [0, 3], "{request:?} was answered with data");
        }
    }
    // The lawful ones are answered as ever, by the same dnsmasq.
    port += 1;
    cable.udp((port, 69), false, &ask(b"undionly.kpxe"));
    let answers = cable.heard(port, Duration::from_secs(2));
    assert!(
        answers.iter().any(|answer| answer[..4] == [0, 3, 0, 1]),
        "the boot file is sent"
    );
    let mut offered = false;
    for _ in 0..20 {
        cable.udp((68, 67), true, &good);
        offered = cable
            .heard(68, Duration::from_millis(500))
            .iter()
            .any(|answer| answer.first() == Some(&2));
        if offered {
            break;
        }
    }
    assert!(offered, "a lawful client is answered");
    assert!(field.json(&["status"]).is_some(), "the daemon lives");
    assert!(
        !field.log().contains("dnsmasq ended by itself"),
        "dnsmasq ended"
    );
}
