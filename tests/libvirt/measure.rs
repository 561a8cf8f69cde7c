//! How long each operation takes with a tiny guest. Repeat with:
//! `cargo test --test libvirt -- --ignored --nocapture medians`

use std::time::{Duration, Instant};

use greenroom::hypervisor::{AttachedDisk, DiskOrder, Hypervisor};

use crate::yard::{PING, Yard};

pub struct Series(pub Vec<(&'static str, Vec<f64>)>);

impl Series {
    pub fn add(&mut self, name: &'static str, took: Duration) {
        let ms = took.as_secs_f64() * 1e3;
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(ms),
            None => self.0.push((name, vec![ms])),
        }
    }

    pub fn print(&mut self) {
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
            println!(
                "{name:<16} {:8.1} ms [{:.1}..{:.1}] n={}",
                at(0.5),
                at(0.1),
                at(0.9),
                values.len()
            );
        }
    }
}

#[macro_export]
macro_rules! timed {
    ($series:expr, $name:expr, $work:expr) => {{
        let began = Instant::now();
        let result = $work;
        $series.add($name, began.elapsed());
        result
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn medians() {
    let Some(yard) = Yard::new("medians").await else {
        return;
    };
    let libvirt = &yard.libvirt;
    let rounds = std::env::var("ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let mut series = Series(Vec::new());
    let disk = AttachedDisk {
        path: yard.disk("h.raw"),
        serial: "handoff".to_owned(),
    };
    timed!(
        series,
        "raw disk",
        libvirt
            .make_disk(&DiskOrder::Raw {
                path: disk.path.clone(),
                size_mib: 256
            })
            .await
            .unwrap()
    );
    for _ in 0..rounds {
        let spec = timed!(series, "overlay", yard.spec().await);
        timed!(
            series,
            "create",
            libvirt.start_machine(&spec).await.unwrap()
        );
        timed!(series, "boot to agent", yard.wait_for_agent(spec.id).await);
        for _ in 0..20 {
            timed!(
                series,
                "agent ping",
                libvirt
                    .agent(spec.id, PING, Duration::from_secs(5))
                    .await
                    .unwrap()
            );
            timed!(
                series,
                "machine",
                libvirt.machine(spec.id).await.unwrap().unwrap()
            );
            timed!(series, "usage", libvirt.usage(spec.id).await.unwrap());
        }
        timed!(
            series,
            "attach",
            libvirt.attach_disk(spec.id, &disk).await.unwrap()
        );
        timed!(
            series,
            "detach",
            libvirt.detach_disk(spec.id, &disk).await.unwrap()
        );
        timed!(
            series,
            "destroy",
            libvirt.destroy_machine(spec.id).await.unwrap()
        );
        timed!(
            series,
            "remove disk",
            libvirt.remove_disk(&spec.root_disk).await.unwrap()
        );
    }
    series.print();
    yard.clear().await;
}
