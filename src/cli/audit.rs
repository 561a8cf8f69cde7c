//! `audit`: who changed what, and whether the log of it is whole.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use crate::api::AuditView;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Calls that changed something, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Read the whole log and say whether a record was changed or removed
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom audit list --who user:ada
  greenroom audit list --action run_abort -o json")]
pub struct List {
    /// Part of the caller's name
    #[arg(long)]
    who: Option<String>,
    /// The operation, such as run_start
    #[arg(long)]
    action: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom audit verify
  greenroom audit verify --head 120:9f2c…     # as an earlier verification printed it

Exit code 1 when the log is not whole. Keep the printed head elsewhere: only against it a log that was
written anew from the beginning shows.")]
pub struct Verify {
    /// SEQ:HASH that has to be in the log
    #[arg(long)]
    head: Option<String>,
}

impl AuditCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::List(List { who, action, limit }) => {
                let found = client
                    .audit_list(who.as_deref(), action.as_deref(), limit)
                    .await?;
                context.show(&found, || list(&found, context))?;
                Ok(Exit::Ok)
            }
            Self::Verify(Verify { head }) => {
                let verdict = client.audit_verify(head.as_deref()).await?;
                context.show(&verdict, || match &verdict.flaw {
                    None => format!(
                        "whole: {} records\nhead {}\n",
                        verdict.records, verdict.head
                    ),
                    Some(flaw) => format!(
                        "NOT whole: {flaw}\n{} records before that fit together\n",
                        verdict.records
                    ),
                })?;
                Ok(if verdict.whole {
                    Exit::Ok
                } else {
                    Exit::Failed
                })
            }
        }
    }
}

fn list(found: &[AuditView], context: &Context) -> String {
    let headers = [
        "SEQ", "AT", "WHO", "FROM", "ACTION", "ON", "STATUS", "DETAIL",
    ];
    let mut table = Table::new(context.out, &headers);
    for call in found {
        table.row([
            call.seq.to_string(),
            call.at.to_string(),
            call.who.clone(),
            call.origin.clone(),
            call.action.clone(),
            call.subject.clone(),
            match call.status {
                0 => "no end".into(),
                status => status.to_string(),
            },
            call.detail.clone(),
        ]);
    }
    table.render("nobody has changed anything")
}
