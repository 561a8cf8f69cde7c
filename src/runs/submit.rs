//! Making a run: device, chain, images and history become a pinned plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::drive;
use super::pinned::{Plan, stage_plan};
use super::services::Services;
use crate::chain::model::Stage;
use crate::chain::trigger::Trigger;
use crate::engines;
use crate::foresight;
use crate::images::{ImageError, Images};
use crate::learn::features::{Case, Hardware};
use crate::personas::library::{self, ForRun, LibraryError};
use crate::store::chains::AppliedChain;
use crate::store::models::Label;
use crate::store::{StoreError, boot, chains, devices, models, runs, times};
use crate::vocab::boot::{BootDevice, BootPhase};
use crate::vocab::envelope::Envelope;
use crate::vocab::image::Image;
use crate::vocab::machine::EngineKind;
use crate::vocab::persona::{PersonaRef, PinnedPersona};
use crate::vocab::run::{Purpose, Replay, Run, RunState};
use crate::vocab::{Device, RunId, Timestamp};

/// What somebody wants to be run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOrder {
    /// Name or id.
    pub device: String,
    /// None: the one that the persona names, else the one chain whose trigger holds for the device.
    #[serde(default)]
    pub chain: Option<String>,
    #[serde(default)]
    pub version: Option<i64>,
    /// What the device is to become, whatever rules and assignments say; None: what they say.
    #[serde(default)]
    pub persona: Option<PersonaRef>,
    #[serde(default)]
    pub engine: Option<EngineKind>,
    /// Overrides the chain's own.
    #[serde(default)]
    pub hold_s: Option<u64>,
    #[serde(default)]
    pub keep_machine: Option<bool>,
}

/// A run that could be started: also the answer to a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    pub device: Device,
    pub chain_version: i64,
    pub plan: Plan,
    /// Why this chain.
    pub chain_reason: String,
    /// What stages read as `persona`; the plan says which it is and why.
    #[serde(default)]
    pub persona: Option<serde_json::Value>,
    /// What the classifier learns from this.
    #[serde(default)]
    pub label: Option<Label>,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The order is wrong; the message says what would be right.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Internal(String),
}

impl From<LibraryError> for SubmitError {
    fn from(error: LibraryError) -> Self {
        match error {
            LibraryError::NotFound(what) => Self::NotFound(what),
            LibraryError::Refused(why) => Self::Refused(why),
            LibraryError::Store(error) => Self::Store(error),
        }
    }
}

/// Resolves an order without starting anything.
pub async fn prepare(
    services: &Services,
    images: &Images,
    order: &RunOrder,
) -> Result<Prepared, SubmitError> {
    let mut connection = services.store.read().await?;
    let device = devices::device_by_name(&mut connection, &order.device)
        .await?
        .ok_or_else(|| {
            SubmitError::NotFound(format!(
                "there is no device {:?}; add it with `greenroom device add`",
                order.device
            ))
        })?;
    let persona = match &order.persona {
        Some(asked) => Some(library::for_run_asked(&mut connection, &device, asked).await?),
        None => {
            let proposal = services.foresight.propose(&device.client, &device.facts);
            library::for_run(&mut connection, &device, proposal, services.now()).await?
        }
    };
    let named = persona.as_ref().and_then(|persona| {
        let chain = persona.chain.as_deref()?;
        Some((persona.pinned.name.as_str(), chain))
    });
    let (applied, mut chain_reason) = match &order.chain {
        Some(name) => {
            let applied = chains::chain_get(&mut connection, name, order.version).await?.ok_or_else(|| {
                SubmitError::NotFound(match order.version {
                    Some(version) => format!("there is no version {version} of chain {name:?}; see `greenroom chain list`"),
                    None => format!("there is no chain {name:?}; apply its file with `greenroom chain apply`, or see `greenroom chain list`"),
                })
            })?;
            (applied, "it was asked for".to_owned())
        }
        None => {
            let all = chains::chain_list(&mut connection).await?;
            match named {
                Some((persona, chain)) => named_by(persona, chain, all, &device)?,
                None => pick(all, &device)?,
            }
        }
    };
    let mut chain = applied.chain;
    if let Some(hold_s) = order.hold_s {
        chain.on_failure.hold_s = hold_s;
    }
    if let Some(keep) = order.keep_machine {
        chain.on_failure.keep_machine = keep;
    }
    if let Some(why) = nobody_delivers(boot::device_get(&mut connection, device.id).await?.as_ref())
        && let Some(first) = chain.stages.iter().position(|stage| stage.after.is_some())
    {
        let left_out = chain.stages.split_off(first);
        let names: Vec<&str> = left_out.iter().map(|stage| stage.name.as_str()).collect();
        chain_reason.push_str(&format!("; {} left out: {why}", names.join(", ")));
    }
    let (engine, engine_reason) = engines::choose(order.engine);
    let mut pinned = BTreeMap::new();
    let mut missing = Vec::new();
    for stage in &chain.stages {
        if !pinned.contains_key(&stage.image) {
            match images.get(&stage.image) {
                Ok(image) => {
                    pinned.insert(stage.image.clone(), image);
                }
                Err(ImageError::Missing { .. }) => {
                    missing.push(stage.image.clone());
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    if !missing.is_empty() {
        missing.sort();
        missing.dedup();
        let names = missing.join(" ");
        return Err(SubmitError::Refused(format!(
            "chain {} needs images that are not built: {names}; build them with `greenroom image build {names}`",
            chain.name
        )));
    }
    let unfit: Vec<String> = pinned
        .values()
        .filter_map(Image::unfit_for_stages)
        .collect();
    if !unfit.is_empty() {
        return Err(SubmitError::Refused(format!(
            "chain {} cannot run: {}",
            chain.name,
            unfit.join("; ")
        )));
    }
    let label = persona
        .as_ref()
        .map(|persona| label_of(&device, persona, services.now()));
    let (persona, persona_document) = persona
        .map(|persona| (persona.pinned, persona.document))
        .unzip();
    let mut stages = Vec::new();
    for stage in &chain.stages {
        let history = times::stage_time_list(&mut connection, &chain.name, &stage.name).await?;
        let case = case_of(&device, persona.as_ref(), &chain.name, stage, engine);
        let mut planned = stage_plan(
            stage,
            &pinned[&stage.image],
            engine,
            &engine_reason,
            &history,
            Some(services.foresight.expect(&case)),
        );
        planned.case = Some(case);
        stages.push(planned);
    }
    let plan = Plan {
        deployment: services.deployment,
        chain,
        images: pinned,
        persona,
        stages,
        replayed_index: None,
        replayed_first_on_disk: false,
    };
    Ok(Prepared {
        device,
        chain_version: applied.version,
        plan,
        chain_reason,
        persona: persona_document,
        label,
    })
}

/// Why nobody would bring this device its disk, so that waiting for it to report would be in vain.
fn nobody_delivers(device: Option<&BootDevice>) -> Option<String> {
    match device {
        None => Some("the device does not come from the network".to_owned()),
        Some(device) => match device.phase {
            BootPhase::Registered | BootPhase::Discovered | BootPhase::Held { .. } => None,
            _ => Some(format!("the device is {}", device.phase.word())),
        },
    }
}

/// What is known of a stage before its machine is made.
fn case_of(
    device: &Device,
    persona: Option<&PinnedPersona>,
    chain: &str,
    stage: &Stage,
    engine: EngineKind,
) -> Case {
    Case {
        chain: chain.to_owned(),
        stage: stage.name.clone(),
        kind: stage.kind.word().to_owned(),
        image: stage.image.clone(),
        engine: engine.word().to_owned(),
        persona: persona.map(|persona| persona.name.clone()),
        client: device.client.clone(),
        device: device.id.to_string(),
        network: stage.network,
        handoff_disk: stage.handoff_disk,
        hardware: Hardware::of(&device.facts),
    }
}

fn label_of(device: &Device, persona: &ForRun, now: Timestamp) -> Label {
    Label {
        device: device.id.to_string(),
        persona: persona.pinned.name.clone(),
        at: now,
        facts: foresight::facts_of(&device.client, &device.facts),
        proposed: persona.proposed,
        corrected: false,
    }
}

/// The chain that a persona names. Its trigger, where it has one, still has to hold: it says which
/// devices the chain can do anything for.
fn named_by(
    persona: &str,
    name: &str,
    all: Vec<AppliedChain>,
    device: &Device,
) -> Result<(AppliedChain, String), SubmitError> {
    let applied = all
        .into_iter()
        .find(|applied| applied.chain.name == name)
        .ok_or_else(|| {
            SubmitError::Refused(format!(
                "persona {persona} names chain {name:?} by its label `chain`, and there is no such chain; apply it with `greenroom chain apply`, or name one with --chain"
            ))
        })?;
    let reason = format!("persona {persona} names it");
    let Some(when) = applied.chain.when.clone() else {
        return Ok((applied, reason));
    };
    match Trigger::parse(&when).and_then(|trigger| trigger.holds(&device.facts)) {
        Ok(true) => Ok((applied, reason)),
        Ok(false) => Err(SubmitError::Refused(format!(
            "persona {persona} names chain {name}, whose trigger does not hold for device {}: {when}; name one with --chain",
            device.name
        ))),
        Err(error) => Err(SubmitError::Refused(format!(
            "persona {persona} names chain {name}, whose trigger cannot be decided for device {}: {error}; name one with --chain",
            device.name
        ))),
    }
}

/// The one chain whose trigger holds for the device.
fn pick(all: Vec<AppliedChain>, device: &Device) -> Result<(AppliedChain, String), SubmitError> {
    let mut fitting = Vec::new();
    let mut problems = Vec::new();
    for applied in all {
        let Some(when) = applied.chain.when.clone() else {
            continue;
        };
        match Trigger::parse(&when).and_then(|trigger| trigger.holds(&device.facts)) {
            Ok(true) => fitting.push((applied, format!("its trigger holds: {when}"))),
            Ok(false) => {}
            Err(error) => problems.push(format!("{}: {error}", applied.chain.name)),
        }
    }
    if fitting.len() == 1 {
        return Ok(fitting.remove(0));
    }
    let names: Vec<&str> = fitting
        .iter()
        .map(|(applied, _)| applied.chain.name.as_str())
        .collect();
    let mut message = if names.is_empty() {
        format!("no chain's trigger holds for device {}", device.name)
    } else {
        format!(
            "the triggers of several chains hold for device {}: {}",
            device.name,
            names.join(", ")
        )
    };
    if !problems.is_empty() {
        message.push_str(&format!(
            "; triggers that could not be decided: {}",
            problems.join("; ")
        ));
    }
    message.push_str("; name one with --chain");
    Err(SubmitError::Refused(message))
}

/// Starts what was prepared: stores the first envelope, the run and its plan. The run is queued.
pub async fn submit(services: &Services, prepared: Prepared) -> Result<Run, SubmitError> {
    let mut envelope = Envelope::of_facts(&prepared.device.facts);
    if let Some(persona) = &prepared.persona {
        envelope.document["persona"] = persona.clone();
    }
    insert(services, prepared, &envelope, None).await
}

async fn insert(
    services: &Services,
    prepared: Prepared,
    envelope: &Envelope,
    replay_of: Option<Replay>,
) -> Result<Run, SubmitError> {
    let head = services
        .artefacts
        .put(envelope.to_bytes())
        .await
        .map_err(|error| SubmitError::Internal(error.to_string()))?;
    let now = services.now();
    let run = Run {
        id: RunId(0),
        device: prepared.device.id,
        device_name: prepared.device.name.clone(),
        client: prepared.device.client.clone(),
        chain: prepared.plan.chain.name.clone(),
        chain_version: prepared.chain_version,
        state: RunState::Queued,
        state_since: now,
        stage_index: 0,
        generation: 1,
        head,
        abort_reason: None,
        pause: None,
        replay_of: replay_of.clone(),
        disk_holder: None,
        has_disks: false,
        disks_going: false,
        kept_disk: false,
        discarded: false,
        arrived: false,
        created_at: now,
        started_at: None,
        finished_at: None,
    };
    let plan = serde_json::to_value(&prepared.plan)
        .map_err(|error| SubmitError::Internal(error.to_string()))?;
    let device = prepared.device.clone();
    let label = prepared.label.clone();
    let run = services
        .store
        .write(move |connection| {
            Box::pin(async move {
                // One run at a time changes a device; a replay changes none.
                if replay_of.is_none()
                    && let Some(other) = runs::run_open_of_device(connection, device.id).await?
                {
                    return Err(StoreError::Refused(format!(
                        "device {} has run {} already, which is {}; wait for it, or end it with `greenroom run abort {}`",
                        device.name,
                        other.id,
                        other.state.word(),
                        other.id
                    )));
                }
                if let Some(label) = &label {
                    models::label_put(connection, label).await?;
                }
                runs::run_insert(connection, run, &plan).await
            })
        })
        .await
        .map_err(|error| match error {
            StoreError::Refused(why) => SubmitError::Refused(why),
            other => SubmitError::Store(other),
        })?;
    if prepared.label.is_some() {
        services.foresight.labelled();
    }
    Ok(run)
}

/// A new run of one stage of another run, with the same saved input, on a fresh machine.
pub async fn replay(services: &Services, id: RunId, stage_name: &str) -> Result<Run, SubmitError> {
    let view = drive::load(services, id)
        .await?
        .ok_or_else(|| SubmitError::NotFound(format!("there is no run {id}")))?;
    let chain = &view.plan.chain;
    let index = chain.stage_index(stage_name).ok_or_else(|| {
        let names: Vec<&str> = chain
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        SubmitError::Refused(format!(
            "run {id} has no stage {stage_name:?}; its stages are {}",
            names.join(", ")
        ))
    })?;
    let attempt = view
        .attempts
        .iter()
        .rev()
        .find(|attempt| attempt.stage_index == index && attempt.purpose == Purpose::Work)
        .ok_or_else(|| {
            SubmitError::Refused(format!(
                "stage {stage_name} of run {id} was not reached, so there is no input to replay"
            ))
        })?;
    let bytes = services
        .artefacts
        .get(attempt.input)
        .await
        .map_err(|error| SubmitError::Refused(error.to_string()))?;
    let envelope: Envelope =
        serde_json::from_slice(&bytes).map_err(|error| SubmitError::Internal(error.to_string()))?;
    let device = {
        let mut connection = services.store.read().await?;
        devices::device_by_name(&mut connection, &view.run.device_name)
            .await?
            .ok_or_else(|| {
                SubmitError::NotFound(format!(
                    "device {} is not there any more",
                    view.run.device_name
                ))
            })?
    };
    let mut plan = (*view.plan).clone();
    plan.chain.name = view.run.chain.clone();
    if view.run.replay_of.is_none() {
        plan.replayed_first_on_disk = !chain.stages[..index].iter().any(|stage| stage.handoff_disk);
        plan.replayed_index = Some(index);
    }
    plan.chain.stages = vec![chain.stages[index].clone()];
    plan.stages = vec![view.plan.stages[index].clone()];
    // A replay is an experiment: what its stage would take back was not done by it for real.
    plan.chain.stages[0].undo = None;
    let prepared = Prepared {
        device,
        chain_version: view.run.chain_version,
        plan,
        chain_reason: format!("replays stage {stage_name} of run {id}"),
        // It is in the saved input.
        persona: None,
        label: None,
    };
    insert(
        services,
        prepared,
        &envelope,
        // A replay of a replay goes back to the run that has the disk.
        Some(view.run.replay_of.clone().unwrap_or(Replay {
            run: id,
            stage: stage_name.to_owned(),
        })),
    )
    .await
}
