//! One round on real guests, in the lab: `vagrant/lab test --test pool -- real --nocapture`. Says how
//! long things take; only what is true however slow the machine is, is asserted.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom::clock::SystemClock;
use greenroom::fault::Faults;
use greenroom::hypervisor::Hypervisor;
use greenroom::hypervisor::guest::Guest;
use greenroom::hypervisor::libvirt::{AcceleratorChoice, Folders, Libvirt, LibvirtSettings};
use greenroom::images::Images;
use greenroom::pool::{Answer, Pool, PoolServices, PoolSettings, Want};
use greenroom::store::Store;
use greenroom::vocab::machine::Size;
use greenroom::vocab::pool::{ShellState, Tier, TrustDomain};
use greenroom::vocab::{Deployment, MachineId};

use crate::ground::{Verbs, hot, ready};

/// Hot claims that the median is taken of.
const CLAIMS: usize = 9;

fn folder(path: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&path).expect("a folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).expect("its mode");
    path
}

async fn pool_in(state: &Path, lab: &Path) -> (Arc<Pool>, Arc<Libvirt>) {
    std::os::unix::fs::symlink(lab.join("images"), state.join("images")).expect("the images");
    let folders = Folders {
        disks: folder(state.join("vm")),
        templates: folder(state.join("templates")),
        consoles: folder(state.join("consoles")),
        scratch: folder(state.join("scratch")),
        images: vec![lab.join("images")],
    };
    let uri = std::env::var("GREENROOM_LIBVIRT_URI").unwrap_or_else(|_| "qemu:///system".into());
    let deployment = Deployment::fresh();
    let settings = PoolSettings {
        disks: folders.disks.clone(),
        templates: folders.templates.clone(),
        network: "greenroom".into(),
        boot_deadline: Duration::from_secs(120),
        budget_mib: 4096,
        max_age: Duration::from_secs(3600),
        growth_mib: 1024,
        trust: Default::default(),
    };
    let mut libvirt = LibvirtSettings::new(uri, deployment, folders);
    libvirt.accelerator = AcceleratorChoice::Tcg;
    let libvirt = Libvirt::connect(libvirt).await.expect("the lab's libvirt");
    let services = PoolServices {
        store: Store::open(&state.join("greenroom.db"))
            .await
            .expect("a database"),
        hypervisor: libvirt.clone(),
        clock: Arc::new(SystemClock),
        images: Images::open(state).expect("the images"),
        deployment,
        settings: Arc::new(settings),
        faults: Faults::none(),
    };
    (Pool::start(services).await.expect("a pool"), libvirt)
}

fn shown(phases: &[(String, f64)]) -> String {
    let all: Vec<String> = phases
        .iter()
        .map(|(name, ms)| format!("{name} {ms:.1}"))
        .collect();
    let total: f64 = phases.iter().map(|(_, ms)| ms).sum();
    format!("{} = {total:.1} ms", all.join(", "))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn command(hypervisor: &dyn Hypervisor, machine: MachineId) -> f64 {
    let begun = Instant::now();
    let said = Guest {
        hypervisor,
        machine,
    }
    .run(&["echo", "here"], b"", Duration::from_secs(20))
    .await
    .expect("a command");
    assert_eq!(said.out, b"here\n");
    begun.elapsed().as_secs_f64() * 1000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_on_real_guests() {
    if std::env::var_os("GREENROOM_LAB_READY").is_none() {
        eprintln!("skipped, because it needs the lab; run `vagrant/lab test --test pool`");
        return;
    }
    let lab = PathBuf::from(std::env::var_os("GREENROOM_STATE").expect("the lab's state"));
    let state = tempfile::Builder::new()
        .prefix("pool-")
        .tempdir_in(&lab)
        .expect("a folder");
    folder(state.path().to_owned());
    let (pool, libvirt) = pool_in(state.path(), &lab).await;
    let image = std::env::var("GREENROOM_TEST_IMAGE_NAME").unwrap_or_else(|_| "tiny".into());
    let image = Images::open(state.path())
        .unwrap()
        .get(&image)
        .expect("the image");
    let text = format!("{}:1x{}", image.name, image.min_memory_mib.max(128));
    let class: greenroom::vocab::pool::Class = text.parse().unwrap();

    let begun = Instant::now();
    pool.set(class.clone(), hot(2)).await.unwrap();
    wait(&pool, 2).await;
    let status = pool.status().await.unwrap();
    println!(
        "self-test, template, two shells: {:.1} s; {}",
        begun.elapsed().as_secs_f64(),
        status.forks_reason
    );
    for template in pool
        .templates(false)
        .await
        .unwrap()
        .iter()
        .filter(|t| ready(std::slice::from_ref(t)).is_some())
    {
        println!("template {}: {}", template.class, shown(&template.phases));
    }
    for shell in pool.all(ShellState::Ready).await {
        println!("shell {}: {}", shell.name, shown(&shell.phases));
        println!("  {:?}", shell.identity.unwrap());
    }

    let want = |key: &str| Want {
        key: key.into(),
        image: image.clone(),
        size: Size {
            vcpus: 1,
            memory_mib: class.memory_mib,
            disk_mib: image.disk_mib,
            network_kbytes_per_s: None,
        },
        network: false,
        trust: TrustDomain::default(),
        owner: "a measurement".into(),
        client: "default".into(),
        ttl: None,
    };
    let (mut firsts, mut laters, mut claims) = (vec![], vec![], vec![]);
    for n in 0..CLAIMS {
        wait(&pool, 2).await;
        let begun = Instant::now();
        let claim = pool.take(&want(&format!("hot {n}"))).await;
        claims.push(begun.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(claim.tier, Tier::Hot, "{claim:?}");
        command(&*libvirt, claim.shell).await;
        firsts.push(begun.elapsed().as_secs_f64() * 1000.0);
        for _ in 0..3 {
            laters.push(command(&*libvirt, claim.shell).await);
        }
        println!("hot: {}", shown(&claim.phases));
        let begun = Instant::now();
        pool.release(&claim.key).await.unwrap();
        println!("release {:.1} ms", begun.elapsed().as_secs_f64() * 1000.0);
    }
    let (claim, first, later) = (median(claims), median(firsts), median(laters));
    println!(
        "hot, medians of {CLAIMS}: claim {claim:.1} ms, to a command's output {first:.1} ms, the same command later {later:.1} ms, so {:.1} ms on top",
        first - later
    );

    wait(&pool, 2).await;
    let mut grown = want("grown");
    grown.size.memory_mib += 256;
    let claim = pool.take(&grown).await;
    println!(
        "grown by 256 MiB: {:?}, {}",
        claim.achieved,
        shown(&claim.phases)
    );
    pool.release("grown").await.unwrap();
    wait(&pool, 2).await;
    let mut networked = want("net");
    networked.network = true;
    let claim = pool.take(&networked).await;
    println!("card at the claim: {}", shown(&claim.phases));
    pool.release("net").await.unwrap();

    pool.set(class.clone(), hot(0)).await.unwrap();
    for n in 0..3 {
        wait(&pool, 0).await;
        for from in ["standby", "nothing"] {
            let key = format!("fork from {from} {n}");
            let begun = Instant::now();
            let claim = pool.take(&want(&key)).await;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            println!("{key}: {took:.1} ms: {}", shown(&claim.phases));
            assert_eq!(claim.tier, Tier::Warm);
        }
        for from in ["standby", "nothing"] {
            pool.release(&format!("fork from {from} {n}"))
                .await
                .unwrap();
        }
    }
    println!(
        "memory: {:?}",
        pool.status()
            .await
            .unwrap()
            .pools
            .iter()
            .map(|view| view.pss_mib)
            .collect::<Vec<_>>()
    );

    pool.set(class.clone(), None).await.unwrap();
    pool.until_shells("no shells", <[_]>::is_empty).await;
    pool.until_templates("no templates", <[_]>::is_empty).await;
    assert!(libvirt.disks().await.unwrap().is_empty(), "disks are left");
    assert!(
        libvirt.templates().await.unwrap().is_empty(),
        "template folders are left"
    );
    let Answer::Nothing { reason, .. } = pool.claim(&want("late")).await.unwrap() else {
        panic!("there is nothing left to claim");
    };
    println!("{reason}");
}

/// Filling takes as long as it takes under emulation.
async fn wait(pool: &Pool, hot: usize) {
    for _ in 0..6000 {
        let shells = pool.shells().await.unwrap();
        let of = |state| shells.iter().filter(|shell| shell.state == state).count();
        if of(ShellState::Ready) == hot
            && of(ShellState::Standby) == 1
            && shells
                .iter()
                .all(|shell| !matches!(shell.state, ShellState::Filling | ShellState::Releasing))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:#?}", pool.status().await);
}
