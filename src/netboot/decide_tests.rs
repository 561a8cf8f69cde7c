//! Tables of who asks and what is answered.

use proptest::prelude::*;

use super::*;
use crate::netboot::client::IpxeFeatures;
use crate::vocab::RunId;
use crate::vocab::boot::Mac;

fn settings() -> Settings {
    Settings {
        unknown: Unknown::Discover,
        base_url: "http://192.0.2.1:8480".into(),
        most_boots_after_delivery: 3,
    }
}

fn firmware(arches: &[u16]) -> Client {
    let http = arches.iter().all(|arch| (15..=20).contains(arch));
    Client {
        mac: Some(Mac([0x52, 0x54, 0, 1, 2, 3])),
        arches: arches.to_vec(),
        vendor_class: Some(format!(
            "{}:Arch:{:05}:UNDI:003016",
            if http { "HTTPClient" } else { "PXEClient" },
            arches.first().unwrap_or(&0)
        )),
        ..Client::default()
    }
}

fn dhcp_answer(client: &Client) -> Answer {
    decide(client, &Request::Dhcp, &Standing::Unknown, &settings()).answer
}

fn known(phase: BootPhase) -> Standing {
    Standing::Known {
        phase,
        boots_since_delivery: 0,
    }
}

const UNDIONLY: Answer = Answer::TftpFile {
    file: BootFile::Undionly,
};
const SNPONLY: Answer = Answer::TftpFile {
    file: BootFile::Snponly,
};

fn snponly_by_http() -> Answer {
    Answer::HttpFile {
        url: "http://192.0.2.1:8480/boot/files/snponly.efi".into(),
    }
}

fn first_script() -> Answer {
    Answer::ScriptUrl {
        url: "http://192.0.2.1:8480/boot/first.ipxe".into(),
    }
}

#[test]
fn each_architecture_gets_what_it_can_run() {
    let table: &[(&[u16], Answer)] = &[
        (&[0], UNDIONLY),
        (&[7], SNPONLY),
        (&[9], SNPONLY),
        (&[9, 7], SNPONLY),
        (&[0x1234, 7], SNPONLY),
        (&[16], snponly_by_http()),
        (&[6], Answer::Silence),
        (&[8], Answer::Silence),
        (&[10], Answer::Silence),
        (&[11], Answer::Silence),
        (&[15], Answer::Silence),
        (&[17], Answer::Silence),
        (&[18], Answer::Silence),
        (&[19], Answer::Silence),
        (&[20], Answer::Silence),
        (&[27], Answer::Silence),
        (&[41], Answer::Silence),
        (&[], Answer::Silence),
    ];
    for (arches, expected) in table {
        assert_eq!(&dhcp_answer(&firmware(arches)), expected, "{arches:?}");
    }
}

#[test]
fn the_vendor_class_says_whether_http_is_meant() {
    let mut client = firmware(&[7]);
    client.vendor_class = Some("HTTPClient:Arch:00016:UNDI:003001".into());
    assert_eq!(dhcp_answer(&client), snponly_by_http());
    client.vendor_class = Some("MSFT 5.0".into());
    assert_eq!(dhcp_answer(&client), Answer::Silence);
    client.vendor_class = None;
    assert_eq!(dhcp_answer(&client), Answer::Silence);
}

#[test]
fn ipxe_gets_a_script_and_never_itself_again() {
    for arches in [&[0_u16][..], &[7], &[11], &[]] {
        for ipxe in [
            None,
            Some(IpxeFeatures { http: Some(true) }),
            Some(IpxeFeatures { http: None }),
        ] {
            let client = Client {
                user_class: Some("iPXE".into()),
                ipxe,
                ..firmware(arches)
            };
            assert_eq!(dhcp_answer(&client), first_script(), "{arches:?} {ipxe:?}");
        }
    }
}

#[test]
fn an_ipxe_rom_without_http_gets_ours_first() {
    let rom = |arches: &[u16]| Client {
        user_class: Some("iPXE".into()),
        ipxe: Some(IpxeFeatures { http: Some(false) }),
        ..firmware(arches)
    };
    assert_eq!(dhcp_answer(&rom(&[0])), UNDIONLY);
    assert_eq!(dhcp_answer(&rom(&[7])), SNPONLY);
    assert_eq!(dhcp_answer(&rom(&[11])), Answer::Silence);
}

#[test]
fn unlawful_requests_get_no_answer() {
    let mut client = firmware(&[0]);
    client.uuid_option = Some(vec![0; 16]);
    assert_eq!(dhcp_answer(&client), Answer::Silence);
    client.uuid_option = Some([vec![0], vec![7; 16]].concat());
    assert_eq!(dhcp_answer(&client), UNDIONLY);
    client.mac = Some(Mac([0xff; 6]));
    assert_eq!(dhcp_answer(&client), Answer::Silence);
    client.mac = Some(Mac([0xdc, 0xa6, 0x32, 1, 2, 3]));
    assert_eq!(dhcp_answer(&client), Answer::Silence, "a Raspberry Pi");
}

#[test]
fn unknown_addresses_are_ignored_where_that_is_wished() {
    let settings = Settings {
        unknown: Unknown::Ignore,
        ..settings()
    };
    let ask = |request| decide(&firmware(&[0]), &request, &Standing::Unknown, &settings).answer;
    assert_eq!(ask(Request::Dhcp), Answer::Silence);
    assert_eq!(ask(Request::Script), Answer::OwnDisk);
}

#[test]
fn the_script_follows_the_device() {
    let run = RunId(1);
    let table = [
        (Standing::Unknown, Answer::Ramdisk),
        (known(BootPhase::Registered), Answer::Ramdisk),
        (known(BootPhase::Discovered), Answer::Ramdisk),
        (known(BootPhase::Provisioning { run }), Answer::Ramdisk),
        (known(BootPhase::Installing { run }), Answer::Ramdisk),
        (known(BootPhase::Delivered { run }), Answer::OwnDisk),
        (known(BootPhase::Booted { run }), Answer::OwnDisk),
        (known(BootPhase::Reporting { run }), Answer::OwnDisk),
        (
            known(BootPhase::Quarantined {
                reason: "tie".into(),
            }),
            Answer::Ramdisk,
        ),
        (
            known(BootPhase::Held {
                reason: "why".into(),
            }),
            Answer::Wait { seconds: 60 },
        ),
    ];
    for (standing, expected) in table {
        let found = decide(&firmware(&[0]), &Request::Script, &standing, &settings());
        assert_eq!(found.answer, expected, "{standing:?}");
        assert!(!found.reason.is_empty());
    }
}

#[test]
fn a_device_that_keeps_coming_back_from_its_disk_is_stopped() {
    let standing = |boots_since_delivery| Standing::Known {
        phase: BootPhase::Booted { run: RunId(1) },
        boots_since_delivery,
    };
    let ask = |boots| {
        decide(
            &firmware(&[0]),
            &Request::Script,
            &standing(boots),
            &settings(),
        )
        .answer
    };
    assert_eq!(ask(3), Answer::OwnDisk);
    assert_eq!(ask(4), Answer::Wait { seconds: 60 });
}

#[test]
fn only_boot_files_are_sent() {
    for name in ["undionly.kpxe", "snponly.efi"] {
        for request in [Request::Tftp(name.into()), Request::BootFile(name.into())] {
            let found = decide(&firmware(&[0]), &request, &Standing::Unknown, &settings());
            assert_eq!(
                found.answer,
                Answer::Send {
                    file: BootFile::by_name(name).unwrap()
                }
            );
        }
    }
    for name in [
        "../../etc/shadow",
        "/undionly.kpxe",
        "undionly.kpxe/",
        "UNDIONLY.KPXE",
        "",
        "\0",
    ] {
        let found = decide(
            &firmware(&[0]),
            &Request::Tftp(name.into()),
            &Standing::Unknown,
            &settings(),
        );
        assert_eq!(found.answer, Answer::NotFound, "{name:?}");
    }
}

proptest! {
    /// Whatever a client says, an iPXE that has HTTP is never sent to TFTP or to another iPXE.
    #[test]
    fn there_is_no_loop(arches: Vec<u16>, vendor in ".{0,40}", uuid: Option<Vec<u8>>) {
        let client = Client {
            mac: Some(Mac([0x52, 0x54, 0, 1, 2, 3])),
            arches,
            user_class: Some("iPXE".into()),
            vendor_class: Some(vendor),
            ipxe: Some(IpxeFeatures { http: Some(true) }),
            uuid_option: uuid,
        };
        let found = dhcp_answer(&client);
        prop_assert!(
            matches!(found, Answer::ScriptUrl { .. } | Answer::Silence),
            "{:?}", found
        );
    }
}
