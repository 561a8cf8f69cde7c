//! What a rule starts from: a hypervisor, an image, names of its own, and ways to do to the host what
//! [`Hypervisor`] cannot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use greenroom::hypervisor::guest::{Guest, Job, JobState, JobWork, LogOffsets, Stream};
use greenroom::hypervisor::simulated::{Damage, SimSettings, Simulated};
use greenroom::hypervisor::{DiskOrder, HvError, Hypervisor, MachineSpec, Start, TemplateFiles};
use greenroom::vocab::machine::{Owner, Size, Tag};
use greenroom::vocab::pool::Seal;
use greenroom::vocab::{AttemptId, Deployment, MachineId, RunId};
use tokio::sync::OnceCell;

pub struct Fixture {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub deployment: Deployment,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub base_disk: PathBuf,
    /// Folder for disks.
    pub disks: PathBuf,
    /// Folder for templates.
    pub templates: PathBuf,
    pub boot_deadline: Duration,
    pub backdoor: Box<dyn Backdoor>,
    /// Shared by rules that leave no traces in a machine: booting a real one takes seconds.
    shared: OnceCell<MachineId>,
    /// The same for a template that rules fork from and leave as it is.
    template: OnceCell<Template>,
    serial: AtomicU32,
}

/// A sealed template, and what its guest was doing.
pub struct Template {
    pub files: TemplateFiles,
    pub seal: Seal,
    /// Runs in each fork until there is something in a file `/tmp/end`, and prints that.
    pub waiting: AttemptId,
}

/// Memory that can be added to the machines of templates, MiB.
pub const GROWTH_MIB: u64 = 256;

/// What somebody else does to the host.
#[async_trait]
pub trait Backdoor: Send + Sync {
    /// A running or paused machine without any tag.
    async fn add_stranger(&self) -> MachineId;
    async fn remove_stranger(&self, id: MachineId);
    /// Stops a guest's instructions.
    async fn pause(&self, id: MachineId);
    /// Does something to a template's memory.
    async fn damage(&self, files: &TemplateFiles, damage: Damage);
    async fn clear(&self);
}

impl Fixture {
    pub fn new(
        hypervisor: Arc<dyn Hypervisor>,
        deployment: Deployment,
        image: PathBuf,
        disks: PathBuf,
        templates: PathBuf,
        backdoor: Box<dyn Backdoor>,
    ) -> Self {
        Self {
            hypervisor,
            deployment,
            kernel: image.join("kernel"),
            initrd: image.join("initrd"),
            base_disk: image.join("disk.qcow2"),
            disks,
            templates,
            boot_deadline: Duration::from_secs(120),
            backdoor,
            shared: OnceCell::new(),
            template: OnceCell::new(),
            serial: AtomicU32::new(1),
        }
    }

    pub fn next(&self) -> u32 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// A machine to be, with its root disk made.
    pub async fn spec(&self) -> MachineSpec {
        let id = MachineId::fresh();
        let root_disk = self.disks.join(format!("{id}.qcow2"));
        let order = DiskOrder::Overlay {
            path: root_disk.clone(),
            base: self.base_disk.clone(),
            size_mib: 256,
        };
        self.hypervisor.make_disk(&order).await.unwrap();
        MachineSpec {
            id,
            name: format!("gr-rule-{}", &id.to_string()[24..]),
            tag: Tag {
                deployment: self.deployment,
                owner: Owner::Stage {
                    run: RunId(1),
                    stage: "rule".into(),
                },
                serial: self.next(),
                generation: 1,
            },
            size: Size {
                vcpus: 1,
                memory_mib: 256,
                disk_mib: 256,
                network_kbytes_per_s: None,
            },
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            cmdline: "cryptomgr.notests".into(),
            root_disk,
            nic: None,
            start: Start::Boot,
            growth_mib: 0,
        }
    }

    /// A machine of its own whose agent answers.
    pub async fn fresh(&self) -> Guest<'_> {
        let spec = self.spec().await;
        self.hypervisor.start_machine(&spec).await.unwrap();
        let guest = self.guest(spec.id);
        guest.wait_until_up(self.boot_deadline).await.unwrap();
        guest
    }

    /// The machine that rules share.
    pub async fn shared(&self) -> Guest<'_> {
        let id = self
            .shared
            .get_or_init(|| async { self.fresh().await.machine })
            .await;
        self.guest(*id)
    }

    /// A machine to be captured, with its root disk made.
    pub async fn template_spec(&self) -> (MachineSpec, TemplateFiles) {
        let mut spec = self.spec().await;
        self.hypervisor.remove_disk(&spec.root_disk).await.unwrap();
        let files = TemplateFiles {
            folder: self.templates.join(spec.id.to_string()),
        };
        spec.root_disk = files.disk();
        spec.growth_mib = GROWTH_MIB;
        spec.tag.owner = Owner::Template {
            template: "tiny".into(),
        };
        spec.start = Start::Template {
            files: files.clone(),
        };
        let order = DiskOrder::Overlay {
            path: files.disk(),
            base: self.base_disk.clone(),
            size_mib: 256,
        };
        self.hypervisor.make_disk(&order).await.unwrap();
        (spec, files)
    }

    /// A template of its own: booted, given a past, captured, sealed.
    pub async fn fresh_template(&self) -> Template {
        let (spec, files) = self.template_spec().await;
        self.hypervisor.start_machine(&spec).await.unwrap();
        let guest = self.guest(spec.id);
        guest.wait_until_up(self.boot_deadline).await.unwrap();
        guest.write_file("/tmp/past", b"the past").await.unwrap();
        let job = script("until [ -s /tmp/end ]; do sleep 0.1; done\ncat /tmp/end\n");
        guest.start_job(&job).await.unwrap();
        // The launcher itself has begun, so that what is captured is the job.
        while guest.job_state(job.attempt).await.unwrap() != JobState::Running {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.hypervisor.capture(spec.id, &files).await.unwrap();
        self.hypervisor.destroy_machine(spec.id).await.unwrap();
        let seal = self.hypervisor.seal_template(&files).await.unwrap();
        Template {
            files,
            seal,
            waiting: job.attempt,
        }
    }

    /// The template that rules share.
    pub async fn template(&self) -> &Template {
        self.template.get_or_init(|| self.fresh_template()).await
    }

    /// A fork to be, with its root disk made.
    pub async fn fork_spec(&self, files: &TemplateFiles) -> MachineSpec {
        let mut spec = self.spec().await;
        self.hypervisor.remove_disk(&spec.root_disk).await.unwrap();
        let order = DiskOrder::Overlay {
            path: spec.root_disk.clone(),
            base: files.disk(),
            size_mib: 256,
        };
        self.hypervisor.make_disk(&order).await.unwrap();
        spec.growth_mib = GROWTH_MIB;
        spec.tag.owner = Owner::Shell {
            shell: "tiny".into(),
        };
        spec.start = Start::Fork {
            files: files.clone(),
        };
        spec
    }

    /// A fork that is loaded and paused.
    pub async fn loaded(&self, files: &TemplateFiles) -> Guest<'_> {
        let spec = self.fork_spec(files).await;
        self.hypervisor.start_machine(&spec).await.unwrap();
        self.hypervisor.load_fork(spec.id, files).await.unwrap();
        self.guest(spec.id)
    }

    /// A fork that runs and whose agent answers.
    pub async fn fork(&self, files: &TemplateFiles) -> Guest<'_> {
        let guest = self.loaded(files).await;
        self.hypervisor.resume(guest.machine).await.unwrap();
        guest.wait_until_up(self.boot_deadline).await.unwrap();
        guest
    }

    pub fn guest(&self, machine: MachineId) -> Guest<'_> {
        Guest {
            hypervisor: &*self.hypervisor,
            machine,
        }
    }

    /// An empty raw disk.
    pub async fn raw_disk(&self, size_mib: u64) -> PathBuf {
        let path = self.disks.join(format!("raw-{}", self.next()));
        self.hypervisor
            .make_disk(&DiskOrder::Raw {
                path: path.clone(),
                size_mib,
            })
            .await
            .unwrap();
        path
    }

    /// Destroys and removes everything of this deployment.
    pub async fn clear(&self) {
        for machine in self.hypervisor.machines().await.unwrap() {
            if machine
                .tag
                .is_some_and(|tag| tag.deployment == self.deployment)
            {
                self.hypervisor.destroy_machine(machine.id).await.unwrap();
            }
        }
        for disk in self.hypervisor.disks().await.unwrap() {
            self.hypervisor.remove_disk(&disk).await.unwrap();
        }
        for folder in self.hypervisor.templates().await.unwrap() {
            let files = TemplateFiles { folder };
            self.hypervisor.remove_template(&files).await.unwrap();
        }
        self.backdoor.clear().await;
    }
}

pub fn script(text: &str) -> Job {
    job(JobWork::Script(text.into()))
}

pub fn command(argv: &[&str]) -> Job {
    job(JobWork::Command(
        argv.iter().map(|word| (*word).to_owned()).collect(),
    ))
}

fn job(work: JobWork) -> Job {
    Job {
        attempt: AttemptId::fresh(),
        work,
        input: Vec::new(),
        env: BTreeMap::new(),
        disk_serial: None,
    }
}

/// What a job left.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Starts a job and follows it to its end.
pub async fn done(guest: &Guest<'_>, job: &Job) -> Done {
    guest.start_job(job).await.unwrap();
    follow(guest, job.attempt).await.unwrap()
}

/// Follows a job to its end and checks that the pieces of its logs follow each other.
pub async fn follow(guest: &Guest<'_>, attempt: AttemptId) -> Result<Done, HvError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut sink = |stream, offset, piece: Vec<u8>| {
        let log = if stream == Stream::Out {
            &mut out
        } else {
            &mut err
        };
        assert_eq!(offset, log.len() as u64, "a piece out of order");
        log.extend(piece);
    };
    let following = guest.follow_job(attempt, LogOffsets::default(), 1 << 20, &mut sink);
    let code = tokio::time::timeout(Duration::from_secs(120), following)
        .await
        .expect("the job does not end")?;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ok(Done {
        code,
        out: text(out),
        err: text(err),
    })
}

/// The output of a short command that has to end well.
pub async fn said(guest: &Guest<'_>, argv: &[&str]) -> String {
    let done = guest.run(argv, b"", Duration::from_secs(60)).await.unwrap();
    assert_eq!(done.exit_code, 0, "{argv:?}: {done:?}");
    String::from_utf8(done.out).unwrap()
}

pub fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub fn simulated() -> Fixture {
    let simulated = Simulated::new(SimSettings::default());
    let backdoor = Box::new(SimulatedBackdoor(simulated.clone()));
    Fixture::new(
        simulated,
        Deployment::fresh(),
        "/images/tiny".into(),
        "/disks".into(),
        "/templates".into(),
        backdoor,
    )
}

struct SimulatedBackdoor(Arc<Simulated>);

#[async_trait]
impl Backdoor for SimulatedBackdoor {
    async fn add_stranger(&self) -> MachineId {
        self.0.world().add_foreign_machine("stranger", 64)
    }
    async fn remove_stranger(&self, id: MachineId) {
        self.0.world().crash(id, false);
    }
    async fn pause(&self, id: MachineId) {
        self.0.world().set_paused(id, true);
    }
    async fn damage(&self, files: &TemplateFiles, damage: Damage) {
        self.0.world().damage_template(&files.folder, damage);
    }
    async fn clear(&self) {}
}
