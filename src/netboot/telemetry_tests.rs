//! Reports good, old, absurd and hostile.

use super::*;
use proptest::prelude::*;

fn sample() -> Value {
    json!({
        "version": 2, "boot_id": "b-1", "hostname": "web-1", "os": "Debian", "uptime_s": 12.5, "load_1": 0.5, "load_5": 0.2, "load_15": 0.1,
        "cpu_busy": 0.25, "memory_mib": 1000, "memory_available_mib": 750, "disk_read": 1000, "disk_written": 2000,
        "net_received": 10, "net_sent": 20, "root_bytes": 1000, "root_free": 400, "processes": 20,
        "services": ["ssh.service"], "applications": { "nginx": 2 },
        "details": {
            "units": { "ssh.service": "active", "nginx.service": "failed" },
            "packages": { "nginx-light": "1.22.1-9", "absent": null },
            "firewall": ["table inet filter {", "}"]
        }
    })
}

fn reading(value: &Value) -> Result<Telemetry, String> {
    read(value.to_string().as_bytes())
}

#[test]
fn what_systems_said_before_there_were_versions_still_reads() {
    let old = json!({ "boot_id": "b", "hostname": "h", "os": "o", "uptime_s": 1.0, "load_1": 0.1, "cpu_busy": 0.1, "memory_mib": 1, "memory_available_mib": 1,
        "disk_read": 1, "disk_written": 1, "net_received": 1, "net_sent": 1, "root_bytes": 1, "root_free": 1, "services": [], "applications": {} });
    let old = reading(&old).unwrap();
    assert_eq!((old.version, old.details), (1, None));
}

#[test]
fn what_the_agent_writes_fits_the_schema() {
    let value = serde_json::to_value(reading(&sample()).unwrap()).unwrap();
    assert_eq!(value, sample());
    let bare = Telemetry {
        version: 2,
        boot_id: "b".into(),
        ..Telemetry::default()
    };
    reading(&serde_json::to_value(bare).unwrap()).unwrap();
}

#[test]
fn what_is_absurd_is_refused() {
    let many: serde_json::Map<String, Value> =
        (0..65).map(|n| (format!("p{n}"), json!(1))).collect();
    let breaks: [(&str, Value); 20] = [
        ("/version", json!(3)),
        ("/boot_id", json!("")),
        ("/boot_id", json!("x".repeat(65))),
        ("/hostname", json!("a\u{1b}[2J")),
        ("/os", json!("a\nb")),
        ("/uptime_s", json!(-1)),
        ("/uptime_s", json!(1e300)),
        ("/cpu_busy", json!(1.01)),
        ("/load_1", json!(1e9)),
        ("/memory_mib", json!(u64::MAX)),
        ("/memory_available_mib", json!(1001)),
        ("/root_free", json!(1001)),
        ("/disk_read", json!(u64::MAX)),
        ("/net_sent", json!("many")),
        ("/services", json!(vec!["x"; 65])),
        ("/services/0", json!("x".repeat(129))),
        ("/applications", Value::Object(many)),
        ("/details/firewall", json!(vec!["x"; 201])),
        ("/details/firewall/0", json!("\u{7}")),
        ("/details/units", json!({ "a\u{0}b": "active" })),
    ];
    for (at, value) in breaks {
        let mut broken = sample();
        *broken.pointer_mut(at).unwrap() = value;
        assert!(reading(&broken).is_err(), "{at}");
    }
    assert!(read(&vec![b' '; MAX_BYTES + 1]).is_err());
    assert!(read("[".repeat(100_000).as_bytes()).is_err(), "deep");
}

#[test]
fn counters_become_rates_within_one_boot() {
    let before = reading(&sample()).unwrap();
    let mut now = before.clone();
    now.disk_read += 4000;
    now.net_sent = 0;
    let (then, at) = (Timestamp(0), Timestamp(2_000_000));
    let measured = measures(at, &now, Some((then, &before)));
    assert_eq!(measured[&Metric::DiskRead], 2000.0);
    assert_eq!(measured[&Metric::Memory], 250.0);
    assert_eq!(measured[&Metric::Root], 0.6);
    assert_eq!(measured[&Metric::FailedUnits], 1.0);
    assert!(!measured.contains_key(&Metric::NetOut), "it went back");
    now.boot_id = "b-2".into();
    let measured = measures(at, &now, Some((then, &before)));
    assert!(!measured.contains_key(&Metric::DiskRead), "another boot");
    assert!(!measures(then, &before, None).contains_key(&Metric::NetIn));
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }

    /// One value of a good report replaced by anything: refused, or measured with finite numbers.
    #[test]
    fn any_value_is_read(key in "/(boot_id|uptime_s|cpu_busy|load_1|memory_mib|disk_read|root_bytes|processes|services|applications|details)", text: String, number: f64, whole: i64, which in 0..4) {
        let mut value = sample();
        if let Some(place) = value.pointer_mut(&key) {
            *place = match which { 0 => json!(text), 1 => json!(number), 2 => json!([text]), _ => json!(whole) };
        }
        if let Ok(telemetry) = reading(&value) {
            let before = reading(&sample()).unwrap();
            let measured = measures(Timestamp(9_000_000), &telemetry, Some((Timestamp(0), &before)));
            prop_assert!(measured.values().all(|value| value.is_finite() && *value >= 0.0), "{measured:?}");
            prop_assert!(telemetry.boot_id.chars().all(|c| !c.is_control()));
        }
    }
}
