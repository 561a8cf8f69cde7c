//! `device watch` and what people decide about devices on the network.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use super::text;
use crate::api::boot::{BootEventView, BootView, ChangeBoot, CreateBootCode};

/// Between two looks of `watch`.
const EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum DeviceBootCommand {
    /// Follow devices on their way from the network to their own system
    #[command(
        after_help = "Examples:\n  greenroom device watch                 # all, until interrupted\n  greenroom device watch web-1 --until reporting\n  greenroom device watch --once -o json"
    )]
    Watch {
        /// Only this one
        name: Option<String>,
        /// End as soon as the device is in this state; exit 1 when it is held or in quarantine
        #[arg(long, value_name = "STATE", requires = "name")]
        until: Option<String>,
        /// The present state only
        #[arg(long, conflicts_with = "until")]
        once: bool,
    },
    /// Show what happened to a device and how long each step took
    Timeline { name: String },
    /// Let a device be provisioned
    Approve { name: String },
    /// Keep a device from everything but saying that it is there
    Quarantine {
        name: String,
        /// Why, for those who look later
        #[arg(long, default_value = "a person put it there", value_name = "TEXT")]
        reason: String,
    },
    /// Let a device that is held or in quarantine begin anew
    Release { name: String },
    /// Provision a device anew from its next network boot
    Reprovision { name: String },
    /// Codes that let a device be provisioned where being on the network proves nothing
    #[command(subcommand)]
    Code(CodeCommand),
    /// Forget what the network boot knows of a device; its facts and runs stay
    Forget { name: String },
}

#[derive(Debug, Subcommand)]
pub enum CodeCommand {
    /// Make a code; it is shown this once and good once
    #[command(after_help = "\
Examples:
  greenroom device code create                        # for whoever gives it first, an hour long
  greenroom device code create --device web-1 --minutes 1440

The code is typed at the console of the device's ramdisk, or comes with the machine: greenroom.code=CODE on the
command line of its kernel or in an SMBIOS OEM string.")]
    Create {
        /// Only this device may give it
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Minutes until it ends, 43200 at most
        #[arg(long, value_name = "N", default_value_t = 60)]
        minutes: u64,
    },
}

impl CodeCommand {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let Self::Create { device, minutes } = self;
        let order = CreateBootCode {
            device,
            minutes: Some(minutes),
        };
        let created = context.client()?.boot_code_create(&order).await?;
        context.show(&created, || format!("{}\n", text::line(&created.code.0)))?;
        context.note(&format!(
            "good once, for {}, until {}; it is not shown again",
            created
                .device
                .as_deref()
                .map_or("whoever gives it first".to_owned(), |name| text::line(name)
                    .to_string()),
            created.expires_at
        ));
        Ok(Exit::Ok)
    }
}

impl DeviceBootCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (name, order) = match self {
            Self::Watch { name, until, once } => return watch(context, name, until, once).await,
            Self::Timeline { name } => {
                let events = context.client()?.boot_events(Some(&name), 0).await?;
                context.show(&events, || timeline(&events, context))?;
                return Ok(Exit::Ok);
            }
            Self::Approve { name } => (name, ChangeBoot::Approve),
            Self::Quarantine { name, reason } => (name, ChangeBoot::Quarantine { reason }),
            Self::Release { name } => (name, ChangeBoot::Release),
            Self::Reprovision { name } => (name, ChangeBoot::Reprovision),
            Self::Code(command) => return command.run(context).await,
            Self::Forget { name } => {
                context.client()?.boot_forget(&name).await?;
                let forgotten = format!("device {} is forgotten\n", text::line(&name));
                context.show(&serde_json::Value::Null, || forgotten)?;
                return Ok(Exit::Ok);
            }
        };
        let after = context.client()?.boot_change(&name, &order).await?;
        context.show(&after, || {
            format!(
                "device {}: {}; {}\n",
                text::line(&after.device),
                after.state,
                text::line(&after.next)
            )
        })?;
        Ok(Exit::Ok)
    }
}

async fn watch(
    context: &Context,
    name: Option<String>,
    until: Option<String>,
    once: bool,
) -> Result<Exit, Failure> {
    let client = context.client()?;
    if once {
        let mut all = client.boot_list().await?;
        all.retain(|view| name.as_ref().is_none_or(|name| view.device == *name));
        context.show(&all, || list(&all, context))?;
        return Ok(Exit::Ok);
    }
    let mut last = 0;
    let mut progress: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        for event in client.boot_events(name.as_deref(), last).await? {
            last = last.max(event.id);
            context.print(&line(&event))?;
        }
        for view in client.boot_list().await? {
            if name.as_ref().is_some_and(|name| view.device != *name) {
                continue;
            }
            if let Some(said) = installing(&view, &mut progress) {
                context.print(&said)?;
            }
            if let Some(until) = &until {
                if view.state == *until {
                    return Ok(Exit::Ok);
                }
                if view.reason.is_some() {
                    return Ok(Exit::Failed);
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn line(event: &BootEventView) -> String {
    format!(
        "{}  {:<20} {:<14} {}\n",
        event.at,
        text::line(&event.subject),
        text::line(&event.kind),
        text::line(&event.message)
    )
}

/// `STEP` is the time since the event before, `TOTAL` since the first.
fn timeline(events: &[BootEventView], context: &Context) -> String {
    let mut table = Table::new(context.out, &["AT", "STEP", "TOTAL", "WHAT", ""]);
    let mut before = events.first();
    for event in events {
        let since = |other: Option<&BootEventView>| {
            other.map_or(0.0, |other| event.at.seconds_from(other.at))
        };
        table.row([
            event.at.0.strftime("%H:%M:%S").to_string(),
            format!("{:.1} s", since(before)),
            format!("{:.1} s", since(events.first())),
            text::line(&event.kind).to_string(),
            text::line(&event.message).to_string(),
        ]);
        before = Some(event);
    }
    table.render("nothing has happened to a device of this name")
}

/// A line for each tenth of an image.
fn installing(view: &BootView, progress: &mut BTreeMap<String, u64>) -> Option<String> {
    let tenth = (view.written_bytes * 10).checked_div(view.image_bytes)?;
    if view.state != "installing" || progress.insert(view.device.clone(), tenth) == Some(tenth) {
        return None;
    }
    Some(format!(
        "{}  {:<20} {:<14} {} of {} MiB\n",
        view.heard_at,
        text::line(&view.device),
        "writing",
        view.written_bytes >> 20,
        view.image_bytes >> 20
    ))
}

fn list(all: &[BootView], context: &Context) -> String {
    let mut table = Table::new(
        context.out,
        &["DEVICE", "STATE", "SINCE", "TRUST", "RUN", "NEXT"],
    );
    let now = context.now();
    for view in all {
        table.row([
            text::line(&view.device).to_string(),
            view.state.clone(),
            text::span(now.seconds_from(view.since)),
            view.trust.clone().unwrap_or_default(),
            view.run.map(|run| run.to_string()).unwrap_or_default(),
            text::line(view.reason.as_deref().unwrap_or(&view.next)).to_string(),
        ]);
    }
    table.render("no device has asked the network for anything yet")
}

/// What `device show` adds for a device that booted from the network.
pub fn section(view: Option<&BootView>, context: &Context) -> String {
    let Some(view) = view else {
        return String::new();
    };
    let now = context.now();
    let mut out = format!(
        "boot      {} for {}, heard {} ago\n",
        view.state,
        text::span(now.seconds_from(view.since)),
        text::span(now.seconds_from(view.heard_at))
    );
    if let Some(reason) = &view.reason {
        out.push_str(&format!("reason    {}\n", text::line(reason)));
    }
    out.push_str(&format!(
        "trust     {}\n",
        view.trust.as_deref().unwrap_or("none")
    ));
    match view.deadline {
        Some(deadline) => out.push_str(&format!(
            "next      {}: {}\n",
            deadline,
            text::line(&view.next)
        )),
        None => out.push_str(&format!("next      {}\n", text::line(&view.next))),
    }
    if let Some(run) = view.run {
        out.push_str(&format!("run       {run}\n"));
    }
    if let Some(telemetry) = &view.telemetry {
        out.push_str(&format!(
            "system    {}\n",
            super::telemetry::system_line(telemetry)
        ));
    }
    if !view.console.is_empty() {
        out.push_str("console\n");
        for line in &view.console {
            out.push_str(&format!("  │ {}\n", text::line(line)));
        }
    }
    if !view.events.is_empty() {
        out.push_str("events\n");
    }
    for event in &view.events {
        out.push_str(&format!(
            "  {}  {:<14} {}\n",
            event.at,
            text::line(&event.kind),
            text::line(&event.message)
        ));
    }
    out
}
