//! `persona rules`: personas for devices that nobody assigned one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::chain::tell_faults;
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::table::Table;
use super::super::text;
use super::{apply, by, check};
use crate::api::personas::{ApplyRules, RulesView};
use crate::chain::Faults;

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Store a file of rules as their next version, in force at once
    Apply(Apply),
    /// Show the rules in force
    #[command(visible_alias = "ls")]
    List(List),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona rules apply chains/personas/rules/rules.yaml
  greenroom persona rules apply rules.yaml --dry-run")]
pub struct Apply {
    /// The file
    file: PathBuf,
    /// Only check it
    #[arg(long)]
    dry_run: bool,
    /// Why, for the record
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona rules list
  greenroom persona rules list --version 3 --source > rules-3.yaml")]
pub struct List {
    /// Instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<i64>,
    /// The text as it was applied
    #[arg(long)]
    source: bool,
}

impl RulesCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Apply(apply) => apply.run(context).await,
            Self::List(list) => {
                let view = context.client()?.persona_rules(list.version).await?;
                if list.source {
                    context.print(&text::block(&view.source))?;
                } else {
                    context.show(&view, || draw(&view, context))?;
                }
                Ok(Exit::Ok)
            }
        }
    }
}

impl Apply {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let source = check::source(&self.file)?;
        let client = context.client()?;
        let mut order = ApplyRules {
            source: source.text.clone(),
            reason: self.reason,
            by: by(),
            dry_run: true,
        };
        let found = client.persona_rules_apply(&order).await?;
        if !found.faults.is_empty() {
            let faults = Faults::new(
                &source.text,
                found.faults.iter().map(apply::fault).collect(),
            );
            tell_faults(context, &faults.in_file(source.file.clone()));
            return Err(Failure::new(
                Exit::Invalid,
                format!("nothing was applied: {} with faults", source.file),
            ));
        }
        let applied = if self.dry_run {
            found
        } else {
            order.dry_run = false;
            client.persona_rules_apply(&order).await?
        };
        context.show(&applied, || {
            let word = match (applied.is_new, self.dry_run) {
                (false, _) => "unchanged",
                (true, true) => "would be in force",
                (true, false) => "in force",
            };
            format!("rules v{} {word}\n", applied.version)
        })?;
        Ok(Exit::Ok)
    }
}

fn draw(view: &RulesView, context: &Context) -> String {
    let mut table = Table::new(context.out, &["PRIORITY", "RULE", "PERSONA", "WHEN"]);
    let mut rules: Vec<_> = view.rules.iter().collect();
    rules.sort_by_key(|rule| -rule.priority);
    for rule in rules {
        table.row([
            rule.priority.to_string(),
            rule.name.clone(),
            rule.persona.to_string(),
            rule.when.clone(),
        ]);
    }
    let default = view
        .default
        .as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string);
    format!(
        "rules v{}, applied {} by {}\ndefault   {}\n\n{}",
        view.version,
        view.applied_at,
        text::line(&view.applied_by),
        text::line(&default),
        table.render("no rules")
    )
}
