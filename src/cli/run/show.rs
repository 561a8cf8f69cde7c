//! `run show`: why a run is where it is.

use std::fmt::Write as _;

use clap::Args;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use crate::api::{AttemptView, RunView, Time};
use crate::vocab::prediction::{Expected, Resource, Source};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run show 7
  greenroom run show 7 --journal               # every side effect with its result
  greenroom run show 7 -o json | jq -r '.machines[].uuid'
  greenroom run show 7 -o json | jq -r '.attempts[] | [.stage, .input, .output] | @tsv'")]
pub struct Show {
    /// The run's number
    #[arg(value_parser = super::number)]
    id: i64,
    /// Every side effect: what was intended, and what came of it
    #[arg(long)]
    journal: bool,
}

/// Events shown by default.
const LAST_EVENTS: usize = 10;

impl Show {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let view = context.client()?.run_show(self.id, self.journal).await?;
        context.show(&view, || render(&view, context.now(), context.out))?;
        Ok(Exit::Ok)
    }
}

pub fn render(view: &RunView, now: Time, paint: Paint) -> String {
    let mut out = header(view, now, paint);
    out.push('\n');
    out.push_str(&stages(view, paint));
    out.push_str(&resources(view, paint));
    let left_out = view.events.len().saturating_sub(LAST_EVENTS);
    if !view.events.is_empty() {
        out.push('\n');
        let mut table = Table::new(paint, &["AT", "EVENT", "MESSAGE"]);
        for event in &view.events[left_out..] {
            table.row([clock(event.at), event.kind.clone(), event.message.clone()]);
        }
        out.push_str(&table.render(""));
    }
    if let Some(journal) = &view.journal {
        out.push('\n');
        let headers = [
            "SEQ",
            "ACTION",
            "SUBJECT",
            "GENERATION",
            "INTENDED",
            "TOOK",
            "OUTCOME",
        ];
        let mut table = Table::new(paint, &headers);
        for entry in journal {
            let took = entry
                .result_at
                .map(|at| text::span(at.seconds_from(entry.intent_at)));
            table.row([
                entry.seq.to_string(),
                entry.action.clone(),
                entry.subject.clone(),
                entry.generation.to_string(),
                clock(entry.intent_at),
                took.unwrap_or_else(|| "-".into()),
                entry.outcome.clone().unwrap_or_else(|| "under way".into()),
            ]);
        }
        out.push_str(&table.render("no side effects yet"));
    }
    out
}

fn header(view: &RunView, now: Time, paint: Paint) -> String {
    let (run, why) = (&view.run, &view.why);
    let mut out = format!(
        "run {}: {} for {}\n",
        run.id,
        paint.state(&text::line(&run.state)),
        text::span(why.age_s)
    );
    let mut field = |label: &str, value: String| {
        let _ = writeln!(out, "  {label:<9} {}", text::line(&value));
    };
    field("device", format!("{} (client {})", run.device, run.client));
    field("chain", format!("{} v{}", run.chain, run.chain_version));
    if let Some(persona) = &view.persona {
        let which = format!("{}@{}: {}", persona.name, persona.version, persona.reason);
        field("persona", which);
    }
    if let Some(replay) = &run.replay_of {
        field(
            "replays",
            format!("stage {} of run {}", replay.stage, replay.run),
        );
    }
    if run.generation > 1 {
        field("retries", (run.generation - 1).to_string());
    }
    field("doing", why.doing.clone());
    if let Some(deadline) = why.deadline {
        let left = deadline.seconds_from(now);
        let when = if left >= 0.0 {
            format!("in {}", text::span(left))
        } else {
            format!("{} ago", text::span(-left))
        };
        field("deadline", format!("{when} ({})", clock(deadline)));
    }
    field("next", why.next.clone());
    for (index, command) in why.you_can.iter().enumerate() {
        field(if index == 0 { "you can" } else { "" }, command.clone());
    }
    out
}

fn stages(view: &RunView, paint: Paint) -> String {
    let headers = [
        "STAGE", "KIND", "STATE", "TRIES", "ELAPSED", "EXPECTED", "ENGINE", "MACHINE", "UUID",
        "IN→OUT",
    ];
    let mut table = Table::new(paint, &headers);
    for (index, stage) in view.stages.iter().enumerate() {
        let attempt = view
            .attempts
            .iter()
            .rfind(|attempt| attempt.stage_index == index && attempt.purpose == "work");
        let machine = attempt
            .and_then(|attempt| attempt.machine.as_ref())
            .and_then(|uuid| view.machines.iter().find(|machine| machine.uuid == *uuid))
            .or_else(|| {
                view.machines
                    .iter()
                    .rfind(|machine| machine.stage == stage.name)
            });
        let state = if stage.prefetching {
            "waiting, machine ahead".to_owned()
        } else {
            stage.state.clone()
        };
        let dash = || "-".to_owned();
        table.row([
            stage.name.clone(),
            stage.kind.clone(),
            state,
            stage.tries.to_string(),
            text::span(stage.elapsed_s),
            stage.expected_s.map_or_else(dash, text::span),
            view.plan
                .get(index)
                .map_or_else(dash, |plan| plan.engine.to_string()),
            machine.map_or_else(dash, |machine| {
                format!("{} ({})", machine.name, machine.state)
            }),
            machine.map_or_else(dash, |machine| machine.uuid.clone()),
            attempt.map_or_else(dash, digests),
        ]);
    }
    table.render("no stages")
}

/// What each try was given, was expected to use, and used; nothing where nothing is known yet.
fn resources(view: &RunView, paint: Paint) -> String {
    let headers = [
        "STAGE", "TRY", "MEMORY", "EXPECTED", "USED", "VCPUS", "EXPECTED", "PEAK", "MEAN", "DISK",
        "NET", "WORK", "EXPECTED", "BY",
    ];
    let mut table = Table::new(paint, &headers);
    let dash = || "-".to_owned();
    let mut is_empty = true;
    for attempt in view
        .attempts
        .iter()
        .filter(|attempt| attempt.purpose == "work")
    {
        let machine = attempt
            .machine
            .as_ref()
            .and_then(|uuid| view.machines.iter().find(|machine| machine.uuid == *uuid));
        let size = machine
            .map(|machine| machine.size)
            .or_else(|| view.plan.get(attempt.stage_index).map(|plan| plan.size));
        let expected = |resource: Resource| attempt.expected.as_ref().map(|all| all.of(resource));
        let middle = |resource: Resource| {
            let spread = expected(resource).and_then(|one| one.spread);
            spread.map_or_else(dash, |spread| format!("{:.1}", spread.middle))
        };
        let Some(used) = &attempt.used else { continue };
        is_empty = false;
        table.row([
            attempt.stage.clone(),
            attempt.number.to_string(),
            size.map_or_else(dash, |size| format!("{} MiB", size.memory_mib)),
            middle(Resource::Memory),
            format!("{:.1}", used.memory_mib),
            size.map_or_else(dash, |size| size.vcpus.to_string()),
            middle(Resource::Cpu),
            format!("{:.0} %", used.cpu_peak_percent),
            format!("{:.0} %", used.cpu_mean_percent),
            text::bytes(used.disk_read_bytes + used.disk_written_bytes),
            text::bytes(used.net_received_bytes + used.net_sent_bytes),
            text::span(attempt.phases.work_ms / 1000.0),
            middle(Resource::Duration),
            expected(Resource::Memory).map_or_else(dash, by),
        ]);
    }
    if is_empty {
        return String::new();
    }
    format!("\n{}", table.render(""))
}

fn by(expected: &Expected) -> String {
    match (&expected.source, &expected.model) {
        (Source::Model, Some(model)) => model.clone(),
        (Source::History | Source::Model, _) => "plain rule".to_owned(),
        (Source::Chain, _) => "chain".to_owned(),
    }
}

fn digests(attempt: &AttemptView) -> String {
    let output = attempt
        .output
        .map_or_else(|| "…".to_owned(), |digest| digest.short());
    format!("{}→{output}", attempt.input.short())
}

/// Date and time without the fraction that only programs want.
fn clock(at: Time) -> String {
    at.0.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests;
