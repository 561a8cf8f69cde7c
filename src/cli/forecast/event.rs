//! `forecast event`: the calendar.

use clap::{Args, Subcommand};

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use crate::api::Time;
use crate::api::demand::{PlannedEventView, PutPlannedEvent};

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Say that demand will be different, or replace what was said under the name
    #[command(after_help = "\
Examples:
  greenroom forecast event add release --from 2026-12-01T09:00 --for 8h --factor 3
  greenroom forecast event add holidays --from 2026-12-24T00:00Z --until 2027-01-02T00:00Z --factor 0.1
  greenroom forecast event add onboarding --of toolbox --from 2026-12-07T08:00 --for 2h --factor 5 --doubt 0.3

Times without an offset are those of this machine's time zone.")]
    Add(Add),
    /// List planned events by when they begin
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom forecast event list\n  greenroom forecast event list -o json | jq -r '.[].name'"
    )]
    List,
    /// Take a planned event back
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  greenroom forecast event remove release"
    )]
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    #[arg(value_name = "NAME")]
    name: String,
    /// A class or an image that it concerns [default: all]
    #[arg(long, value_name = "CLASS-OR-IMAGE")]
    of: Option<String>,
    /// When it begins
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Time,
    /// When it ends
    #[arg(long, value_name = "TIME", value_parser = parse_time, required_unless_present = "duration", conflicts_with = "duration")]
    until: Option<Time>,
    /// How long it lasts
    #[arg(long = "for", id = "duration", value_name = "TIME", value_parser = text::parse_span)]
    duration: Option<u64>,
    /// How many times the usual is asked for; 0 is nothing
    #[arg(long, value_name = "TIMES")]
    factor: f64,
    /// How unsure that is: 0.1 is give or take a tenth
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    doubt: f64,
}

impl EventCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Add(add) => {
                let event = add.event()?;
                let event = context.client()?.planned_event_put(&event).await?;
                context.show(&event, || list(std::slice::from_ref(&event), context.out))?;
            }
            Self::List => {
                let events = context.client()?.planned_event_list().await?;
                context.show(&events, || list(&events, context.out))?;
            }
            Self::Remove { name } => {
                context.client()?.planned_event_remove(&name).await?;
                context.note(&format!("the event {name} is taken back"));
            }
        }
        Ok(Exit::Ok)
    }
}

impl Add {
    fn event(self) -> Result<PutPlannedEvent, Failure> {
        let until = match (self.until, self.duration) {
            (Some(until), _) => until,
            (None, Some(seconds)) => {
                let span = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
                let until = self.from.0.checked_add(span);
                Time(until.map_err(|_| Failure::usage("--for reaches beyond the end of time"))?)
            }
            (None, None) => return Err(Failure::usage("give --until or --for")),
        };
        Ok(PutPlannedEvent {
            name: self.name,
            of: self.of,
            from: self.from,
            until,
            factor: self.factor,
            doubt: self.doubt,
        })
    }
}

/// RFC 3339, or a date and time of this machine's zone.
fn parse_time(text: &str) -> Result<Time, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Time(at));
    }
    let local = text.parse::<jiff::civil::DateTime>();
    local
        .ok()
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::system()).ok())
        .map(|at| Time(at.timestamp()))
        .ok_or_else(|| {
            format!("{text:?} is not a time such as 2026-12-01T09:00 or 2026-12-01T09:00:00Z")
        })
}

fn list(events: &[PlannedEventView], paint: Paint) -> String {
    let mut table = Table::new(paint, &["NAME", "OF", "FROM", "UNTIL", "TIMES", "DOUBT"]);
    for event in events {
        let at = |time: Time| time.0.strftime("%Y-%m-%d %H:%MZ").to_string();
        table.row([
            event.name.clone(),
            event.of.clone().unwrap_or_else(|| "all".into()),
            at(event.from),
            at(event.until),
            format!("{}", event.factor),
            format!("{}", event.doubt),
        ]);
    }
    table.render("no planned events; add one with `greenroom forecast event add`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        let at = parse_time("2026-12-01T09:00:00+01:00").unwrap();
        assert_eq!(at, parse_time("2026-12-01T08:00:00Z").unwrap());
        assert!(parse_time("2026-12-01T09:00").is_ok());
        for text in ["soon", "", "2026-13-01T09:00"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_ends_after_its_time() {
        let add = Add {
            name: "release".into(),
            of: None,
            from: parse_time("2026-12-01T08:00:00Z").unwrap(),
            until: None,
            duration: Some(7200),
            factor: 3.0,
            doubt: 0.1,
        };
        let event = add.event().unwrap();
        assert_eq!(event.until.seconds_from(event.from), 7200.0);
        let view = PlannedEventView {
            name: event.name,
            of: event.of,
            from: event.from,
            until: event.until,
            factor: event.factor,
            doubt: event.doubt,
        };
        let text = list(&[view], Paint::Plain);
        let line = "release  all  2026-12-01 08:00Z  2026-12-01 10:00Z  3      0.1";
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
