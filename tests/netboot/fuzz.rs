//! Nonsense for every parser of ours that strangers reach: words of devices, addresses, codes, what
//! dnsmasq logs, and whole requests. A few hundred cases with each test run; `GREENROOM_FUZZ_CASES` and
//! `cargo test --test netboot -- --ignored fuzz` for more.

use greenroom::netboot::client::{Client, IpxeFeatures};
use greenroom::netboot::decide::{self, Answer, Request, Standing, Unknown};
use greenroom::netboot::script::{GiveUp, KernelArgument, Scene, Url};
use greenroom::netboot::settings::Approve;
use greenroom::netboot::{dnsmasq, identity, inventory, trust, wire};
use greenroom::vocab::boot::{BootPhase, Mac};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::station::Station;

/// So many cases of each parser.
fn cases(default: u32) -> u32 {
    let given = std::env::var("GREENROOM_FUZZ_CASES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn check<S: Strategy>(cases: u32, what: &str, strategy: S, test: impl Fn(S::Value)) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{what}: {error}");
    }
    eprintln!("{what}: {cases} cases");
}

/// What a well-behaved device says, one of each.
const WORDS: [&str; 9] = [
    r#"{"protocol":1,"boot_id":"00000000-0000-4000-8000-000000000001","boot_mac":"52:54:00:00:00:01","claims":{"uuid":"4c4c4544-0000-1000-8000-000000000001","serial":"SN-0001","board_serial":null,"macs":["52:54:00:00:00:01"],"disks":["disk-0001"]},"uptime_ms":5}"#,
    r#"{"boot_id":"00000000-0000-4000-8000-000000000001","sequence":1,"doing":{"doing":"installing","run":1,"written":2,"of":3}}"#,
    r#"{"boot_id":"00000000-0000-4000-8000-000000000001","sequence":1,"doing":{"doing":"failed","run":1,"why":"it did not fit"}}"#,
    r#"{"token":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
    r#"{"code":"AAAAA-AAAAA-AAAAA-AAAAA-AAAAA"}"#,
    r#"{"version":1,"run":1,"disk_bytes":4096,"stored_bytes":20,"pieces":[{"at":0,"bytes":4096,"from":0,"length":20,"stored":"00","unpacked":"00"}]}"#,
    r#"{"boot_id":"b","hostname":"h","os":"o","uptime_s":1.0,"load_1":0.1,"cpu_busy":0.1,"memory_mib":1,"memory_available_mib":1,"disk_read":1,"disk_written":1,"net_received":1,"net_sent":1,"root_bytes":1,"root_free":1,"services":[],"applications":{"nginx":2}}"#,
    r#"{"version":1,"arch":"x86_64","firmware":"bios","kernel":"6.12","cpu":{"model":"QEMU","vendor":"AuthenticAMD","sockets":1,"cores":1,"threads":1},"memory_mib":1024,"system":{"vendor":"Greenroom","product":"Lab device","serial":"SN-0001","uuid":"4c4c4544-0000-1000-8000-000000000001"},"disks":[{"name":"vda","bytes":9663676416,"kind":"hdd","removable":false,"serial":"disk-0001"}],"nics":[{"name":"eth0","mac":"52:54:00:00:00:01","link":true,"boot":true}],"pci":[],"tpm":null}"#,
    r#"{"order":"install","run":1,"token":"00","disk":"vda"}"#,
];

/// A good document with some of its bytes changed, put in, left out or doubled.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0_u8..5, any::<u8>());
    (0..WORDS.len(), prop::collection::vec(change, 0..8)).prop_map(|(which, changes)| {
        let mut bytes = WORDS[which].as_bytes().to_vec();
        for (at, how, byte) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => {
                    let end = (at + usize::from(byte)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    })
}

fn read_as_everything(bytes: &[u8]) {
    if let Ok(order) = serde_json::from_slice::<wire::Register>(bytes) {
        let claimed = identity::fingerprint(&order.claims);
        let _ = identity::judge(&claimed, &[]);
    }
    let _ = serde_json::from_slice::<wire::Heartbeat>(bytes);
    let _ = serde_json::from_slice::<wire::Exchange>(bytes);
    let _ = serde_json::from_slice::<wire::Manifest>(bytes);
    let _ = serde_json::from_slice::<wire::Telemetry>(bytes);
    let _ = serde_json::from_slice::<wire::Order>(bytes);
    if let Ok(given) = serde_json::from_slice::<wire::GivenCode>(bytes) {
        let _ = trust::code_hash(&given.code);
    }
    if let Ok(found) = inventory::read(bytes) {
        let mut facts = serde_json::Map::new();
        inventory::into_facts(&mut facts, &found);
        let _ = inventory::disk_for_image(&found);
        let _ = identity::fingerprint(&found.claims());
        // What got through is fit for terminals.
        let shown = serde_json::to_string(&facts).expect("plain data");
        assert!(!shown.contains("\\u00"), "{shown}");
    }
}

fn read_as_text(text: &str) {
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
    }
    let _ = trust::code_hash(text);
    let _ = dnsmasq::read_log(text);
    let _ = dnsmasq::read_log(&format!(
        "dnsmasq-dhcp: 1 available DHCP range: {text}\ndnsmasq-dhcp: 1 DHCPDISCOVER(gr1) {text}"
    ));
    if let Ok(url) = Url::new(&format!("http://{text}")) {
        assert!(!url.to_string().contains([' ', '\n', '$', '|', '&', '#']));
    }
    let _ = KernelArgument::new(text);
    if let Ok(words) = KernelArgument::split(text) {
        assert!(words.len() <= text.len());
    }
}

fn clients() -> impl Strategy<Value = (Client, Option<String>)> {
    (
        any::<Option<[u8; 6]>>(),
        prop::collection::vec(prop_oneof![0_u16..24, any::<u16>()], 0..4),
        any::<Option<String>>(),
        prop_oneof![
            Just(None),
            Just(Some("PXEClient".to_owned())),
            Just(Some("HTTPClient:Arch:00016".to_owned())),
            any::<String>().prop_map(Some)
        ],
        any::<Option<Option<bool>>>(),
        any::<Option<Vec<u8>>>(),
        any::<Option<String>>(),
    )
        .prop_map(|(mac, arches, user, vendor, http, uuid, file)| {
            let client = Client {
                mac: mac.map(Mac),
                arches,
                user_class: user,
                vendor_class: vendor,
                ipxe: http.map(|http| IpxeFeatures { http }),
                uuid_option: uuid,
            };
            (client, file)
        })
}

fn decide_everything((client, file): (Client, Option<String>)) {
    let settings = decide::Settings {
        unknown: Unknown::Discover,
        base_url: "http://192.0.2.1:8480".into(),
        most_boots_after_delivery: 3,
    };
    let scene = Scene {
        base: Url::new("http://192.0.2.1:8480").expect("a URL"),
        give_up: GiveUp::Firmware,
        ramdisk: None,
    };
    let name = file.unwrap_or_default();
    let held = Standing::Known {
        phase: BootPhase::Held {
            reason: name.clone(),
        },
        boots_since_delivery: 0,
    };
    for standing in [Standing::Unknown, held] {
        for request in [
            Request::Dhcp,
            Request::Tftp(name.clone()),
            Request::BootFile(name.clone()),
            Request::FirstScript,
            Request::Script,
        ] {
            let decision = decide::decide(&client, &request, &standing, &settings);
            // A file is only ever one of ours, and an iPXE with HTTP is never given iPXE again.
            if let Answer::Send { file } = &decision.answer {
                assert_eq!(file.name(), name);
            }
            if let Some(mac) = client.mac {
                let made = scene.of_device(mac, &decision.answer, &decision.reason);
                if let Ok(Some(script)) = made {
                    assert!(script.starts_with("#!ipxe\n") && script.is_ascii());
                }
            }
        }
    }
}

fn fuzz(each: u32) {
    check(each, "spoilt words of devices", spoilt(), |bytes| {
        read_as_everything(&bytes);
    });
    check(each, "any bytes", any::<Vec<u8>>(), |bytes| {
        read_as_everything(&bytes);
    });
    check(each, "any text", any::<String>(), |text| {
        read_as_text(&text);
    });
    check(
        each,
        "text of the alphabets",
        "[0-9a-fA-F:.\\-/%= $|&\n]{0,60}",
        |text| read_as_text(&text),
    );
    check(each, "any client", clients(), decide_everything);
}

#[test]
fn fuzz_every_parser_a_little() {
    fuzz(cases(400));
}

#[test]
#[ignore = "minutes; for a long run"]
fn fuzz_every_parser_for_long() {
    fuzz(cases(200_000));
}

/// Requests that are nearly right, over real sockets. The listener answers or closes; nothing is its
/// own failure, and the next device is served.
#[tokio::test(flavor = "multi_thread")]
async fn fuzz_requests_are_answered_or_dropped() {
    let station = Station::open(Approve::Operator).await;
    let mut agent = station.agent(1);
    assert_eq!(agent.register().await, 200);
    let mut runner = TestRunner::deterministic();
    let paths = "(/boot/device/[0-9a-f-]{0,18}(\\?[a-z]=[%a-f0-9]{0,9})?|/boot/files/[a-z.%/]{0,20}|/boot/ramdisk/[0-9a-f/]{0,70}|/device/v1/(register|inventory|heartbeat|exchange|code|manifest|data|telemetry)|/[ -~]{0,40})";
    let request = (
        "(GET|POST|PUT|HEAD|[A-Z]{1,5})",
        paths,
        "(bytes=[0-9-]{0,24}|[ -~]{0,20})",
        spoilt(),
        any::<bool>(),
    );
    for _ in 0..cases(120).min(180) {
        let (method, path, range, body, with_session) =
            request.new_tree(&mut runner).expect("a request").current();
        let bearer = if with_session { &agent.session } else { "0" };
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\nRange: {range}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        let said = agent.send(bytes).await;
        assert!(
            said.status < 500,
            "{method} {path} answered {}: {}",
            said.status,
            said.text()
        );
    }
    let mut next = station.agent(2);
    // One address has a share of requests; the clock of shares is the machine's own.
    for _ in 0..100 {
        if next.register().await == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the next device is not served");
}
