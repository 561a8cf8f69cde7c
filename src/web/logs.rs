//! `/runs/{id}/logs`: what the stages printed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::extract::{OfRun, Params, flag};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::runs::load;
use super::stream::{Cut, Form, Lines, stream};
use super::{App, Shared, present};
use crate::access::{Access, Caller};
use crate::api::LogPiece;
use crate::runs::services::Live;
use crate::store::logs::Piece;
use crate::store::{logs as rows, runs};
use crate::vocab::access::Role;
use crate::vocab::run::Attempt;
use crate::vocab::{AttemptId, RunId};

/// How long a follower waits for a hint before it looks by itself.
const PULSE: Duration = Duration::from_secs(1);
/// Pieces of one read.
const PAGE: i64 = 200;

pub fn routes() -> Routes {
    Routes::of("runs", "Executions of chains.").with(
        Op::get(
            "run_logs",
            "/runs/{id}/logs",
            Access::per_client(Role::Viewer),
            logs,
        )
        .says("What the stages printed, a JSON document per line")
        .query::<Which>()
        .answers_as::<LogPiece>(200, "application/x-ndjson"),
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// Go on until the run has ended or is held.
    #[serde(default, deserialize_with = "flag")]
    #[schemars(with = "bool")]
    follow: bool,
    /// Only of this stage.
    stage: Option<String>,
}

async fn logs(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
    Params(which): Params<Which>,
) -> Result<Response, Refusal> {
    let live = app.state.services.live.subscribe();
    let view = load(&app, &caller, id).await?;
    let stages: Vec<&str> = view
        .plan
        .chain
        .stages
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    if let Some(stage) = &which.stage
        && !stages.contains(&stage.as_str())
    {
        return Err(Refusal::not_found(format!(
            "run {id} has no stage {stage:?}; its stages are {}",
            stages.join(", ")
        )));
    }
    let reader = Reader {
        id,
        stage: which.stage,
        attempts: HashMap::new(),
        skip: 0,
        sent: HashMap::new(),
    };
    let own = app.clone();
    stream(&app, caller, Form::Lines, move |lines| {
        send(own, reader, which.follow.then_some(live), lines)
    })
}

/// What the stages of a run have printed so far: the newest `most_bytes` or so, and whether there was more.
pub(crate) async fn printed(
    app: &App,
    id: RunId,
    most_bytes: usize,
) -> Result<(Vec<LogPiece>, bool), Refusal> {
    let mut reader = Reader {
        id,
        stage: None,
        attempts: HashMap::new(),
        skip: 0,
        sent: HashMap::new(),
    };
    let (mut all, mut bytes, mut is_cut) = (std::collections::VecDeque::new(), 0, false);
    loop {
        let page = reader.page(app).await.map_err(|cut| match cut {
            Cut::Store(error) => Refusal::from(error),
            Cut::Gone => Refusal::new(super::refusal::Why::Internal, "nobody listens"),
        })?;
        let Some(page) = page else { break };
        for piece in page {
            bytes += piece.text.len();
            all.push_back(piece);
        }
        while bytes > most_bytes && all.len() > 1 {
            bytes -= all.pop_front().map_or(0, |piece| piece.text.len());
            is_cut = true;
        }
    }
    Ok((all.into(), is_cut))
}

async fn send(
    app: Arc<App>,
    mut reader: Reader,
    mut live: Option<broadcast::Receiver<Live>>,
    lines: Lines,
) -> Result<(), Cut> {
    loop {
        // Asked before the pieces are read: what a run at rest has printed is all stored.
        let at_rest = reader.is_at_rest(&app).await?;
        while let Some(pieces) = reader.page(&app).await? {
            for piece in &pieces {
                lines.send(piece).await?;
            }
        }
        match &mut live {
            Some(live) if !at_rest => news(live, reader.id).await,
            _ => return Ok(()),
        }
    }
}

/// Reads a run's pieces, each once.
struct Reader {
    id: RunId,
    stage: Option<String>,
    attempts: HashMap<AttemptId, Attempt>,
    /// Rows read so far.
    skip: i64,
    /// Where each stream goes on. A piece may come a second time when the clock was set back, and
    /// with it the order of the rows.
    sent: HashMap<(AttemptId, String), i64>,
}

impl Reader {
    async fn is_at_rest(&self, app: &App) -> Result<bool, Cut> {
        let mut connection = app.state.services.store.read().await?;
        let run = runs::run_get(&mut connection, self.id).await?;
        Ok(run.is_none_or(|run| present::run(&run).is_at_rest()))
    }

    /// The next pieces; none when there are no more for now.
    async fn page(&mut self, app: &App) -> Result<Option<Vec<LogPiece>>, Cut> {
        let mut connection = app.state.services.store.read().await?;
        let pieces = rows::piece_list(&mut connection, self.id, self.skip, PAGE).await?;
        if pieces.is_empty() {
            return Ok(None);
        }
        self.skip += i64::try_from(pieces.len()).unwrap_or(PAGE);
        if pieces
            .iter()
            .any(|piece| !self.attempts.contains_key(&piece.attempt))
        {
            let attempts = runs::attempt_list(&mut connection, self.id).await?;
            self.attempts = attempts
                .into_iter()
                .map(|found| (found.id, found))
                .collect();
        }
        Ok(Some(
            pieces
                .into_iter()
                .filter_map(|piece| self.take(piece))
                .collect(),
        ))
    }

    fn take(&mut self, piece: Piece) -> Option<LogPiece> {
        let attempt = self.attempts.get(&piece.attempt)?;
        if self
            .stage
            .as_ref()
            .is_some_and(|stage| *stage != attempt.stage)
        {
            return None;
        }
        let next = self
            .sent
            .entry((piece.attempt, piece.stream.clone()))
            .or_default();
        if piece.position < *next {
            return None;
        }
        *next = piece.position + piece.bytes;
        Some(LogPiece {
            stage: attempt.stage.clone(),
            purpose: attempt.purpose.word().into(),
            number: attempt.number,
            attempt: piece.attempt.to_string(),
            stream: piece.stream,
            position: piece.position,
            at: present::time(piece.at),
            text: piece.text,
        })
    }
}

/// Returns when something may have happened to the run.
async fn news(live: &mut broadcast::Receiver<Live>, id: RunId) {
    let until = Instant::now() + PULSE;
    loop {
        match timeout_at(until, live.recv()).await {
            Ok(Ok(Live::Event(event))) if event.run == id => return,
            Ok(Ok(Live::Log(run, _))) if run == id => return,
            Ok(Ok(_)) => {}
            Ok(Err(RecvError::Closed)) => return tokio::time::sleep_until(until).await,
            Ok(Err(RecvError::Lagged(_))) | Err(_) => return,
        }
    }
}
