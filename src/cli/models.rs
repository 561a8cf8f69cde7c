//! `models`: what was learned from earlier runs, how it was judged, and why it says what it says.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use super::text;
use crate::api::Time;
use crate::api::models::{ModelDetail, ModelExplanation, ModelSummary, ModelView, TrainModel};

mod record;

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List kinds of models: what serves, and how it was judged
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom models list\n  greenroom models list -o json | jq -r '.[] | [.name, .serving.id] | @tsv'"
    )]
    List,
    /// Show one kind of model with its trainings
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  greenroom models show memory\n  greenroom models show persona -o json | jq '.trainings[0].judged'"
    )]
    Show {
        /// memory, cpu, network, duration or persona
        name: String,
    },
    /// How good what was said of stages turned out to be, and what it saved
    #[command(after_help = "\
Examples:
  greenroom models record
  greenroom models record -o json | jq '.saved'

OFF is the median factor between what was expected and what was needed: 1.10 is a tenth off. SAVED compares
the sizes that models chose with those of the plain rule.")]
    Record,
    /// Train a model now; it serves only if it beats the plain rule
    Train(Train),
    /// Why a model says what it says of a stage of a device
    Explain(Explain),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom models train memory
  greenroom models train persona --why \"the new site is in\"

Training goes on in the background, with the lowest priority; `models show` says what came of it.")]
pub struct Train {
    /// memory, cpu, network, duration or persona
    name: String,
    /// For the record
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    why: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom models explain memory --device box-1 --chain hello
  greenroom models explain duration --device box-1 --chain onboard --stage install
  greenroom models explain persona --device box-1")]
pub struct Explain {
    /// memory, cpu, network, duration or persona
    name: String,
    /// Name or id
    #[arg(long)]
    device: String,
    /// The chain [default: the one whose trigger holds for the device]
    #[arg(long)]
    chain: Option<String>,
    /// The stage [default: the first]
    #[arg(long)]
    stage: Option<String>,
}

impl ModelsCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::List => {
                let models = client.model_list().await?;
                context.show(&models, || list(&models, context.now(), context.out))?;
            }
            Self::Show { name } => {
                let detail = client.model_show(&name).await?;
                context.show(&detail, || show(&detail, context.now(), context.out))?;
            }
            Self::Record => {
                let record = client.prediction_record().await?;
                context.show(&record, || record::draw(&record, context.out))?;
            }
            Self::Train(Train { name, why }) => {
                let asked = client.model_train(&name, &TrainModel { why }).await?;
                context.show(&asked, || {
                    let Time(at) = asked.made_at;
                    format!(
                        "{}#{} is being trained since {}; see `greenroom models show {}`\n",
                        asked.name,
                        asked.id,
                        at.strftime("%H:%M:%SZ"),
                        asked.name
                    )
                })?;
            }
            Self::Explain(of) => {
                let explained = client
                    .model_explain(
                        &of.name,
                        &of.device,
                        of.chain.as_deref(),
                        of.stage.as_deref(),
                    )
                    .await?;
                context.show(&explained, || explain(&explained, context.out))?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn age(model: &ModelView, now: Time) -> String {
    text::span(now.seconds_from(model.made_at))
}

fn list(models: &[ModelSummary], now: Time, paint: Paint) -> String {
    let mut table = Table::new(
        paint,
        &["NAME", "SERVES", "ROWS", "AGE", "UNSEEN", "LAST TRAINING"],
    );
    for model in models {
        let serving = model.serving.as_ref();
        table.row([
            model.name.clone(),
            serving.map_or_else(
                || "plain rule".to_owned(),
                |it| format!("{}#{}", it.name, it.id),
            ),
            serving.map_or_else(|| "-".to_owned(), |it| it.rows.to_string()),
            serving.map_or_else(|| "-".to_owned(), |it| age(it, now)),
            model.unseen.to_string(),
            model.last.as_ref().map_or_else(
                || "none yet".to_owned(),
                |it| match it.verdict.is_empty() {
                    true => it.state.clone(),
                    false => it.verdict.clone(),
                },
            ),
        ]);
    }
    table.render("no models")
}

fn show(detail: &ModelDetail, now: Time, paint: Paint) -> String {
    let model = &detail.model;
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<10} {}", text::line(value));
    };
    field("model", &model.name);
    if !model.unit.is_empty() {
        field("unit", &model.unit);
    }
    match &model.serving {
        Some(it) => field(
            "serves",
            &format!(
                "{}#{}, trained on {} rows {} ago",
                it.name,
                it.id,
                it.rows,
                age(it, now)
            ),
        ),
        None => field("serves", "the plain rule"),
    }
    field("plain rule", &detail.plain_rule);
    field("unseen", &format!("{} observations", model.unseen));
    out.push('\n');
    let mut table = Table::new(
        paint,
        &["ID", "STATE", "AGE", "ROWS", "TOOK", "WHY", "VERDICT"],
    );
    for it in &detail.trainings {
        table.row([
            it.id.to_string(),
            it.state.clone(),
            age(it, now),
            it.rows.to_string(),
            text::span(it.took_ms / 1000.0),
            it.why.clone(),
            it.verdict.clone(),
        ]);
    }
    out.push_str(&table.render("no trainings yet"));
    out
}

fn explain(explained: &ModelExplanation, paint: Paint) -> String {
    let mut out = format!(
        "{} of stage {} of chain {} for {}\nby {}\n\n",
        text::line(&explained.name),
        text::line(&explained.stage),
        text::line(&explained.chain),
        text::line(&explained.device),
        text::line(&explained.by)
    );
    let mut table = Table::new(paint, &["FACTOR", "FEATURE", "VALUE"]);
    for one in &explained.influences {
        table.row([
            format!("×{:.2}", one.factor),
            one.feature.clone(),
            one.value
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.2}")),
        ]);
    }
    out.push_str(&table.render("nothing stands out"));
    out
}
