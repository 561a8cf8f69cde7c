//! `pool`: machines that wait before they are asked for.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::Paint;
use super::table::Table;
use super::text;
use crate::api::{PoolView, ShellView, Time, WhichClass};

mod policy;
mod set;
mod show;
mod top;

#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List classes: what is wanted of them, and what there is
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom pool list\n  greenroom pool list -o json | jq -r '.[] | [.class, .tier, .ready] | @tsv'"
    )]
    List,
    /// Show one class with its machines
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  greenroom pool show tiny\n  greenroom pool show toolbox:2x1024+net -o json | jq '.shells[].phases'"
    )]
    Show {
        /// A class, or an image: its only class, or the plain one
        #[arg(value_name = "CLASS-OR-IMAGE")]
        which: String,
    },
    /// Say how many machines of a class are to wait
    Set(set::Set),
    /// Who chooses how many machines wait, and what that comes to: show, set
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Watch the pool: tiers, hits, memory, recent claims
    Top(top::Top),
}

/// A class, for commands that make something of it.
#[derive(Debug, Clone, Args)]
pub struct ClassOptions {
    /// An image, or a class such as toolbox:2x1024+net
    #[arg(value_name = "CLASS-OR-IMAGE")]
    of: String,
    /// vCPUs that are there at most [default: 1]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory, MiB [default: the image's smallest]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// With a network card
    #[arg(long)]
    network: bool,
    /// Only clients of one trust domain share memory pages [default: default]
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
}

impl ClassOptions {
    pub fn which(&self) -> WhichClass {
        WhichClass {
            of: self.of.clone(),
            vcpus: self.vcpus,
            memory_mib: self.memory,
            network: self.network.then_some(true),
            trust: self.trust_domain.clone(),
        }
    }
}

impl PoolCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::List => {
                let pools = context.client()?.pool_list().await?;
                context.show(&pools, || list(&pools, context.out))?;
                Ok(Exit::Ok)
            }
            Self::Show { which } => {
                let detail = context.client()?.pool_show(&which).await?;
                context.show(&detail, || {
                    show::render(&detail, context.now(), context.out)
                })?;
                Ok(Exit::Ok)
            }
            Self::Set(set) => set.run(context).await,
            Self::Policy(command) => command.run(context).await,
            Self::Top(top) => top.run(context).await,
        }
    }
}

fn list(pools: &[PoolView], paint: Paint) -> String {
    let headers = [
        "CLASS", "WANTED", "TIER", "READY", "FILLING", "CLAIMED", "HITS", "PSS", "NOTE",
    ];
    let mut table = Table::new(paint, &headers);
    for pool in pools {
        table.row([
            pool.class.clone(),
            wanted(pool),
            pool.tier.clone(),
            pool.ready.to_string(),
            pool.filling.to_string(),
            pool.claimed.to_string(),
            hits(pool),
            pool.pss_mib
                .map_or_else(|| "-".into(), |pss| format!("{pss:.1} MiB")),
            pool.shortfall.clone().unwrap_or_default(),
        ]);
    }
    table.render("no classes; say what is wanted with `greenroom pool set IMAGE --hot N`")
}

fn wanted(pool: &PoolView) -> String {
    match &pool.target {
        None => "-".to_owned(),
        Some(target) if target.hot > 0 => format!("{} hot", target.hot),
        Some(target) => target.floor.clone(),
    }
}

/// How claims of the last day were served, best tier first: `hot 12 (86%), warm 2 (14%)`.
fn hits(pool: &PoolView) -> String {
    let all: u64 = pool.served.values().sum();
    let parts: Vec<String> = ["hot", "warm", "cool", "cold"]
        .into_iter()
        .filter_map(|tier| {
            let count = *pool.served.get(tier).filter(|count| **count > 0)?;
            let percent = 100.0 * count as f64 / all as f64;
            Some(format!("{tier} {count} ({percent:.0}%)"))
        })
        .collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(", ")
    }
}

/// A line per machine.
pub fn shells(shells: &[ShellView], now: Time, paint: Paint) -> Table {
    let headers = [
        "MACHINE", "STATE", "AGE", "PSS", "TOOK", "CLAIM", "UUID", "NOTE",
    ];
    let mut table = Table::new(paint, &headers);
    for shell in shells {
        let took: f64 = shell.phases.iter().map(|phase| phase.ms).sum();
        table.row([
            shell.name.clone(),
            shell.state.clone(),
            text::span(now.seconds_from(shell.made_at)),
            shell
                .pss_mib
                .map_or_else(|| "-".into(), |pss| format!("{pss:.1} MiB")),
            text::millis(took),
            shell.claim.clone().unwrap_or_else(|| "-".into()),
            shell.id.clone(),
            shell.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}
