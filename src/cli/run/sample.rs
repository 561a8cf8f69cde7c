//! Hand-made values for the tests of what is drawn.

use crate::api::personas::PersonaOfRun;
use crate::api::runs::ReplayOf;
use crate::api::{
    AttemptView, EventView, MachineView, PlannedStage, RunSummary, RunView, StageView, Time,
    WhyView,
};
use crate::vocab::machine::{EngineKind, MachinePhases, Size};
use crate::vocab::prediction::Used;
use crate::vocab::run::AttemptPhases;
use crate::vocab::{Digest, Failure, FailureKind};

/// Seconds after some day's noon.
pub fn at(seconds: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_014_400 + seconds).unwrap())
}

const UUID: &str = "0190a000-0000-7000-8000-000000000001";

/// Run 7: its first stage succeeded, its second failed with words from a guest.
pub fn held() -> RunView {
    let failure = Failure::new(FailureKind::Exit, "code 3: \x1b[31mno disk\u{9b}2J");
    let size = Size {
        vcpus: 1,
        memory_mib: 512,
        disk_mib: 256,
        network_kbytes_per_s: None,
    };
    let stage = |name: &str, state: &str, tries| StageView {
        name: name.into(),
        kind: "configuration".into(),
        state: state.into(),
        tries,
        elapsed_s: 12.3,
        expected_s: (tries == 1).then_some(11.0),
        prefetching: false,
    };
    let attempt = |index: usize, name: &str, number, output| AttemptView {
        id: format!("attempt-{name}-{number}"),
        stage: name.into(),
        stage_index: index,
        purpose: "work".into(),
        number,
        generation: 1,
        progress: "failed".into(),
        failure: None,
        machine: (index == 0).then(|| UUID.to_owned()),
        input: Digest::of(b"in"),
        output,
        deadline: None,
        phases: AttemptPhases::default(),
        expected: None,
        used: (index == 0).then(|| Used {
            cpu_mean_percent: 41.0,
            cpu_peak_percent: 97.4,
            memory_mib: 86.2,
            disk_read_bytes: 5 << 20,
            disk_written_bytes: 1 << 20,
            looks: 12,
            ..Used::default()
        }),
        created_at: at(0),
        finished_at: None,
    };
    let planned = |name: &str| PlannedStage {
        name: name.into(),
        kind: "configuration".into(),
        image: "tiny".into(),
        image_digest: Digest::of(b"tiny"),
        size,
        size_reason: "the chain's minimum".into(),
        engine: EngineKind::Clone,
        engine_reason: "default".into(),
        deadline_s: 1800.0,
        deadline_reason: "no history".into(),
        expected_s: None,
        expected: None,
    };
    RunView {
        run: RunSummary {
            id: 7,
            device: "box-1".into(),
            client: "lab".into(),
            chain: "hello".into(),
            chain_version: 3,
            state: "held".into(),
            state_since: at(0),
            failure: Some(failure.clone()),
            abort_reason: None,
            hold_reason: None,
            held_until: Some(at(3600)),
            stages_done: 1,
            generation: 2,
            replay_of: None::<ReplayOf>,
            created_at: at(-100),
            started_at: Some(at(-99)),
            finished_at: None,
        },
        why: WhyView {
            state: "held".into(),
            age_s: 65.0,
            doing: format!("is held: {failure}"),
            deadline: Some(at(3600)),
            next: "is given up and cleaned away when the hold ends".into(),
            you_can: vec![
                "greenroom run retry 7".into(),
                "greenroom run logs 7".into(),
            ],
        },
        stages: vec![stage("facts", "succeeded", 1), stage("disk", "failed", 2)],
        attempts: vec![
            attempt(0, "facts", 1, Some(Digest::of(b"out"))),
            attempt(1, "disk", 1, None),
            attempt(1, "disk", 2, None),
        ],
        machines: vec![MachineView {
            uuid: UUID.into(),
            name: "gr-7-facts-1".into(),
            stage: "facts".into(),
            state: "gone".into(),
            kept_until: None,
            generation: 1,
            engine: EngineKind::Clone,
            engine_reason: "default".into(),
            size,
            phases: MachinePhases::default(),
            made_at: at(0),
            up_at: Some(at(3)),
            gone_at: Some(at(20)),
        }],
        events: vec![EventView {
            id: 1,
            at: at(1),
            kind: "stage_failed".into(),
            message: "disk: \x1b]0;owned\x07".into(),
        }],
        plan: vec![planned("facts"), planned("disk")],
        persona: Some(PersonaOfRun {
            name: "web".into(),
            version: 2,
            digest: Digest::of(b"web"),
            reason: "rule shop\x1b[2J".into(),
        }),
        journal: None,
    }
}
