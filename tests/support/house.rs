//! A house to play in: a simulated host, a state folder, and daemons that come and go on them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greenroom::capacity::Room;
use greenroom::clock::SystemClock;
use greenroom::config::{StartTarget, TargetOf};
use greenroom::daemon::{self, Foundation, Running, Settings};
use greenroom::fault::Faults;
use greenroom::hypervisor::simulated::{SimSettings, Simulated, Snapshot, World};
use greenroom::pool::PoolSettings;
use greenroom::runs::services::RunSettings;
use greenroom::vocab::MachineId;
use greenroom::vocab::pool::{Target, Tier, TrustDomain};

use super::image;

/// The class of what [`super::stage`] makes.
pub const STAGES: &str = "tiny:1x128";

pub struct House {
    pub world: Arc<World>,
    pub state: tempfile::TempDir,
    pub settings: Settings,
    foreign: Snapshot,
}

impl House {
    pub fn new() -> Self {
        Self::on(SimSettings::default())
    }

    pub fn on(sim: SimSettings) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        build_images(state.path(), &["tiny"]);
        let world = World::new(sim);
        world.add_foreign_machine("someone-elses", 512);
        let foreign = world.snapshot();
        let settings = Settings {
            state: state.path().to_owned(),
            max_active: 16,
            room: Room {
                memory_mib: 1 << 20,
                vcpus: 1 << 10,
            },
            runs: RunSettings {
                disks: state.path().join("vm"),
                boot_deadline: Duration::from_secs(10),
                silence: Duration::from_secs(3),
                patience: Duration::from_secs(20),
                ..RunSettings::default()
            },
            pool: PoolSettings {
                disks: state.path().join("vm"),
                templates: state.path().join("templates"),
                network: "default".into(),
                boot_deadline: Duration::from_secs(10),
                // Switched off; `with_pool` switches it on.
                budget_mib: 0,
                max_age: Duration::from_secs(1800),
                growth_mib: 4096,
                trust: [].into(),
            },
            pool_targets: Vec::new(),
            reconcile_every: Duration::from_millis(300),
        };
        Self {
            world,
            state,
            settings,
            foreign,
        }
    }

    /// The same with a pool that keeps `hot` shells of [`STAGES`], which serve the client `c1`.
    pub fn with_pool(mut self, hot: u32) -> Self {
        self.settings.pool.trust = [("c1".to_owned(), TrustDomain::default())].into();
        self.settings.pool.budget_mib = 1 << 16;
        self.settings.pool_targets = vec![StartTarget {
            of: TargetOf::Class(STAGES.parse().expect("a class")),
            target: Target {
                hot,
                floor: Tier::Warm,
            },
        }];
        self
    }

    /// A daemon on this house's host and state. A second one plays a restart.
    pub async fn daemon(&self, faults: Faults) -> Running {
        let foundation = Foundation::lay(self.state.path())
            .await
            .expect("a database");
        daemon::start(
            foundation,
            Simulated::on(self.world.clone()),
            Arc::new(SystemClock),
            self.settings.clone(),
            faults,
        )
        .await
        .expect("a daemon")
    }

    /// There are exactly these machines of ours, each with its disk, and so many templates; nothing of
    /// others' was touched. Else what there is.
    pub fn check_only(&self, machines: &[MachineId], templates: usize) -> Result<(), String> {
        let mut now = self.world.snapshot();
        let all = machines.iter().all(|id| now.machines.remove(id).is_some());
        for id in machines {
            let disk = self.settings.pool.disks.join(format!("machine-{id}.qcow2"));
            now.disks.remove(&disk);
        }
        let folders = now.templates.clone();
        now.disks
            .retain(|path, _| !folders.iter().any(|folder| path.starts_with(folder)));
        now.templates.clear();
        if all && folders.len() == templates && now == self.foreign {
            Ok(())
        } else {
            Err(format!(
                "of {machines:?} and {templates} templates: {:#?}",
                self.world.snapshot()
            ))
        }
    }

    /// Nothing is left of ours, and nothing of others' was touched.
    pub fn check_nothing_left(&self) {
        assert_eq!(
            self.world.snapshot(),
            self.foreign,
            "machines or disks are left, or a foreign one was touched"
        );
    }
}

/// Writes images whose files are only names, as `image build` would leave them.
pub fn build_images(state: &std::path::Path, names: &[&str]) {
    for name in names {
        let mut image = image(name);
        let own = state.join("images").join(name);
        let home = own.join(image.digest.to_string());
        std::fs::create_dir_all(&home).expect("a folder");
        for (part, file) in [
            (&mut image.kernel, "kernel"),
            (&mut image.initrd, "initrd"),
            (&mut image.disk, "disk.qcow2"),
        ] {
            part.path = PathBuf::from(&home).join(file);
            std::fs::write(&part.path, b"x").expect("a file");
        }
        std::fs::write(
            home.join("manifest.json"),
            serde_json::to_vec(&image).expect("plain data"),
        )
        .expect("a manifest");
        std::fs::write(own.join("current"), image.digest.to_string()).expect("a name");
    }
}
