//! `forecast`: what will be asked for, what became of it, and what the calendar knows.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;

mod draw;
mod event;

#[derive(Debug, Subcommand)]
pub enum ForecastCommand {
    /// What is expected in the coming day: of all personas and classes, or of one by the hour
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  greenroom forecast show
  greenroom forecast show --client acme               # the personas that this client asks for
  greenroom forecast show --persona kiosk
  greenroom forecast show tiny
  greenroom forecast show tiny:1x128 --client acme
  greenroom forecast show tiny -o json | jq '.steps[] | [.at, .median, .high80]'

A class is one kind of machine; a persona is what a device becomes. What a class is expected to be asked for
is the sum over the personas that its machines become."
    )]
    Show(Show),
    /// What was expected against what came, with scores
    #[command(after_help = "\
Examples:
  greenroom forecast compare tiny
  greenroom forecast compare --persona kiosk --client acme
  greenroom forecast compare tiny --hours 168 --ahead 6h
  greenroom forecast compare tiny -o json | jq '[.error, .plain_error, .within80]'

ERROR is the mean distance of the median from what came; the plain rule, \"as yesterday at this time\", is
what it has to beat. Of the hours, 80 % and 95 % should lie within the intervals.")]
    Compare(Compare),
    /// How full the pool was of a class, beside who came
    #[command(after_help = "\
Examples:
  greenroom forecast levels tiny
  greenroom forecast levels tiny --hours 168 -o json | jq '.steps[] | [.at, .ready, .wanted, .cold]'")]
    Levels {
        /// A class, or an image of which there is one
        #[arg(value_name = "CLASS-OR-IMAGE")]
        which: String,
        /// Hours back from now
        #[arg(long, value_name = "N", default_value_t = 24)]
        hours: usize,
    },
    /// What the calendar knows and history cannot: add, list, remove
    #[command(subcommand, visible_alias = "events")]
    Event(event::EventCommand),
}

#[derive(Debug, Args)]
pub struct Show {
    /// A class, or an image of which there is one [default: all personas and classes, a line each]
    #[arg(value_name = "CLASS-OR-IMAGE")]
    which: Option<String>,
    /// This persona, whatever class its machines are of
    #[arg(long, value_name = "NAME", conflicts_with = "which")]
    persona: Option<String>,
    /// What this client alone asks for
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A class, or an image of which there is one
    #[arg(value_name = "CLASS-OR-IMAGE", required_unless_present = "persona")]
    which: Option<String>,
    /// This persona, whatever class its machines are of
    #[arg(long, value_name = "NAME", conflicts_with = "which")]
    persona: Option<String>,
    /// Hours back from now
    #[arg(long, value_name = "N", default_value_t = 48)]
    hours: usize,
    /// The forecast that was made so long before each hour
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = text::parse_span)]
    ahead: u64,
    /// What this client alone asked for
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
}

impl ForecastCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Show(show) => {
                let found = context.client()?;
                let of = show.client.as_deref();
                match (&show.which, &show.persona) {
                    (Some(which), _) => {
                        let forecast = found.forecast_show(which, of).await?;
                        context.show(&forecast, || draw::forecast(&forecast, context.out))?;
                    }
                    (None, Some(persona)) => {
                        let forecast = found.persona_forecast_show(persona, of).await?;
                        context.show(&forecast, || draw::forecast(&forecast, context.out))?;
                    }
                    (None, None) => {
                        let mut all = found.persona_forecast_list(of).await?;
                        // Of one client's classes there is no list: they are told one by one.
                        if of.is_none() {
                            all.extend(found.forecast_list().await?);
                        }
                        context.show(&all, || draw::list(&all, context.out))?;
                    }
                }
            }
            Self::Compare(compare) => {
                let ahead_s = i64::try_from(compare.ahead).unwrap_or(i64::MAX);
                let (client, hours) = (context.client()?, compare.hours);
                let of = compare.client.as_deref();
                let compared = match (&compare.which, &compare.persona) {
                    (Some(which), _) => client.forecast_compare(which, of, hours, ahead_s).await?,
                    (None, persona) => {
                        let persona = persona.as_deref().unwrap_or_default();
                        client
                            .persona_forecast_compare(persona, of, hours, ahead_s)
                            .await?
                    }
                };
                context.show(&compared, || draw::compared(&compared, context.out))?;
            }
            Self::Levels { which, hours } => {
                let levels = context.client()?.forecast_levels(&which, hours).await?;
                context.show(&levels, || draw::levels(&levels, context.out))?;
            }
            Self::Event(command) => return command.run(context).await,
        }
        Ok(Exit::Ok)
    }
}
