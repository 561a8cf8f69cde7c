//! `chain`: recipes of stages, checked here, applied through the daemon.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, Paint};
use super::table::Table;
use super::text;
use crate::api::ApplyChain;
use crate::chain::faults::Colour;
use crate::chain::files::FileRefusal;
use crate::chain::model::Chain;
use crate::chain::{Faults, ScriptFiles, ScriptFolder, check};

mod draw;

#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// Check chain files, without a daemon; all faults at once
    #[command(visible_alias = "validate")]
    Check(Check),
    /// Store chain files as their chains' next versions
    Apply(Apply),
    /// List the newest version of each chain
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom chain list\n  greenroom chain list -o json | jq -r '.[].name'"
    )]
    List,
    /// Show one chain
    #[command(visible_alias = "get")]
    Show(Show),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom chain check chains/hello.yaml
  greenroom chain check chains                 # every .yaml, .yml and .json file in it
  greenroom chain check -o json chains | jq '.[] | select(.ok | not)'

Exit code 0 when all are good, 5 when one has faults or, of several, cannot be read.")]
pub struct Check {
    /// Chain files, or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom chain apply chains/hello.yaml
  greenroom chain apply chains/*.yaml

All files are checked first; nothing is applied unless all are good. A file that means
the same as the newest version makes no new one.")]
pub struct Apply {
    /// Chain files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom chain show hello
  greenroom chain show hello --version 2 --source > hello-2.yaml")]
pub struct Show {
    /// The chain's name
    name: String,
    /// Instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<i64>,
    /// The text as it was applied
    #[arg(long)]
    source: bool,
}

impl ChainCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check(check) => check.run(context),
            Self::Apply(apply) => apply.run(context).await,
            Self::List => {
                let chains = context.client()?.chain_list().await?;
                context.show(&chains, || draw::list(&chains, context))?;
                Ok(Exit::Ok)
            }
            Self::Show(show) => show.run(context).await,
        }
    }
}

/// What was found out about one file.
#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<Faults>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

impl Verdict {
    fn of(path: &Path, checked: Result<Chain, Faults>) -> Self {
        let file = path.display().to_string();
        match checked {
            Ok(chain) => Self {
                file,
                ok: true,
                digest: Some(chain.digest().to_string()),
                stages: chain
                    .stages
                    .iter()
                    .map(|stage| stage.name.clone())
                    .collect(),
                chain: Some(chain.name),
                faults: None,
                unreadable: None,
            },
            Err(faults) => Self {
                faults: Some(faults),
                ..Self::bad(file)
            },
        }
    }

    fn bad(file: String) -> Self {
        Self {
            file,
            ok: false,
            chain: None,
            digest: None,
            stages: Vec::new(),
            faults: None,
            unreadable: None,
        }
    }
}

impl Check {
    fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut verdicts = Vec::new();
        let files = chain_files(&self.paths)?;
        for path in &files {
            verdicts.push(match check::check_file(path) {
                Ok(checked) => Verdict::of(path, checked),
                Err(error) if files.len() == 1 => return Err(Failure::of_file(path, &error)),
                // The others are worth a look all the same.
                Err(error) => Verdict {
                    unreadable: Some(error.to_string()),
                    ..Verdict::bad(path.display().to_string())
                },
            });
        }
        if context.global.output == Format::Table {
            for faults in verdicts
                .iter()
                .filter_map(|verdict| verdict.faults.as_ref())
            {
                tell_faults(context, faults);
            }
        }
        context.show(&verdicts, || verdict_table(&verdicts, context.out))?;
        let all_good = verdicts.iter().all(|verdict| verdict.ok);
        Ok(if all_good { Exit::Ok } else { Exit::Invalid })
    }
}

fn verdict_table(verdicts: &[Verdict], paint: Paint) -> String {
    let mut table = Table::new(paint, &["FILE", "VERDICT", "CHAIN", "STAGES"]);
    for verdict in verdicts {
        let (word, stages) = match (&verdict.faults, &verdict.unreadable) {
            (None, Some(why)) => (format!("unreadable: {why}"), String::new()),
            (None, None) => ("ok".to_owned(), verdict.stages.join(", ")),
            (Some(faults), _) => {
                let count = faults.faults.len() + faults.left_out;
                let plural = if count == 1 { "" } else { "s" };
                (format!("{count} fault{plural}"), String::new())
            }
        };
        let chain = verdict.chain.clone().unwrap_or_default();
        table.row([verdict.file.clone(), word, chain, stages]);
    }
    table.render("no files")
}

/// The report with the lines of the file; to standard error, like a compiler's.
pub fn tell_faults(context: &Context, faults: &Faults) {
    // The report quotes the file, which may be a stranger's: made harmless before it is painted
    // would lose the paint, so a painted report is only made of files without control characters.
    let plain = faults.render(Colour::Plain);
    let is_harmless = text::block(&plain) == plain;
    let report = match context.err {
        Paint::Ansi if is_harmless => faults.render(Colour::Ansi),
        _ => text::block(&plain),
    };
    context.note_painted(&report);
}

/// The files as given, and the chain files of the folders.
pub fn chain_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let of_folder = |error: std::io::Error| Failure::of_file(path, &error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(of_folder)? {
            let file = entry.map_err(of_folder)?.path();
            let extension = file.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{} has no .yaml, .yml or .json file", path.display()),
            ));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Passes files through and remembers them: what a chain names is what the daemon needs.
struct Recording {
    folder: ScriptFolder,
    read: RefCell<BTreeMap<String, String>>,
}

impl ScriptFiles for Recording {
    fn text(&self, relative: &str) -> Result<String, FileRefusal> {
        let text = self.folder.text(relative)?;
        self.read
            .borrow_mut()
            .insert(relative.to_owned(), text.clone());
        Ok(text)
    }

    fn names(&self) -> Vec<String> {
        self.folder.names()
    }
}

impl Apply {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut orders = Vec::new();
        let mut faulty = Vec::new();
        for path in &self.files {
            match prepare(path)? {
                Ok(order) => orders.push(order),
                Err(faults) => {
                    tell_faults(context, &faults);
                    faulty.push(path.display().to_string());
                }
            }
        }
        if !faulty.is_empty() {
            return Err(Failure::new(
                Exit::Invalid,
                format!("nothing was applied: {} with faults", faulty.join(", ")),
            ));
        }
        let client = context.client()?;
        let mut applied = Vec::new();
        for order in &orders {
            applied.push(client.chain_apply(order).await?);
        }
        context.show(&applied, || {
            let mut out = String::new();
            for one in &applied {
                let word = match (one.is_new, one.chain.version) {
                    (false, _) => "unchanged",
                    (true, 1) => "created",
                    (true, _) => "changed",
                };
                let name = text::line(&one.chain.name);
                let _ = writeln!(out, "chain {name} v{} {word}", one.chain.version);
            }
            out
        })?;
        Ok(Exit::Ok)
    }
}

/// Reads and checks a file and gathers what it names.
fn prepare(path: &Path) -> Result<Result<ApplyChain, Faults>, Failure> {
    let of_file = |error: std::io::Error| Failure::of_file(path, &error);
    if let Err(faults) = check::check_file(path).map_err(of_file)? {
        return Ok(Err(faults));
    }
    let source = std::fs::read_to_string(path).map_err(of_file)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let files = Recording {
        folder: ScriptFolder::new(folder),
        read: RefCell::default(),
    };
    let checked = check::check(&source, &files);
    Ok(checked
        .map_err(|faults| faults.in_file(path.display().to_string()))
        .map(|_| ApplyChain {
            source,
            files: files.read.into_inner(),
        }))
}

impl Show {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let view = context
            .client()?
            .chain_show(&self.name, self.version)
            .await?;
        if self.source {
            context.print(&text::block(&view.source))?;
        } else {
            context.show(&view, || draw::show(&view, context.out))?;
        }
        Ok(Exit::Ok)
    }
}
