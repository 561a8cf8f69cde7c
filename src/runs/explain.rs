//! Why a run is where it is: state, age, deadline, what happens next by itself. Pure.

use serde::{Deserialize, Serialize};

use super::plan::{self, Action};
use super::view::View;
use crate::vocab::machine::MachineState;
use crate::vocab::run::{Progress, Purpose, RunState};
use crate::vocab::{MachineId, Timestamp};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub state: String,
    /// Seconds in this state.
    pub age_s: f64,
    /// What it is doing or waiting for.
    pub doing: String,
    /// When patience ends with that, where it does.
    pub deadline: Option<Timestamp>,
    /// What happens next without anybody's help.
    pub next: String,
    /// What a person can do.
    pub you_can: Vec<String>,
}

/// One stage as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    pub name: String,
    pub kind: String,
    /// `waiting`, `preparing`, `working`, `finishing`, `succeeded`, `failed`, `undone`.
    pub state: String,
    pub tries: u32,
    pub elapsed_s: f64,
    pub expected_s: Option<f64>,
    /// The machine that is made ready ahead of need.
    pub prefetching: bool,
}

pub fn explain(view: &View, now: Timestamp) -> Explanation {
    let run = &view.run;
    let id = run.id;
    let (doing, deadline, next, you_can): (String, Option<Timestamp>, String, Vec<String>) =
        match &run.state {
            RunState::Queued => (
                "waits for its turn".into(),
                None,
                "starts when one of the host's places for active runs is free".into(),
                vec![
                    format!("greenroom run hold {id}"),
                    format!("greenroom run abort {id}"),
                ],
            ),
            RunState::Paused { reason, until } => (
                format!(
                    "is paused before stage {}: {reason}; no machine is held",
                    view.stage(run.stage_index).name
                ),
                Some(*until),
                "is undone and held when nobody resumes it by then".into(),
                vec![
                    format!("greenroom run resume {id}"),
                    format!("greenroom run abort {id}"),
                ],
            ),
            RunState::Waiting { until } => (
                format!(
                    "waits for device {} to report from its own system; no machine is held",
                    run.device_name
                ),
                Some(*until),
                format!(
                    "stage {} when it reports; the run fails when it has not by then",
                    view.stage(run.stage_index).name
                ),
                vec![
                    format!("greenroom device show {}", run.device_name),
                    format!("greenroom device watch {}", run.device_name),
                    format!("greenroom run abort {id}"),
                ],
            ),
            RunState::Running | RunState::Undoing { .. } => {
                let (doing, deadline, mut next) = explain_active(view, now);
                let mut you_can = vec![format!("greenroom run logs {id} --follow")];
                if let Some(pause) = &run.pause {
                    next = format!(
                        "pauses before the next stage ({}); until then: {next}",
                        pause.reason
                    );
                    you_can.push(format!("greenroom run resume {id}"));
                }
                you_can.push(format!("greenroom run abort {id}"));
                (doing, deadline, next, you_can)
            }
            RunState::Held { failure, until } => (
                format!("is held: {failure}"),
                Some(*until),
                "is given up and cleaned away when the hold ends".into(),
                vec![
                    format!("greenroom run retry {id}"),
                    format!("greenroom run logs {id}"),
                    format!("greenroom run abort {id}"),
                ],
            ),
            RunState::Succeeded => ("is done".into(), None, leftovers(view), vec![]),
            RunState::Failed { failure } => (
                format!("failed: {failure}"),
                None,
                leftovers(view),
                vec![format!("greenroom run retry {id}")],
            ),
            RunState::Aborted { reason } => (
                format!("was aborted: {reason}"),
                None,
                leftovers(view),
                vec![format!("greenroom run retry {id}")],
            ),
        };
    Explanation {
        state: run.state.word().into(),
        age_s: now.since(run.state_since).as_secs_f64(),
        doing,
        deadline,
        next,
        you_can,
    }
}

fn leftovers(view: &View) -> String {
    let machines = view
        .machines
        .iter()
        .filter(|machine| machine.state != MachineState::Gone)
        .count();
    match (machines, view.run.has_disks) {
        (0, false) if view.run.kept_disk => "nothing; its disk is kept as the result".into(),
        (0, false) => "nothing; nothing of it is left on the host".into(),
        (n, true) if view.plan.keeps_disk(&view.run) => {
            format!(
                "removes {n} machine(s) and the disk's checkpoints; the disk is kept as the result"
            )
        }
        (n, true) => format!("removes {n} machine(s) and the handoff disk"),
        (n, false) => format!("removes {n} machine(s)"),
    }
}

fn explain_active(view: &View, now: Timestamp) -> (String, Option<Timestamp>, String) {
    let Some(attempt) = view.current() else {
        return ("goes on".into(), None, "the next stage".into());
    };
    let stage = view.stage(attempt.stage_index);
    let what = match attempt.purpose {
        Purpose::Work => format!(
            "stage {} ({}), try {}",
            stage.name,
            stage.kind.word(),
            attempt.number
        ),
        Purpose::Undo => format!("undo of stage {}, try {}", stage.name, attempt.number),
    };
    if now < attempt.not_before {
        return (
            format!("{what}: waits before the next try"),
            Some(attempt.not_before),
            "tries again".into(),
        );
    }
    let action = plan::due(view, now)
        .into_iter()
        .find(|action| action.subject() == attempt.id.to_string());
    let waits_for_machine = attempt.machine.filter(|id| !is_up(view, *id));
    let doing = match (action, waits_for_machine, &attempt.progress) {
        (Some(Action::Watch(_)), ..) => format!("{what}: works"),
        (Some(Action::Collect(_)), ..) => format!("{what}: its output is taken and checked"),
        (Some(Action::Detach(_)), ..) => format!("{what}: the handoff disk is taken back"),
        (Some(Action::Start(_) | Action::Attach(_)), ..) => format!("{what}: is being started"),
        (_, Some(_), _) => format!("{what}: waits for its machine"),
        (Some(Action::PrepareDisk(_)), ..) => format!("{what}: the handoff disk is prepared"),
        (_, None, Progress::Planned) => format!("{what}: waits for the handoff disk"),
        _ => what.clone(),
    };
    let next = match &attempt.progress {
        Progress::Working => {
            "when the deadline passes, the try fails and the retry policy decides".to_owned()
        }
        _ if waits_for_machine.is_some() => {
            "a machine that does not come up fails the try, and the retry policy decides".to_owned()
        }
        _ => "goes on by itself; what fails is retried as the chain says".to_owned(),
    };
    (
        doing,
        attempt
            .deadline
            .filter(|_| attempt.progress == Progress::Working),
        next,
    )
}

fn is_up(view: &View, id: MachineId) -> bool {
    view.machine(id)
        .is_some_and(|machine| machine.state == MachineState::Up)
}

/// The stages in order.
pub fn stages(view: &View, now: Timestamp) -> Vec<StageStatus> {
    view.plan
        .chain
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let tries = view
                .attempts
                .iter()
                .filter(|a| a.stage_index == index && a.purpose == Purpose::Work)
                .count();
            let latest = view
                .attempts
                .iter()
                .rev()
                .find(|a| a.stage_index == index && a.purpose == Purpose::Work);
            let undone = view
                .latest(index, Purpose::Undo)
                .is_some_and(|attempt| attempt.progress == Progress::Succeeded);
            let state = match latest.map(|attempt| &attempt.progress) {
                _ if undone => "undone",
                None => "waiting",
                Some(Progress::Planned | Progress::DiskReady | Progress::Equipped) => "preparing",
                Some(Progress::Working) => "working",
                Some(Progress::Worked | Progress::Collected) => "finishing",
                Some(Progress::Succeeded) => "succeeded",
                Some(Progress::Failed { .. }) => "failed",
                Some(Progress::Dropped) => "dropped",
            };
            let elapsed_s = latest.map_or(0.0, |attempt| {
                attempt
                    .finished_at
                    .unwrap_or(now)
                    .since(attempt.created_at)
                    .as_secs_f64()
            });
            StageStatus {
                name: stage.name.clone(),
                kind: stage.kind.word().into(),
                state: state.into(),
                tries: u32::try_from(tries).unwrap_or(u32::MAX),
                elapsed_s,
                expected_s: view.plan.stages[index].expected_s,
                prefetching: latest.is_none() && view.spare(index).is_some(),
            }
        })
        .collect()
}
