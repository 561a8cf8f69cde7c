//! `template`: what warm machines are forked from.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::pool::ClassOptions;
use super::table::Table;
use super::text;
use crate::api::{BuildTemplate, TemplateView};

mod progress;
mod show;

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Boot an image once, settle it and capture it, unless that was done
    Build(Build),
    /// List templates, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one template: what it was made from, its files, what was forked from it
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  greenroom template show tiny\n  greenroom template show 0199a1b2-c3d4\n  greenroom template show tiny -o json | jq -r '.inputs[] | [.name, .value] | @tsv'"
    )]
    Show(Which),
    /// Read a template's files and compare them with what they were
    #[command(
        after_help = "Examples:\n  greenroom template verify tiny\n  greenroom template list -o json | jq -r '.[].id' | xargs -n 1 greenroom template verify\n\nExit code 1 when they differ: the template has failed then, and nothing is forked from it."
    )]
    Verify(Which),
    /// Fork nothing more from a template; it goes with its last machine
    #[command(
        after_help = "Examples:\n  greenroom template retire toolbox:2x1024+net\n\nA class that is wanted warm or hot, or was used lately, gets a new one."
    )]
    Retire(Which),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom template build tiny
  greenroom template build toolbox --vcpus 2 --memory 1024 --network
  greenroom template build toolbox:2x1024+net --force --no-wait

One that is there and not out of date is kept. Exit code 1 when it could not be made.")]
pub struct Build {
    #[command(flatten)]
    class: ClassOptions,
    /// Although there is one
    #[arg(long)]
    force: bool,
    /// Return at once; it goes on in the daemon
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom template list
  greenroom template list --all -o json | jq -r '.[] | select(.state == \"failed\") | .reason'")]
pub struct List {
    /// Those that are gone, too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub struct Which {
    /// Its id, the beginning of it, or a class or image: its newest
    #[arg(value_name = "ID")]
    which: String,
}

impl TemplateCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Build(build) => build.run(context).await,
            Self::List(List { all }) => {
                let templates = context.client()?.template_list(all).await?;
                context.show(&templates, || list(&templates, context))?;
                Ok(Exit::Ok)
            }
            Self::Show(Which { which }) => {
                let detail = context.client()?.template_show(&which).await?;
                context.show(&detail, || {
                    show::render(&detail, context.now(), context.out)
                })?;
                Ok(Exit::Ok)
            }
            Self::Verify(Which { which }) => {
                let template = context.client()?.template_verify(&which).await?;
                told(context, &template, "is as it was sealed")
            }
            Self::Retire(Which { which }) => {
                let template = context.client()?.template_retire(&which).await?;
                let word = text::line(&template.state);
                context.show(&template, || format!("{} is {word}\n", named(&template)))?;
                Ok(Exit::Ok)
            }
        }
    }
}

impl Build {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let order = BuildTemplate {
            class: self.class.which(),
            force: self.force,
        };
        let begun = client.template_build(&order).await?;
        if begun.state != "building" {
            return told(context, &begun, "is there and not out of date");
        }
        if self.no_wait {
            context.show(&begun, || format!("{} is building\n", named(&begun)))?;
            let see = format!("see `greenroom template show {}`", short(&begun.id));
            context.note(&see);
            return Ok(Exit::Ok);
        }
        let ended = progress::wait(context, &client, begun).await?;
        let took = ended
            .ready_at
            .unwrap_or_else(|| context.now())
            .seconds_from(ended.made_at);
        told(
            context,
            &ended,
            &format!("is ready after {}", text::span(took)),
        )
    }
}

/// Shows a template of which good is said, unless it failed.
fn told(context: &Context, template: &TemplateView, good: &str) -> Result<Exit, Failure> {
    let is_good = matches!(template.state.as_str(), "ready" | "draining");
    context.show(template, || {
        if is_good {
            format!("{} {good}\n", named(template))
        } else {
            String::new()
        }
    })?;
    if is_good {
        return Ok(Exit::Ok);
    }
    let why = template.reason.as_deref().unwrap_or("no reason was given");
    let message = format!("{} is {}: {why}", named(template), template.state);
    let again = format!(
        "see `greenroom template show {}`; `greenroom template build {}` makes a new one",
        short(&template.id),
        template.class
    );
    Err(Failure::new(Exit::Failed, message).with_way_out(again))
}

fn named(template: &TemplateView) -> String {
    format!(
        "template {} of {}",
        text::line(&short(&template.id)),
        text::line(&template.class)
    )
}

/// The part of an id that tells when it was made, to the millisecond: enough among templates.
pub fn short(id: &str) -> String {
    id.chars().take(13).collect()
}

fn list(templates: &[TemplateView], context: &Context) -> String {
    let headers = [
        "ID",
        "CLASS",
        "GENERATION",
        "STATE",
        "KEY",
        "FILES",
        "TOOK",
        "AGE",
        "NOTE",
    ];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for template in templates {
        let took: f64 = template.phases.iter().map(|phase| phase.ms).sum();
        table.row([
            short(&template.id),
            template.class.clone(),
            template.generation.to_string(),
            template.state.clone(),
            template.key.short(),
            show::files(template).unwrap_or_else(|| "-".into()),
            text::span(took / 1000.0),
            text::span(now.seconds_from(template.made_at)),
            template.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render("no templates; build one with `greenroom template build IMAGE`")
}
