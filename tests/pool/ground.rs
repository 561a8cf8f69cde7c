//! Ground for a pool: a simulated host, a state folder, a clock that can be put forward.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use greenroom::clock::{Clock, SystemClock};
use greenroom::fault::Faults;
use greenroom::hypervisor::Hypervisor;
use greenroom::hypervisor::simulated::{SimSettings, Simulated, Snapshot, World};
use greenroom::images::Images;
use greenroom::pool::{Answer, Pool, PoolServices, PoolSettings, Want};
use greenroom::store::Store;
use greenroom::store::pool::shell_alive;
use greenroom::vocab::image::Image;
use greenroom::vocab::machine::Size;
use greenroom::vocab::pool::{
    Claim, Class, Shell, ShellState, Target, Template, TemplateState, Tier, TrustDomain,
};
use greenroom::vocab::{Deployment, MachineId, Timestamp};

use crate::support::house::build_images;

/// The system's time and what was added to it.
#[derive(Default)]
pub struct Shifted(AtomicI64);

impl Shifted {
    pub fn forward(&self, span: Duration) {
        self.0.fetch_add(span.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst))
    }
}

pub struct Ground {
    pub world: Arc<World>,
    pub state: tempfile::TempDir,
    pub clock: Arc<Shifted>,
    pub settings: PoolSettings,
    deployment: Deployment,
    foreign: Snapshot,
}

impl Ground {
    pub fn new() -> Self {
        Self::on(SimSettings::default())
    }

    pub fn on(sim: SimSettings) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        build_images(state.path(), &["tiny"]);
        let world = World::new(sim);
        world.add_foreign_machine("someone-elses", 512);
        let foreign = world.snapshot();
        let settings = PoolSettings {
            disks: state.path().join("vm"),
            templates: state.path().join("templates"),
            network: "default".into(),
            boot_deadline: Duration::from_secs(3),
            budget_mib: 1 << 20,
            max_age: Duration::from_secs(7 * 24 * 3600),
            growth_mib: 1024,
            trust: Default::default(),
        };
        Self {
            world,
            state,
            clock: Arc::default(),
            settings,
            deployment: Deployment::fresh(),
            foreign,
        }
    }

    /// A pool on this ground. A second one plays a restart.
    pub async fn pool(&self, faults: Faults) -> Arc<Pool> {
        self.pool_on(Simulated::on(self.world.clone()), faults)
            .await
    }

    pub async fn pool_on(&self, hypervisor: Arc<dyn Hypervisor>, faults: Faults) -> Arc<Pool> {
        let services = PoolServices {
            store: Store::open(&self.state.path().join("greenroom.db"))
                .await
                .expect("a database"),
            hypervisor,
            clock: self.clock.clone(),
            images: Images::open(self.state.path()).expect("images"),
            deployment: self.deployment,
            settings: Arc::new(self.settings.clone()),
            faults,
        };
        Pool::start(services).await.expect("a pool")
    }

    /// Waits until these shells are ready in the database too: what is known in memory is a moment
    /// ahead of it, and a pool that is dropped meanwhile forgets the difference.
    pub async fn until_stored(&self, shells: &BTreeSet<MachineId>) {
        let store = Store::open(&self.state.path().join("greenroom.db"))
            .await
            .expect("a database");
        for _ in 0..2000 {
            let mut connection = store.read().await.expect("a connection");
            let rows = shell_alive(&mut connection).await.expect("shells");
            let stored: BTreeSet<_> = rows
                .into_iter()
                .filter(|(shell, _)| shell.state == ShellState::Ready)
                .map(|(shell, _)| shell.id)
                .collect();
            if stored == *shells {
                return;
            }
            drop(connection);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never stored: {shells:?}");
    }

    pub fn image(&self, name: &str) -> Image {
        Images::open(self.state.path())
            .expect("images")
            .get(name)
            .expect("an image")
    }

    /// Puts the clock forward and lets the pool look.
    pub fn forward(&self, pool: &Pool, span: Duration) {
        self.clock.forward(span);
        pool.nudge();
    }

    pub fn want(&self, key: &str) -> Want {
        Want {
            key: key.into(),
            image: self.image("tiny"),
            size: Size {
                vcpus: 1,
                memory_mib: 128,
                disk_mib: 64,
                network_kbytes_per_s: None,
            },
            network: false,
            trust: TrustDomain::default(),
            owner: "a test".into(),
            client: "default".into(),
            ttl: None,
        }
    }

    /// Nothing is left of ours, and nothing of others' was touched.
    pub fn check_nothing_left(&self) {
        assert_eq!(
            self.world.snapshot(),
            self.foreign,
            "something is left, or something foreign was touched"
        );
    }

    pub fn folders(&self) -> Vec<PathBuf> {
        self.world.snapshot().templates
    }
}

pub fn class(text: &str) -> Class {
    text.parse().expect("a class")
}

pub const TINY: &str = "tiny:1x128";

pub fn hot(hot: u32) -> Option<Target> {
    Some(Target {
        hot,
        floor: Tier::Warm,
    })
}

pub trait Verbs {
    async fn all(&self, state: ShellState) -> Vec<Shell>;
    async fn until_shells(&self, what: &str, is: impl Fn(&[Shell]) -> bool) -> Vec<Shell>;
    async fn until_templates(&self, what: &str, is: impl Fn(&[Template]) -> bool) -> Vec<Template>;
    async fn until_hot(&self, count: usize) -> Vec<Shell>;
    async fn take(&self, want: &Want) -> Claim;
}

impl Verbs for Pool {
    async fn all(&self, state: ShellState) -> Vec<Shell> {
        let shells = self.shells().await.expect("shells");
        shells
            .into_iter()
            .filter(|shell| shell.state == state)
            .collect()
    }

    async fn until_shells(&self, what: &str, is: impl Fn(&[Shell]) -> bool) -> Vec<Shell> {
        for _ in 0..2000 {
            let shells = self.shells().await.expect("shells");
            if is(&shells) {
                return shells;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "never came: {what}\n{:#?}\n{:#?}",
            self.shells().await,
            self.status().await
        );
    }

    async fn until_templates(&self, what: &str, is: impl Fn(&[Template]) -> bool) -> Vec<Template> {
        for _ in 0..2000 {
            let templates = self.templates(false).await.expect("templates");
            if is(&templates) {
                return templates;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came: {what}\n{:#?}", self.status().await);
    }

    /// Waits for exactly so many hot shells and a standby, with nothing under way.
    async fn until_hot(&self, count: usize) -> Vec<Shell> {
        let is = |shells: &[Shell]| {
            let of = |state| shells.iter().filter(|shell| shell.state == state).count();
            of(ShellState::Ready) == count
                && of(ShellState::Standby) == 1
                && of(ShellState::Filling) + of(ShellState::Releasing) == 0
        };
        self.until_shells(&format!("{count} hot shells and a standby"), is)
            .await
            .into_iter()
            .filter(|shell| shell.state == ShellState::Ready)
            .collect()
    }

    async fn take(&self, want: &Want) -> Claim {
        match self.claim(want).await.expect("an answer") {
            Answer::Claimed(claim) => *claim,
            Answer::Nothing { reason, .. } => panic!("nothing: {reason}"),
        }
    }
}

/// The template that is ready, the self-test's left out.
pub fn ready(templates: &[Template]) -> Option<&Template> {
    templates.iter().find(|template| {
        template.state == TemplateState::Ready && !template.class.trust.0.starts_with("greenroom")
    })
}
