//! `run`: executions of chains.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;
use crate::api::{AbortRun, HoldRun, ReplayRun, RetryRun, RunSummary};
use wait::WaitOptions;

mod console;
mod list;
mod logs;
mod output;
mod progress;
#[cfg(test)]
mod sample;
mod show;
mod start;
mod wait;

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Start a chain for a device
    Start(start::Start),
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Why a run is where it is: stages, machines, digests, events
    #[command(visible_alias = "get")]
    Show(show::Show),
    /// Follow a run until it ends or is held
    Watch(Watch),
    /// What the stages printed
    Logs(logs::Logs),
    /// The last lines of its machines' consoles
    Console(console::Console),
    /// What a run made: document, binary outputs, kept disk
    Output(output::Output),
    /// Remove the disk that a run keeps as its result
    Discard(output::Discard),
    /// End a run; what its stages did outside their machines is undone
    Abort(Abort),
    /// Pause a run before its next stage
    Hold(Hold),
    /// Let a paused run go on
    Resume(Resume),
    /// Let a held, failed or aborted run go on
    Retry(Retry),
    /// Repeat one stage of a run with the same input on a fresh machine, as a run of its own
    Replay(Replay),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run watch 7
  greenroom run watch 7 -o json | jq -r .why.doing     # one document per change

Exit code 0 when it succeeded, 1 when it failed, was aborted or is held.")]
pub struct Watch {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    /// Give up waiting after this time (the run goes on); exit code 7
    #[arg(long, value_name = "TIME", value_parser = text::parse_span)]
    timeout: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greenroom run abort 7\n  greenroom run abort 7 --reason 'wrong disk' --wait\n\nWith --wait the exit code is 0 once it has ended."
)]
pub struct Abort {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    /// For those who read the run later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitOptions,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run hold 7
  greenroom run hold 7 --reason 'look at the disk first' --for 2h

The stage that is under way comes to its end; then the run pauses, without a machine and without a place.
A run that nobody resumes in time is undone, as after a failure.")]
pub struct Hold {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    /// For those who read the run later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long at most; a day when not given
    #[arg(long = "for", value_name = "TIME", value_parser = text::parse_span)]
    within: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run resume 7
  greenroom run resume 7 --wait

Before the pause has begun this takes the hold back.
With --wait the exit code is the run's: 0 succeeded, 1 failed, aborted or held.")]
pub struct Resume {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    #[command(flatten)]
    wait: WaitOptions,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run retry 7
  greenroom run retry 7 --from facts --wait
  greenroom run retry 7 --force         # although earlier stages were undone

Begins at the earliest stage that was undone, else at the one that failed.
With --wait the exit code is the run's: 0 succeeded, 1 failed, aborted or held.")]
pub struct Retry {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    /// The stage to go on from
    #[arg(long, value_name = "STAGE")]
    from: Option<String>,
    /// Although stages before it were undone
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitOptions,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run replay 7 facts --wait

A stage that works on the handoff disk gets it as it was then, from a checkpoint that is kept
only while the replayed run is running or held. What the stage says under undo is left out.
With --wait the exit code is the new run's: 0 succeeded, 1 failed, aborted or held.")]
pub struct Replay {
    /// The run's number
    #[arg(value_parser = number)]
    id: i64,
    /// Its name
    stage: String,
    #[command(flatten)]
    wait: WaitOptions,
}

impl RunCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Start(start) => start.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Logs(logs) => logs.run(context).await,
            Self::Console(console) => console.run(context).await,
            Self::Output(output) => output.run(context).await,
            Self::Discard(discard) => discard.run(context).await,
            Self::Watch(Watch { id, timeout }) => wait::watch(context, id, timeout).await,
            Self::Abort(Abort { id, reason, wait }) => {
                let reason = reason.unwrap_or_else(asked_by);
                let client = context.client()?;
                let run = client.run_abort(id, &AbortRun { reason }).await?;
                if wait.wait {
                    // What was asked for is that it ends.
                    wait::wait(context, &run, &wait).await?;
                    return Ok(Exit::Ok);
                }
                changed(context, &run)
            }
            Self::Hold(Hold { id, reason, within }) => {
                let order = HoldRun {
                    reason: reason.unwrap_or_else(asked_by),
                    within_s: within,
                };
                let client = context.client()?;
                changed(context, &client.run_hold(id, &order).await?)
            }
            Self::Resume(Resume { id, wait }) => {
                let client = context.client()?;
                let run = client.run_resume(id).await?;
                finish(context, &run, &wait).await
            }
            Self::Retry(Retry {
                id,
                from,
                force,
                wait,
            }) => {
                let client = context.client()?;
                let run = client.run_retry(id, &RetryRun { from, force }).await?;
                finish(context, &run, &wait).await
            }
            Self::Replay(Replay { id, stage, wait }) => {
                let client = context.client()?;
                let run = client.run_replay(id, &ReplayRun { stage }).await?;
                finish(context, &run, &wait).await
            }
        }
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| "it is a run's number, see `greenroom run list`".to_owned())
}

fn asked_by() -> String {
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() => format!("asked for by {user}"),
        _ => "asked for on the command line".to_owned(),
    }
}

/// Waits for the run's end where that is wanted, else says what became of it.
async fn finish(
    context: &Context,
    run: &RunSummary,
    options: &WaitOptions,
) -> Result<Exit, Failure> {
    if options.wait {
        return wait::wait(context, run, options).await;
    }
    changed(context, run)
}

fn changed(context: &Context, run: &RunSummary) -> Result<Exit, Failure> {
    context.show(run, || {
        if context.global.quiet {
            format!("{}\n", run.id)
        } else {
            format!("run {} is {}\n", run.id, text::line(&run.state))
        }
    })?;
    if !run.is_at_rest() {
        context.note(&format!("watch it with `greenroom run watch {}`", run.id));
    }
    Ok(Exit::Ok)
}

/// The exit code that a run's state means.
fn exit_of(run: &RunSummary) -> Exit {
    if run.state == "succeeded" {
        Exit::Ok
    } else {
        Exit::Failed
    }
}
