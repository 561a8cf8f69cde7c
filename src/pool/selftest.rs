//! Whether this host forks as it should. Forking is experimental in QEMU: before anything is handed
//! out on a build of it, a template of the smallest image is made and forked twice. What was in memory
//! has to be there, what ran has to go on, and the two must not draw the same random numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Phases};
use super::shell::{self, Bearing};
use super::{key, template};
use crate::hypervisor::HostFacts;
use crate::hypervisor::guest::{Content, Job, JobWork};
use crate::store::pool::{Verdict, verdict_put};
use crate::vocab::image::Image;
use crate::vocab::pool::{Class, Shell, ShellState, TrustDomain};
use crate::vocab::{AttemptId, MachineId};

/// The trust domain of what the self-test makes; no client's.
pub const TRUST: &str = "greenroom-self-test";

/// After this a host that failed is tried again: something else may have been wrong with it.
pub const AGAIN_AFTER: Duration = Duration::from_secs(600);

const NONCE: &str = "/run/greenroom-nonce";
const COUNTER: &str = "/run/greenroom-counter";

/// Counts ten times a second, for ten minutes: longer than the test takes.
const COUNTS: &str = "i=0
while [ $i -lt 6000 ]; do
  i=$((i + 1))
  echo $i > /run/greenroom-counter
  sleep 0.1
done
";

/// How the verdict on a host is found again.
pub fn name_of(host: &HostFacts) -> String {
    format!("{}, {:?}", host.version, host.accelerator).to_lowercase()
}

pub fn is_own(class: &Class) -> bool {
    class.trust.0 == TRUST
}

/// Tries it and stores the verdict. An error says why it could not even be tried.
pub async fn run(core: &Arc<Core>) -> Result<Verdict, String> {
    let host = core.host().await.map_err(|error| error.to_string())?;
    let image = smallest(core).await?;
    let class = Class {
        image: image.name.clone(),
        vcpus: 1,
        memory_mib: image.min_memory_mib,
        network: false,
        trust: TrustDomain(TRUST.to_owned()),
    };
    let key = key::of(&class, &image, &host, core.services.settings.growth_mib);
    let row = template::row(core, &class, &key, 1);
    let _busy = core.take_up(row.id);
    core.ledger
        .change(|draft| draft.put_template(row.clone()))
        .await;
    let nonce = AttemptId::fresh();
    let job = Job {
        attempt: nonce,
        work: JobWork::Script(format!("echo {nonce} > {NONCE}\n{COUNTS}")),
        input: Vec::new(),
        env: BTreeMap::new(),
        disk_serial: None,
    };
    let built = template::build(core, &row, &image, Some(&job)).await;
    let tried = match &built {
        Ok(()) => Some(fork_twice(core, row.id, &image, nonce).await),
        Err(_) => None,
    };
    template::fail(core, row.id, "the self-test is over").await;
    let Some(tried) = tried else {
        return Err(format!(
            "a template of {} could not be made: {}",
            image.name,
            built.err().unwrap_or_default()
        ));
    };
    let verdict = Verdict {
        forks: tried.is_ok(),
        reason: match tried {
            Ok(()) => format!(
                "two forks of {} kept their memory, went on and drew different numbers on {}",
                image.name, host.version
            ),
            Err(words) => format!("on {}: {words}", host.version),
        },
        at: core.now(),
    };
    if verdict.forks {
        tracing::info!(reason = %verdict.reason, "this host forks");
    } else {
        tracing::error!(reason = %verdict.reason, "this host does not fork as it should: every machine is booted instead");
    }
    let (stored, name) = (verdict.clone(), name_of(&host));
    core.services
        .store
        .write(move |connection| {
            Box::pin(async move { verdict_put(connection, &name, &stored).await })
        })
        .await
        .map_err(|error| error.to_string())?;
    Ok(verdict)
}

async fn smallest(core: &Core) -> Result<Image, String> {
    let images = core.services.images.clone();
    let all = crate::blocking::run(move || images.list())
        .await
        .map_err(|error| error.to_string())?;
    all.into_iter()
        .filter(|image| image.unfit_for_stages().is_none())
        .min_by_key(|image| {
            let bytes = image.initrd.size_bytes + image.disk.size_bytes;
            (bytes, image.min_memory_mib, image.name.clone())
        })
        .ok_or_else(|| {
            "no image with a guest agent is built; `greenroom image build tiny` makes the smallest"
                .to_owned()
        })
}

async fn fork_twice(
    core: &Arc<Core>,
    template: MachineId,
    image: &Image,
    nonce: AttemptId,
) -> Result<(), String> {
    let shells: Vec<Shell> = core
        .ledger
        .change(|draft| {
            let Some(template) = draft.rows.templates.get(&template).cloned() else {
                return Vec::new();
            };
            let shells: Vec<Shell> = (0..2)
                .map(|_| shell::row(core, draft.rows, &template, ShellState::Filling))
                .collect();
            for shell in &shells {
                draft.put_shell(shell.clone());
            }
            shells
        })
        .await;
    let busy: Vec<_> = shells.iter().map(|shell| core.take_up(shell.id)).collect();
    let mut result = Ok(());
    for shell in &shells {
        let one = try_fork(core, shell, image, nonce);
        if let Err(words) = one.await {
            result = Err(words);
            break;
        }
    }
    core.ledger
        .change(|draft| {
            for shell in &shells {
                draft.discard(shell.id, Some("the self-test is over"));
            }
        })
        .await;
    drop(busy);
    result
}

/// Equal draws of the two, and a kernel that did not reseed, are found by [`shell::load`].
async fn try_fork(
    core: &Arc<Core>,
    shell: &Shell,
    image: &Image,
    nonce: AttemptId,
) -> Result<(), String> {
    let mut phases = Phases::begin();
    shell::fork(core, shell, image, &mut phases).await?;
    let bearing = Bearing {
        share: None,
        card: false,
    };
    shell::load(core, shell, &bearing, &mut phases).await?;
    let found = read(core, shell.id, NONCE).await?;
    if found != nonce.to_string() {
        return Err(format!(
            "what the template had in memory, {nonce}, reads {found:?} in a fork"
        ));
    }
    let first = count(core, shell.id).await?;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if count(core, shell.id).await? > first {
            return Ok(());
        }
    }
    Err(format!(
        "what ran in the template stands still at {first} in a fork"
    ))
}

async fn count(core: &Core, shell: MachineId) -> Result<u64, String> {
    // Empty for the moment in which it is written.
    for _ in 0..20 {
        if let Ok(count) = read(core, shell, COUNTER).await?.parse() {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("what ran in the template has no counter in a fork".to_owned())
}

async fn read(core: &Core, shell: MachineId, path: &str) -> Result<String, String> {
    match core.guest(shell).read_file(path, 4096).await {
        Ok(Content::Bytes(bytes)) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Ok(_) => Ok(String::new()),
        Err(error) => Err(format!("reading {path} in a fork: {error}")),
    }
}
