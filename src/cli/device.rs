//! `device`: what is provisioned.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::context::Context;
use super::device_bmc::BmcCommand;
use super::device_boot::{self, DeviceBootCommand};
use super::device_power::Power;
use super::exit::{Exit, Failure};
use super::facts;
use super::output::as_yaml;
use super::table::Table;
use super::telemetry::TelemetryCommand;
use super::text;
use crate::api::{DeviceView, PutDevice};

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Add a device, or replace facts and client of the one of that name
    Add(Add),
    /// List all devices
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  greenroom device list\n  greenroom device list -o json | jq -r '.[].name'"
    )]
    List,
    /// Show one device with its facts
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  greenroom device show box-1\n  greenroom device show box-1 -o yaml > box-1.yaml"
    )]
    Show {
        /// Name or id
        name: String,
    },
    /// Show what a delivered device measured of itself
    Telemetry(TelemetryCommand),
    #[command(flatten)]
    Boot(DeviceBootCommand),
    /// Switch a device by its BMC, and say what it boots next
    Power(Power),
    /// How a device's BMC is reached
    #[command(subcommand)]
    Bmc(BmcCommand),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom device add box-1 --client lab --fact serial=X1 --fact disk.size_gib=40
  lshw -json | greenroom device add box-1 --facts -
  greenroom device add -f box-1.yaml -f box-2.yaml     # each {name, client, facts}

A value of --fact is JSON where it reads as JSON, else text; '\"5\"' insists on text.")]
pub struct Add {
    /// Letters, digits, `.`, `_` and `-`
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// On whose behalf it is provisioned; clients take turns [default: default]
    #[arg(long, conflicts_with = "file")]
    client: Option<String>,
    /// YAML or JSON object of facts; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    facts: Option<PathBuf>,
    /// One fact, over those of --facts
    #[arg(long = "fact", value_name = "KEY=VALUE", conflicts_with = "file")]
    fact: Vec<String>,
    /// YAML or JSON document {name, client, facts}; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

impl DeviceCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Add(add) => add.run(context).await,
            Self::List => {
                let devices = context.client()?.device_list().await?;
                context.show(&devices, || list(&devices, context))?;
                Ok(Exit::Ok)
            }
            Self::Show { name } => {
                let client = context.client()?;
                let device = client.device_show(&name).await?;
                // A daemon without a network boot, or a device that never used it, has nothing to add.
                let boot = client.boot_show(&name).await.ok();
                context.show(&device, || {
                    show(&device) + &device_boot::section(boot.as_ref(), context)
                })?;
                Ok(Exit::Ok)
            }
            Self::Telemetry(command) => command.run(context).await,
            Self::Boot(command) => command.run(context).await,
            Self::Power(command) => command.run(context).await,
            Self::Bmc(command) => command.run(context).await,
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let orders = self.orders()?;
        let client = context.client()?;
        let mut added = Vec::new();
        for order in &orders {
            added.push(client.device_put(order).await?);
        }
        let said = |device: &DeviceView| {
            format!(
                "device {} (client {})\n",
                text::line(&device.name),
                text::line(&device.client)
            )
        };
        match added.as_slice() {
            [one] => context.show(one, || said(one))?,
            many => context.show(&many, || many.iter().map(said).collect())?,
        }
        Ok(Exit::Ok)
    }

    fn orders(self) -> Result<Vec<PutDevice>, Failure> {
        let Some(name) = self.name else {
            return self.file.iter().map(|path| parse(path)).collect();
        };
        let mut facts: Map<String, Value> = match &self.facts {
            Some(path) => parse(path)?,
            None => Map::new(),
        };
        for assignment in &self.fact {
            facts::set(&mut facts, assignment).map_err(Failure::usage)?;
        }
        Ok(vec![PutDevice {
            name,
            client: self.client,
            facts,
        }])
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let (shown, text) = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        ("standard input".to_owned(), read.map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| Failure::of_file(Path::new(&shown), &error))?;
    facts::parse_document(&text)
        .map_err(|why| Failure::new(Exit::Invalid, format!("{shown}: {why}")))
}

fn list(devices: &[DeviceView], context: &Context) -> String {
    let mut table = Table::new(context.out, &["NAME", "CLIENT", "FACTS", "AGE"]);
    let now = context.now();
    for device in devices {
        table.row([
            device.name.clone(),
            device.client.clone(),
            device.facts.len().to_string(),
            text::span(now.seconds_from(device.added_at)),
        ]);
    }
    table.render("no devices; add one with `greenroom device add`")
}

fn show(device: &DeviceView) -> String {
    let mut out = format!(
        "device    {}\nid        {}\nclient    {}\nadded     {}\n",
        text::line(&device.name),
        text::line(&device.id),
        text::line(&device.client),
        device.added_at
    );
    if device.facts.is_empty() {
        out.push_str("facts     none\n");
    } else if let Ok(facts) = as_yaml(&device.facts) {
        out.push_str("facts\n");
        for line in facts.lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}
