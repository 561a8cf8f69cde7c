//! `boot`: the network boot, looked at.

use clap::{Args, Subcommand, ValueEnum};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;
use crate::api::ClientError;
use crate::api::boot::{ExplainBoot, ExplainedBoot};
use crate::config::BootConfig;
use crate::netboot::client::{Client, Firmware, IpxeFeatures};
use crate::netboot::decide::{self, Request, Standing};
use crate::netboot::trust;
use crate::vocab::boot::Mac;

#[derive(Debug, Subcommand)]
pub enum BootCommand {
    /// Say what a client would be answered, and why
    Explain(Explain),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom boot explain --mac 52:54:00:12:34:56 --arch 0          # a BIOS
  greenroom boot explain --mac 52:54:00:12:34:56 --arch 7          # UEFI x64
  greenroom boot explain --mac 52:54:00:12:34:56 --arch 0 --user-class iPXE
  greenroom boot explain --mac 52:54:00:12:34:56 --arch 16 --for dhcp -o json

What is known of the address is asked of the daemon; without one it counts as unknown.")]
pub struct Explain {
    /// Address of the network card
    #[arg(long)]
    mac: Mac,
    /// Option 93: a number, or several in the client's order
    #[arg(long, value_delimiter = ',', value_name = "NUMBER")]
    arch: Vec<u16>,
    /// Option 77, such as iPXE
    #[arg(long, value_name = "TEXT")]
    user_class: Option<String>,
    /// Option 60 [default: PXEClient, or HTTPClient for architectures 15 to 20]
    #[arg(long, value_name = "TEXT")]
    vendor_class: Option<String>,
    /// Option 175: whether its iPXE has HTTP
    #[arg(long, value_name = "BOOL")]
    ipxe_http: Option<bool>,
    /// Only this question
    #[arg(long = "for", value_enum, value_name = "QUESTION")]
    question: Option<Question>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Question {
    /// A DHCP request
    Dhcp,
    /// The device's script
    Script,
    /// How far it is trusted
    Trust,
}

impl BootCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Explain(explain) => explain.run(context).await,
        }
    }
}

impl Explain {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let order = self.order();
        let mac = self.mac.to_string();
        let mut explained = match context.client()?.boot_explain(&mac, &order).await {
            Ok(explained) => explained,
            Err(ClientError::Unreachable { .. } | ClientError::Conflict(_)) => {
                context.note("no daemon answers devices here; this is what one with this configuration would say to an unknown address");
                self.offline(&context.config()?.boot, &order)
            }
            Err(error) => return Err(error.into()),
        };
        explained.retain(|one| match self.question {
            None => true,
            Some(Question::Dhcp) => one.question == "dhcp",
            Some(Question::Script) => one.question == "script",
            Some(Question::Trust) => one.question == "trust",
        });
        context.show(&explained, || shown(&explained))?;
        Ok(Exit::Ok)
    }

    fn order(&self) -> ExplainBoot {
        let http = Firmware::of_list(&self.arch).is_some_and(Firmware::speaks_http);
        let vendor_class = self.vendor_class.clone().or_else(|| {
            let class = if http { "HTTPClient" } else { "PXEClient" };
            (!self.arch.is_empty()).then(|| format!("{class}:Arch:{:05}", self.arch[0]))
        });
        ExplainBoot {
            arches: self.arch.clone(),
            user_class: self.user_class.clone(),
            vendor_class,
            ipxe_http: self.ipxe_http,
        }
    }

    fn offline(&self, config: &BootConfig, order: &ExplainBoot) -> Vec<ExplainedBoot> {
        let client = Client {
            mac: Some(self.mac),
            arches: order.arches.clone(),
            user_class: order.user_class.clone(),
            vendor_class: order.vendor_class.clone(),
            ipxe: order
                .ipxe_http
                .map(|http| IpxeFeatures { http: Some(http) }),
            uuid_option: None,
        };
        let settings = &config.decision();
        let (answer, reason) = trust::explain(None, false, config.approve);
        let trust = ExplainedBoot {
            question: "trust".to_owned(),
            answer,
            reason,
        };
        [("dhcp", Request::Dhcp), ("script", Request::Script)]
            .into_iter()
            .map(|(question, request)| {
                let decision = decide::decide(&client, &request, &Standing::Unknown, settings);
                ExplainedBoot {
                    question: question.to_owned(),
                    answer: decision.answer.says(),
                    reason: decision.reason,
                }
            })
            .chain([trust])
            .collect()
    }
}

fn shown(explained: &[ExplainedBoot]) -> String {
    let line = |one: &ExplainedBoot| {
        format!(
            "{:<7} {}\n        because {}\n",
            one.question,
            text::line(&one.answer),
            text::line(&one.reason)
        )
    };
    explained.iter().map(line).collect()
}
