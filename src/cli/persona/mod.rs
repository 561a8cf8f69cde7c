//! `persona`: what devices are to become.
//!
//! `check` works without a daemon; everything else asks it.

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Failure};

mod apply;
mod assign;
mod check;
mod draw;
mod rules;
mod versions;

#[derive(Debug, Subcommand)]
pub enum PersonaCommand {
    /// Check persona files, without a daemon; all faults at once
    #[command(visible_alias = "validate")]
    Check(check::Check),
    /// Store files as their personas' next versions, which are drafts until promoted
    Apply(apply::Apply),
    /// List all personas
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom persona list\n  greenroom persona list -o json | jq -r '.[].name'"
    )]
    List,
    /// Show what a persona means, or its text
    #[command(visible_aliases = ["get", "export"])]
    Show(versions::Show),
    /// Versions of a persona, and who did what with them
    History(versions::History),
    /// What changed between two versions
    Diff(versions::Diff),
    /// Make a version the one that devices get
    Promote(versions::Promote),
    /// Go back to the version before
    Rollback(versions::Rollback),
    /// Show the files that a persona becomes on a device, and whether the device is large enough
    Preview(versions::Preview),
    /// Give a persona to a device, user, role or group
    Assign(assign::Assign),
    /// End an assignment
    Unassign(assign::Unassign),
    /// List assignments
    #[command(
        after_help = "Examples:\n  greenroom persona assignments\n  greenroom persona assignments -o json | jq '.[] | select(.kind == \"role\")'"
    )]
    Assignments,
    /// Which persona a device gets, and why
    Why(assign::Why),
    /// Rules for devices that nobody assigned one: apply, list
    #[command(subcommand)]
    Rules(rules::RulesCommand),
}

impl PersonaCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check(check) => check.run(context),
            Self::Apply(apply) => apply.run(context).await,
            Self::List => {
                let personas = context.client()?.persona_list().await?;
                context.show(&personas, || draw::list(&personas, context))?;
                Ok(Exit::Ok)
            }
            Self::Show(show) => show.run(context).await,
            Self::History(history) => history.run(context).await,
            Self::Diff(diff) => diff.run(context).await,
            Self::Promote(promote) => promote.run(context).await,
            Self::Rollback(rollback) => rollback.run(context).await,
            Self::Preview(preview) => preview.run(context).await,
            Self::Assign(assign) => assign.run(context).await,
            Self::Unassign(unassign) => unassign.run(context).await,
            Self::Assignments => {
                let all = context.client()?.persona_assignments().await?;
                context.show(&all, || draw::assignments(&all, context))?;
                Ok(Exit::Ok)
            }
            Self::Why(why) => why.run(context).await,
            Self::Rules(command) => command.run(context).await,
        }
    }
}

/// Who does it: the person behind sudo, else the one who is logged in.
fn by() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    of("SUDO_USER")
        .or_else(|| of("USER"))
        .or_else(|| of("LOGNAME"))
        .unwrap_or_else(|| format!("user {}", nix::unistd::getuid()))
}
