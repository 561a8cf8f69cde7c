//! `persona apply`: the daemon compiles, all files or none.

use std::path::PathBuf;

use clap::Args;

use super::super::chain::tell_faults;
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Format;
use super::super::text;
use super::{by, check, draw};
use crate::api::personas::{AppliedPersona, ApplyPersonas, PersonaFault, PersonaFile};
use crate::chain::Faults;
use crate::chain::faults::Fault;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona apply -f chains/personas/base.yaml -f chains/personas/web-server.yaml --promote
  greenroom persona apply -f web-server.yaml --dry-run            # what would change, and why not
  greenroom persona apply -f web-server.yaml --reason \"ticket 4711\"

The files are compiled together: a child may come before its parent. Nothing is stored unless all
are good. A file that means the same as the newest version makes no new one.")]
pub struct Apply {
    /// Persona files
    #[arg(short, long, required_unless_present = "files", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The same without -f
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Make the new versions the ones that devices get
    #[arg(long)]
    promote: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
}

impl Apply {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut sources = Vec::new();
        for path in self.file.iter().chain(&self.files) {
            sources.push(check::source(path)?);
        }
        let client = context.client()?;
        let mut order = ApplyPersonas {
            files: sources
                .iter()
                .map(|source| PersonaFile {
                    file: source.file.clone(),
                    source: source.text.clone(),
                })
                .collect(),
            reason: self.reason,
            by: by(),
            promote: self.promote,
            dry_run: true,
        };
        // Faults with their places come from a dry run; a real one only refuses.
        let found = client.persona_apply(&order).await?;
        let is_good = tell(context, &found, &sources);
        if !is_good {
            if context.global.output != Format::Table {
                context.show(&found, String::new)?;
            }
            let faulty: Vec<&str> = found
                .iter()
                .filter(|one| !one.ok)
                .map(|one| one.file.as_str())
                .collect();
            return Err(Failure::new(
                Exit::Invalid,
                format!("nothing was applied: {} with faults", faulty.join(", ")),
            ));
        }
        let applied = if self.dry_run {
            found
        } else {
            order.dry_run = false;
            client.persona_apply(&order).await?
        };
        context.show(&applied, || said(&applied, self.dry_run))?;
        if !self.dry_run && !self.promote {
            for one in applied.iter().filter(|one| one.is_new) {
                context.note(&format!(
                    "a draft: devices get it after `greenroom persona promote {}`",
                    one.name
                ));
            }
        }
        Ok(Exit::Ok)
    }
}

/// Tells faults and warnings; whether there is no fault.
fn tell(
    context: &Context,
    found: &[AppliedPersona],
    sources: &[crate::personas::compile::Source],
) -> bool {
    for (one, source) in found.iter().zip(sources) {
        if !one.faults.is_empty() && context.global.output == Format::Table {
            let faults = Faults::new(&source.text, one.faults.iter().map(fault).collect());
            tell_faults(context, &faults.in_file(source.file.clone()));
        }
        for warning in &one.warnings {
            context.note(&draw::warning(
                &one.file,
                warning.line,
                warning.column,
                &warning.path,
                &warning.detail,
                warning.suggestion.as_deref(),
            ));
        }
    }
    found.iter().all(|one| one.ok)
}

pub fn fault(fault: &PersonaFault) -> Fault {
    Fault {
        line: fault.line,
        column: fault.column,
        path: fault.path.clone(),
        message: fault.detail.clone(),
        expected: fault.expected.clone(),
        suggestion: fault.suggestion.clone(),
        bytes: fault.start..fault.end.max(fault.start),
    }
}

fn said(applied: &[AppliedPersona], dry_run: bool) -> String {
    let mut out = String::new();
    for one in applied {
        let version = one.version.unwrap_or_default();
        let word = match (one.is_new, version) {
            (false, _) => "unchanged",
            (true, 1) => "created",
            (true, _) => "changed",
        };
        let would = if dry_run && one.is_new {
            "would be "
        } else {
            ""
        };
        let state = if one.is_current { ", current" } else { "" };
        let parent = one
            .parent
            .as_ref()
            .map(|parent| format!(" over {parent}"))
            .unwrap_or_default();
        out.push_str(&format!(
            "persona {}@{version} {would}{word}{state}{parent}\n",
            text::line(&one.name)
        ));
        if dry_run && one.is_new && version > 1 {
            out.push_str(&text::block(&one.difference));
        }
    }
    out
}
