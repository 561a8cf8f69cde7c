//! Making a shell: fork, load, identity, warm, pause. Taking it away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Phases, patiently};
use super::identity::{self, mac_of, set_clock};
use super::template::{size_of, warm_up};
use crate::fault::Window;
use crate::hypervisor::guest::launcher::JobPaths;
use crate::hypervisor::guest::{Job, JobWork, LogOffsets, Stream};
use crate::hypervisor::{DiskOrder, HvError, MachineSpec, Nic, Share, Start};
use crate::vocab::image::Image;
use crate::vocab::machine::{Owner, Tag};
use crate::vocab::pool::{Shell, ShellState, Template, TemplateState};
use crate::vocab::{AttemptId, MachineId};

use super::ledger::Rows;

/// Setting the clock takes 0.1 s under emulation.
const CLOCK_WITHIN: Duration = Duration::from_secs(30);

/// The row of a new shell.
pub fn row(core: &Core, rows: &mut Rows, template: &Template, state: ShellState) -> Shell {
    let serial = rows.next_serial();
    let deployment = core.services.deployment.short();
    Shell {
        id: MachineId::fresh(),
        name: format!("gr-shell-{}-{serial}-{deployment}", template.class.image),
        class: template.class.clone(),
        template: template.id,
        serial,
        state,
        identity: None,
        made_at: core.now(),
        ready_at: None,
        gone_at: None,
        pss_mib: None,
        claim: None,
        reason: None,
        phases: Vec::new(),
    }
}

/// How a shell is brought to life.
#[derive(Debug, Clone)]
pub struct Bearing {
    /// It gets this before its first instruction.
    pub share: Option<Share>,
    /// It gets a network card.
    pub card: bool,
}

/// Makes the overlay and starts the machine, empty. What is there already is kept.
pub async fn fork(
    core: &Arc<Core>,
    shell: &Shell,
    image: &Image,
    phases: &mut Phases,
) -> Result<(), String> {
    core.point("shell_fork", Window::Before).await;
    let files = core.files_of(shell.template);
    let disk = DiskOrder::Overlay {
        path: core.disk_of(shell.id),
        base: files.disk(),
        size_mib: image.disk_mib,
    };
    patiently(|| core.hypervisor().make_disk(&disk))
        .await
        .map_err(|error| format!("making its disk: {error}"))?;
    phases.end("disk");
    let generation = core
        .ledger
        .look(|rows| rows.templates.get(&shell.template).map(|t| t.generation))
        .ok_or("its template is gone")?;
    let spec = MachineSpec {
        id: shell.id,
        name: shell.name.clone(),
        tag: Tag {
            deployment: core.services.deployment,
            owner: Owner::Shell {
                shell: image.name.clone(),
            },
            serial: shell.serial,
            generation,
        },
        size: size_of(&shell.class, image),
        kernel: image.kernel.path.clone(),
        initrd: image.initrd.path.clone(),
        cmdline: image.cmdline.clone(),
        root_disk: core.disk_of(shell.id),
        nic: None,
        start: Start::Fork { files },
        growth_mib: core.services.settings.growth_mib,
    };
    patiently(|| core.hypervisor().start_machine(&spec))
        .await
        .map_err(|error| format!("forking it: {error}"))?;
    phases.end("create");
    core.point("shell_fork", Window::After).await;
    stored(core, shell.id, phases).await;
    core.point("shell_fork", Window::Stored).await;
    Ok(())
}

/// Loads the template into it, lets it go on and gives it its identity. It runs after this.
pub async fn load(
    core: &Arc<Core>,
    shell: &Shell,
    bearing: &Bearing,
    phases: &mut Phases,
) -> Result<(), String> {
    core.point("shell_load", Window::Before).await;
    let files = core.files_of(shell.template);
    patiently(|| core.hypervisor().load_fork(shell.id, &files))
        .await
        .map_err(|error| format!("loading the template: {error}"))?;
    phases.end("load");
    if let Some(share) = bearing.share {
        patiently(|| core.hypervisor().resize(shell.id, share))
            .await
            .map_err(|error| format!("giving it its size: {error}"))?;
        phases.end("resize");
    }
    if bearing.card {
        attach_card(core, shell.id).await?;
        phases.end("card");
    }
    patiently(|| core.hypervisor().resume(shell.id))
        .await
        .map_err(|error| format!("letting it go on: {error}"))?;
    phases.end("resume");
    core.guest(shell.id)
        .wait_until_up(core.services.settings.boot_deadline)
        .await
        .map_err(|error| format!("waiting for its agent: {error}"))?;
    phases.end("agent");
    let report = identity::give(core.hypervisor(), shell, core.now()).await?;
    phases.end("identity");
    core.point("shell_load", Window::After).await;
    let (identity, base_mib) = (report.identity, report.achieved.memory_mib);
    let added = bearing.share.map_or(0, |share| share.added_memory_mib);
    let done = phases.done.clone();
    let collision = core
        .ledger
        .change(|draft| {
            let collision = identity::collision(draft.rows, shell.id, &identity);
            if added == 0 {
                draft.rows.bases.insert(shell.id, base_mib);
            }
            match &collision {
                // Whom it resembles is no better, unless somebody has it already.
                Some((other, _)) => {
                    let unclaimed = draft
                        .rows
                        .shells
                        .get(other)
                        .is_some_and(|other| other.state == ShellState::Ready);
                    if unclaimed {
                        let reason = format!("another shell, {}, turned out the same", shell.name);
                        draft.discard(*other, Some(&reason));
                    }
                }
                None => draft.shell(shell.id, |shell| {
                    shell.identity = Some(identity);
                    shell.phases = done;
                }),
            }
            collision
        })
        .await;
    if let Some((_, words)) = collision {
        return Err(words);
    }
    core.point("shell_load", Window::Stored).await;
    Ok(())
}

pub async fn attach_card(core: &Core, shell: MachineId) -> Result<(), String> {
    let nic = Nic {
        network: core.services.settings.network.clone(),
        mac: mac_of(shell),
    };
    patiently(|| core.hypervisor().attach_nic(shell, &nic))
        .await
        .map_err(|error| format!("attaching its network card: {error}"))
}

/// What a shell has that waits: no limit, and no more than its class.
const WHOLE: Share = Share {
    cpu_percent: None,
    added_memory_mib: 0,
};

/// Fills a shell whose row is there, up to `Ready`.
pub async fn fill(core: &Arc<Core>, shell: &Shell, image: &Image) -> Result<(), String> {
    let mut phases = Phases::begin();
    fork(core, shell, image, &mut phases).await?;
    core.give_way().await;
    let bearing = Bearing {
        share: None,
        card: shell.class.network,
    };
    load(core, shell, &bearing, &mut phases).await?;
    core.give_way().await;

    core.point("shell_warm", Window::Before).await;
    warm_up(core, shell.id, image).await?;
    practise(core, shell.id, image).await?;
    // What a claim asks first, so that the agent's way to it is warm; its clock is new with that.
    set_clock(core.hypervisor(), shell.id, core.now(), CLOCK_WITHIN)
        .await
        .map_err(|error| format!("setting its clock: {error}"))?;
    phases.end("warm_up");
    patiently(|| core.hypervisor().resize(shell.id, WHOLE))
        .await
        .map_err(|error| format!("letting it take its full part of the host: {error}"))?;
    patiently(|| core.hypervisor().pause(shell.id))
        .await
        .map_err(|error| format!("pausing it: {error}"))?;
    phases.end("pause");
    core.point("shell_warm", Window::After).await;
    becomes(core, shell.id, ShellState::Ready, phases).await?;
    core.point("shell_warm", Window::Stored).await;
    Ok(())
}

/// Does a stage's work that does nothing, in the way that a stage's is done, and clears up after it: the
/// shell's first real work then finds all of that translated and in memory. A stage that sleeps for a
/// second in an emulated shell took 112 ms more than that with it, 132 without.
async fn practise(core: &Core, shell: MachineId, image: &Image) -> Result<(), String> {
    if image.unfit_for_stages().is_some() {
        return Ok(());
    }
    let guest = core.guest(shell);
    let job = Job {
        attempt: AttemptId::fresh(),
        work: JobWork::Script(PRACTICE.into()),
        input: b"{}".to_vec(),
        env: BTreeMap::new(),
        disk_serial: None,
    };
    let failed = |error: HvError| format!("a first piece of work in it: {error}");
    guest.start_job(&job).await.map_err(failed)?;
    let mut unheard = |_: Stream, _: u64, _: Vec<u8>| {};
    let end = guest
        .finish_job(job.attempt, LogOffsets::default(), 0, &mut unheard)
        .await
        .map_err(failed)?;
    if end.exit_code != 0 {
        return Err(format!(
            "a first piece of work in it ended with {}",
            end.exit_code
        ));
    }
    let paths = JobPaths::new(job.attempt);
    let cleared = guest
        .run(&["rm", "-rf", paths.folder()], b"", PRACTICE_WITHIN)
        .await
        .map_err(failed)?;
    match cleared.exit_code {
        0 => Ok(()),
        code => Err(format!("clearing up in it ended with {code}")),
    }
}

/// Input, output and a program beside the shell's own words, as most work has them.
const PRACTICE: &str = "#!/bin/sh\nsleep 0\necho '{}' > \"$GREENROOM_OUTPUT\"\n";
const PRACTICE_WITHIN: Duration = Duration::from_secs(30);

/// Makes a shell that waits empty.
pub async fn stand_by(core: &Arc<Core>, shell: &Shell, image: &Image) -> Result<(), String> {
    let mut phases = Phases::begin();
    fork(core, shell, image, &mut phases).await?;
    becomes(core, shell.id, ShellState::Standby, phases).await
}

/// The shell is finished, unless somebody gave it or its template up meanwhile.
async fn becomes(
    core: &Arc<Core>,
    id: MachineId,
    state: ShellState,
    phases: Phases,
) -> Result<(), String> {
    let now = core.now();
    core.ledger
        .change(|draft| {
            let Some(shell) = draft.rows.shells.get(&id) else {
                return Err("its row is gone".to_owned());
            };
            let forkable = draft
                .rows
                .templates
                .get(&shell.template)
                .is_some_and(|template| {
                    matches!(
                        template.state,
                        TemplateState::Ready | TemplateState::Draining
                    )
                });
            if shell.state != ShellState::Filling || !forkable {
                return Err(shell
                    .reason
                    .clone()
                    .unwrap_or_else(|| "its template was given up meanwhile".to_owned()));
            }
            draft.shell(id, |shell| {
                shell.state = state;
                shell.ready_at = Some(now);
                shell.phases = phases.done;
            });
            Ok(())
        })
        .await
}

async fn stored(core: &Arc<Core>, id: MachineId, phases: &Phases) {
    let done = phases.done.clone();
    core.ledger
        .change(|draft| draft.shell(id, |shell| shell.phases = done))
        .await;
}

/// Destroys a shell that is being released and removes its overlay.
pub async fn destroy(core: &Core, id: MachineId) -> Result<(), HvError> {
    core.point("shell_destroy", Window::Before).await;
    core.hypervisor().destroy_machine(id).await?;
    core.hypervisor().remove_disk(&core.disk_of(id)).await?;
    core.point("shell_destroy", Window::After).await;
    let now = core.now();
    core.ledger
        .change(|draft| {
            draft.shell(id, |shell| {
                shell.state = ShellState::Gone;
                shell.gone_at = Some(now);
            });
        })
        .await;
    core.point("shell_destroy", Window::Stored).await;
    Ok(())
}
