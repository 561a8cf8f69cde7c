//! `run list`.

use clap::Args;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use crate::api::{RunSummary, Time};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run list
  greenroom run list --state held
  greenroom run list --device box-1 --limit 5 -o json
  greenroom run list --below 120        # the page after run 120")]
pub struct List {
    /// queued, running, undoing, held, succeeded, failed or aborted
    #[arg(long)]
    state: Option<String>,
    /// Name or id of a device
    #[arg(short, long)]
    device: Option<String>,
    /// Most runs that are listed
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only runs with a smaller number
    #[arg(long, value_name = "ID")]
    below: Option<i64>,
}

impl List {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (state, device) = (self.state.as_deref(), self.device.as_deref());
        let client = context.client()?;
        let runs = client
            .run_list(state, device, self.limit, self.below)
            .await?;
        context.show(&runs, || table(&runs, context.now(), context.out))?;
        if let Some(last) = runs.last()
            && runs.len() as u64 == u64::from(self.limit)
            && last.id > 1
        {
            context.note(&format!("there may be more: --below {}", last.id));
        }
        Ok(Exit::Ok)
    }
}

fn table(runs: &[RunSummary], now: Time, paint: Paint) -> String {
    let headers = [
        "ID",
        "DEVICE",
        "CLIENT",
        "CHAIN",
        "STATE",
        "SINCE",
        "STAGES DONE",
        "NOTE",
    ];
    let mut table = Table::new(paint, &headers);
    for run in runs {
        table.row([
            run.id.to_string(),
            run.device.clone(),
            run.client.clone(),
            format!("{} v{}", run.chain, run.chain_version),
            run.state.clone(),
            text::span(now.seconds_from(run.state_since)),
            run.stages_done.to_string(),
            note(run),
        ]);
    }
    table.render("no runs")
}

fn note(run: &RunSummary) -> String {
    let said = match (&run.failure, &run.abort_reason, &run.replay_of) {
        (Some(failure), ..) => failure.to_string(),
        (None, Some(reason), _) => reason.clone(),
        (None, None, Some(replay)) => format!("replays {} of run {}", replay.stage, replay.run),
        (None, None, None) => String::new(),
    };
    let mut short: String = said.chars().take(70).collect();
    if short.len() < said.len() {
        short.push('…');
    }
    short
}
