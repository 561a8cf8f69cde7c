//! Templates and forks as machines: capturing one, loading the other, pausing and going on.
//!
//! ```text
//!  template: runs ──capture──▶ paused, state written ──▶ only to be destroyed
//!  fork:     empty ──load_fork──▶ loaded, paused ──resume──▶ runs ⇄ paused
//! ```
//!
//! QEMU knows where a machine is in this picture, so that it is asked and nothing has to be written
//! down: `inmigrate` is an empty fork, `postmigrate` a captured template, and an incoming migration
//! counts when its status is `completed`, also after libvirtd or this program were restarted.
//!
//! Measured with the tiny image (n=15, emulated, `tests/libvirt/fork_measure.rs`): create 125 ms, load 24,
//! resume 19, first agent answer 77, against 49, 19, 6 and 71 by QEMU alone. Of what libvirt adds to
//! create, 20–25 ms are two moves between control groups, for which the kernel waits for all CPUs. So a
//! fork is best created ahead of need: from there to the first answer it takes 124 ms, loaded 96.
//!
//! QEMU: docs/system/vm-templating.rst, docs/devel/migration/features.rst. Needs QEMU 9.1, whose
//! `migrate-incoming` can be told to report a failure instead of exiting.

use std::time::{Duration, Instant};

use qapi::qmp::{self, MigrationCapability, MigrationStatus, RunState};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::connection::Call;
use super::monitor::{Fault, Monitor};
use super::qemu_args::MEMORY;
use super::reach::QemuUser;
use super::{Libvirt, disks, errors, ffi, machines, templates};
use crate::hypervisor::{HvError, TemplateFiles};
use crate::vocab::{Deployment, MachineId};

const PAUSE: Call = Call::change("pause", Duration::from_secs(30));
const RESUME: Call = Call::change("resume", Duration::from_secs(30));
/// Half a megabyte is written, after the disks were flushed.
const CAPTURE: Call = Call::change("capture", Duration::from_secs(90));
const LOAD: Call = Call::change("load", Duration::from_secs(45));
/// Below the patience of the calls above, so that they end in an error that says what happened.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(30);

/// Enough to find one of our domains again without reading its XML a second time.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub id: MachineId,
    pub deployment: Deployment,
    /// Its tag was seen to be ours before.
    pub is_ours: bool,
}

impl Known {
    pub(super) fn find(self, connect: &Connect) -> Result<Domain, HvError> {
        let id = self.id;
        if self.is_ours {
            return connect
                .lookup_domain_by_uuid(id.0)
                .map_err(errors::about(id));
        }
        machines::find_ours(connect, id, self.deployment)?
            .map(|(domain, _)| domain)
            .ok_or(HvError::NoSuchMachine(id))
    }
}

impl Libvirt {
    pub(super) fn known(&self, id: MachineId) -> Known {
        Known {
            id,
            deployment: self.settings.deployment,
            is_ours: self.guests.is_known(id),
        }
    }

    pub(super) async fn pause_machine(&self, id: MachineId) -> Result<(), HvError> {
        let _turn = self.changes.take(&id).await;
        let known = self.known(id);
        self.control
            .call(PAUSE, move |connect| pause(&known.find(connect)?, id))
            .await?;
        self.guests.remember(id);
        Ok(())
    }

    pub(super) async fn resume_machine(&self, id: MachineId) -> Result<(), HvError> {
        let _turn = self.changes.take(&id).await;
        let (known, loaded) = (self.known(id), self.loaded.contains(&id));
        self.control
            .call(RESUME, move |connect| {
                let domain = known.find(connect)?;
                if !loaded {
                    may_go_on(&domain, id)?;
                }
                resume(&domain, id)
            })
            .await?;
        self.guests.remember(id);
        Ok(())
    }

    pub(super) async fn capture_template(
        &self,
        id: MachineId,
        files: &TemplateFiles,
    ) -> Result<(), HvError> {
        templates::check(&self.settings.folders, files)?;
        let _turn = self.changes.take(&id).await;
        let (known, files, owner) = (self.known(id), files.clone(), self.qemu_user);
        self.control
            .call(CAPTURE, move |connect| {
                capture(&known.find(connect)?, id, &files, owner)
            })
            .await
    }

    pub(super) async fn load(&self, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
        templates::check(&self.settings.folders, files)?;
        let _turn = self.changes.take(&id).await;
        if self.loaded.contains(&id) {
            return Ok(());
        }
        let (known, files) = (self.known(id), files.clone());
        self.control
            .call(LOAD, move |connect| load(&known.find(connect)?, id, &files))
            .await?;
        self.guests.remember(id);
        self.loaded.insert(id);
        Ok(())
    }
}

fn pause(domain: &Domain, id: MachineId) -> Result<(), HvError> {
    reach_state(domain, id, sys::VIR_DOMAIN_PAUSED, Domain::suspend)
}

fn resume(domain: &Domain, id: MachineId) -> Result<(), HvError> {
    reach_state(domain, id, sys::VIR_DOMAIN_RUNNING, Domain::resume)
}

/// libvirt refuses what is the case already, so that a refusal is compared with the state.
fn reach_state<T>(
    domain: &Domain,
    id: MachineId,
    wanted: u32,
    change: impl FnOnce(&Domain) -> Result<T, virt::error::Error>,
) -> Result<(), HvError> {
    match change(domain) {
        Ok(_) => Ok(()),
        Err(_) if ffi::state(domain).is_ok_and(|state| state == wanted) => Ok(()),
        Err(error) if errors::is_not_running(&error) => Err(HvError::NoSuchMachine(id)),
        Err(error) => Err(errors::about(id)(error)),
    }
}

/// libvirt itself would let an empty fork "run", and a captured template write into its own memory file.
fn may_go_on(domain: &Domain, id: MachineId) -> Result<(), HvError> {
    match (Monitor { domain, id }).run_state()? {
        RunState::inmigrate => Err(HvError::Refused(format!(
            "nothing was loaded into the fork {id} yet; load its template's state first"
        ))),
        RunState::postmigrate | RunState::finish_migrate => Err(HvError::Refused(format!(
            "{id} was captured as a template; it can only be destroyed"
        ))),
        _ => Ok(()),
    }
}

/// Whether there is something in the machine's memory to go on from.
pub(super) fn is_empty_fork(domain: &Domain, id: MachineId) -> Result<bool, HvError> {
    Ok((Monitor { domain, id }).run_state()? == RunState::inmigrate)
}

fn capture(
    domain: &Domain,
    id: MachineId,
    files: &TemplateFiles,
    owner: Option<QemuUser>,
) -> Result<(), HvError> {
    let monitor = Monitor { domain, id };
    let memory = format!("/objects/{MEMORY}");
    let file = monitor.property(&memory, "mem-path")?;
    let shared = monitor.property(&memory, "share")?;
    if file.as_ref().and_then(|file| file.as_str()) != files.memory().to_str()
        || shared != Some(serde_json::Value::Bool(true))
    {
        return Err(HvError::Refused(format!(
            "{id} does not have its memory in {}; only a machine that was started as this template can be captured",
            files.memory().display()
        )));
    }
    pause(domain, id)?;
    if monitor.run_state()? != RunState::postmigrate {
        templates::prepare_state(files, owner)?;
        leave_memory_where_it_is(&monitor)?;
        monitor.ask(qmp::migrate {
            channels: None,
            detach: None,
            resume: None,
            uri: Some(uri_of(files)?),
        })?;
    }
    wait_for_migration(&monitor).map_err(|why| match why {
        NotDone::Fault(fault) => fault.into(),
        NotDone::Failed(said) => match disks::says_full(&said, &files.state()) {
            Some(full) => full,
            None => HvError::Host(format!(
                "the device state of {id} could not be written to {}: {said}",
                files.state().display()
            )),
        },
    })
}

fn load(domain: &Domain, id: MachineId, files: &TemplateFiles) -> Result<(), HvError> {
    let monitor = Monitor { domain, id };
    match leave_memory_where_it_is(&monitor) {
        // Refused while an earlier call's loading is under way, which did this itself.
        Ok(()) | Err(Fault::Qemu(_)) => {}
        Err(fault) => return Err(fault.into()),
    }
    let asked = monitor.ask(qmp::migrate_incoming {
        channels: None,
        exit_on_error: Some(false),
        uri: Some(uri_of(files)?),
    });
    match asked {
        Ok(_) => {}
        // Asked for by an earlier call, whose answer may have been lost.
        Err(Fault::Qemu(said)) if said.contains("already been started") => {}
        Err(Fault::Qemu(said)) if said.contains("'-incoming' was not specified") => {
            return Err(HvError::Refused(format!(
                "{id} is no fork: nothing can be loaded into it"
            )));
        }
        Err(fault) => return Err(fault.into()),
    }
    wait_for_migration(&monitor).map_err(|why| match why {
        NotDone::Fault(fault) => fault.into(),
        NotDone::Failed(said) => HvError::Host(format!(
            "{} cannot be loaded into {id}: {said}",
            files.state().display()
        )),
    })
}

/// The device state is then without the memory that is in the template's file.
fn leave_memory_where_it_is(monitor: &Monitor) -> Result<(), Fault> {
    let capability = qmp::MigrationCapabilityStatus {
        capability: MigrationCapability::x_ignore_shared,
        state: true,
    };
    monitor
        .ask(qmp::migrate_set_capabilities {
            capabilities: vec![capability],
        })
        .map(drop)
}

enum NotDone {
    Fault(Fault),
    Failed(String),
}

fn wait_for_migration(monitor: &Monitor) -> Result<(), NotDone> {
    let began = Instant::now();
    loop {
        let info = monitor.ask(qmp::query_migrate {}).map_err(NotDone::Fault)?;
        match info.status {
            Some(MigrationStatus::completed) => return Ok(()),
            Some(MigrationStatus::failed | MigrationStatus::cancelled) => {
                let said = info
                    .error_desc
                    .unwrap_or_else(|| "QEMU gives no reason".to_owned());
                return Err(NotDone::Failed(said));
            }
            status if began.elapsed() > MIGRATION_PATIENCE => {
                return Err(NotDone::Failed(format!(
                    "not finished after {MIGRATION_PATIENCE:?} (its status is {status:?})"
                )));
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn uri_of(files: &TemplateFiles) -> Result<String, HvError> {
    let state = files.state();
    match state.to_str() {
        // QEMU reads what follows a comma as an option of its own ("offset=").
        Some(path) if !path.contains(',') => Ok(format!("file:{path}")),
        _ => Err(HvError::Refused(format!(
            "{}: a template's path is UTF-8 and has no comma",
            state.display()
        ))),
    }
}
