//! Reports of delivered systems: taken, stored, condensed, and handed to the runs that wait for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Desk, DeskError, lasting};
use crate::netboot::life::{self, Happening};
use crate::netboot::telemetry::{self, Seen};
use crate::netboot::wire::{Taken, Telemetry};
use crate::runs::dispatch::RequestError;
use crate::runs::drive;
use crate::runs::plan::Request;
use crate::runs::view::View;
use crate::store::telemetry::{Report, Series};
use crate::store::{StoreError, boot, telemetry as rows};
use crate::vocab::boot::{BootDevice, BootPhase, TokenKind};
use crate::vocab::envelope::Envelope;
use crate::vocab::run::RunState;
use crate::vocab::telemetry::Keeping;
use crate::vocab::{DeviceId, Timestamp};

/// Reports of one device that come faster than this are heard and not kept.
const LEAST_PAUSE: Duration = Duration::from_secs(2);
/// Between two turns of condensing.
const CONDENSE_EVERY: Duration = Duration::from_secs(60);
/// Each twentieth report has details, and one of them may have got lost.
const DETAILS_WITHIN: i64 = 41;
/// Reports that a monitoring stage gets at most: 15 minutes of them.
const MOST_REPORTS: i64 = 60;

impl Desk {
    pub async fn telemetry(&self, token: &str, told: Telemetry) -> Result<Taken, DeskError> {
        let token = self.token(token, TokenKind::Report).await?;
        let device = self.device(token.device).await?;
        if device.run != token.run || !device.phase.boots_from_disk() {
            return Err(DeskError::Forbidden(
                "this device is not expected to report".into(),
            ));
        }
        self.extend(&token, lasting::REPORT).await?;
        let body =
            serde_json::to_value(&told).map_err(|error| DeskError::Failed(error.to_string()))?;
        let (id, now) = (token.device, self.now());
        self.services
            .store
            .write(move |connection| {
                Box::pin(async move {
                    let before = rows::report_list(connection, id, 1).await?.pop();
                    if before
                        .as_ref()
                        .is_some_and(|before| now.since(before.at) < LEAST_PAUSE)
                    {
                        return Ok(());
                    }
                    // One from before there were measures may not read; it only gives no rates.
                    let before = before.and_then(|before| {
                        Some((before.at, serde_json::from_value(before.body).ok()?))
                    });
                    let before = before.as_ref().map(|(at, telemetry)| (*at, telemetry));
                    let measures = telemetry::measures(now, &told, before);
                    let report = Report {
                        at: now,
                        measures,
                        body,
                    };
                    rows::report_insert(connection, id, &report).await
                })
            })
            .await?;
        self.happen(id, Happening::Reported).await?;
        Ok(Taken {
            every_s: Some(self.settings.telemetry.every.as_secs()),
        })
    }

    /// The newest report, with the details of the newest that has some.
    pub async fn latest_report(&self, device: DeviceId) -> Result<Option<Report>, StoreError> {
        let mut connection = self.services.store.read().await?;
        let reports = rows::report_list(&mut connection, device, DETAILS_WITHIN).await?;
        let details = reports
            .iter()
            .map(|report| &report.body["details"])
            .find(|details| !details.is_null())
            .cloned();
        let mut latest = reports.into_iter().next();
        if let (Some(latest), Some(details)) = (&mut latest, details) {
            latest.body["details"] = details;
        }
        Ok(latest)
    }

    /// What a device measured; see [`rows::series`].
    pub async fn series(
        &self,
        device: DeviceId,
        since: Timestamp,
        step: Option<Duration>,
    ) -> Result<Series, StoreError> {
        let now = self.now();
        let keeping = self.settings.telemetry;
        let mut connection = self.services.store.read().await?;
        rows::series(&mut connection, device, since, now, step, &keeping).await
    }

    pub fn keeping(&self) -> &Keeping {
        &self.settings.telemetry
    }

    pub fn time(&self) -> Timestamp {
        self.now()
    }

    /// Condenses every device's telemetry, when it is time to.
    pub(super) async fn condense(&self, now: Timestamp) -> Result<(), StoreError> {
        let last = Timestamp(self.condensed_at.load(Ordering::Relaxed));
        if now.since(last) < CONDENSE_EVERY && last <= now {
            return Ok(());
        }
        self.condensed_at.store(now.0, Ordering::Relaxed);
        let keeping = self.settings.telemetry;
        let all = {
            let mut connection = self.services.store.read().await?;
            boot::device_list(&mut connection).await?
        };
        for device in all {
            let id = device.device;
            let done = self.services.store.write(move |connection| {
                Box::pin(async move { rows::condense(connection, id, now, &keeping).await })
            });
            if let Err(error) = done.await {
                tracing::error!(device = %device.name, %error, "its telemetry is not condensed; trying again");
            }
        }
        Ok(())
    }

    /// A run that waits for this device to report goes on once it has been watched for long enough.
    /// Done again after a crash: a run that does not wait refuses it.
    pub(super) async fn look_at_awaited(
        &self,
        device: &BootDevice,
        now: Timestamp,
    ) -> Result<(), DeskError> {
        let (Some(awaited), Some(id)) = (device.awaited, device.run) else {
            return Ok(());
        };
        let Some(view) = drive::load(&self.services, id).await? else {
            self.happen(device.device, Happening::NotAwaited).await?;
            return Ok(());
        };
        if view.run.state.is_terminal() || view.run.arrived {
            self.happen(device.device, Happening::NotAwaited).await?;
            return Ok(());
        }
        // What it runs has to be what the run made: a retry may have made another image since.
        if !matches!(view.run.state, RunState::Waiting { .. }) || view.image_of() != Some(awaited) {
            return Ok(());
        }
        let BootPhase::Reporting { .. } = device.phase else {
            return Ok(());
        };
        let reports = self.reports(device).await?;
        let has_details = reports.iter().any(|(_, report)| report.details.is_some());
        let watch = view.watch();
        if !life::is_watched_enough(device.since, now, watch, has_details) {
            return Ok(());
        }
        self.arrive(device, &view, reports, now).await
    }

    /// Those of this boot of the delivered system and since its first, newest first.
    async fn reports(
        &self,
        device: &BootDevice,
    ) -> Result<Vec<(Timestamp, Telemetry)>, StoreError> {
        let mut connection = self.services.store.read().await?;
        let found = rows::report_list(&mut connection, device.device, MOST_REPORTS).await?;
        Ok(found
            .into_iter()
            .filter(|report| report.at >= device.sent_at)
            .filter_map(|report| Some((report.at, serde_json::from_value(report.body).ok()?)))
            .collect())
    }

    async fn arrive(
        &self,
        device: &BootDevice,
        view: &View,
        reports: Vec<(Timestamp, Telemetry)>,
        now: Timestamp,
    ) -> Result<(), DeskError> {
        let failed = |why: String| DeskError::Failed(why);
        let series = {
            let mut connection = self.services.store.read().await?;
            let step = Some(Duration::ZERO);
            let keeping = self.settings.telemetry;
            rows::series(
                &mut connection,
                device.device,
                device.sent_at,
                now,
                step,
                &keeping,
            )
            .await?
        };
        let seen = Seen {
            device: &device.name,
            sent_at: device.sent_at,
            reporting_at: device.since,
            reports: &reports,
            series: &series,
        };
        let artefacts = &self.services.artefacts;
        let bytes = artefacts
            .get(view.run.head)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut envelope: Envelope =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        envelope.document["telemetry"] = seen.document();
        let head = artefacts
            .put(envelope.to_bytes())
            .await
            .map_err(|error| failed(error.to_string()))?;
        match self
            .dispatch
            .request(view.run.id, Request::Arrived { head })
            .await
        {
            Ok(()) => {
                self.happen(device.device, Happening::NotAwaited).await?;
                let kept = format!("run {} goes on with what it reports", view.run.id);
                self.tell(&device.name, "watched", kept).await?;
                Ok(())
            }
            // It was aborted, or its time was up, in the meantime: the next look sees what it is now.
            Err(RequestError::Refused(why)) => {
                tracing::info!(device = %device.name, why, "the run does not wait any more");
                Ok(())
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
