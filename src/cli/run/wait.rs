//! Waiting for a run: follows its stream over restarts of the daemon, and shows how it goes on.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Format;
use super::super::text;
use super::exit_of;
use super::progress::Progress;
use super::show;
use crate::api::{Client, ClientError, RunSummary, WatchUpdate};

#[derive(Debug, Clone, Args)]
pub struct WaitOptions {
    /// Wait until the run ends or is held
    #[arg(short, long)]
    pub wait: bool,
    /// Give up waiting after this time (the run goes on); exit code 7
    #[arg(long, requires = "wait", value_name = "TIME", value_parser = text::parse_span)]
    pub timeout: Option<u64>,
}

/// A daemon that is being restarted is back within this time.
const ABSENCE: Duration = Duration::from_secs(60);
/// Between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits with progress on standard error and shows the run at its end.
pub async fn wait(
    context: &Context,
    run: &RunSummary,
    options: &WaitOptions,
) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut progress = Progress::new(context);
    let last = follow(&client, run.id, options.timeout, context, |update| {
        progress.show(update);
        Ok(())
    })
    .await;
    progress.end();
    let last = last?;
    if context.global.output == Format::Table {
        context.print(&ended(&last, context))?;
    } else {
        let view = client.run_show(run.id, false).await?;
        context.show(&view, || show::render(&view, context.now(), context.out))?;
    }
    if last.run.state != "succeeded" {
        for line in &last.why.you_can {
            context.note(&format!("you can: {line}"));
        }
    }
    Ok(exit_of(&last.run))
}

/// Follows a run: progress where people look, documents where programs do.
pub async fn watch(context: &Context, id: i64, timeout: Option<u64>) -> Result<Exit, Failure> {
    let client = context.client()?;
    if context.global.output == Format::Table {
        let run = client.run_show(id, false).await?.run;
        return wait(
            context,
            &run,
            &WaitOptions {
                wait: true,
                timeout,
            },
        )
        .await;
    }
    let last = follow(&client, id, timeout, context, |update| {
        context.show_item(update)
    })
    .await?;
    Ok(exit_of(&last.run))
}

fn ended(last: &WatchUpdate, context: &Context) -> String {
    let run = &last.run;
    let took = run
        .finished_at
        .unwrap_or_else(|| context.now())
        .seconds_from(run.created_at);
    let reason = match (&run.failure, &run.abort_reason) {
        (Some(failure), _) => format!(": {failure}"),
        (None, Some(reason)) => format!(": {reason}"),
        (None, None) => String::new(),
    };
    format!(
        "run {} {} after {}{}\n",
        run.id,
        context.out.state(&text::line(&run.state)),
        text::span(took),
        text::line(&reason)
    )
}

/// Hands every update on until the run is at rest; gives the last one back.
async fn follow(
    client: &Client,
    id: i64,
    timeout_s: Option<u64>,
    context: &Context,
    mut take: impl FnMut(&WatchUpdate) -> Result<(), Failure>,
) -> Result<WatchUpdate, Failure> {
    let again = format!("the run goes on; watch it with `greenroom run watch {id}`");
    let timeout = async {
        match timeout_s {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        last = until_rest(client, id, context, &mut take) => last,
        () = timeout => Err(Failure::new(
            Exit::TimedOut,
            format!("run {id} has not ended within {}", text::span(timeout_s.unwrap_or(0) as f64)),
        ).with_way_out(again)),
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new(Exit::Interrupted, "interrupted").with_way_out(again))
        }
    }
}

async fn until_rest(
    client: &Client,
    id: i64,
    context: &Context,
    take: &mut impl FnMut(&WatchUpdate) -> Result<(), Failure>,
) -> Result<WatchUpdate, Failure> {
    let mut away_since: Option<tokio::time::Instant> = None;
    loop {
        match one_stream(client, id, take, &mut away_since).await {
            Ok(Some(last)) => return Ok(last),
            // Without having come so far: the daemon stops.
            Ok(None) => {}
            Err(Ended::Failure(failure)) => return Err(failure),
            Err(Ended::Client(
                error @ (ClientError::Unreachable { .. } | ClientError::Broken(_)),
            )) => {
                if away_since.is_some_and(|since| since.elapsed() > ABSENCE) {
                    return Err(error.into());
                }
            }
            Err(Ended::Client(error)) => return Err(error.into()),
        }
        if away_since.is_none() {
            away_since = Some(tokio::time::Instant::now());
            context.note("the daemon is away; waiting for it to come back");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

enum Ended {
    Client(ClientError),
    Failure(Failure),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Reads one stream to its end; the last update where the run is at rest.
async fn one_stream(
    client: &Client,
    id: i64,
    take: &mut impl FnMut(&WatchUpdate) -> Result<(), Failure>,
    away_since: &mut Option<tokio::time::Instant>,
) -> Result<Option<WatchUpdate>, Ended> {
    let updates = client.run_watch(id).await?;
    let mut updates = std::pin::pin!(updates);
    let mut last = None;
    while let Some(update) = updates.next().await {
        let update = update?;
        *away_since = None;
        take(&update).map_err(Ended::Failure)?;
        last = Some(update);
    }
    Ok(last.filter(|update| update.run.is_at_rest()))
}
