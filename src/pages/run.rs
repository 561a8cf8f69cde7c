//! One run: its stages as they go, what they print, what they hand on, and what a person can do.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Page, Part, Visitor, done};
use super::handoffs::{self, Handoff};
use super::marks::{self, Bar, Markup};
use super::overview::scale_of;
use crate::access::{Access, Caller};
use crate::api::{
    AttemptView, ConsoleView, HoldRun, LogPiece, MachineView, PlannedStage, RunView, StageView,
    Time,
};
use crate::runs::plan::Request;
use crate::vocab::access::Role;
use crate::vocab::run::AttemptPhases;
use crate::web::extract::OfRun;
use crate::web::forms::Fields;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, consoles, logs, present, runs};

/// Of the log, without the script that shows all of it. Bytes; hostile ones are five times as long when
/// they are escaped, and a page has 150 kB.
const LOG: usize = 12 << 10;
/// Newest events of the timeline.
const EVENTS: usize = 60;
/// Newest attempts that are drawn.
const ATTEMPTS: usize = 40;

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_run", "/runs/{id}", see, show).says("One run"))
        .with(
            Op::post("page_run_abort", "/runs/{id}/abort", change, abort)
                .says("Ends a run; what it did is undone")
                .form(),
        )
        .with(
            Op::post("page_run_hold", "/runs/{id}/hold", change, hold)
                .says("Pauses a run before its next stage")
                .form(),
        )
        .with(
            Op::post("page_run_resume", "/runs/{id}/resume", change, resume)
                .says("Lets a paused run go on")
                .form(),
        )
        .with(
            Op::post("page_run_retry", "/runs/{id}/retry", change, retry)
                .says("Goes on with a run that is held or has failed")
                .form(),
        )
        .with(
            Op::post("page_run_replay", "/runs/{id}/replay", change, replay)
                .says("Runs one stage again with what it was given")
                .form(),
        )
        .with(
            Op::post("page_run_discard", "/runs/{id}/discard", change, discard)
                .says("Lets a kept result go")
                .form(),
        )
}

#[derive(Template)]
#[template(path = "run.html")]
struct Run {
    frame: Frame,
    now: Time,
    view: RunView,
    rows: Vec<Row>,
    attempts: Vec<Drawn>,
    left_out_attempts: usize,
    log: Vec<LogPiece>,
    log_is_cut: bool,
    consoles: Vec<ConsoleView>,
    handoffs: Vec<Handoff>,
    keeps_disk: bool,
}

/// One stage with everything that is known of it.
struct Row {
    number: usize,
    stage: StageView,
    plan: Option<PlannedStage>,
    machine: Option<MachineView>,
    bar: Markup,
}

/// One attempt and where its time went.
struct Drawn {
    attempt: AttemptView,
    phases: Markup,
    total_ms: f64,
}

impl Run {
    /// Whether another attempt speaks from this piece of the log on.
    fn begins(&self, n: impl std::borrow::Borrow<usize>) -> bool {
        let n = *n.borrow();
        let before = n.checked_sub(1).and_then(|before| self.log.get(before));
        before.map(|piece| &piece.attempt) != self.log.get(n).map(|piece| &piece.attempt)
    }

    fn can_retry(&self) -> bool {
        matches!(self.view.run.state.as_str(), "held" | "failed" | "aborted")
    }

    fn is_paused(&self) -> bool {
        self.view.run.state == "paused"
    }

    /// A pause is wanted and has not begun.
    fn pauses_soon(&self) -> bool {
        self.view.run.hold_reason.is_some() && !self.is_paused()
    }

    /// There is a stage that it can be paused before.
    fn can_be_held(&self) -> bool {
        let next = match self.view.run.state.as_str() {
            "queued" | "waiting" => self.view.run.stages_done,
            "running" => self.view.run.stages_done + 1,
            _ => return false,
        };
        next < self.view.stages.len() && !self.pauses_soon()
    }

    fn can_abort(&self) -> bool {
        !self.view.run.is_terminal()
    }

    fn took(&self) -> String {
        let end = self.view.run.finished_at.unwrap_or(self.now);
        self.view.run.started_at.map_or_else(
            || "not started".into(),
            |start| marks::span(&end.seconds_from(start)),
        )
    }

    /// Stages that have been given something, and so can be replayed.
    fn reached(&self) -> Vec<&str> {
        let stages = self.view.stages.iter();
        stages
            .filter(|stage| {
                let mut attempts = self.view.attempts.iter();
                attempts.any(|attempt| attempt.stage == stage.name && attempt.purpose == "work")
            })
            .map(|stage| stage.name.as_str())
            .collect()
    }

    fn events(&self) -> Vec<&crate::api::EventView> {
        self.view.events.iter().rev().take(EVENTS).collect()
    }
}

async fn show(State(app): Shared, visitor: Visitor, OfRun(id): OfRun) -> Result<Response, Refusal> {
    let caller = visitor.caller()?;
    let loaded = runs::load(&app, &caller, id).await?;
    let view = runs::shown(&app, &loaded, false).await?;
    let (log, log_is_cut) = logs::printed(&app, id, LOG).await?;
    let handoffs = handoffs::of(&app, &loaded).await;
    let scale_s = scale_of(&view.stages);
    let rows = view
        .stages
        .iter()
        .enumerate()
        .map(|(n, stage)| Row {
            number: n + 1,
            bar: Bar {
                elapsed_s: stage.elapsed_s,
                expected_s: stage.expected_s,
                scale_s,
                state: &stage.state,
            }
            .draw(),
            plan: view
                .plan
                .iter()
                .find(|plan| plan.name == stage.name)
                .cloned(),
            machine: view
                .machines
                .iter()
                .rev()
                .find(|machine| machine.stage == stage.name)
                .cloned(),
            stage: stage.clone(),
        })
        .collect();
    let left_out_attempts = view.attempts.len().saturating_sub(ATTEMPTS);
    let attempts = view.attempts[left_out_attempts..]
        .iter()
        .map(|attempt| {
            let parts = parts(&attempt.phases);
            Drawn {
                attempt: attempt.clone(),
                total_ms: parts.iter().map(|(_, ms)| ms).sum(),
                phases: marks::phases(&parts),
            }
        })
        .collect();
    let mut frame = visitor.frame(Part::Runs, format!("Run {id}"));
    if !view.run.is_at_rest() {
        frame = frame.follows(format!("/api/v1/events?run={id}"));
    }
    Ok(Page::of(Run {
        frame,
        now: present::time(app.state.services.now()),
        rows,
        attempts,
        left_out_attempts,
        log,
        log_is_cut,
        consoles: consoles::of(&app, &loaded).await,
        handoffs,
        keeps_disk: loaded.plan.keeps_disk(&loaded.run),
        view,
    })
    .into_response())
}

/// Where an attempt's time went, in order.
fn parts(attempt: &AttemptPhases) -> Vec<(String, f64)> {
    [
        ("waiting for the machine", attempt.machine_wait_ms),
        ("disk", attempt.disk_ms),
        ("attach", attempt.attach_ms),
        ("start", attempt.start_ms),
        ("work", attempt.work_ms),
        ("collect and detach", attempt.collect_ms + attempt.detach_ms),
    ]
    .into_iter()
    .map(|(name, ms)| (name.to_owned(), ms))
    .collect()
}

async fn abort(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    fields: Fields,
) -> Result<Response, Refusal> {
    let reason = fields
        .word("reason")
        .unwrap_or_else(|| format!("asked for by {}", caller.name()));
    runs::demand(&app, &caller, id, Request::Abort { reason }).await?;
    Ok(done(&format!("/runs/{id}"), "aborted"))
}

async fn hold(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    fields: Fields,
) -> Result<Response, Refusal> {
    // Before the form is read: what somebody may not see is not there, whatever they ask of it.
    runs::load(&app, &caller, id).await?;
    let order = HoldRun {
        reason: fields
            .word("reason")
            .unwrap_or_else(|| format!("asked for by {}", caller.name())),
        within_s: fields
            .number::<u64>("hours")?
            .map(|h| h.saturating_mul(3600)),
    };
    runs::demand(&app, &caller, id, runs::hold_of(order)?).await?;
    Ok(done(&format!("/runs/{id}"), "hold"))
}

async fn resume(State(app): Shared, caller: Caller, OfRun(id): OfRun) -> Result<Response, Refusal> {
    runs::demand(&app, &caller, id, Request::Resume).await?;
    Ok(done(&format!("/runs/{id}"), "resumed"))
}

async fn retry(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    fields: Fields,
) -> Result<Response, Refusal> {
    let request = Request::Retry {
        from: fields.word("from"),
        force: fields.has("force"),
    };
    runs::demand(&app, &caller, id, request).await?;
    Ok(done(&format!("/runs/{id}"), "retried"))
}

async fn replay(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    fields: Fields,
) -> Result<Response, Refusal> {
    let run = runs::replayed(&app, &caller, id, fields.get("stage")).await?;
    Ok(done(&format!("/runs/{}", run.id), "replayed"))
}

async fn discard(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
) -> Result<Response, Refusal> {
    runs::demand(&app, &caller, id, Request::Discard).await?;
    Ok(done(&format!("/runs/{id}"), "discarded"))
}
