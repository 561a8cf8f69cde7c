//! Onboarding real blank machines, from power-on to reporting as their persona, by phase; and several
//! at once against one.
//!
//! `vagrant/lab bench onboard`: `DEVICES` (8) machines at once with a chain of one short stage, one
//! machine alone with the same chain, and one with the shipped chain `onboard` where the image
//! `toolbox` is built (`ONBOARD=0` leaves it out; `FIRMWARE=uefi`: on OVMF instead of a BIOS). Everything between is real: firmware, DHCP, boot
//! files, ramdisk, stream, first boot. The stream is compared with `wget | dd` of the same file, from
//! this host to an equal machine with the same kernel, in the same run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use greenroom::api::Time;
use greenroom::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::field::{Field, HOST, Machine, Start};
use crate::{Figure, figure, median};

const PATIENCE: Duration = Duration::from_secs(1500);
const PLAIN_PORT: u16 = 8490;
/// Size of the quick chain's disk, and how much of it is data, MiB.
const QUICK: (u32, u32) = (128, 32);

/// Phases in their order; a phase ends at the mark of its name.
const PHASES: [&str; 8] = [
    "firmware",
    "dhcp",
    "boot_files",
    "ramdisk",
    "chain",
    "image",
    "reboot",
    "first_report",
];

/// When a machine passed the ends of its phases, seconds after it was switched on.
type Marks = BTreeMap<&'static str, f64>;

pub fn measure() -> Vec<Figure> {
    let Some(mut field) = Field::open("network") else {
        return Vec::new();
    };
    let count = number("DEVICES", 8).clamp(1, 32) as u8;
    let mut figures = vec![figure("onboard_load_1m_before", load(), "tasks", "", 1)];
    field.apply_quick_chain(QUICK.0, QUICK.1);
    let one = field.add(100, 384, &Start::Network);
    let alone = onboard(&field, std::slice::from_ref(&one), "delivered");
    figures.extend(told("quick_one", &alone));
    figures.extend(stream(&mut field, &one, "quick_one", &alone[0], 200));
    if count > 1 {
        let all: Vec<Machine> = (0..count)
            .map(|n| field.add(n, 384, &Start::Network))
            .collect();
        let marks = onboard(&field, &all, "delivered");
        figures.extend(told(&format!("quick_{count}"), &marks));
        let slowest = marks
            .iter()
            .filter_map(|marks| marks.get("image"))
            .fold(0.0_f64, |a, b| a.max(*b));
        figures.push(figure(
            &format!("onboard_quick_{count}_slowest_against_one"),
            slowest / alone[0]["image"],
            "ratio",
            "",
            marks.len(),
        ));
    }
    let lab = std::env::var("GREENROOM_STATE").unwrap_or_default();
    let toolbox = Path::new(&lab).join("images/toolbox/current");
    if number("ONBOARD", 1) > 0 && toolbox.exists() {
        figures.extend(persona(&mut field));
    }
    figures.push(figure("onboard_load_1m_after", load(), "tasks", "", 1));
    figures
}

fn number(key: &str, default: u64) -> u64 {
    let given = std::env::var(key).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tasks that ran or waited to, on the average of a minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.unwrap_or(f64::NAN)
}

/// One machine through the shipped chain, from power-on until its own system reports.
fn persona(field: &mut Field) -> Vec<Figure> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("chains");
    let chain = shipped.join("onboard.yaml").display().to_string();
    let start = match std::env::var("FIRMWARE").as_deref() {
        Ok("uefi") => Start::NetworkUefi,
        _ => Start::Network,
    };
    let machine = field.add(101, 1024, &start);
    let text = std::fs::read_to_string(shipped.join("devices/web-1.yaml")).expect("a device");
    let shown: Value = serde_saphyr::from_str(&text).expect("a device");
    // Declared by its address: what it is made of it says itself.
    let device = json!({
        "name": machine.device(), "client": "shop",
        "facts": { "role": "web", "wishes": shown["facts"]["wishes"], "hardware": { "nics": [{ "mac": machine.mac }] } },
    });
    let file = field.path("declared.json");
    std::fs::write(&file, device.to_string()).expect("a file");
    field.must(&["device", "add", "-f", &file.display().to_string()]);
    field.must(&["chain", "apply", &chain]);
    let marks = onboard(field, std::slice::from_ref(&machine), "reporting");
    let mut figures = told("persona", &marks);
    figures.extend(stream(field, &machine, "persona", &marks[0], 201));
    let report = marks[0].get("first_report").copied();
    figures.push(figure(
        "poweron_to_persona_s",
        report.unwrap_or(f64::NAN),
        "s",
        "",
        1,
    ));
    figures
}

/// Switches the machines on at once and follows them until all are in `last`.
fn onboard(field: &Field, machines: &[Machine], last: &str) -> Vec<Marks> {
    let clock = SystemClock;
    let mut began = Vec::new();
    let mut up: Vec<Option<f64>> = vec![None; machines.len()];
    for machine in machines {
        began.push(clock.now().0);
        field.power_on(machine);
    }
    let since = Instant::now();
    let mut looked = Instant::now();
    loop {
        for (index, machine) in machines.iter().enumerate() {
            if up[index].is_none() && machine.said().contains("greenroom: ramdisk up after ") {
                up[index] = Some((clock.now().0 - began[index]) as f64 / 1e6);
            }
        }
        // Asking costs processor time that the machines need.
        if looked.elapsed() > Duration::from_secs(2) {
            looked = Instant::now();
            let states = field.states();
            let mut open = 0;
            for machine in machines {
                match states.get(&machine.device()).map(String::as_str) {
                    Some(state) if state == last => {}
                    Some("booted" | "reporting") if last == "delivered" => {}
                    _ => {
                        open += 1;
                        continue;
                    }
                }
                // What is on its disk does not boot; it must not take time from the others.
                if last == "delivered" {
                    field.power_off_if_on(machine);
                }
            }
            if open == 0 {
                break;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "not all are {last} within {PATIENCE:?}:\n{}",
                machines[0].said()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = field.log();
    machines
        .iter()
        .enumerate()
        .map(|(index, machine)| marks(field, machine, began[index], up[index], &log))
        .collect()
}

fn marks(field: &Field, machine: &Machine, began: i64, up: Option<f64>, log: &str) -> Marks {
    let since = |at: &Time| (at.0.as_microsecond() - began) as f64 / 1e6;
    let mut marks = Marks::new();
    let seen = field.events(&machine.mac);
    if let Some(event) = seen.iter().find(|event| event.kind == "seen") {
        marks.insert("firmware", since(&event.at));
    }
    let asked = log
        .lines()
        .find(|line| line.contains(": a script ") && line.contains(&machine.mac));
    if let Some(at) = asked.and_then(|line| line.split(' ').next()?.parse::<jiff::Timestamp>().ok())
    {
        marks.insert("dhcp", (at.as_microsecond() - began) as f64 / 1e6);
    }
    if let Some(up) = up {
        let kernel = machine
            .said()
            .split("greenroom: ramdisk up after ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        marks.insert("boot_files", up - kernel.unwrap_or(0.0));
        marks.insert("ramdisk_up", up);
    }
    let events = field.events(&machine.device());
    for (kind, mark) in [
        ("registered", "ramdisk"),
        ("installing", "chain"),
        ("delivered", "image"),
        ("booted", "reboot"),
        ("reporting", "first_report"),
    ] {
        if let Some(event) = events.iter().find(|event| event.kind == kind) {
            marks.insert(mark, since(&event.at));
        }
    }
    marks
}

/// The middle of the machines for each phase, and power-on to ramdisk and to the image on the disk.
fn told(name: &str, all: &[Marks]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (index, phase) in PHASES.into_iter().enumerate() {
        let spans: Vec<f64> = all
            .iter()
            .filter_map(|marks| {
                let end = marks.get(phase)?;
                let start = match index {
                    0 => 0.0,
                    _ => *marks.get(PHASES[index - 1])?,
                };
                Some(end - start)
            })
            .collect();
        if !spans.is_empty() {
            let n = spans.len();
            let figure_name = format!("onboard_{name}_{phase}_s");
            figures.push(figure(&figure_name, median(spans), "s", "", n));
        }
    }
    for (mark, word) in [
        ("ramdisk_up", "poweron_to_ramdisk"),
        ("image", "poweron_to_delivered"),
    ] {
        let spans: Vec<f64> = all
            .iter()
            .filter_map(|marks| marks.get(mark).copied())
            .collect();
        if !spans.is_empty() {
            let n = spans.len();
            let goal = if word == "poweron_to_ramdisk" {
                "≤ 14.2"
            } else {
                ""
            };
            figures.push(figure(
                &format!("{word}_{name}_s"),
                median(spans),
                "s",
                goal,
                n,
            ));
        }
    }
    figures
}

/// What was sent, what of it is used, and how fast, beside a plain copy of the same file.
fn stream(
    field: &mut Field,
    machine: &Machine,
    name: &str,
    marks: &Marks,
    other: u8,
) -> Vec<Figure> {
    let view = field.json(&["run", "list", "--device", &machine.device()]);
    let run = view.as_ref().and_then(|runs| runs[0]["id"].as_i64());
    let (Some(run), Some(from), Some(to)) = (run, marks.get("chain"), marks.get("image")) else {
        return Vec::new();
    };
    // Packed again from the kept disk: the daemon removes its own once the device has it.
    let disk = field.path("vm").join(format!("run-{run}.handoff.raw"));
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let id = greenroom::vocab::RunId(run);
    let begun = Instant::now();
    runtime
        .block_on(greenroom::netboot::delivery::pack(folder.path(), id, &disk))
        .expect("packed");
    let pack_s = begun.elapsed().as_secs_f64();
    let packed = greenroom::netboot::delivery::Packed::of(folder.path(), id);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(&packed.manifest).expect("a manifest"))
            .expect("JSON");
    let sent = manifest["stored_bytes"].as_f64().unwrap_or(f64::NAN);
    let pieces = manifest["pieces"].as_array().cloned().unwrap_or_default();
    let used: f64 = pieces
        .iter()
        .filter_map(|piece| piece["bytes"].as_f64())
        .sum();
    let size = manifest["disk_bytes"].as_f64().unwrap_or(f64::NAN);
    let span = to - from;
    field.power_off_if_on(machine);
    let plain = plain_copy(field, &runtime, &packed.data, other);
    let mib = f64::from(1 << 20);
    let ours = sent / mib / span;
    vec![
        figure(&format!("image_{name}_pack_s"), pack_s, "s", "", 1),
        figure(&format!("image_{name}_disk_mib"), size / mib, "MiB", "", 1),
        figure(
            &format!("image_{name}_used_mib"),
            used / mib,
            "MiB",
            "",
            pieces.len(),
        ),
        figure(&format!("image_{name}_sent_mib"), sent / mib, "MiB", "", 1),
        figure(
            &format!("image_{name}_sent_of_used"),
            sent / used,
            "ratio",
            "",
            1,
        ),
        figure(&format!("image_{name}_stream_mib_s"), ours, "MiB/s", "", 1),
        figure(
            &format!("image_{name}_written_mib_s"),
            used / mib / span,
            "MiB/s",
            "",
            1,
        ),
        figure(
            &format!("image_{name}_plain_mib_s"),
            sent / mib / plain,
            "MiB/s",
            "",
            1,
        ),
        figure(
            &format!("image_{name}_against_plain"),
            ours * plain * mib / sent,
            "ratio",
            "",
            1,
        ),
    ]
}

/// Seconds that `wget | dd` takes for a file, on an equal machine with the same kernel and ramdisk.
fn plain_copy(field: &mut Field, runtime: &tokio::runtime::Runtime, file: &Path, other: u8) -> f64 {
    let bytes = std::fs::read(file).expect("the packed image");
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind((HOST, PLAIN_PORT)))
        .expect("a port");
    let body = axum::body::Bytes::from(bytes);
    let router = axum::Router::new()
        .route("/there", axum::routing::get(|| async { "yes" }))
        .route(
            "/image",
            axum::routing::get(move || async move { body.clone() }),
        );
    let server = runtime.spawn(async move { axum::serve(listener, router).await });
    let image = field.path("images/device");
    let digest = std::fs::read_to_string(image.join("current")).expect("the image");
    let home = image.join(digest.trim());
    let initrd = field.path("plain.initrd");
    let mut archive = std::fs::read(home.join("initrd")).expect("the ramdisk");
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(overlay(&format!("http://{HOST}:{PLAIN_PORT}")));
    std::fs::write(&initrd, archive).expect("a file");
    let kernel = home.join("kernel");
    let start = Start::Files {
        kernel: &kernel,
        initrd: &initrd,
        cmdline: "console=ttyS0 quiet cryptomgr.notests",
    };
    let machine = field.add(other, 384, &start);
    field.power_on(&machine);
    field.until("the plain copy is done", PATIENCE, |_| {
        machine.said().contains("plain copy took ")
    });
    field.remove(&machine);
    server.abort();
    let said = machine.said();
    let rest = said.split("plain copy took ").nth(1).unwrap_or_default();
    let mut words = rest
        .split_ascii_whitespace()
        .map(|word| word.parse::<f64>());
    match (words.next(), words.next()) {
        (Some(Ok(from)), Some(Ok(to))) => to - from,
        _ => f64::NAN,
    }
}

/// Two files over those of the ramdisk, as an uncompressed archive (the kernel reads one after another;
/// Linux, Documentation/driver-api/early-userspace/buffer-format).
fn overlay(url: &str) -> Vec<u8> {
    let script = format!(
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexec >/dev/console 2>&1\nuntil wget -q -O /dev/null {url}/there; do sleep 1; done\nread -r from _ </proc/uptime\nwget -q -O - {url}/image | dd of=/dev/vda bs=1M iflag=fullblock conv=fsync 2>/dev/null\nread -r to _ </proc/uptime\necho \"plain copy took $from $to \"\nsleep 1000\n"
    );
    let mut archive = Vec::new();
    for (name, mode, bytes) in [
        (
            "etc/inittab",
            0o100_644,
            "::sysinit:/etc/rc\n::once:/plain\n",
        ),
        ("plain", 0o100_755, script.as_str()),
        ("TRAILER!!!", 0, ""),
    ] {
        let fields = [
            0,
            mode,
            0,
            0,
            1,
            0,
            bytes.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        archive.extend(b"070701");
        for field in fields {
            archive.extend(format!("{field:08X}").bytes());
        }
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(bytes.bytes());
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}
