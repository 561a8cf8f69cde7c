//! Doing what the comparison named. Dull on purpose.

use std::sync::Arc;

use super::plan::Action;
use crate::hypervisor::HvError;
use crate::runs::dispatch::Dispatch;
use crate::runs::services::Services;

pub async fn apply(
    services: &Services,
    dispatch: &Arc<Dispatch>,
    action: &Action,
) -> Result<(), HvError> {
    match action {
        Action::DestroyOrphan { machine, .. } => {
            services.hypervisor.destroy_machine(*machine).await
        }
        Action::RemoveOrphan { path } => services.hypervisor.remove_disk(path).await,
        Action::TellLost { run, machine, why } => {
            dispatch.tell_lost(*run, *machine, why).await;
            Ok(())
        }
    }
}
