//! Who gets which persona: assign, unassign, why.

use clap::{ArgGroup, Args};

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::text;
use super::versions::persona;
use super::{by, draw};
use crate::api::Time;
use crate::api::personas::{AssignPersona, EndAssignment};
use crate::vocab::persona::PersonaRef;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("subject").required(true).args(["device", "user", "role", "group"])),
    after_help = "\
Examples:
  greenroom persona assign --device web-1 web-server --reason \"ticket 4711\"
  greenroom persona assign --role db db-node@2 --reason \"frozen for the audit\" --until 2026-12-31T00:00:00Z
  greenroom persona assign --group trial base --reason trial --until 14d

A device's own assignment wins over that of its user, that over its role, that over its group; among
equals the higher --precedence wins. Users, roles and groups are the facts user(s), role(s), group(s).
NAME@VERSION pins the version; NAME means whichever is current when a run starts."
)]
pub struct Assign {
    /// NAME or NAME@VERSION
    #[arg(value_parser = persona)]
    persona: PersonaRef,
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Among assignments of one kind the higher wins
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        allow_negative_numbers = true
    )]
    precedence: i64,
    /// A time such as 2026-12-31T00:00:00Z, or a span such as 14d or 8h
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Assign {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let given = [
            ("device", self.device),
            ("user", self.user),
            ("role", self.role),
            ("group", self.group),
        ];
        let subject = given
            .into_iter()
            .find_map(|(kind, name)| Some((kind, name?)));
        let (kind, name) =
            subject.ok_or_else(|| Failure::usage("name a --device, --user, --role or --group"))?;
        let order = AssignPersona {
            kind: kind.to_owned(),
            name,
            persona: self.persona,
            precedence: self.precedence,
            reason: self.reason,
            by: by(),
            until: self
                .until
                .map(|until| moment(&until, context.now()))
                .transpose()?,
        };
        let made = context.client()?.persona_assign(&order).await?;
        context.show(&made, || {
            let until = made
                .until
                .map(|until| format!(" until {until}"))
                .unwrap_or_default();
            format!(
                "assignment {}: {} {} gets {}{until}\n",
                made.id,
                made.kind,
                text::line(&made.name),
                made.persona
            )
        })?;
        Ok(Exit::Ok)
    }
}

/// A time as RFC 3339 has it, or a span from now.
fn moment(text: &str, now: Time) -> Result<Time, Failure> {
    if let Ok(time) = text.parse() {
        return Ok(Time(time));
    }
    let wrong = || {
        Failure::usage(format!(
            "{text:?} is neither a time such as 2026-12-31T00:00:00Z nor a span such as 14d or 8h"
        ))
    };
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let seconds = match (number.parse::<i64>(), unit) {
        (Ok(days), "d") => days.checked_mul(86_400),
        _ => text::parse_span(text)
            .ok()
            .and_then(|seconds| i64::try_from(seconds).ok()),
    };
    let span = jiff::SignedDuration::from_secs(seconds.ok_or_else(wrong)?);
    now.0.checked_add(span).map(Time).map_err(|_| wrong())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  greenroom persona unassign 7 --reason \"audit is over\"")]
pub struct Unassign {
    /// The assignment's number
    id: i64,
    /// Why, for the record
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
}

impl Unassign {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let order = EndAssignment {
            reason: self.reason,
            by: by(),
        };
        let ended = context.client()?.persona_unassign(self.id, &order).await?;
        context.show(&ended, || {
            format!(
                "assignment {} of {} to {} {} has ended\n",
                ended.id,
                ended.persona,
                ended.kind,
                text::line(&ended.name)
            )
        })?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom persona why web-1

Exit code 0 when the device has a persona or needs none, 4 when that is not clear.")]
pub struct Why {
    /// Name or id of the device
    device: String,
}

impl Why {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let why = context.client()?.persona_why(&self.device).await?;
        context.show(&why, || draw::why(&why, context.out))?;
        Ok(if why.outcome == "conflict" || why.trouble.is_some() {
            Exit::Refused
        } else {
            Exit::Ok
        })
    }
}
