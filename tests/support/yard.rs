//! A daemon on the lab's libvirt, with a state folder of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greenroom::capacity::Room;
use greenroom::clock::SystemClock;
use greenroom::config::StartTarget;
use greenroom::daemon::{self, Foundation, Running, Settings};
use greenroom::fault::Faults;
use greenroom::hypervisor::Hypervisor;
use greenroom::hypervisor::libvirt::{AcceleratorChoice, Folders, Libvirt, LibvirtSettings};
use greenroom::pool::{PoolSettings, PoolView};
use greenroom::runs::services::RunSettings;
use greenroom::vocab::Deployment;

pub struct Yard {
    state: tempfile::TempDir,
    connect_as: LibvirtSettings,
    pub daemon: Running,
    pub hypervisor: Arc<Libvirt>,
}

/// The host as another deployment has it.
pub struct Beside {
    pub deployment: Deployment,
    pub disks: PathBuf,
    pub hypervisor: Arc<Libvirt>,
}

impl Yard {
    /// A daemon without a pool, or none with a message when there is no lab.
    pub async fn open(name: &str) -> Option<Self> {
        Self::with_pool(name, 0, Vec::new()).await
    }

    /// A daemon whose pool may take so much memory and keeps these targets.
    pub async fn with_pool(
        name: &str,
        budget_mib: u64,
        pool_targets: Vec<StartTarget>,
    ) -> Option<Self> {
        if std::env::var_os("GREENROOM_LAB_READY").is_none() {
            eprintln!("{name}: skipped, because it needs the lab; run `vagrant/lab test`");
            return None;
        }
        let lab = PathBuf::from(
            std::env::var_os("GREENROOM_STATE").expect("the lab sets GREENROOM_STATE"),
        );
        let uri =
            std::env::var("GREENROOM_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".into());
        let state = tempfile::Builder::new()
            .prefix("test-")
            .tempdir_in(&lab)
            .expect("a folder in the lab");
        let folders = Folders {
            disks: state.path().join("vm"),
            templates: state.path().join("templates"),
            consoles: state.path().join("consoles"),
            scratch: state.path().join("scratch"),
            images: vec![lab.join("images")],
        };
        passable(state.path());
        for folder in [
            &folders.disks,
            &folders.templates,
            &folders.consoles,
            &folders.scratch,
        ] {
            passable(folder);
        }
        std::os::unix::fs::symlink(lab.join("images"), state.path().join("images"))
            .expect("the lab's images");
        let foundation = Foundation::lay(state.path()).await.expect("a database");
        let mut settings = LibvirtSettings::new(uri, foundation.deployment, folders);
        settings.accelerator = AcceleratorChoice::Tcg;
        let connect_as = settings.clone();
        let hypervisor = Libvirt::connect(settings).await.expect("the lab's libvirt");
        let host = hypervisor.host().await.expect("the host");
        let settings = Settings {
            state: state.path().to_owned(),
            max_active: 4,
            room: Room {
                memory_mib: host.memory_mib * 7 / 10,
                vcpus: 16,
            },
            runs: RunSettings {
                disks: state.path().join("vm"),
                network: "greenroom".into(),
                boot_deadline: Duration::from_secs(120),
                silence: Duration::from_secs(30),
                patience: Duration::from_secs(60),
                ..RunSettings::default()
            },
            pool: PoolSettings {
                disks: state.path().join("vm"),
                templates: state.path().join("templates"),
                network: "greenroom".into(),
                boot_deadline: Duration::from_secs(120),
                budget_mib,
                max_age: Duration::from_secs(1800),
                growth_mib: 4096,
                trust: [].into(),
            },
            pool_targets,
            reconcile_every: Duration::from_secs(2),
        };
        let daemon = daemon::start(
            foundation,
            hypervisor.clone(),
            Arc::new(SystemClock),
            settings,
            Faults::none(),
        )
        .await
        .expect("a daemon");
        Some(Self {
            state,
            connect_as,
            daemon,
            hypervisor,
        })
    }

    /// The same host for machines beside the daemon's, which it takes for a stranger's and leaves alone.
    /// Templates are the daemon's.
    pub async fn beside(&self) -> Beside {
        let mut settings = self.connect_as.clone();
        settings.deployment = Deployment::fresh();
        settings.folders.disks = self.state.path().join("beside");
        passable(&settings.folders.disks);
        Beside {
            deployment: settings.deployment,
            disks: settings.folders.disks.clone(),
            hypervisor: Libvirt::connect(settings).await.expect("the lab's libvirt"),
        }
    }

    /// Waits until each pool has the hot shells that it should have.
    pub async fn filled(&self, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let status = self.daemon.pool.status().await.expect("the pool's state");
            let full = |pool: &PoolView| pool.target.is_none_or(|target| pool.ready >= target.hot);
            if !status.pools.is_empty() && status.pools.iter().all(full) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the pool does not fill: {status:#?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lets go of everything that waits, and waits until it is gone.
    pub async fn drained(&self, within: Duration) {
        let pool = &self.daemon.pool;
        for view in pool.status().await.expect("the pool's state").pools {
            pool.set(view.class, None).await.expect("let go");
        }
        for template in pool.templates(false).await.expect("templates") {
            pool.retire_template(template.id).await.expect("retired");
        }
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let shells = pool.shells().await.expect("shells");
            let templates = pool.templates(false).await.expect("templates");
            if shells.is_empty() && templates.is_empty() {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "left in the pool: {shells:#?} {templates:#?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Nothing of ours is on the host, and no file of a machine or disk is left.
    pub async fn check_nothing_left(&self) {
        let deployment = self.daemon.services.deployment;
        let machines = self.hypervisor.machines().await.expect("a listing");
        let ours: Vec<_> = machines
            .iter()
            .filter(|machine| {
                machine
                    .tag
                    .as_ref()
                    .is_some_and(|tag| tag.deployment == deployment)
            })
            .collect();
        assert!(ours.is_empty(), "machines are left: {ours:#?}");
        assert_eq!(
            self.hypervisor.disks().await.expect("a listing"),
            Vec::<PathBuf>::new(),
            "disks are left"
        );
    }
}

fn passable(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("its mode");
}
