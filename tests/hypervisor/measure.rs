//! What a job costs, in agent calls and milliseconds, on the lab's libvirt.
//!
//! `vagrant/lab test --test hypervisor -- --ignored --nocapture what_jobs_cost`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use greenroom::hypervisor::guest::{Guest, Job, LogOffsets};
use greenroom::hypervisor::{
    AttachedDisk, DiskOrder, HostFacts, HvError, Hypervisor, MachineEvent, MachineSpec,
    MachineUsage, MemoryUse, Nic, SeenMachine, Share, TemplateFiles,
};
use greenroom::vocab::MachineId;
use greenroom::vocab::pool::Seal;
use tokio::sync::broadcast;

use crate::fixture::{command, script};
use crate::real;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn what_jobs_cost() {
    let Some(fixture) = real::libvirt("measure").await else {
        return;
    };
    let machine = fixture.fresh().await.machine;
    let counting = Counting {
        inner: fixture.hypervisor.clone(),
        calls: AtomicU32::new(0),
    };
    let guest = Guest {
        hypervisor: &counting,
        machine,
    };
    let disk = AttachedDisk {
        path: fixture.raw_disk(4).await,
        serial: "handoff".into(),
    };
    fixture
        .hypervisor
        .attach_disk(machine, &disk)
        .await
        .unwrap();

    let document = format!("{{\"facts\": \"{}\"}}", "x".repeat(4000));
    let answer = "cat > \"$GREENROOM_OUTPUT\"\necho done\n";
    let jobs: [(&str, Job); 7] = [
        ("command true", command(&["true"])),
        (
            "script, 4 KiB document in and out",
            Job {
                input: document.clone().into(),
                ..script(answer)
            },
        ),
        (
            "the same in bytes",
            Job {
                input: [document.as_bytes(), &[0xff]].concat(),
                ..script(answer)
            },
        ),
        (
            "200 KiB in and out",
            Job {
                input: vec![b'x'; 200 << 10],
                ..script(answer)
            },
        ),
        (
            "with a handoff disk",
            Job {
                disk_serial: Some("handoff".into()),
                ..script(answer)
            },
        ),
        ("sleep 1", script("sleep 1")),
        (
            "sleep 5, ten lines of log",
            script(&"sleep 0.5\necho line\n".repeat(10)),
        ),
    ];
    eprintln!(
        "{:36} {:>6} {:>8} {:>8}  n=8, median; start = until start_job returned",
        "", "calls", "start ms", "all ms"
    );
    for (name, job) in jobs {
        let mut rows = Vec::new();
        for _ in 0..8 {
            let job = Job {
                attempt: greenroom::vocab::AttemptId::fresh(),
                ..job.clone()
            };
            counting.calls.store(0, Ordering::Relaxed);
            let began = Instant::now();
            guest.start_job(&job).await.unwrap();
            let started = began.elapsed();
            let mut nowhere = |_, _, _| ();
            let end = guest
                .finish_job(job.attempt, LogOffsets::default(), 1 << 20, &mut nowhere)
                .await
                .unwrap();
            if end.output.is_none() && end.output_size.is_some() {
                guest.job_output(job.attempt, 1 << 20).await.unwrap();
            }
            rows.push((
                began.elapsed(),
                started,
                counting.calls.load(Ordering::Relaxed),
            ));
        }
        rows.sort();
        let (all, started, calls) = rows[rows.len() / 2];
        eprintln!("{name:36} {calls:6} {:8.1} {:8.1}", ms(started), ms(all));
    }
    let mut pings: Vec<_> = Vec::new();
    for _ in 0..30 {
        let began = Instant::now();
        counting
            .agent(
                machine,
                r#"{"execute":"guest-ping"}"#,
                Duration::from_secs(5),
            )
            .await
            .unwrap();
        pings.push(began.elapsed());
    }
    pings.sort();
    eprintln!("{:36} {:6} {:8} {:8.1}", "guest-ping", 1, "", ms(pings[15]));
    fixture.clear().await;
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Counts agent calls, and passes everything on.
struct Counting {
    inner: Arc<dyn Hypervisor>,
    calls: AtomicU32,
}

#[async_trait]
impl Hypervisor for Counting {
    async fn host(&self) -> Result<HostFacts, HvError> {
        self.inner.host().await
    }
    async fn make_disk(&self, order: &DiskOrder) -> Result<(), HvError> {
        self.inner.make_disk(order).await
    }
    async fn remove_disk(&self, path: &Path) -> Result<(), HvError> {
        self.inner.remove_disk(path).await
    }
    async fn disks(&self) -> Result<Vec<PathBuf>, HvError> {
        self.inner.disks().await
    }
    async fn start_machine(&self, spec: &MachineSpec) -> Result<(), HvError> {
        self.inner.start_machine(spec).await
    }
    async fn destroy_machine(&self, id: MachineId) -> Result<(), HvError> {
        self.inner.destroy_machine(id).await
    }
    async fn machines(&self) -> Result<Vec<SeenMachine>, HvError> {
        self.inner.machines().await
    }
    async fn machine(&self, id: MachineId) -> Result<Option<SeenMachine>, HvError> {
        self.inner.machine(id).await
    }
    async fn wait_for_bell(&self, id: MachineId, heard: u64, at_most: Duration) -> u64 {
        self.inner.wait_for_bell(id, heard, at_most).await
    }
    async fn ask_runner(&self, id: MachineId, line: &[u8], within: Duration) -> Option<Vec<u8>> {
        self.inner.ask_runner(id, line, within).await
    }
    fn hears_runner(&self, id: MachineId) -> bool {
        self.inner.hears_runner(id)
    }
    async fn hear_runner(&self, id: MachineId) -> Vec<u8> {
        self.inner.hear_runner(id).await
    }
    fn leave_runner(&self, id: MachineId) {
        self.inner.leave_runner(id);
    }
    async fn attach_nic(&self, id: MachineId, nic: &Nic) -> Result<(), HvError> {
        self.inner.attach_nic(id, nic).await
    }
    async fn pause(&self, id: MachineId) -> Result<(), HvError> {
        self.inner.pause(id).await
    }
    async fn resume(&self, id: MachineId) -> Result<(), HvError> {
        self.inner.resume(id).await
    }
    async fn resize(&self, id: MachineId, share: Share) -> Result<(), HvError> {
        self.inner.resize(id, share).await
    }
    async fn capture(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.inner.capture(id, files).await
    }
    async fn load_fork(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        self.inner.load_fork(id, files).await
    }
    async fn seal_template(&self, files: &TemplateFiles) -> Result<Seal, HvError> {
        self.inner.seal_template(files).await
    }
    async fn inspect_template(
        &self,
        files: &TemplateFiles,
        thorough: bool,
    ) -> Result<Seal, HvError> {
        self.inner.inspect_template(files, thorough).await
    }
    async fn remove_template(&self, files: &TemplateFiles) -> Result<(), HvError> {
        self.inner.remove_template(files).await
    }
    async fn templates(&self) -> Result<Vec<PathBuf>, HvError> {
        self.inner.templates().await
    }
    async fn memory_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MemoryUse>, HvError> {
        self.inner.memory_of(ids).await
    }
    async fn attach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.inner.attach_disk(id, disk).await
    }
    async fn detach_disk(&self, id: MachineId, disk: &AttachedDisk) -> Result<(), HvError> {
        self.inner.detach_disk(id, disk).await
    }
    async fn agent(
        &self,
        id: MachineId,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HvError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.agent(id, command, deadline).await
    }
    async fn usage(&self, id: MachineId) -> Result<MachineUsage, HvError> {
        self.inner.usage(id).await
    }
    async fn usage_of(
        &self,
        ids: &[MachineId],
    ) -> Result<BTreeMap<MachineId, MachineUsage>, HvError> {
        self.inner.usage_of(ids).await
    }
    async fn console_tail(&self, id: MachineId, max_bytes: usize) -> Result<Vec<u8>, HvError> {
        self.inner.console_tail(id, max_bytes).await
    }
    fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.inner.events()
    }
}
