//! Harm done to real machines: power lost in mid-stream, a second boot during the run, the daemon
//! killed while the image is written. None may end as delivered with less than its image.

use std::time::Duration;

use crate::field::{Field, Machine, Start};

const PATIENCE: Duration = Duration::from_secs(400);
const MIB: u32 = 96;

fn written(field: &Field, machine: &Machine) -> u64 {
    let view = field.json(&["device", "watch", &machine.device(), "--once"]);
    view.as_ref()
        .and_then(|all| all[0]["written_bytes"].as_u64())
        .unwrap_or(0)
}

/// The first bytes of the delivered disk are the kept disk's, byte by byte.
fn check_disk(field: &Field, machine: &Machine, run: i64) {
    let raw = field.path("delivered.raw");
    crate::field::run(
        std::process::Command::new("qemu-img")
            .args(["convert", "-U", "-f", "qcow2", "-O", "raw"])
            .arg(&machine.disk)
            .arg(&raw),
    );
    let made = std::fs::read(field.path("vm").join(format!("run-{run}.handoff.raw"))).unwrap();
    let there = std::fs::File::open(&raw).unwrap();
    let mut first = vec![0; made.len()];
    std::os::unix::fs::FileExt::read_exact_at(&there, &mut first, 0).unwrap();
    assert!(made.iter().any(|byte| *byte != 0));
    assert!(first == made, "the delivered disk is not what the run made");
    std::fs::remove_file(raw).unwrap();
}

/// One machine through all of it, because each boot of an emulated machine takes its time: its power
/// is cut during its run, then in mid-stream, then the daemon is killed in mid-stream.
#[test]
fn a_machine_that_is_harmed_on_its_way_still_gets_the_whole_image() {
    let _alone = crate::field::alone();
    let Some(mut field) = Field::open("network") else {
        return;
    };
    field.apply_quick_chain(256, MIB);
    let machine = field.add(1, 384, &Start::Network);
    field.power_on(&machine);
    let device = machine.device();
    field.until("its run begins", PATIENCE, |field| {
        matches!(field.state(&device).as_str(), "provisioning" | "installing")
    });
    // A second boot while its run makes its image: the run is not lost, and there is no second one.
    field.power_off(&machine);
    std::thread::sleep(Duration::from_secs(8));
    field.power_on(&machine);
    field.until("its image is being written", PATIENCE, |field| {
        written(field, &machine) > 8 << 20
    });
    let runs = field.json(&["run", "list", "--device", &device]).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    // The plug in mid-stream.
    field.power_off(&machine);
    assert_eq!(field.state(&device), "installing", "it is not delivered");
    std::thread::sleep(Duration::from_secs(8));
    field.power_on(&machine);
    field.until("it has begun anew", PATIENCE, |field| {
        field.has_event(&device, "rebooted")
    });
    field.until("its image is being written again", PATIENCE, |field| {
        let at = written(field, &machine);
        (16 << 20..u64::from(MIB) << 20).contains(&at) && field.is_on(&machine)
    });
    // The daemon in mid-stream.
    field.kill_daemon();
    std::thread::sleep(Duration::from_secs(1));
    field.start_daemon();
    field.until("it is delivered", PATIENCE, |field| {
        matches!(field.state(&device).as_str(), "delivered" | "booted")
    });
    field.power_off(&machine);
    check_disk(&field, &machine, 1);
    let said = machine.said();
    assert!(said.contains("installing run 1 on vda"), "{said}");
}

/// The card is changed while the machine is off: it is the same machine, and its new address is known.
/// Another machine with the old card's address gets nothing of it.
#[test]
fn a_machine_that_comes_back_with_another_card_is_known_again() {
    let _alone = crate::field::alone();
    let Some(mut field) = Field::open("operator") else {
        return;
    };
    let machine = field.add(2, 384, &Start::Network);
    let device = machine.device();
    field.power_on(&machine);
    field.until("it is discovered", PATIENCE, |field| {
        field.state(&device) == "discovered"
    });
    field.power_off(&machine);
    std::thread::sleep(Duration::from_secs(8));
    field.define(&machine, "52:54:00:7e:58:f2", 384, &Start::Network);
    field.power_on(&machine);
    field.until("it is known again", PATIENCE, |field| {
        field.has_event(&device, "changed")
    });
    let view = field.json(&["device", "watch", &device, "--once"]).unwrap();
    assert!(
        view[0]["macs"].to_string().contains("52:54:00:7e:58:f2"),
        "{view}"
    );
}
