//! `forecast`: what will be asked for, what became of it, and what the calendar knows.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;

mod draw;
mod event;

#[derive(Debug, Subcommand)]
pub enum ForecastCommand {
    /// What is expected in the coming day: of all classes, or of one by the hour
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  greenroom forecast show
  greenroom forecast show tiny
  greenroom forecast show tiny:1x128 --client acme
  greenroom forecast show tiny -o json | jq '.steps[] | [.at, .median, .high80]'"
    )]
    Show(Show),
    /// What was expected against what came, with scores
    #[command(after_help = "\
Examples:
  greenroom forecast compare tiny
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
    /// A class, or an image of which there is one [default: all, a line each]
    #[arg(value_name = "CLASS-OR-IMAGE")]
    which: Option<String>,
    /// What this client alone asks for
    #[arg(long, value_name = "NAME", requires = "which")]
    client: Option<String>,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A class, or an image of which there is one
    #[arg(value_name = "CLASS-OR-IMAGE")]
    which: String,
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
            Self::Show(Show {
                which: Some(which),
                client,
            }) => {
                let found = context.client()?;
                let forecast = found.forecast_show(&which, client.as_deref()).await?;
                context.show(&forecast, || draw::forecast(&forecast, context.out))?;
            }
            Self::Show(_) => {
                let forecasts = context.client()?.forecast_list().await?;
                context.show(&forecasts, || draw::list(&forecasts, context.out))?;
            }
            Self::Compare(compare) => {
                let ahead_s = i64::try_from(compare.ahead).unwrap_or(i64::MAX);
                let client = context.client()?;
                let compared = client
                    .forecast_compare(
                        &compare.which,
                        compare.client.as_deref(),
                        compare.hours,
                        ahead_s,
                    )
                    .await?;
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
