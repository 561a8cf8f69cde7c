//! `device power`: switch a device, and say what it boots next.

use clap::{Args, Subcommand, ValueEnum};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;
use crate::api::power::{BootFrom, ChangePower, PowerView};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom device power web-1
  greenroom device power web-1 boot-once network
  greenroom device power web-1 cycle
  greenroom device power web-1 off --force

Needs the device's BMC: see `greenroom device bmc set --help`. What is asked for is read back.")]
pub struct Power {
    /// Name or id
    name: String,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Whether it is on, and what it boots next [default]
    Status,
    /// Switch it on
    On,
    /// Ask its system to shut down
    Off {
        /// Switch it off without asking
        #[arg(long)]
        force: bool,
    },
    /// Off and on, without asking its system
    Cycle,
    /// What the next boot is from; later ones follow its usual order
    BootOnce { from: Source },
    /// Put an image into the BMC's virtual optical drive, in the place of what is in there (Redfish)
    Insert {
        /// What the BMC fetches
        url: String,
    },
    /// Take out what is in the BMC's virtual optical drive (Redfish)
    Eject,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    Network,
    Disk,
    Cd,
    /// Nothing but its usual order
    Usual,
}

impl Power {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let order = match self.verb {
            None | Some(Verb::Status) => {
                let view = client.power_show(&self.name).await?;
                context.show(&view, || line(&view))?;
                return Ok(Exit::Ok);
            }
            Some(Verb::On) => ChangePower::On,
            Some(Verb::Off { force }) => ChangePower::Off { force },
            Some(Verb::Cycle) => ChangePower::Cycle,
            Some(Verb::Insert { url }) => ChangePower::InsertMedia { url },
            Some(Verb::Eject) => ChangePower::EjectMedia,
            Some(Verb::BootOnce { from }) => ChangePower::BootOnce {
                from: match from {
                    Source::Network => BootFrom::Network,
                    Source::Disk => BootFrom::Disk,
                    Source::Cd => BootFrom::Cd,
                    Source::Usual => BootFrom::Usual,
                },
            },
        };
        let view = client.power_change(&self.name, &order).await?;
        context.show(&view, || line(&view))?;
        let wanted = match order {
            ChangePower::On | ChangePower::Cycle => "on",
            ChangePower::Off { .. } => "off",
            ChangePower::BootOnce { .. }
            | ChangePower::InsertMedia { .. }
            | ChangePower::EjectMedia => return Ok(Exit::Ok),
        };
        if view.state.as_deref() == Some(wanted) {
            return Ok(Exit::Ok);
        }
        context.note(match order {
            ChangePower::Off { force: false } => {
                "its system was asked to shut down and has not; --force does not ask"
            }
            _ => "the BMC accepted that, and the machine has not obeyed yet",
        });
        Ok(Exit::Failed)
    }
}

fn line(view: &PowerView) -> String {
    let state = view.state.as_ref().map(|state| format!("is {state}"));
    let boot = view.boot.as_ref().map(|boot| format!("next boot: {boot}"));
    let media = view.media.as_ref().map(|media| match media.is_empty() {
        true => "its virtual drive is empty".to_owned(),
        false => format!("in its virtual drive: {media}"),
    });
    let parts: Vec<String> = [state, boot, media].into_iter().flatten().collect();
    format!(
        "device {} {}\n",
        text::line(&view.device),
        text::line(&parts.join("; "))
    )
}
