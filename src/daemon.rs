//! Wiring: the one place that knows every part. Builds them, starts them and stops them in order.

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::access::pace::Rate;
use crate::access::session;
use crate::capacity::{Capacity, Room};
use crate::clock::{Clock, SystemClock};
use crate::config::api::SyslogTransport;
use crate::config::{self, Config, HypervisorKind, StartTarget, TargetOf};
use crate::demand::{Demand, DemandServices};
use crate::fault::Faults;
use crate::foresight::{Foresight, ForesightServices, ForesightSettings};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::libvirt::{self, Folders, Libvirt, LibvirtSettings, ProbeImage};
use crate::hypervisor::simulated::{SimSettings, Simulated};
use crate::images::Images;
use crate::netboot::desk::Desk;
use crate::netboot::{listener, plane};
use crate::outbound::syslog::{Collector, Transport};
use crate::outbound::traces;
pub use crate::outbound::traces::Traces;
use crate::outbound::{self, Outbound};
use crate::pool::{Pool, PoolServices, PoolSettings};
use crate::power::Limits;
use crate::power::hands::RemoteHands;
use crate::reconcile::Reconciler;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::{RunSettings, Services};
use crate::store::Store;
use crate::store::artefacts::Artefacts;
use crate::store::meta;
use crate::vocab::Deployment;
use crate::vocab::machine::Accelerator;
use crate::vocab::pool::{Class, TrustDomain};
use crate::web;

/// How a daemon is to be, apart from the host it works on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of database, artefacts, images and disks.
    pub state: PathBuf,
    /// Runs that may be active at once.
    pub max_active: usize,
    /// What of the host the machines may use.
    pub room: Room,
    pub runs: RunSettings,
    pub pool: PoolSettings,
    /// What is wanted of classes of which nobody said anything yet.
    pub pool_targets: Vec<StartTarget>,
    /// How often rows and host are compared when nothing asks for it.
    pub reconcile_every: Duration,
}

/// A daemon at work, without its listeners.
pub struct Running {
    pub services: Services,
    pub pool: Arc<Pool>,
    pub demand: Arc<Demand>,
    pub dispatch: Arc<Dispatch>,
    pub reconciler: Arc<Reconciler>,
    pub images: Images,
    stop: CancellationToken,
}

/// The database and what it says about whose installation this is. Opened before the host, because
/// the host's connection needs the deployment's id for its tags.
pub struct Foundation {
    pub store: Store,
    pub deployment: Deployment,
}

impl Foundation {
    pub async fn lay(state: &std::path::Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(state)
            .with_context(|| format!("making the state folder {}", state.display()))?;
        let store = Store::open(&state.join("greenroom.db")).await?;
        let deployment = store
            .write(|connection| Box::pin(meta::deployment_get_or_make(connection)))
            .await?;
        Ok(Self { store, deployment })
    }
}

/// Starts everything on a host. Runs that were under way go on.
pub async fn start(
    foundation: Foundation,
    hypervisor: Arc<dyn Hypervisor>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    faults: Faults,
) -> anyhow::Result<Running> {
    std::fs::create_dir_all(&settings.runs.disks)
        .with_context(|| format!("making {}", settings.runs.disks.display()))?;
    let images = Images::open(&settings.state)?;
    let pool = Pool::start(PoolServices {
        store: foundation.store.clone(),
        hypervisor: hypervisor.clone(),
        clock: clock.clone(),
        images: images.clone(),
        deployment: foundation.deployment,
        settings: Arc::new(settings.pool),
        faults: faults.clone(),
    })
    .await?;
    let artefacts = Artefacts::open(settings.state.join("artefacts"))?;
    let foresight = Foresight::start(ForesightServices {
        store: foundation.store.clone(),
        artefacts: artefacts.clone(),
        hypervisor: hypervisor.clone(),
        clock: clock.clone(),
        settings: ForesightSettings::default(),
    })
    .await?;
    let services = Services {
        store: foundation.store,
        artefacts,
        hypervisor,
        clock,
        capacity: Arc::new(Capacity::new(settings.room)),
        // Without memory to spend it has nothing, and runs need not ask.
        pool: (pool.settings().budget_mib > 0).then(|| pool.clone()),
        foresight,
        settings: Arc::new(settings.runs),
        deployment: foundation.deployment,
        live: broadcast::channel(4096).0,
        faults,
    };
    apply_targets(&pool, &images, settings.pool_targets).await?;
    let demand = Demand::start(DemandServices {
        store: services.store.clone(),
        clock: services.clock.clone(),
        pool: pool.clone(),
    })
    .await?;
    let dispatch = Dispatch::start(services.clone(), settings.max_active).await?;
    let reconciler = Reconciler::new(services.clone(), dispatch.clone());
    let stop = CancellationToken::new();
    tokio::spawn(
        reconciler
            .clone()
            .run(settings.reconcile_every, stop.clone()),
    );
    Ok(Running {
        services,
        pool,
        demand,
        dispatch,
        reconciler,
        images,
        stop,
    })
}

/// Tells the pool what the configuration wants of classes that have no target yet. An image that is
/// not built is no reason not to start.
async fn apply_targets(
    pool: &Pool,
    images: &Images,
    targets: Vec<StartTarget>,
) -> anyhow::Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let known = pool.status().await?.pools;
    for StartTarget { of, target } in targets {
        let class = match of {
            TargetOf::Class(class) => class,
            TargetOf::Image(name) => match images.get(&name) {
                Ok(image) => Class {
                    image: name,
                    vcpus: 1,
                    memory_mib: image.min_memory_mib,
                    network: false,
                    trust: TrustDomain::default(),
                },
                Err(error) => {
                    tracing::warn!(%error, "a target of the configuration is left out");
                    continue;
                }
            },
        };
        let has_target = known
            .iter()
            .any(|pool| pool.class == class && pool.target.is_some());
        if has_target {
            continue;
        }
        match pool.set(class.clone(), Some(target)).await {
            Ok(()) => tracing::info!(%class, hot = target.hot, "kept ready, as configured"),
            Err(error) => {
                tracing::warn!(%class, %error, "a target of the configuration is left out");
            }
        }
    }
    Ok(())
}

impl Running {
    /// Ends the reconciler. Runs simply stop with the process: what they are doing may be repeated.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// What tells a collector of traces, where one is configured. Within the runtime.
pub fn traces(config: &Config) -> anyhow::Result<Option<Traces>> {
    let telemetry = &config.telemetry;
    let Some(endpoint) = telemetry.otlp.clone() else {
        return Ok(None);
    };
    let collector = traces::Collector {
        endpoint,
        sample: telemetry.sample,
    };
    let traces = Traces::to(&collector, telemetry.authorities.as_deref());
    traces
        .context("traces cannot be told (telemetry.otlp)")
        .map(Some)
}

/// The daemon as `greenroom serve` runs it: host, runs, API, until a signal says stop.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    prepare_folders(&config)?;
    let _only = claim_state(&config)?;
    let foundation = Foundation::lay(&config.state).await?;
    let hypervisor = connect(&config, foundation.deployment).await?;
    let host = hypervisor.host().await?;
    tracing::info!(version = %host.version, accelerator = ?host.accelerator, reason = %host.accelerator_reason, "the host answers");
    if host.accelerator == Accelerator::Tcg {
        tracing::warn!(
            "guests are emulated, which is slow and no security boundary: run only stages that you trust"
        );
    }
    let settings = Settings {
        state: config.state.clone(),
        max_active: config.runs.max_active,
        room: config.host.room(host.memory_mib, host.cpus),
        runs: config.run_settings(),
        pool: config.pool_settings(host.memory_mib),
        pool_targets: config.pool.start_targets(),
        reconcile_every: config.reconcile.interval(),
    };
    let running = start(
        foundation,
        hypervisor,
        Arc::new(SystemClock),
        settings,
        Faults::from_environment(),
    )
    .await?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    let outbound = Outbound::new(
        outbound_settings(&config),
        running.services.store.clone(),
        running.services.clock.clone(),
        running.services.deployment,
    )?;
    outbound.start(running.services.live.clone(), &stop);
    let boot = match config.boot.enabled {
        true => Some(start_boot(&config, &running, &stop).await?),
        false => None,
    };
    let power = RemoteHands::new(
        running.services.store.clone(),
        running.services.clock.clone(),
        config.state.join("bmc"),
        Limits::default(),
    );
    tokio::spawn(power.clone().run(stop.clone()));
    let state = web::State {
        services: running.services.clone(),
        dispatch: running.dispatch.clone(),
        pool: running.pool.clone(),
        demand: running.demand.clone(),
        images: running.images.clone(),
        reconciler: running.reconciler.clone(),
        outbound,
        netboot: boot.as_ref().map(|boot| boot.desk.clone()),
        power,
    };
    let doors = doors(&config).await?;
    if let Some(network) = &doors.network {
        let address = network.listener.local_addr()?;
        let reached = web::tls::reached_at(address, &config.api.names);
        eprintln!("The web interface is at {reached}");
        print_bootstrap_code(&state.services).await?;
    }
    let served = web::serve(state, doors, stop).await;
    running.stop();
    if let Some(boot) = boot {
        boot.end().await;
    }
    served
}

/// Where the API is to be reached. A port that cannot be had ends the start.
async fn doors(config: &Config) -> anyhow::Result<web::Doors> {
    let api = &config.api;
    let network = match api.address {
        None => None,
        Some(address) => {
            let certificate = match (&api.certificate, &api.key) {
                (Some(chain), Some(key)) => web::tls::Certificate::Files {
                    chain: chain.clone(),
                    key: key.clone(),
                },
                _ => web::tls::Certificate::Own {
                    folder: config.tls(),
                    names: web::tls::names(address.ip(), &api.names),
                },
            };
            Some(web::NetworkDoor {
                tls: web::tls::acceptor(&certificate)?,
                listener: tokio::net::TcpListener::bind(address)
                    .await
                    .with_context(|| format!("listening at {address} (api.address)"))?,
            })
        }
    };
    Ok(web::Doors {
        socket: config.socket(),
        group: config.socket_group.clone(),
        network,
        limits: web::Limits {
            rate: Rate {
                per_s: api.limits.requests_per_s,
                burst: api.limits.burst,
            },
            connections: api.limits.connections,
            streams: api.limits.streams,
        },
        sessions: session::Limits {
            idle: api.sessions.idle(),
            absolute: api.sessions.absolute(),
        },
        pages: Some(crate::pages::pages()),
    })
}

fn outbound_settings(config: &Config) -> outbound::Settings {
    let api = &config.api;
    outbound::Settings {
        targets: outbound::Targets {
            hosts: api.webhooks.targets.clone(),
            allow_private: api.webhooks.allow_private,
            allow_http: api.webhooks.allow_http,
        },
        authorities: api.webhooks.authorities.clone(),
        syslog: api.syslog.as_ref().map(|syslog| Collector {
            address: syslog.address.clone(),
            transport: match syslog.transport {
                SyslogTransport::Udp => Transport::Udp,
                SyslogTransport::Tcp => Transport::Tcp,
                SyslogTransport::Tls => Transport::Tls,
            },
            facility: syslog.facility,
        }),
        ..outbound::Settings::default()
    }
}

/// Prints, once and not into the log, the code with which the first admin is made.
async fn print_bootstrap_code(services: &Services) -> anyhow::Result<()> {
    if let Some(code) = web::bootstrap_code(services).await? {
        eprintln!(
            "There are no users yet. Make the first admin within 24 hours: `greenroom user create NAME --role admin`\n\
             on this host, or in a browser at the web interface's /first-admin, or POST {}/bootstrap, with the code\n\n    {}\n",
            web::PREFIX,
            code.reveal()
        );
    }
    Ok(())
}

/// The network boot at work.
struct Boot {
    desk: Arc<Desk>,
    tasks: tokio_util::task::TaskTracker,
}

impl Boot {
    /// Waits until dnsmasq is gone, and not for ever.
    async fn end(self) {
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
    }
}

/// Answers devices: dnsmasq, their listener, and the desk that looks after them. Ends with `stop`.
async fn start_boot(
    config: &Config,
    running: &Running,
    stop: &CancellationToken,
) -> anyhow::Result<Boot> {
    let settings = config.boot.settings(&config.state);
    plane::prepare(&settings).context("the network boot cannot be started")?;
    let desk = Desk::new(
        running.services.clone(),
        running.dispatch.clone(),
        running.images.clone(),
        settings.clone(),
    );
    let listener = listener::open(&settings.plane).await?;
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(listener::serve(listener, desk.clone(), stop.clone()));
    tasks.spawn(desk.clone().run(stop.clone()));
    tasks.spawn(plane::supervise(settings, desk.clone(), stop.clone()));
    Ok(Boot { desk, tasks })
}

/// Makes the folders of the state. QEMU's user must be able to pass through to the disks, and nobody
/// but us may read the database and what stages handed over.
fn prepare_folders(config: &Config) -> anyhow::Result<()> {
    let passable = [
        config.state.clone(),
        config.disks(),
        config.templates(),
        config.consoles(),
        config.scratch(),
        config.state.join("images"),
    ];
    for (folder, mode) in passable
        .into_iter()
        .map(|folder| (folder, 0o711))
        .chain([(config.artefacts(), 0o700)])
    {
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)))
            .with_context(|| format!("making the folder {}", folder.display()))?;
    }
    Ok(())
}

/// One daemon at a time works on a state folder.
fn claim_state(config: &Config) -> anyhow::Result<Flock<File>> {
    let path = config.state.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| {
            // Whoever may open it could hold it.
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            Ok(file)
        })
        .with_context(|| path.display().to_string())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!(
            "another greenroom works on {} already; stop it, or choose another --state",
            config.state.display()
        )
    })
}

/// The folder as it is named and as it is: it may be a link to where there is more room.
fn image_roots(folder: &Path) -> Vec<PathBuf> {
    let mut roots = vec![folder.to_owned()];
    if let Ok(real) = folder.canonicalize()
        && real != folder
    {
        roots.push(real);
    }
    roots
}

async fn connect(config: &Config, deployment: Deployment) -> anyhow::Result<Arc<dyn Hypervisor>> {
    if config.hypervisor.kind == HypervisorKind::Simulated {
        tracing::warn!("the host is simulated: nothing that runs here is real");
        return Ok(Simulated::new(SimSettings::default()));
    }
    tracing::info!(uri = %config.hypervisor.uri, "connecting to libvirt; the first time after a boot it is tried for up to 20 s whether KVM runs guests");
    let images = Images::open(&config.state)?;
    let folders = Folders {
        disks: config.disks(),
        templates: config.templates(),
        consoles: config.consoles(),
        scratch: config.scratch(),
        images: image_roots(images.folder()),
    };
    let mut settings = LibvirtSettings::new(&config.hypervisor.uri, deployment, folders);
    settings.accelerator = match config.hypervisor.accelerator {
        config::AcceleratorChoice::Auto => libvirt::AcceleratorChoice::Auto,
        config::AcceleratorChoice::Kvm => libvirt::AcceleratorChoice::Kvm,
        config::AcceleratorChoice::Tcg => libvirt::AcceleratorChoice::Tcg,
    };
    settings.probe_image = images.get("tiny").ok().map(|image| ProbeImage {
        kernel: image.kernel.path,
        initrd: image.initrd.path,
        cmdline: image.cmdline,
    });
    Ok(Libvirt::connect(settings).await?)
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; runs go on when greenroom is started again");
        stop.cancel();
    })
}
