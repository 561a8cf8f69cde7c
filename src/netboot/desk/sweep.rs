//! What happens by itself: every second, everything whose time has come, from the rows alone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Desk, DeskError};
use crate::netboot::delivery::{self, Packed};
use crate::netboot::life::Happening;
use crate::runs::drive;
use crate::runs::submit::{self, RunOrder, SubmitError};
use crate::runs::view::View;
use crate::store::{StoreError, boot, boot_codes, runs};
use crate::vocab::boot::{BootDevice, BootPhase};
use crate::vocab::run::RunState;
use crate::vocab::{AttemptId, RunId, Timestamp};

const EVERY: Duration = Duration::from_secs(1);

impl Desk {
    /// Until `stop`. An error is said once per look and everything is tried again.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.look_after(&stop), self.write_notes(&stop));
    }

    async fn look_after(&self, stop: &CancellationToken) {
        // What a killed daemon has left is found by looking at all of them once; then thousands of
        // devices that just work cost nothing each second.
        let mut whole = true;
        loop {
            match self.sweep(whole).await {
                Ok(()) => whole = false,
                Err(error) => tracing::error!(%error, "devices cannot be looked after"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn sweep(&self, whole: bool) -> Result<(), DeskError> {
        let now = self.now();
        let all = {
            let mut connection = self.services.store.read().await?;
            if whole {
                boot::device_list(&mut connection).await?
            } else {
                boot::device_list_to_look_at(&mut connection, now).await?
            }
        };
        self.condense(now).await?;
        for device in all {
            // One device that cannot be looked after must not keep the others waiting.
            if let Err(error) = self.look_at(&device, now).await {
                tracing::error!(device = %device.name, %error, "this device cannot be looked after");
            }
        }
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    boot::token_remove_expired(connection, now).await?;
                    boot_codes::code_remove_expired(connection, now).await
                })
            })
            .await?;
        Ok(())
    }

    async fn look_at(&self, device: &BootDevice, now: Timestamp) -> Result<(), DeskError> {
        {
            let due = device.deadline.is_none_or(|deadline| deadline <= now);
            match &device.phase {
                BootPhase::Discovered if due && device.trust.may_be_provisioned() => {
                    self.look_for_run(device).await?
                }
                BootPhase::Provisioning { run } => self.look_at_run(device, *run).await?,
                BootPhase::Installing { run } => self.look_at_ended(device, *run).await?,
                BootPhase::Held { .. } => self.look_at_held(device).await?,
                phase if phase.boots_from_disk() => {
                    // Nobody fetches it any more.
                    if let Some(run) = device.run {
                        Packed::of(&self.settings.state, run).remove();
                    }
                    self.look_at_awaited(device, now).await?;
                }
                _ => {}
            }
            if due {
                self.happen(device.device, Happening::Overdue).await?;
            }
        }
        Ok(())
    }

    /// Starts the run of the one chain whose trigger holds for what the device is.
    pub(super) async fn look_for_run(&self, device: &BootDevice) -> Result<(), DeskError> {
        if !device.trust.may_be_provisioned() {
            return Ok(());
        }
        let order = RunOrder {
            device: device.device.to_string(),
            ..RunOrder::default()
        };
        let prepared = submit::prepare(&self.services, &self.images, &order).await;
        let started = match prepared {
            Ok(prepared) => submit::submit(&self.services, prepared).await,
            Err(error) => Err(error),
        };
        let happening = match started {
            Ok(run) => {
                self.dispatch.nudge();
                Happening::RunStarted { run: run.id }
            }
            Err(SubmitError::Store(error)) => return Err(error.into()),
            Err(error) => match self.open_run(device).await? {
                // Somebody started it by hand, or we did before we could note it.
                Some(run) => Happening::RunStarted { run },
                None => Happening::NoRun {
                    why: error.to_string(),
                },
            },
        };
        self.happen(device.device, happening).await?;
        Ok(())
    }

    async fn open_run(&self, device: &BootDevice) -> Result<Option<RunId>, StoreError> {
        let mut connection = self.services.store.read().await?;
        Ok(runs::run_open_of_device(&mut connection, device.device)
            .await?
            .map(|run| run.id))
    }

    async fn look_at_run(&self, device: &BootDevice, id: RunId) -> Result<(), DeskError> {
        let view = drive::load(&self.services, id).await?;
        let ended = |why: String| Happening::RunEnded { why };
        let happening = match view.as_ref().map(|view| (&view.run, &view.plan)) {
            None => ended(format!("run {id} is not there any more")),
            Some((run, plan)) => match &run.state {
                RunState::Queued
                | RunState::Running
                | RunState::Paused { .. }
                | RunState::Undoing { .. } => {
                    // A retry may be making another image.
                    Packed::of(&self.settings.state, id).remove();
                    return Ok(());
                }
                // Its disk has to be free of its last machine.
                RunState::Waiting { .. } if run.disk_holder.is_some() => return Ok(()),
                RunState::Waiting { .. } => {
                    self.pack(id, view.as_ref().and_then(View::image_of)).await
                }
                RunState::Held { failure, .. } => ended(format!(
                    "run {id} is held: {}; see `greenroom run show {id}`",
                    failure.message
                )),
                RunState::Failed { failure } => ended(format!(
                    "run {id} failed: {}; see `greenroom run show {id}`",
                    failure.message
                )),
                RunState::Aborted { reason } => ended(format!("run {id} was aborted: {reason}")),
                // A run has succeeded a moment before its disk is free of its last machine.
                RunState::Succeeded if !run.kept_disk && plan.keeps_disk(run) => return Ok(()),
                RunState::Succeeded if !run.kept_disk => ended(format!(
                    "run {id} of chain {} keeps no handoff disk (`keep: true`), so there is nothing to deliver",
                    run.chain
                )),
                RunState::Succeeded => self.pack(id, None).await,
            },
        };
        self.happen(device.device, happening).await?;
        Ok(())
    }

    /// `awaited`: the run waits for the device that gets this image.
    async fn pack(&self, id: RunId, awaited: Option<AttemptId>) -> Happening {
        let disk = self.services.settings.handoff_disk(id);
        match delivery::pack(&self.settings.state, id, &disk).await {
            Ok(manifest) => Happening::ImageReady { manifest, awaited },
            Err(why) => Happening::RunEnded {
                why: format!("the disk of run {id} cannot be packed: {why}"),
            },
        }
    }

    /// An image is sent only while its run stands by it.
    async fn look_at_ended(&self, device: &BootDevice, id: RunId) -> Result<(), DeskError> {
        if device.awaited.is_none() {
            return Ok(());
        }
        let run = {
            let mut connection = self.services.store.read().await?;
            runs::run_get(&mut connection, id).await?
        };
        let why = match run.map(|run| run.state) {
            Some(RunState::Waiting { .. }) => return Ok(()),
            Some(state) => format!(
                "run {id}, whose image it gets, is {}; see `greenroom run show {id}`",
                state.word()
            ),
            None => format!("run {id}, whose image it gets, is not there any more"),
        };
        Packed::of(&self.settings.state, id).remove();
        self.happen(device.device, Happening::RunEnded { why })
            .await?;
        Ok(())
    }

    /// A run that a person mended takes its device along.
    async fn look_at_held(&self, device: &BootDevice) -> Result<(), DeskError> {
        let Some(id) = device.run.filter(|_| device.manifest.is_none()) else {
            return Ok(());
        };
        let run = {
            let mut connection = self.services.store.read().await?;
            runs::run_get(&mut connection, id).await?
        };
        let goes_on = run.is_some_and(|run| {
            matches!(
                run.state,
                RunState::Queued | RunState::Running | RunState::Waiting { .. }
            ) || (run.state == RunState::Succeeded && run.kept_disk)
        });
        if goes_on {
            self.happen(device.device, Happening::RunGoesOn { run: id })
                .await?;
        }
        Ok(())
    }
}
