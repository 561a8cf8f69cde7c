//! Taking back: after a failure for good, or an abort, the stages that had effects outside their
//! machines undo them, newest first.

use std::time::Duration;

use super::advance::enter;
use super::tries::{add_attempt, advance_attempt, next_try};
use crate::runs::view::View;
use crate::vocab::run::{Progress, Purpose, RunState, UndoCause};
use crate::vocab::{Failure, Timestamp};

/// One move of a run that is undoing.
pub(super) fn advance(view: &mut View, cause: &UndoCause, now: Timestamp) -> bool {
    if view
        .current()
        .is_some_and(|attempt| attempt.purpose == Purpose::Undo)
    {
        return advance_attempt(view, now);
    }
    for index in (0..view.plan.stages.len()).rev() {
        if view.stage(index).undo.is_none() {
            continue;
        }
        let Some(input) = input_of_begun_work(view, index) else {
            continue;
        };
        match view
            .latest(index, Purpose::Undo)
            .map(|attempt| attempt.progress.clone())
        {
            Some(Progress::Succeeded) => continue,
            Some(Progress::Failed { failure }) => {
                return next_try(view, index, Purpose::Undo, &failure, now)
                    || undo_failed(view, index, cause, failure, now);
            }
            _ => {
                add_attempt(view, index, Purpose::Undo, input, now, now);
                return true;
            }
        }
    }
    finish(view, cause, now)
}

/// Whether stages had effects that were not taken back.
pub(super) fn something_stands(view: &View) -> bool {
    let stands =
        |index| view.stage(index).undo.is_some() && input_of_begun_work(view, index).is_some();
    (0..view.plan.stages.len()).any(stands)
}

/// The stage whose effects were taken back, nearest to the chain's start: a retry may not begin after it.
pub(super) fn earliest_undone(view: &View) -> Option<usize> {
    (0..view.plan.stages.len()).find(|index| {
        view.latest(*index, Purpose::Undo)
            .is_some_and(|attempt| attempt.begun)
    })
}

/// The input of the newest work at a stage that may have had effects and was not undone since.
fn input_of_begun_work(view: &View, index: usize) -> Option<crate::vocab::Digest> {
    let undone_at = view.attempts.iter().rposition(|a| {
        a.stage_index == index
            && a.purpose == Purpose::Undo
            && a.progress == Progress::Succeeded
            && a.generation < view.run.generation
    });
    let begun = view
        .attempts
        .iter()
        .rposition(|a| a.stage_index == index && a.purpose == Purpose::Work && a.begun)?;
    (undone_at.is_none_or(|undone| begun > undone)).then(|| view.attempts[begun].input)
}

fn undo_failed(
    view: &mut View,
    index: usize,
    cause: &UndoCause,
    failure: Failure,
    now: Timestamp,
) -> bool {
    let stage = view.stage(index).name.clone();
    let first = match cause {
        UndoCause::Failed { failure } => failure.to_string(),
        UndoCause::Aborted { reason } => format!("aborted: {reason}"),
    };
    let failure = Failure::new(
        failure.kind,
        format!(
            "the undo of {stage} failed ({}); the run was undoing because: {first}",
            failure.message
        ),
    )
    .with_way_out(format!(
        "needs attention: take back by hand what {} did, then abort the run, or retry it",
        not_undone(view, index).join(", ")
    ));
    hold(view, failure, now)
}

/// The stages from this one to the chain's start whose effects still stand.
fn not_undone(view: &View, from: usize) -> Vec<String> {
    let stands = |index: &usize| {
        view.stage(*index).undo.is_some() && input_of_begun_work(view, *index).is_some()
    };
    (0..=from)
        .rev()
        .filter(stands)
        .map(|index| view.stage(index).name.clone())
        .collect()
}

fn finish(view: &mut View, cause: &UndoCause, now: Timestamp) -> bool {
    match cause {
        UndoCause::Aborted { reason } => enter(
            view,
            RunState::Aborted {
                reason: reason.clone(),
            },
            now,
        ),
        UndoCause::Failed { failure } => match view.run.abort_reason.clone() {
            // Somebody aborted while it was undoing: the undo is what an abort would have done too.
            Some(reason) => enter(view, RunState::Aborted { reason }, now),
            None => hold(view, failure.clone(), now),
        },
    }
}

fn hold(view: &mut View, failure: Failure, now: Timestamp) -> bool {
    let hold = Duration::from_secs(view.plan.chain.on_failure.hold_s);
    if hold.is_zero() {
        return enter(view, RunState::Failed { failure }, now);
    }
    // What was asked for was done as far as it can be; a further abort is a new request.
    view.run.abort_reason = None;
    enter(
        view,
        RunState::Held {
            failure,
            until: now.after(hold),
        },
        now,
    )
}
