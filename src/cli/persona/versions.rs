//! Versions of a persona: show, history, diff, promote, rollback, preview.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value};

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::{facts, text};
use super::{by, draw};
use crate::api::personas::{MovePersona, PreviewPersona};
use crate::vocab::persona::PersonaRef;

/// `NAME` or `NAME@VERSION`.
pub fn persona(text: &str) -> Result<PersonaRef, String> {
    text.parse::<PersonaRef>()
        .map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona show web-server                  # with everything inherited, and whose it is
  greenroom persona show web-server@2 --source > web-server.yaml
  greenroom persona show web-server -o json | jq .document.security")]
pub struct Show {
    /// NAME, which means the current version (else the newest), or NAME@VERSION
    #[arg(value_parser = persona)]
    persona: PersonaRef,
    /// The text as it was applied, comments included
    #[arg(long)]
    source: bool,
}

impl Show {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let view = context
            .client()?
            .persona_show(&self.persona.name, self.persona.version)
            .await?;
        if self.source {
            context.print(&text::block(&view.source))?;
        } else {
            context.show(&view, || draw::show(&view))?;
        }
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  greenroom persona history web-server")]
pub struct History {
    /// The persona's name
    name: String,
}

impl History {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let history = context.client()?.persona_history(&self.name).await?;
        context.show(&history, || draw::history(&history, context))?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona diff web-server                  # the newest against the one before
  greenroom persona diff web-server --from 1 --to 4 --meaning")]
pub struct Diff {
    /// The persona's name
    name: String,
    #[arg(long, value_name = "N")]
    from: Option<i64>,
    #[arg(long, value_name = "N")]
    to: Option<i64>,
    /// Only of the texts
    #[arg(long, conflicts_with = "meaning")]
    text: bool,
    /// Only of what they mean
    #[arg(long)]
    meaning: bool,
}

impl Diff {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let difference = context
            .client()?
            .persona_diff(&self.name, self.from, self.to)
            .await?;
        context.show(&difference, || {
            let mut out = String::new();
            for (is_wanted, title, text) in [
                (!self.meaning, "text", &difference.source),
                (!self.text, "meaning", &difference.compiled),
            ] {
                if is_wanted {
                    let body = if text.is_empty() {
                        "no difference\n"
                    } else {
                        text
                    };
                    out.push_str(&format!(
                        "=== {title}, {} → {}\n{}",
                        difference.from,
                        difference.to,
                        text::block(body)
                    ));
                }
            }
            out
        })?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona promote web-server                       # the newest version
  greenroom persona promote web-server@3 --reason \"tested on web-7\"")]
pub struct Promote {
    /// NAME, which means the newest version, or NAME@VERSION
    #[arg(value_parser = persona)]
    persona: PersonaRef,
    /// Why, for the history
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
}

impl Promote {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let order = MovePersona {
            version: self.persona.version,
            reason: self.reason,
            by: by(),
        };
        let view = context
            .client()?
            .persona_promote(&self.persona.name, &order)
            .await?;
        context.show(&view, || {
            format!(
                "persona {}@{} is current\n",
                text::line(&view.name),
                view.version
            )
        })?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona rollback web-server --reason \"slow boots\"
  greenroom persona rollback web-server --to 1

Goes back to what was current before the current version was promoted. Runs that are under way keep
the version that they pinned.")]
pub struct Rollback {
    /// The persona's name
    name: String,
    /// To this version, instead of the one before
    #[arg(long, value_name = "N")]
    to: Option<i64>,
    /// Why, for the history
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
}

impl Rollback {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let order = MovePersona {
            version: self.to,
            reason: self.reason,
            by: by(),
        };
        let view = context
            .client()?
            .persona_roll_back(&self.name, &order)
            .await?;
        context.show(&view, || {
            format!(
                "persona {}@{} is current again\n",
                text::line(&view.name),
                view.version
            )
        })?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona preview web-server --device web-1
  greenroom persona preview web-server@2 --facts sample.yaml --only nftables
  greenroom persona preview web-server --device web-1 -o json | jq -r '.files[].path'

Exit code 0 when the persona fits the device, 4 when it does not.")]
pub struct Preview {
    /// NAME or NAME@VERSION
    #[arg(value_parser = persona)]
    persona: PersonaRef,
    /// A device that is known
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// YAML or JSON object of facts of one that is not
    #[arg(long, value_name = "FILE", conflicts_with = "device")]
    facts: Option<PathBuf>,
    /// Only files whose path has this in it
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Preview {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let facts: Option<Map<String, Value>> = match &self.facts {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::of_file(path, &error))?;
                let mut facts: Map<String, Value> =
                    facts::parse_document(&text).map_err(|why| {
                        Failure::new(Exit::Invalid, format!("{}: {why}", path.display()))
                    })?;
                // A whole device's file is as good as its facts.
                if let Some(Value::Object(inner)) = facts.remove("facts") {
                    facts = inner;
                }
                Some(facts)
            }
        };
        let order = PreviewPersona {
            persona: Some(self.persona),
            source: None,
            device: self.device,
            facts,
        };
        let mut preview = context.client()?.persona_preview(&order).await?;
        if let Some(only) = &self.only {
            preview.files.retain(|file| file.path.contains(only));
        }
        context.show(&preview, || draw::preview(&preview))?;
        Ok(if preview.fits {
            Exit::Ok
        } else {
            Exit::Refused
        })
    }
}
