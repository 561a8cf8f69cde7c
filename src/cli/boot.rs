//! `boot`: the network boot, looked at.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;
use crate::netboot::client::{Client, Firmware, IpxeFeatures};
use crate::netboot::decide::{self, Answer, Decision, Request, Standing};
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
}

#[derive(Debug, Serialize)]
struct Explained {
    question: &'static str,
    #[serde(flatten)]
    decision: Decision,
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
        let config = context.config()?;
        if !config.boot.enabled {
            context.note("boot.enabled is false: nobody is answered; this is what would be");
        }
        let settings = config.boot.decision();
        let standing = Standing::Unknown;
        let client = self.client();
        let asked = [
            (Question::Dhcp, "dhcp", Request::Dhcp),
            (Question::Script, "script", Request::Script),
        ];
        let explained: Vec<Explained> = asked
            .into_iter()
            .filter(|(question, ..)| self.question.is_none_or(|only| only == *question))
            .map(|(_, word, request)| Explained {
                question: word,
                decision: decide::decide(&client, &request, &standing, &settings),
            })
            .collect();
        context.show(&explained, || shown(&explained))?;
        Ok(Exit::Ok)
    }

    fn client(&self) -> Client {
        let http = Firmware::of_list(&self.arch).is_some_and(Firmware::speaks_http);
        let vendor_class = self.vendor_class.clone().or_else(|| {
            let class = if http { "HTTPClient" } else { "PXEClient" };
            (!self.arch.is_empty()).then(|| format!("{class}:Arch:{:05}", self.arch[0]))
        });
        Client {
            mac: Some(self.mac),
            arches: self.arch.clone(),
            user_class: self.user_class.clone(),
            vendor_class,
            ipxe: self.ipxe_http.map(|http| IpxeFeatures { http: Some(http) }),
            uuid_option: None,
        }
    }
}

fn shown(explained: &[Explained]) -> String {
    let line = |one: &Explained| {
        let answer = match &one.decision.answer {
            Answer::Silence => "no answer".to_owned(),
            Answer::TftpFile { file } => format!("file {} by TFTP", file.name()),
            Answer::HttpFile { url } => format!("file {url}"),
            Answer::ScriptUrl { url } => format!("script {url}"),
            Answer::Send { file } => format!("the bytes of {}", file.name()),
            Answer::FirstScript => "the first script".to_owned(),
            Answer::Ramdisk => "script: boot the device ramdisk".to_owned(),
            Answer::OwnDisk => "script: leave to the firmware and its own disk".to_owned(),
            Answer::Wait { seconds } => format!("script: wait {seconds} s, then ask again"),
            Answer::NotFound => "not found".to_owned(),
        };
        format!(
            "{:<7} {}\n        because {}\n",
            one.question,
            text::line(&answer),
            text::line(&one.decision.reason)
        )
    };
    explained.iter().map(line).collect()
}
