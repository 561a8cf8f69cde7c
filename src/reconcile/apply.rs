//! Doing what the comparison named. Dull on purpose.

use std::sync::Arc;

use super::observe;
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
        Action::RemoveOrphan { path } => {
            // Other actions may have taken a while: look at the rows once more.
            match observe::is_owned(services, path).await {
                Ok(false) => services.hypervisor.remove_disk(path).await,
                Ok(true) => Ok(()),
                Err(error) => Err(HvError::Host(error.to_string())),
            }
        }
        Action::TellPool { machine, why } => {
            if let Some(pool) = &services.pool {
                pool.tell_lost(*machine, why).await;
            }
            Ok(())
        }
        Action::TellLost { run, machine, why } => {
            dispatch.tell_lost(*run, *machine, why).await;
            Ok(())
        }
    }
}
