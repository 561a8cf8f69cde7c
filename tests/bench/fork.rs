//! Forks and hot claims on real machines, beside QEMU alone and cold boots, in one run and in turn.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use greenroom::config::{StartTarget, TargetOf};
use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::{DiskOrder, Hypervisor, MachineSpec, Start, TemplateFiles};
use greenroom::pool::{Answer, Want};
use greenroom::vocab::image::Image;
use greenroom::vocab::machine::{EngineKind, Owner, Size, Tag};
use greenroom::vocab::pool::{Claim, Target, Template, TemplateState, Tier, TrustDomain};
use greenroom::vocab::{MachineId, RunId};

use crate::raw::Recipe;
use crate::support::yard::{Beside, Yard};
use crate::{Figure, figure, median, percentile};

const UP: Duration = Duration::from_secs(180);

/// In so many rounds memory is looked at between load and resume, and their times do not count as forks.
const MEMORY_ROUNDS: usize = 10;

/// How often the fast things are repeated (`ROUNDS`).
fn rounds() -> usize {
    let given = std::env::var("ROUNDS").ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(30)
        .max(MEMORY_ROUNDS + 4)
}

pub fn measure() -> Vec<Figure> {
    on_runtime(async {
        let mut figures = Vec::new();
        // Warming a shell of the toolbox takes 25 s under emulation: fewer of them wait.
        for (image, goal, hot) in [("tiny", "≤ 0.05", 16), ("toolbox", "≤ 0.01", 4)] {
            let Some(bench) = Bench::open(image, hot).await else {
                return figures;
            };
            eprintln!("  {image}: forks, QEMU alone, cold boots");
            figures.extend(bench.forks(goal).await);
            eprintln!("  {image}: hot claims");
            let claims = if image == "tiny" {
                rounds()
            } else {
                rounds().div_ceil(3)
            };
            figures.extend(bench.claims(claims).await);
            if image == "toolbox" {
                eprintln!("  {image}: first uses of tools");
                figures.extend(bench.first_tools().await);
            }
            bench.close().await;
        }
        figures
    })
}

/// As many hot shells as the host has room for, up to `SHELLS` (300).
pub fn measure_alive() -> Vec<Figure> {
    on_runtime(async {
        // One waits in the pool, or the template would be let go of.
        let Some(bench) = Bench::open("tiny", 1).await else {
            return Vec::new();
        };
        let figures = bench.alive().await;
        bench.close().await;
        figures
    })
}

fn on_runtime(work: impl Future<Output = Vec<Figure>>) -> Vec<Figure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

struct Bench {
    yard: Yard,
    /// Machines that the daemon's pool has nothing to do with.
    beside: Beside,
    image: Image,
    template: Template,
    files: TemplateFiles,
    scratch: tempfile::TempDir,
}

#[derive(Default)]
struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    fn add(&mut self, name: &'static str, since: Instant) {
        let ms = since.elapsed().as_secs_f64() * 1000.0;
        self.0.entry(name).or_default().push(ms);
    }

    fn median(&self, name: &str) -> f64 {
        median(self.0[name].clone())
    }

    fn n(&self, name: &str) -> usize {
        self.0[name].len()
    }
}

impl Bench {
    /// A daemon whose pool keeps `hot` shells of the image, filled.
    async fn open(name: &str, hot: u32) -> Option<Self> {
        let target = StartTarget {
            of: TargetOf::Image(name.into()),
            target: Target {
                hot,
                floor: Tier::Warm,
            },
        };
        let about = format!("bench of {name}");
        let yard = Yard::with_pool(&about, 16_384, vec![target]).await?;
        eprintln!("  {name}: capturing a template and filling the pool");
        yard.filled(Duration::from_secs(900)).await;
        let template = loop {
            let all = yard.daemon.pool.templates(false).await.expect("templates");
            let ready = |template: &Template| {
                template.state == TemplateState::Ready && template.class.image == name
            };
            match all.into_iter().find(ready) {
                Some(template) => break template,
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let image = yard.daemon.images.get(name).expect("the image");
        let folder = yard
            .daemon
            .pool
            .settings()
            .templates
            .join(template.id.to_string());
        Some(Self {
            beside: yard.beside().await,
            yard,
            image,
            template,
            files: TemplateFiles { folder },
            scratch: tempfile::tempdir().expect("a folder"),
        })
    }

    async fn close(self) {
        self.yard.drained(Duration::from_secs(300)).await;
        self.yard.check_nothing_left().await;
    }

    fn hypervisor(&self) -> &dyn Hypervisor {
        &*self.beside.hypervisor
    }

    fn guest(&self, machine: MachineId) -> Guest<'_> {
        Guest {
            hypervisor: self.hypervisor(),
            machine,
        }
    }

    /// Runs a command in a shell of the pool.
    async fn run(&self, machine: MachineId, argv: &[&str]) {
        self.run_on(&*self.yard.hypervisor, machine, argv).await;
    }

    async fn run_on(&self, hypervisor: &dyn Hypervisor, machine: MachineId, argv: &[&str]) {
        let guest = Guest {
            hypervisor,
            machine,
        };
        let done = guest.run(argv, b"", UP).await.expect("an answer");
        assert_eq!(
            done.exit_code,
            0,
            "{argv:?}: {}",
            String::from_utf8_lossy(&done.err)
        );
    }

    fn spec(&self, start: Start) -> MachineSpec {
        let id = MachineId::fresh();
        let class = &self.template.class;
        let growth_mib = match start {
            Start::Boot => 0,
            _ => self.yard.daemon.pool.settings().growth_mib,
        };
        MachineSpec {
            id,
            name: format!("gr-bench-{}", &id.to_string()[24..]),
            tag: Tag {
                deployment: self.beside.deployment,
                owner: Owner::Stage {
                    run: RunId(0),
                    stage: "bench".into(),
                },
                serial: 1,
                generation: 1,
            },
            size: Size {
                vcpus: class.vcpus,
                memory_mib: class.memory_mib,
                disk_mib: self.image.disk_mib,
                network_kbytes_per_s: None,
            },
            kernel: self.image.kernel.path.clone(),
            initrd: self.image.initrd.path.clone(),
            cmdline: self.image.cmdline.clone(),
            root_disk: self.beside.disks.join(format!("machine-{id}.qcow2")),
            nic: None,
            start,
            growth_mib,
        }
    }

    async fn make(&self, start: Start) -> MachineSpec {
        let spec = self.spec(start.clone());
        let base = match start {
            Start::Boot => self.image.disk.path.clone(),
            _ => self.files.disk(),
        };
        let order = DiskOrder::Overlay {
            path: spec.root_disk.clone(),
            base,
            size_mib: self.image.disk_mib,
        };
        self.hypervisor().make_disk(&order).await.expect("a disk");
        self.hypervisor()
            .start_machine(&spec)
            .await
            .expect("a machine");
        spec
    }

    async fn fork(&self) -> MachineSpec {
        let files = self.files.clone();
        self.make(Start::Fork { files }).await
    }

    async fn up(&self, id: MachineId) {
        self.guest(id).wait_until_up(UP).await.expect("an agent");
    }

    async fn end(&self, spec: &MachineSpec) {
        self.hypervisor()
            .destroy_machine(spec.id)
            .await
            .expect("gone");
        self.hypervisor()
            .remove_disk(&spec.root_disk)
            .await
            .expect("removed");
    }

    /// Forks through libvirt, by QEMU alone with the same command line, from a waiting process, and cold
    /// boots. Nothing of the pool is under way meanwhile: it is full.
    async fn forks(&self, cold_goal: &'static str) -> Vec<Figure> {
        let hypervisor = self.hypervisor();
        let mut series = Series::default();
        let first = self.fork().await;
        let recipe = Recipe::of(first.id, &first.root_disk, self.scratch.path());
        self.end(&first).await;
        let mut cold = Vec::new();
        let mut pss = (Vec::new(), Vec::new());
        for round in 0..rounds() {
            let began = Instant::now();
            let spec = self.fork().await;
            series.add("create", began);
            let at = Instant::now();
            hypervisor
                .load_fork(spec.id, &self.files)
                .await
                .expect("loaded");
            series.add("load", at);
            if round < MEMORY_ROUNDS {
                // QEMU gives the buffers of its loading back a moment later.
                tokio::time::sleep(Duration::from_millis(500)).await;
                let used = hypervisor.memory_of(&[spec.id]).await.expect("memory");
                pss.0.push(used[&spec.id].pss_mib);
            }
            let at = Instant::now();
            hypervisor.resume(spec.id).await.expect("resumed");
            series.add("resume", at);
            let at = Instant::now();
            self.up(spec.id).await;
            series.add("agent", at);
            if round >= MEMORY_ROUNDS {
                series.add("fork", began);
            }
            let at = Instant::now();
            self.end(&spec).await;
            series.add("destroy", at);

            let began = Instant::now();
            let disk = self.scratch.path().join(format!("{round}.qcow2"));
            make_overlay(&self.files.disk(), &disk);
            let mut raw = recipe.start(&disk);
            raw.load(&self.files.state());
            raw.resume();
            raw.wait_for_agent();
            series.add("raw", began);
            drop(raw);

            let spec = self.fork().await;
            let began = Instant::now();
            hypervisor
                .load_fork(spec.id, &self.files)
                .await
                .expect("loaded");
            hypervisor.resume(spec.id).await.expect("resumed");
            self.up(spec.id).await;
            series.add("standby", began);
            self.end(&spec).await;

            if round % 6 == 0 {
                let began = Instant::now();
                let spec = self.make(Start::Boot).await;
                self.up(spec.id).await;
                cold.push(began.elapsed().as_secs_f64() * 1000.0);
                self.end(&spec).await;
            }
        }
        let shells = self.yard.daemon.pool.shells().await.expect("shells");
        let ids: Vec<MachineId> = shells.iter().map(|shell| shell.id).collect();
        let used = self.yard.hypervisor.memory_of(&ids).await.expect("memory");
        for shell in &shells {
            if shell.ready_at.is_some() && shell.identity.is_some() {
                pss.1.push(used[&shell.id].pss_mib);
            }
        }
        let image = &self.image.name;
        let n = series.n("fork");
        let cold_n = cold.len();
        let cold_ms = median(cold);
        let mut figures = vec![
            figure(
                &format!("fork_{image}_ms"),
                series.median("fork"),
                "ms",
                "",
                n,
            ),
            figure(
                &format!("fork_{image}_qemu_alone_ms"),
                series.median("raw"),
                "ms",
                "",
                series.n("raw"),
            ),
            figure(
                &format!("fork_{image}_from_standby_ms"),
                series.median("standby"),
                "ms",
                "",
                series.n("standby"),
            ),
            figure(&format!("cold_{image}_ms"), cold_ms, "ms", "", cold_n),
        ];
        for phase in ["create", "load", "resume", "agent", "destroy"] {
            figures.push(figure(
                &format!("fork_{image}_{phase}_ms"),
                series.median(phase),
                "ms",
                "",
                series.n(phase),
            ));
        }
        let suffix = if image == "tiny" { "" } else { "_toolbox" };
        figures.extend([
            figure(
                &format!("fork_vs_qemu{suffix}"),
                series.median("fork") / series.median("raw"),
                "ratio",
                "≤ 1.3",
                n,
            ),
            figure(
                &format!("fork_standby_vs_qemu{suffix}"),
                series.median("standby") / series.median("raw"),
                "ratio",
                "≤ 1.3",
                n,
            ),
            figure(
                &format!("fork_vs_cold_{image}"),
                series.median("standby") / cold_ms,
                "ratio",
                cold_goal,
                cold_n,
            ),
            figure(
                &format!("fork_created_vs_cold_{image}"),
                series.median("fork") / cold_ms,
                "ratio",
                "",
                cold_n,
            ),
            figure(
                &format!("shell_pss_cold{suffix}_mib"),
                median(pss.0),
                "MiB",
                "≤ 30",
                10,
            ),
        ]);
        if !pss.1.is_empty() {
            let n = pss.1.len();
            figures.push(figure(
                &format!("shell_pss_warmed{suffix}_mib"),
                median(pss.1),
                "MiB",
                "≤ 50",
                n,
            ));
        }
        figures
    }

    fn want(&self, key: String) -> Want {
        Want {
            key,
            image: self.image.clone(),
            size: Size {
                vcpus: self.template.class.vcpus,
                memory_mib: self.template.class.memory_mib,
                disk_mib: self.image.disk_mib,
                network_kbytes_per_s: None,
            },
            network: false,
            trust: TrustDomain::default(),
            owner: "bench".into(),
            client: "default".into(),
            ttl: None,
        }
    }

    async fn claim(&self, key: &str) -> Claim {
        match self
            .yard
            .daemon
            .pool
            .claim(&self.want(key.into()))
            .await
            .expect("an answer")
        {
            Answer::Claimed(claim) => *claim,
            Answer::Nothing { reason, .. } => panic!("the pool has nothing: {reason}"),
        }
    }

    /// Hot claims to a command's output, and the same command again in the same shell, which runs by then.
    async fn claims(&self, rounds: usize) -> Vec<Figure> {
        let pool = &self.yard.daemon.pool;
        let (mut hot, mut running, mut above) = (Vec::new(), Vec::new(), Vec::new());
        let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for round in 0..rounds {
            self.yard.filled(Duration::from_secs(300)).await;
            let key = format!("hot-{round}");
            let began = Instant::now();
            let claim = self.claim(&key).await;
            self.run(claim.shell, &["/bin/echo", "hello"]).await;
            let took = began.elapsed().as_secs_f64() * 1000.0;
            assert_eq!(claim.engine, EngineKind::Resume, "{}", claim.reason);
            let mut again = Vec::new();
            for _ in 0..5 {
                let began = Instant::now();
                self.run(claim.shell, &["/bin/echo", "hello"]).await;
                again.push(began.elapsed().as_secs_f64() * 1000.0);
            }
            let again = median(again);
            hot.push(took);
            running.push(again);
            above.push(took - again);
            for (name, ms) in claim.phases {
                phases.entry(name).or_default().push(ms);
            }
            pool.release(&key).await.expect("released");
        }
        let suffix = if self.image.name == "tiny" {
            ""
        } else {
            "_toolbox"
        };
        let n = above.len();
        let mut figures = vec![
            figure(
                &format!("hot_claim_p50_ms{suffix}"),
                median(above.clone()),
                "ms above",
                "≤ 25",
                n,
            ),
            figure(
                &format!("hot_claim_p99_ms{suffix}"),
                percentile(above, 0.99),
                "ms above",
                "≤ 100",
                n,
            ),
            figure(
                &format!("hot_claim_whole_ms{suffix}"),
                median(hot),
                "ms",
                "",
                n,
            ),
            figure(
                &format!("running_exec_ms{suffix}"),
                median(running),
                "ms",
                "",
                n,
            ),
        ];
        for (name, values) in phases {
            let n = values.len();
            figures.push(figure(
                &format!("hot_claim_{name}_ms{suffix}"),
                median(values),
                "ms",
                "",
                n,
            ));
        }
        figures
    }

    /// The first use of a tool in a claimed shell against its next ones there.
    async fn first_tools(&self) -> Vec<Figure> {
        let tools: [(&str, &[&str]); 3] = [
            ("python3", &["python3", "-c", "pass"]),
            ("jq", &["jq", "-n", "1"]),
            ("ansible", &["ansible", "--version"]),
        ];
        let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let repeats = rounds().div_ceil(6).max(3);
        for round in 0..repeats {
            self.yard.filled(Duration::from_secs(600)).await;
            let key = format!("tools-{round}");
            let claim = self.claim(&key).await;
            for (name, argv) in tools {
                let mut times = Vec::new();
                for _ in 0..4 {
                    let began = Instant::now();
                    self.run(claim.shell, argv).await;
                    times.push(began.elapsed().as_secs_f64());
                }
                let first = times.remove(0);
                ratios.entry(name).or_default().push(first / median(times));
            }
            self.yard.daemon.pool.release(&key).await.expect("released");
        }
        let mut figures = Vec::new();
        let mut worst: f64 = 0.0;
        for (name, values) in ratios {
            let middle = median(values);
            worst = worst.max(middle);
            figures.push(figure(
                &format!("first_tool_{name}_ratio"),
                middle,
                "ratio",
                "≤ 1.5",
                repeats,
            ));
        }
        figures.push(figure("first_tool_ratio", worst, "ratio", "≤ 1.5", repeats));
        figures
    }

    /// Warmed shells, one after another, until there are enough or the host has no more.
    async fn alive(&self) -> Vec<Figure> {
        let wanted: usize = std::env::var("SHELLS")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(300);
        let hypervisor = self.hypervisor();
        let began = Instant::now();
        let (mut shells, mut each) = (Vec::new(), Vec::new());
        let mut stopped_by = "enough".to_owned();
        while shells.len() < wanted {
            let free = hypervisor.host().await.expect("the host").free_memory_mib;
            if free < 1024 {
                stopped_by = format!("{free} MiB of memory are free");
                break;
            }
            let at = Instant::now();
            let spec = self.fork().await;
            hypervisor
                .load_fork(spec.id, &self.files)
                .await
                .expect("loaded");
            hypervisor.resume(spec.id).await.expect("resumed");
            self.up(spec.id).await;
            self.run_on(hypervisor, spec.id, &["/bin/echo", "hello"])
                .await;
            hypervisor.pause(spec.id).await.expect("paused");
            each.push(at.elapsed().as_secs_f64() * 1000.0);
            shells.push(spec);
        }
        let seconds = began.elapsed().as_secs_f64();
        let ids: Vec<MachineId> = shells.iter().map(|spec| spec.id).collect();
        let used = hypervisor.memory_of(&ids).await.expect("memory");
        let pss = median(used.values().map(|used| used.pss_mib).collect());
        let n = shells.len();
        eprintln!("{n} shells alive; stopped by: {stopped_by}");
        // Each of them answers, not only the last.
        for spec in shells.iter().step_by(25) {
            hypervisor.resume(spec.id).await.expect("resumed");
            self.run_on(hypervisor, spec.id, &["/bin/echo", "still here"])
                .await;
            hypervisor.pause(spec.id).await.expect("paused");
        }
        let part = |range: std::ops::Range<usize>| median(each[range].to_vec());
        let growth = part(n.saturating_sub(20)..n) / part(0..20.min(n));
        for spec in &shells {
            self.end(spec).await;
        }
        vec![
            figure("shells_alive_24gib", n as f64, "shells", "≥ 300", 1),
            figure("shells_alive_pss_mib", pss, "MiB", "≤ 50", n),
            figure("forks_per_s", n as f64 / seconds, "1/s", "", n),
            figure("fork_growth_1_300", growth, "ratio", "flat", n),
        ]
    }
}

fn make_overlay(base: &std::path::Path, disk: &PathBuf) {
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(base)
        .arg(disk)
        .status()
        .expect("qemu-img");
    assert!(made.success());
}
