//! Having a machine from the pool, and giving it back.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Order, elapsed_ms};
use crate::hypervisor::HvError;
use crate::pool::{Answer, PoolError, Want};
use crate::runs::plan::Served;
use crate::runs::services::Services;
use crate::vocab::machine::{EngineKind, Machine, MachinePhases};
use crate::vocab::pool::Claim;
use crate::vocab::{Failure, FailureKind};

/// What came of asking the pool.
pub enum Pooled {
    Served {
        phases: MachinePhases,
        served: Served,
    },
    /// The run makes a linked clone of its own.
    Nothing {
        reason: String,
    },
    Cancelled,
}

/// Asks the pool for a shell, under the machine's id as key: asked again after a crash, it is the same
/// shell. Whatever is wrong with the pool, the stage gets a machine: a clone, and the reason says so.
pub async fn claim(
    services: &Services,
    order: &Order,
    machine: &Machine,
    cancel: &CancellationToken,
) -> Result<Pooled, Failure> {
    let Some(pool) = &services.pool else {
        return Ok(Pooled::Nothing {
            reason: "linked clone: the pool is switched off".to_owned(),
        });
    };
    let stage = &order.plan.chain.stages[machine.stage_index];
    let image = order.plan.images.get(&stage.image).ok_or_else(|| {
        Failure::new(
            FailureKind::Internal,
            format!("image {} was not pinned", stage.image),
        )
    })?;
    let want = Want {
        key: machine.id.to_string(),
        image: image.clone(),
        size: machine.size,
        network: stage.network,
        trust: pool.settings().trust_of(&order.run.client),
        owner: format!("run {}, stage {}", order.run.id, stage.name),
        client: order.run.client.clone(),
        ttl: None,
    };
    let begun = Instant::now();
    let answer = tokio::select! {
        answer = pool.claim(&want) => answer,
        () = cancel.cancelled() => return Ok(Pooled::Cancelled),
    };
    Ok(match answer {
        Ok(Answer::Claimed(claim)) => match claim.shortfall.clone() {
            None => Pooled::Served {
                phases: phases_of(&claim, elapsed_ms(begun)),
                served: Served {
                    shell: Some((claim.shell, claim.name.clone())),
                    engine: claim.engine,
                    reason: claim.reason.clone(),
                },
            },
            // A machine that is smaller than its stage was promised is not used.
            Some(short) => {
                release(services, machine)
                    .await
                    .map_err(|error| super::failure_of(&error, "giving a shell back"))?;
                Pooled::Nothing {
                    reason: format!("{}: the shell came to {short}", EngineKind::Clone),
                }
            }
        },
        Ok(Answer::Nothing { reason, .. }) => Pooled::Nothing {
            reason: format!("{}: {reason}", EngineKind::Clone),
        },
        Err(error) => {
            tracing::warn!(machine = %machine.id, %error, "the pool could not serve; a clone takes its place");
            Pooled::Nothing {
                reason: format!("{}: the pool could not serve: {error}", EngineKind::Clone),
            }
        }
    })
}

/// The claim's phases by the names that machines have for them; what has no name of its own there
/// counts as claiming.
fn phases_of(claim: &Claim, total_ms: f64) -> MachinePhases {
    let of = |names: &[&str]| -> f64 {
        claim
            .phases
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, ms)| ms)
            .sum()
    };
    let resize_ms = of(&["resize", "grow"]);
    let boot_ms = of(&["load", "resume", "agent", "identity"]);
    MachinePhases {
        claim_ms: (total_ms - resize_ms - boot_ms).max(0.0),
        resize_ms,
        boot_ms,
        ..MachinePhases::default()
    }
}

/// Ends the claim under the machine's id, if there is one: the shell is gone when this returns.
pub async fn release(services: &Services, machine: &Machine) -> Result<(), HvError> {
    let Some(pool) = &services.pool else {
        return Ok(());
    };
    match pool.release(&machine.id.to_string()).await {
        Ok(()) => Ok(()),
        Err(PoolError::Host(error)) => Err(error),
        Err(error) => Err(HvError::Host(error.to_string())),
    }
}
