//! `claim`, `release`: taking a warm machine, using it, and giving it back.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Format;
use super::table::Table;
use super::text;
use crate::api::{ClaimView, ExecOrder, ExecView, TakeClaim, TakenView};
use crate::vocab::MachineId;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  greenroom claim tiny --exec 'uname -a'           # ends with the command's exit code
  greenroom claim toolbox --vcpus 2 --memory 1024 --ttl 30m
  greenroom claim toolbox --exec 'jq --version' --keep --key job-7
  greenroom claim tiny --exec true -o json | jq '.phases, .total_ms'
  greenroom claim list
  greenroom release job-7

Without --exec the machine is yours until `greenroom release` or until its time is up.
Exit code 6 when the pool has no machine for this: nothing is taken then."
)]
pub struct ClaimCommand {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    take: Take,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// List machines that are taken, oldest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom claim list\n  greenroom claim list -o json | jq -r '.[].machine'"
    )]
    List,
}

#[derive(Debug, Args)]
struct Take {
    /// The image
    #[arg(required = true)]
    image: Option<String>,
    /// vCPUs [default: 1]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory, MiB [default: the image's smallest]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// With a network card
    #[arg(long)]
    network: bool,
    /// The machine is taken away after this time, at most 24h [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = text::parse_span)]
    ttl: Option<u64>,
    /// Asked again with the same key, the same machine is given [default: made up]
    #[arg(long)]
    key: Option<String>,
    /// On whose behalf; decides the trust domain [default: default]
    #[arg(long)]
    client: Option<String>,
    /// Run this with `sh -c` in the machine, and release it
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// How long the command may take, at most 1h [default: 1m]
    #[arg(long, value_name = "TIME", requires = "exec", value_parser = text::parse_span)]
    deadline: Option<u64>,
    /// Keep the machine when the command has ended
    #[arg(long, requires = "exec")]
    keep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom release job-7
  greenroom release --all

--all leaves alone what runs have taken. Returns when the machines are gone.")]
pub struct Release {
    /// Keys of claims, see `greenroom claim list`
    #[arg(
        value_name = "KEY",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    keys: Vec<String>,
    /// Every machine that was taken with `claim`
    #[arg(long)]
    all: bool,
}

impl ClaimCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.command {
            Some(Sub::List) => {
                let claims = context.client()?.claim_list().await?;
                context.show(&claims, || list(&claims, context))?;
                Ok(Exit::Ok)
            }
            None => self.take.run(context).await,
        }
    }
}

impl Take {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let image = self.image.unwrap_or_default();
        let order = TakeClaim {
            image: image.clone(),
            vcpus: self.vcpus,
            memory_mib: self.memory,
            network: self.network,
            key: Some(self.key.unwrap_or_else(made_up)),
            client: self.client,
            owner: Some(asked_by()),
            ttl_s: self.ttl,
            exec: self.exec.map(|command| ExecOrder {
                argv: vec!["/bin/sh".into(), "-c".into(), command],
                stdin: String::new(),
                deadline_s: self.deadline,
            }),
            keep: self.keep,
        };
        let taken = context.client()?.claim_take(&order).await?;
        let Some(claim) = &taken.claim else {
            if context.global.output != Format::Table {
                context.show(&taken, String::new)?;
            }
            return Err(nothing(&image, &taken));
        };
        match (&taken.exec, context.global.output) {
            (Some(exec), Format::Table) => {
                context.note(&in_short(claim, &taken));
                write_output(context, exec)?;
            }
            (None, Format::Table) if context.global.quiet => {
                context.print(&format!("{}\n", text::line(&claim.key)))?;
            }
            _ => context.show(&taken, || show(claim, &taken))?,
        }
        match &taken.exec {
            None => Ok(Exit::Ok),
            Some(exec) => ended(exec, claim, self.keep),
        }
    }
}

fn made_up() -> String {
    let digits = MachineId::fresh().0.simple().to_string();
    // The last digits are random.
    format!("cli-{}", &digits[20..])
}

fn asked_by() -> String {
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() && user.len() < 64 => format!("{user} on the command line"),
        _ => "the command line".to_owned(),
    }
}

fn nothing(image: &str, taken: &TakenView) -> Failure {
    let message = format!(
        "the pool has no machine for this (it is {}): {}",
        taken.tier, taken.reason
    );
    let way_out = format!(
        "keep some ready with `greenroom pool set {image} --hot 1 --wait`, with the same size; `greenroom pool top` tells what there is"
    );
    Failure::new(Exit::Nothing, message).with_way_out(way_out)
}

/// One line, beside the command's own output.
fn in_short(claim: &ClaimView, taken: &TakenView) -> String {
    format!(
        "{} ({}, {}), {}, {} in all",
        claim.name.as_deref().unwrap_or(&claim.machine),
        claim.engine,
        claim.tier,
        phases(taken),
        text::millis(taken.total_ms)
    )
}

fn phases(taken: &TakenView) -> String {
    let parts: Vec<String> = taken
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.phase, text::millis(phase.ms)))
        .collect();
    parts.join(", ")
}

fn show(claim: &ClaimView, taken: &TakenView) -> String {
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<9} {}", text::line(value));
    };
    field("claim", &claim.key);
    field("machine", &claim.machine);
    if let Some(name) = &claim.name {
        field("name", name);
    }
    field("class", &claim.class);
    field("engine", &format!("{}: {}", claim.engine, claim.reason));
    field("tier", &claim.tier);
    if let Some(achieved) = claim.achieved {
        let size = format!(
            "{} vCPUs, {}",
            achieved.vcpus,
            text::mib(achieved.memory_mib)
        );
        field("has", &size);
    }
    if let Some(shortfall) = &claim.shortfall {
        field("short", shortfall);
    }
    if let Some(until) = claim.until {
        field("until", &until.to_string());
    }
    let total = text::millis(taken.total_ms);
    field("took", &format!("{total}: {}", phases(taken)));
    let release = format!("greenroom release {}", claim.key);
    field("release", &release);
    out
}

/// The command's output as it is where programs read it, made harmless where people do.
fn write_output(context: &Context, exec: &ExecView) -> Result<(), Failure> {
    if !std::io::stderr().is_terminal() {
        let _ = std::io::stderr().write_all(&bytes(&exec.err, exec.err_base64.as_deref()));
    } else if !exec.err.is_empty() {
        context.note_painted(&text::block(&exec.err));
    }
    if std::io::stdout().is_terminal() {
        return context.print(&text::block(&exec.out));
    }
    let out = bytes(&exec.out, exec.out_base64.as_deref());
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(&out).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("standard output cannot be written: {error}"),
        )),
    }
}

fn bytes(text: &str, base64: Option<&str>) -> Vec<u8> {
    base64
        .and_then(|base64| STANDARD.decode(base64).ok())
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

fn ended(exec: &ExecView, claim: &ClaimView, kept: bool) -> Result<Exit, Failure> {
    if let Some(code) = exec.exit_code {
        return Ok(Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    let why = exec.problem.as_deref().unwrap_or("nothing more is known");
    let message = format!("the end of the command was not seen: {why}");
    let failure = Failure::new(Exit::Failed, message);
    Err(if kept {
        let key = &claim.key;
        failure.with_way_out(format!(
            "the machine is kept; `greenroom release {key}` ends it"
        ))
    } else {
        failure.with_way_out("give it more time with --deadline; the machine is released")
    })
}

fn list(claims: &[ClaimView], context: &Context) -> String {
    let headers = [
        "KEY", "OWNER", "CLASS", "ENGINE", "TIER", "MACHINE", "AGE", "LEFT",
    ];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for claim in claims {
        let left = claim.until.map(|until| text::span(until.seconds_from(now)));
        table.row([
            claim.key.clone(),
            claim.owner.clone(),
            claim.class.clone(),
            claim.engine.clone(),
            claim.tier.clone(),
            claim.name.clone().unwrap_or_else(|| claim.machine.clone()),
            text::span(now.seconds_from(claim.made_at)),
            left.unwrap_or_else(|| "-".into()),
        ]);
    }
    table.render("nothing is claimed; take a machine with `greenroom claim IMAGE`")
}

impl Release {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let keys = if self.all {
            let claims = client.claim_list().await?;
            let ours = claims.into_iter().filter(|claim| claim.until.is_some());
            ours.map(|claim| claim.key).collect()
        } else {
            self.keys
        };
        // One that fails does not keep the others.
        let mut first_failure = None;
        let mut released = Vec::new();
        for key in keys {
            match client.claim_release(&key).await {
                Ok(()) => released.push(key),
                Err(error) if first_failure.is_none() => first_failure = Some(error),
                Err(error) => context.note(&error.to_string()),
            }
        }
        context.show(&serde_json::json!({ "released": released }), || {
            if released.is_empty() && first_failure.is_none() {
                return "nothing was claimed\n".to_owned();
            }
            let line = |key: &String| format!("released {}\n", text::line(key));
            released.iter().map(line).collect()
        })?;
        match first_failure {
            Some(error) => Err(error.into()),
            None => Ok(Exit::Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_as_it_ended_in_the_machine() {
        let claim: ClaimView = serde_json::from_value(serde_json::json!({
            "key": "k", "owner": "x", "machine": "m", "name": "gr-shell-tiny-1", "class": "tiny:1x128",
            "engine": "resume", "tier": "hot", "reason": "", "made_at": "2026-01-01T00:00:00Z",
            "until": null, "released_at": null, "achieved": null, "phases": [],
        }))
        .unwrap();
        let exec = |exit_code: Option<i32>| ExecView {
            exit_code,
            problem: Some("silence".into()),
            ..ExecView::default()
        };
        assert_eq!(ended(&exec(Some(3)), &claim, false), Ok(Exit::Command(3)));
        let unseen = ended(&exec(None), &claim, true).unwrap_err();
        assert_eq!(unseen.exit, Exit::Failed);
        assert!(unseen.way_out.unwrap().contains("release k"));
    }

    #[test]
    fn bytes_win_over_text() {
        assert_eq!(bytes("a\u{fffd}", Some("Yf8=")), b"a\xff");
        assert_eq!(bytes("ok", None), b"ok");
    }
}
