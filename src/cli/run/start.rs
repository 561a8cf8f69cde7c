//! `run start`: a device, a chain, and what came of it.

use clap::Args;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::table::Table;
use super::super::text;
use super::finish;
use super::wait::WaitOptions;
use crate::api::{PlannedRun, StartRun};
use crate::vocab::machine::EngineKind;
use crate::vocab::persona::PersonaRef;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom run start --device box-1                      # the chain whose trigger holds
  greenroom run start --device box-1 --chain hello --wait
  greenroom run start --device box-1 --chain hello --dry-run
  greenroom run start --device box-1 --persona web-server # the chain that the persona names
  id=$(greenroom -q run start --device box-1)

With --wait the exit code is the run's: 0 succeeded, 1 failed, aborted or held.")]
pub struct Start {
    /// Name or id of the device
    #[arg(short, long)]
    device: String,
    /// The chain; without it the one that the persona names, else the one whose trigger holds for the device
    #[arg(short, long)]
    chain: Option<String>,
    /// Version of the chain, instead of the newest
    #[arg(long, requires = "chain", value_name = "N")]
    version: Option<i64>,
    /// What the device is to become, NAME or NAME@VERSION, whatever rules and assignments say; without
    /// --chain, the chain that the persona names by its label `chain`
    #[arg(short, long, value_name = "NAME")]
    persona: Option<PersonaRef>,
    /// How machines are obtained: a linked clone, or a full copy
    #[arg(long, value_parser = engine, value_name = "clone|copy")]
    engine: Option<EngineKind>,
    /// How long a failure is held for a retry, instead of the chain's time
    #[arg(long, value_name = "TIME", value_parser = text::parse_span)]
    hold: Option<u64>,
    /// Keep the failed machine running while the run is held
    #[arg(long)]
    keep_machine: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitOptions,
}

fn engine(text: &str) -> Result<EngineKind, String> {
    let words = EngineKind::ALL.map(EngineKind::word);
    EngineKind::ALL
        .into_iter()
        .find(|kind| kind.word() == text)
        .ok_or_else(|| format!("the engines are {}", words.join(" and ")))
}

impl Start {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let order = StartRun {
            device: self.device,
            chain: self.chain,
            version: self.version,
            persona: self.persona,
            engine: self.engine,
            hold_s: self.hold,
            keep_machine: self.keep_machine.then_some(true),
            dry_run: self.dry_run,
        };
        let started = context.client()?.run_start(&order).await?;
        let Some(run) = &started.run else {
            context.show(&started, || planned(&started.plan, context))?;
            return Ok(Exit::Ok);
        };
        let plan = &started.plan;
        context.note(&format!(
            "run {}: chain {} v{} for device {} ({})",
            run.id, plan.chain, plan.chain_version, plan.device.name, plan.chain_reason
        ));
        finish(context, run, &self.wait).await
    }
}

fn planned(plan: &PlannedRun, context: &Context) -> String {
    let out = format!(
        "would run chain {} v{} for device {} ({})\n\n",
        text::line(&plan.chain),
        plan.chain_version,
        text::line(&plan.device.name),
        text::line(&plan.chain_reason)
    );
    let out = match &plan.persona {
        Some(persona) => format!(
            "{out}persona {}@{} ({})\n\n",
            text::line(&persona.name),
            persona.version,
            text::line(&persona.reason)
        ),
        None => out,
    };
    let headers = [
        "STAGE",
        "KIND",
        "IMAGE",
        "ENGINE",
        "VCPUS",
        "MEMORY",
        "DEADLINE",
        "EXPECTED",
        "WHY THIS SIZE",
    ];
    let mut table = Table::new(context.out, &headers);
    for stage in &plan.stages {
        table.row([
            stage.name.clone(),
            stage.kind.clone(),
            format!("{}@{}", stage.image, stage.image_digest.short()),
            stage.engine.to_string(),
            stage.size.vcpus.to_string(),
            text::mib(stage.size.memory_mib),
            text::span(stage.deadline_s),
            stage.expected_s.map_or_else(|| "-".to_owned(), text::span),
            stage.size_reason.clone(),
        ]);
    }
    out + &table.render("")
}
