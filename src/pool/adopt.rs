//! Taking up what an earlier life of the daemon left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::hypervisor::{HvError, Power};
use crate::store::pool::shell_forget;
use crate::vocab::MachineId;
use crate::vocab::pool::{Claim, Shell, ShellState, TemplateState};

/// Rows of shells that are gone stay for so long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Templates that an earlier life was building. To be asked before anybody can begin a new one, which
/// does not wait for the host to be compared with the rows.
pub fn half_built(core: &Core) -> BTreeSet<MachineId> {
    core.ledger.look(|rows| {
        let templates = rows.templates.values();
        let half = templates.filter(|template| template.state == TemplateState::Building);
        half.map(|template| template.id).collect()
    })
}

/// Compares the rows with the host. Ready shells that are there and paused stay, and so do claimed
/// ones; what was half made is destroyed; template folders that nobody knows go.
pub async fn adopt(core: &Arc<Core>, half_built: &BTreeSet<MachineId>) -> Result<(), HvError> {
    let seen: BTreeMap<MachineId, Power> = core
        .hypervisor()
        .machines()
        .await?
        .into_iter()
        .map(|machine| (machine.id, machine.power))
        .collect();
    let folders = core.hypervisor().templates().await?;
    let now = core.now();
    let unknown: Vec<MachineId> = core
        .ledger
        .change(|draft| {
            let shells: Vec<Shell> = draft.rows.shells.values().cloned().collect();
            for shell in shells {
                let reason = match (shell.state, seen.get(&shell.id)) {
                    (ShellState::Filling | ShellState::Standby, _) => {
                        "the daemon stopped while it was being made"
                    }
                    (ShellState::Ready, Some(Power::Paused)) => continue,
                    (ShellState::Ready, Some(_)) => {
                        "it was found running or stopped after a restart"
                    }
                    (ShellState::Ready, None) => "its machine was gone after a restart",
                    _ => continue,
                };
                draft.discard(shell.id, Some(reason));
            }
            let templates: Vec<MachineId> = draft
                .rows
                .templates
                .values()
                .filter(|template| half_built.contains(&template.id))
                .filter(|template| template.state == TemplateState::Building)
                .map(|template| template.id)
                .collect();
            for id in templates {
                draft.template(id, |template| {
                    template.state = TemplateState::Failed;
                    template.reason = Some("the daemon stopped while it was built".to_owned());
                });
            }
            // A claim whose shell's row went: there is nothing left of it to release.
            let shells = &draft.rows.shells;
            let claims = draft.rows.claims.values();
            let empty: Vec<Claim> = claims
                .filter(|claim| !shells.contains_key(&claim.shell))
                .cloned()
                .collect();
            for mut claim in empty {
                claim.released_at = Some(now);
                draft.put_claim(claim);
            }
            folders
                .iter()
                .filter_map(|folder| folder.file_name()?.to_str()?.parse().ok())
                .filter(|id| !draft.rows.templates.contains_key(id))
                .collect()
        })
        .await;
    for id in unknown {
        tracing::info!(template = %id, "removing a template folder without a row");
        core.hypervisor()
            .remove_template(&core.files_of(id))
            .await?;
    }
    let before = core
        .now()
        .0
        .saturating_sub(i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX));
    let forgotten = core
        .services
        .store
        .write(move |connection| {
            Box::pin(async move { shell_forget(connection, crate::vocab::Timestamp(before)).await })
        })
        .await;
    if let Err(error) = forgotten {
        tracing::warn!(%error, "old rows of shells stay");
    }
    Ok(())
}
