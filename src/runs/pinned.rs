//! What a run pins when it is made and uses to its end: chain, images, sizes, engines, deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::model::{Bounds, Chain, Deadline, Stage};
use crate::learn::features::Case;
use crate::learn::resources::choice::{self, Room};
use crate::vocab::Deployment;
use crate::vocab::image::Image;
use crate::vocab::machine::{EngineKind, Size};
use crate::vocab::persona::PinnedPersona;
use crate::vocab::prediction::{Expected, Source, StageExpectation};
use crate::vocab::run::{Run, RunState};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose machines these are.
    pub deployment: Deployment,
    pub chain: Chain,
    pub images: BTreeMap<String, Image>,
    /// What the device is to become, where it has a persona; whole in the run's document.
    #[serde(default)]
    pub persona: Option<PinnedPersona>,
    /// One per stage of the chain, in its order.
    pub stages: Vec<StagePlan>,
    /// For a replay: where its one stage stood in the replayed run's chain.
    #[serde(default)]
    pub replayed_index: Option<usize>,
    /// For a replay: no stage before it used the handoff disk, so an empty one is right.
    #[serde(default)]
    pub replayed_first_on_disk: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    pub size: Size,
    pub size_reason: String,
    pub engine: EngineKind,
    pub engine_reason: String,
    pub deadline_s: f64,
    pub deadline_reason: String,
    /// Median work time so far, seconds; none while there is no history.
    pub expected_s: Option<f64>,
    /// What its machine is expected to use.
    #[serde(default)]
    pub expected: Option<StageExpectation>,
    /// What was known of it when that was said.
    #[serde(default)]
    pub case: Option<Case>,
}

impl Plan {
    /// Whether the handoff disk is the run's result, to be kept.
    pub fn keeps_disk(&self, run: &Run) -> bool {
        let wanted = self
            .chain
            .handoff_disk
            .as_ref()
            .is_some_and(|disk| disk.keep);
        wanted && run.state == RunState::Succeeded && !run.discarded && run.replay_of.is_none()
    }
}

impl StagePlan {
    pub fn deadline(&self) -> Duration {
        Duration::from_secs_f64(self.deadline_s.max(0.0))
    }
}

/// Deadline of a stage without history, seconds.
pub const FIRST_DEADLINE_S: f64 = 1800.0;
/// Observations below which a history says nothing.
pub const ENOUGH: usize = 5;

/// Decides size, engine and deadline of one stage. `work_ms` is the stage's history, newest first;
/// `expected` what it is expected to use.
pub fn stage_plan(
    stage: &Stage,
    image: &Image,
    engine: EngineKind,
    engine_reason: &str,
    work_ms: &[f64],
    expected: Option<StageExpectation>,
) -> StagePlan {
    let mut sorted = work_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (deadline_s, deadline_reason) = match stage.deadline {
        Deadline::Seconds(seconds) => (seconds as f64, "written in the chain".to_owned()),
        Deadline::Derived if sorted.len() < ENOUGH => (
            FIRST_DEADLINE_S,
            format!("fewer than {ENOUGH} successes to derive one from"),
        ),
        Deadline::Derived => {
            let p95_s = quantile(&sorted, 0.95) / 1000.0;
            (
                (4.0 * p95_s).max(60.0),
                format!(
                    "4 × the 95th percentile ({p95_s:.1} s) of {} successes, at least 60 s",
                    sorted.len()
                ),
            )
        }
    };
    let (size, size_reason) = size_of(stage, image, expected.as_ref());
    StagePlan {
        size,
        size_reason,
        engine,
        engine_reason: engine_reason.to_owned(),
        deadline_s,
        deadline_reason,
        expected_s: (!sorted.is_empty()).then(|| quantile(&sorted, 0.5) / 1000.0),
        expected,
        case: None,
    }
}

/// The machine's size and why it is that: what is expected, where the chain lets it choose and anything
/// is known; else the chain's least. Always within the chain's bounds, and no less than the image needs.
fn size_of(stage: &Stage, image: &Image, expected: Option<&StageExpectation>) -> (Size, String) {
    let resources = &stage.resources;
    let memory = Room {
        min: resources.memory_mib.min.max(image.min_memory_mib),
        max: resources.memory_mib.max.max(image.min_memory_mib),
    };
    let vcpus = room(resources.vcpus);
    let mut size = Size {
        vcpus: u32::try_from(vcpus.min).unwrap_or(u32::MAX),
        memory_mib: memory.min,
        disk_mib: resources.disk_mib.min.max(image.disk_mib),
        network_kbytes_per_s: resources.network_kbytes_per_s.map(|Bounds { max, .. }| max),
    };
    let raised = match memory.min > resources.memory_mib.min {
        true => format!(
            ", raised to the {} MiB that image {} needs",
            image.min_memory_mib, image.name
        ),
        false => String::new(),
    };
    let chain = |why: &str| format!("the chain's minimum{raised} ({why})");
    let Some(expected) = expected else {
        return (size, chain("nothing was predicted"));
    };
    if !resources.predict {
        return (size, chain("the chain does not let prediction choose"));
    }
    let mut reasons = Vec::new();
    if expected.memory.source != Source::Chain {
        let fitted = memory.fit(expected.memory.amount, "MiB", choice::round_memory);
        size.memory_mib = fitted.amount;
        reasons.push(reason(
            &format!("{} MiB", fitted.amount),
            &expected.memory,
            &fitted.note,
        ));
    }
    if expected.cpu.source != Source::Chain {
        let fitted = vcpus.fit(expected.cpu.amount, "vCPUs", choice::round_vcpus);
        size.vcpus = u32::try_from(fitted.amount).unwrap_or(u32::MAX);
        reasons.push(reason(
            &format!("{} vCPUs", fitted.amount),
            &expected.cpu,
            &fitted.note,
        ));
    }
    if let Some(bounds) = resources.network_kbytes_per_s
        && expected.network.source != Source::Chain
    {
        let fitted = room(bounds).fit(expected.network.amount, "kB/s", choice::round_network);
        size.network_kbytes_per_s = Some(fitted.amount);
        reasons.push(reason(
            &format!("{} kB/s", fitted.amount),
            &expected.network,
            &fitted.note,
        ));
    }
    match reasons.is_empty() {
        true => (size, chain(&expected.memory.reason)),
        false => (size, reasons.join("; ")),
    }
}

fn room(bounds: Bounds) -> Room {
    Room {
        min: bounds.min,
        max: bounds.max,
    }
}

fn reason(what: &str, expected: &Expected, note: &str) -> String {
    let note = match note {
        "" => String::new(),
        note => format!("; {note}"),
    };
    format!("{what}: {}{note}", expected.reason)
}

/// The value below which the share `q` of a sorted, non-empty slice lies (nearest rank).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
