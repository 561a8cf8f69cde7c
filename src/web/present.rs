//! Inner values become what the API says. Pure.

use crate::api::{
    AttemptView, CapacityView, ChainSummary, DeviceView, EventView, HostView, JournalEntryView,
    MachineView, PlannedRun, PlannedStage, ReconcileView, ReplayOf, RunSummary, StageView, Time,
    WhyView,
};
use crate::capacity::CapacityStatus;
use crate::hypervisor::HostFacts;
use crate::reconcile;
use crate::runs::explain::{Explanation, StageStatus};
use crate::runs::pinned::Plan;
use crate::runs::submit::Prepared;
use crate::store::chains::AppliedChain;
use crate::store::events::Event;
use crate::store::journal::Entry;
use crate::vocab::machine::{Accelerator, Machine, MachineState};
use crate::vocab::prediction::Used;
use crate::vocab::run::{Attempt, Progress, Run, RunState, UndoCause};
use crate::vocab::{Device, Timestamp};

pub fn time(at: Timestamp) -> Time {
    Time::of(at)
}

pub fn chain_summary(applied: &AppliedChain) -> ChainSummary {
    let chain = &applied.chain;
    ChainSummary {
        name: chain.name.clone(),
        version: applied.version,
        digest: applied.digest,
        applied_at: time(applied.applied_at),
        description: chain.description.clone(),
        when: chain.when.clone(),
        stages: chain
            .stages
            .iter()
            .map(|stage| stage.name.clone())
            .collect(),
    }
}

pub fn device(device: &Device) -> DeviceView {
    DeviceView {
        id: device.id.to_string(),
        name: device.name.clone(),
        client: device.client.clone(),
        facts: device.facts.clone(),
        added_at: time(device.added_at),
    }
}

pub fn host(facts: HostFacts) -> HostView {
    HostView {
        version: facts.version,
        host_name: facts.host_name,
        cpus: facts.cpus,
        memory_mib: facts.memory_mib,
        free_memory_mib: facts.free_memory_mib,
        accelerator: match facts.accelerator {
            Accelerator::Kvm => "kvm".into(),
            Accelerator::Tcg => "tcg".into(),
        },
        accelerator_reason: facts.accelerator_reason,
    }
}

pub fn capacity(status: CapacityStatus) -> CapacityView {
    CapacityView {
        total_memory_mib: status.total.memory_mib,
        used_memory_mib: status.used.memory_mib,
        total_vcpus: status.total.vcpus,
        used_vcpus: status.used.vcpus,
        machines: status.machines,
        waiting: status.waiting,
    }
}

/// None before the first comparison.
pub fn reconcile(status: reconcile::Status) -> Option<ReconcileView> {
    (status.at != Timestamp::default()).then(|| ReconcileView {
        at: time(status.at),
        took_ms: status.took_ms,
        ours: status.ours,
        foreign: status.foreign,
        suspects: status.suspects,
        actions: status.actions,
        problem: status.problem,
    })
}

pub fn run(run: &Run) -> RunSummary {
    let abort_reason = match &run.state {
        RunState::Aborted { reason }
        | RunState::Undoing {
            cause: UndoCause::Aborted { reason },
        } => Some(reason.clone()),
        _ => run.abort_reason.clone(),
    };
    RunSummary {
        id: run.id.0,
        device: run.device_name.clone(),
        client: run.client.clone(),
        chain: run.chain.clone(),
        chain_version: run.chain_version,
        state: run.state.word().into(),
        state_since: time(run.state_since),
        failure: run.state.failure().cloned(),
        abort_reason,
        held_until: match &run.state {
            RunState::Held { until, .. } | RunState::Paused { until, .. } => Some(time(*until)),
            _ => None,
        },
        hold_reason: match &run.state {
            RunState::Paused { reason, .. } => Some(reason.clone()),
            _ => run.pause.as_ref().map(|pause| pause.reason.clone()),
        },
        stages_done: run.stage_index,
        generation: run.generation,
        replay_of: run.replay_of.as_ref().map(|replay| ReplayOf {
            run: replay.run.0,
            stage: replay.stage.clone(),
        }),
        created_at: time(run.created_at),
        started_at: run.started_at.map(time),
        finished_at: run.finished_at.map(time),
    }
}

pub fn why(explanation: Explanation) -> WhyView {
    WhyView {
        state: explanation.state,
        age_s: explanation.age_s,
        doing: explanation.doing,
        deadline: explanation.deadline.map(time),
        next: explanation.next,
        you_can: explanation.you_can,
    }
}

pub fn stage(status: StageStatus) -> StageView {
    StageView {
        name: status.name,
        kind: status.kind,
        state: status.state,
        tries: status.tries,
        elapsed_s: status.elapsed_s,
        expected_s: status.expected_s,
        prefetching: status.prefetching,
    }
}

/// `used` where it is known.
pub fn attempt(attempt: &Attempt, used: Option<Used>) -> AttemptView {
    AttemptView {
        id: attempt.id.to_string(),
        stage: attempt.stage.clone(),
        stage_index: attempt.stage_index,
        purpose: attempt.purpose.word().into(),
        number: attempt.number,
        generation: attempt.generation,
        progress: attempt.progress.word().into(),
        failure: match &attempt.progress {
            Progress::Failed { failure } => Some(failure.clone()),
            _ => None,
        },
        machine: attempt.machine.map(|id| id.to_string()),
        input: attempt.input,
        output: attempt.output,
        deadline: attempt.deadline.map(time),
        phases: attempt.phases,
        expected: attempt.expected.clone(),
        used,
        created_at: time(attempt.created_at),
        finished_at: attempt.finished_at.map(time),
    }
}

pub fn machine(machine: &Machine) -> MachineView {
    MachineView {
        uuid: machine.domain().to_string(),
        name: machine.name.clone(),
        stage: machine.tag.stage().unwrap_or_default().to_owned(),
        state: machine.state.word().into(),
        kept_until: match machine.state {
            MachineState::Kept { until } => Some(time(until)),
            _ => None,
        },
        generation: machine.tag.generation,
        engine: machine.engine,
        engine_reason: machine.engine_reason.clone(),
        size: machine.size,
        phases: machine.phases,
        made_at: time(machine.made_at),
        up_at: machine.up_at.map(time),
        gone_at: machine.gone_at.map(time),
    }
}

pub fn event(event: &Event) -> EventView {
    EventView {
        id: event.id,
        at: time(event.at),
        kind: event.kind.clone(),
        message: event.message.clone(),
    }
}

pub fn journal_entry(entry: Entry) -> JournalEntryView {
    JournalEntryView {
        seq: entry.seq,
        action: entry.action,
        subject: entry.subject,
        generation: entry.generation,
        intent_at: time(entry.intent_at),
        result_at: entry.result_at.map(time),
        outcome: entry.outcome,
    }
}

pub fn planned_stages(plan: &Plan) -> Vec<PlannedStage> {
    let stages = plan.chain.stages.iter().zip(&plan.stages);
    stages
        .map(|(stage, planned)| PlannedStage {
            name: stage.name.clone(),
            kind: stage.kind.word().into(),
            image: stage.image.clone(),
            image_digest: plan.images[&stage.image].digest,
            size: planned.size,
            size_reason: planned.size_reason.clone(),
            engine: planned.engine,
            engine_reason: planned.engine_reason.clone(),
            deadline_s: planned.deadline_s,
            deadline_reason: planned.deadline_reason.clone(),
            expected_s: planned.expected_s,
            expected: planned.expected.clone(),
        })
        .collect()
}

pub fn planned_run(prepared: &Prepared) -> PlannedRun {
    PlannedRun {
        device: device(&prepared.device),
        chain: prepared.plan.chain.name.clone(),
        chain_version: prepared.chain_version,
        chain_reason: prepared.chain_reason.clone(),
        stages: planned_stages(&prepared.plan),
        persona: prepared.plan.persona.as_ref().map(super::personas::of_run),
    }
}
