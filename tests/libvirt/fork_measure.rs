//! How long each phase of a fork takes, beside QEMU alone and a cold boot, in one run and in turn; and
//! what forks take of the host's memory. Repeat with (in the lab):
//! `GREENROOM_TEST_IMAGE_NAME=toolbox ROUNDS=15 cargo test --test libvirt -- --ignored --nocapture forks_beside`

use std::time::{Duration, Instant};

use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::{DiskOrder, Hypervisor};
use greenroom::vocab::MachineId;

use crate::measure::Series;
use crate::raw::Recipe;
use crate::timed;
use crate::yard::Yard;

fn rounds() -> usize {
    let given = std::env::var("ROUNDS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(15)
}

async fn exec(yard: &Yard, id: MachineId) {
    let guest = Guest {
        hypervisor: &*yard.libvirt,
        machine: id,
    };
    let done = guest
        .run(&["/bin/true"], b"", Duration::from_secs(20))
        .await;
    assert_eq!(done.unwrap().exit_code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn forks_beside_qemu_alone_and_cold_boots() {
    let Some(yard) = Yard::new("forks-beside").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let template = yard.template().await;
    let mut series = Series(Vec::new());

    // Also the throwaway fork after which libvirt has its caches.
    let first = yard.fork_spec(&template).await;
    libvirt.start_machine(&first).await.unwrap();
    let raw_folder = yard.root.join("raw");
    std::fs::create_dir_all(&raw_folder).unwrap();
    let recipe = Recipe::of(first.id, &first.root_disk, &raw_folder);
    libvirt.destroy_machine(first.id).await.unwrap();

    for round in 0..rounds() {
        let began = Instant::now();
        let spec = timed!(series, "fork: overlay", yard.fork_spec(&template).await);
        timed!(
            series,
            "fork: create",
            libvirt.start_machine(&spec).await.unwrap()
        );
        timed!(
            series,
            "fork: load",
            libvirt.load_fork(spec.id, &template.files).await.unwrap()
        );
        timed!(
            series,
            "fork: resume",
            libvirt.resume(spec.id).await.unwrap()
        );
        timed!(series, "fork: agent", yard.wait_until_up(spec.id).await);
        series.add("fork: all", began.elapsed());
        timed!(series, "fork: 1st exec", exec(&yard, spec.id).await);
        timed!(series, "fork: 2nd exec", exec(&yard, spec.id).await);
        timed!(series, "pause", libvirt.pause(spec.id).await.unwrap());
        timed!(series, "hot: resume+exec", {
            libvirt.resume(spec.id).await.unwrap();
            exec(&yard, spec.id).await
        });
        timed!(
            series,
            "destroy",
            libvirt.destroy_machine(spec.id).await.unwrap()
        );

        let disk = raw_folder.join(format!("{round}.qcow2"));
        let base = template.files.disk();
        let began = Instant::now();
        timed!(series, "raw: overlay", {
            let argv = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"];
            let mut command = tokio::process::Command::new("qemu-img");
            assert!(
                command
                    .args(argv)
                    .arg(&base)
                    .arg(&disk)
                    .status()
                    .await
                    .unwrap()
                    .success()
            );
        });
        let mut raw = timed!(series, "raw: create", recipe.start(&disk));
        timed!(series, "raw: load", raw.load(&template.files.state()));
        timed!(series, "raw: resume", raw.resume());
        timed!(series, "raw: agent", raw.wait_for_agent());
        series.add("raw: all", began.elapsed());
        drop(raw);

        let spec = yard.fork_spec(&template).await;
        libvirt.start_machine(&spec).await.unwrap();
        let began = Instant::now();
        libvirt.load_fork(spec.id, &template.files).await.unwrap();
        libvirt.resume(spec.id).await.unwrap();
        yard.wait_until_up(spec.id).await;
        series.add("standby: agent", began.elapsed());
        libvirt.destroy_machine(spec.id).await.unwrap();

        let id = yard.loaded_fork(&template).await;
        let began = Instant::now();
        libvirt.resume(id).await.unwrap();
        yard.wait_until_up(id).await;
        series.add("loaded: agent", began.elapsed());
        libvirt.destroy_machine(id).await.unwrap();

        if round % 3 == 0 {
            let began = Instant::now();
            let spec = yard.plain_spec();
            let order = DiskOrder::Overlay {
                path: spec.root_disk.clone(),
                base: yard.image("disk.qcow2"),
                size_mib: spec.size.disk_mib,
            };
            libvirt.make_disk(&order).await.unwrap();
            libvirt.start_machine(&spec).await.unwrap();
            yard.wait_until_up(spec.id).await;
            series.add("cold: all", began.elapsed());
            libvirt.destroy_machine(spec.id).await.unwrap();
        }
    }
    series.print();
    yard.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn memory_of_forks() {
    let Some(yard) = Yard::new("forks-memory").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let template = yard.template().await;
    let count = rounds();
    let mut ids = Vec::new();
    let print = async |what: &str, ids: &[MachineId]| {
        let used = libvirt.memory_of(ids).await.unwrap();
        let mut pss: Vec<f64> = used.values().map(|used| used.pss_mib).collect();
        let mut private: Vec<f64> = used.values().map(|used| used.private_mib).collect();
        pss.sort_by(f64::total_cmp);
        private.sort_by(f64::total_cmp);
        let middle = pss.len() / 2;
        println!(
            "{what:<28} PSS {:6.1} MiB, private {:6.1} MiB, n={}",
            pss[middle],
            private[middle],
            pss.len()
        );
    };
    for _ in 0..count {
        let spec = yard.fork_spec(&template).await;
        libvirt.start_machine(&spec).await.unwrap();
        ids.push(spec.id);
    }
    print("empty", &ids).await;
    for id in &ids {
        libvirt.load_fork(*id, &template.files).await.unwrap();
    }
    print("never run", &ids).await;
    for id in &ids {
        libvirt.resume(*id).await.unwrap();
        yard.wait_until_up(*id).await;
        libvirt.pause(*id).await.unwrap();
    }
    print("agent answered", &ids).await;
    for id in &ids {
        libvirt.resume(*id).await.unwrap();
        exec(&yard, *id).await;
        libvirt.pause(*id).await.unwrap();
    }
    print("one exec", &ids).await;
    for id in &ids {
        libvirt.resume(*id).await.unwrap();
        for line in [
            "ls -l /etc",
            "cat /proc/meminfo",
            "uname -a | sed s/a/b/",
            "date; hostname x",
        ] {
            yard.shell(*id, line).await;
        }
        libvirt.pause(*id).await.unwrap();
    }
    print("a few commands", &ids).await;
    if let Ok(seconds) = std::env::var("HOLD_S") {
        tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap())).await;
    }
    yard.clear().await;
}
