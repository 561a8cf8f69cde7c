//! `persona check`: offline, against the files beside.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::chain::{chain_files, tell_faults};
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Format;
use super::super::table::Table;
use crate::chain::Faults;
use crate::chain::faults::Fault;
use crate::personas::compile::{Known, Means, Outcome, Source, compile};
use crate::personas::read;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona check chains/personas/web-server.yaml     # its parent is looked for beside it
  greenroom persona check chains/personas                     # every .yaml, .yml and .json file in it
  greenroom persona check -o json chains/personas | jq '.[] | select(.ok | not)'

Parents that only the daemon has: `greenroom persona apply --dry-run FILE`.
Exit code 0 when all are good, 5 when one has faults.")]
pub struct Check {
    /// Persona files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    ok: bool,
    persona: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<Faults>,
    warnings: Vec<Fault>,
}

impl Check {
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        let files = chain_files(&self.paths)?;
        let mut sources = Vec::new();
        for path in &files {
            sources.push(source(path)?);
        }
        let asked = sources.len();
        parents_beside(&files, &mut sources);
        let outcomes = compile(&sources, &Known::default(), &Means::shipped(), &|_| 1);
        let verdicts: Vec<Verdict> = outcomes.into_iter().take(asked).map(verdict).collect();
        if context.global.output == Format::Table {
            for one in &verdicts {
                if let Some(faults) = &one.faults {
                    tell_faults(context, faults);
                }
                for warning in &one.warnings {
                    context.note(&super::draw::warning(
                        &one.file,
                        warning.line,
                        warning.column,
                        &warning.path,
                        &warning.message,
                        warning.suggestion.as_deref(),
                    ));
                }
            }
        }
        context.show(&verdicts, || {
            let mut table = Table::new(
                context.out,
                &["FILE", "VERDICT", "PERSONA", "PARENT", "WARNINGS"],
            );
            for one in &verdicts {
                let word = match one
                    .faults
                    .as_ref()
                    .map(|faults| faults.faults.len() + faults.left_out)
                {
                    None => "ok".to_owned(),
                    Some(1) => "1 fault".to_owned(),
                    Some(count) => format!("{count} faults"),
                };
                let parent = one.parent.clone().unwrap_or_default();
                table.row([
                    one.file.clone(),
                    word,
                    one.persona.clone(),
                    parent,
                    one.warnings.len().to_string(),
                ]);
            }
            table.render("no files")
        })?;
        let all_good = verdicts.iter().all(|one| one.ok);
        Ok(if all_good { Exit::Ok } else { Exit::Invalid })
    }
}

fn verdict(outcome: Outcome) -> Verdict {
    let (digest, faults) = match outcome.compiled {
        Ok(compiled) => (Some(compiled.digest.to_string()), None),
        Err(faults) => (None, Some(faults)),
    };
    Verdict {
        file: outcome.file,
        ok: faults.is_none(),
        persona: outcome.name,
        // Versions are only known to a daemon.
        parent: outcome.parent.map(|parent| parent.name),
        digest,
        faults,
        warnings: outcome.warnings,
    }
}

/// Larger files are refused by their reading; there is no need for more than shows that.
pub fn source(path: &Path) -> Result<Source, Failure> {
    use std::io::Read as _;
    let of_file = |error: std::io::Error| Failure::of_file(path, &error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(of_file)?;
    if !file.metadata().map_err(of_file)?.is_file() {
        return Err(of_file(std::io::Error::other("not a regular file")));
    }
    file.take(crate::chain::read::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(of_file)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(
            Exit::Invalid,
            format!("{} is not UTF-8 text", path.display()),
        )
    })?;
    Ok(Source {
        file: path.display().to_string(),
        text,
    })
}

/// Adds the files in the same folders that are parents of what is there, and theirs.
fn parents_beside(files: &[PathBuf], sources: &mut Vec<Source>) {
    let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    folders.dedup();
    let mut others: Vec<(String, Source)> = Vec::new();
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let entries = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .take(1000);
        for path in entries.map(|entry| entry.path()) {
            let path = path.strip_prefix("./").map(Path::to_owned).unwrap_or(path);
            let is_yaml = path.extension().is_some_and(|extension| {
                extension == "yaml" || extension == "yml" || extension == "json"
            });
            if !is_yaml || files.contains(&path) {
                continue;
            }
            let Ok(source) = source(&path) else { continue };
            if let Some(layer) = read::read(&source.text).layer {
                others.push((layer.name, source));
            }
        }
    }
    let mut at = 0;
    while at < sources.len() {
        let parent = read::read(&sources[at].text)
            .layer
            .and_then(|layer| layer.parent);
        if let Some(found) =
            parent.and_then(|parent| others.iter().position(|(name, _)| *name == parent.name))
        {
            sources.push(others.swap_remove(found).1);
        }
        at += 1;
    }
}
