//! `device bmc`: how a device's BMC is reached.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::text;
use crate::api::Shown;
use crate::api::power::{BmcView, SetBmc, TestedBmc};

/// Of a password's file, bytes: more is another file.
const MOST_BYTES: u64 = 4096;

#[derive(Debug, Subcommand)]
pub enum BmcCommand {
    /// Say how the BMC is reached, in the place of what was said before
    Set(Box<Set>),
    /// How it is reached, without the password
    Show {
        /// Name or id
        name: String,
    },
    /// Log in and ask what it can do; nothing is changed
    Test {
        /// Name or id
        name: String,
    },
    /// Let the daemon log in again after refused logins
    Unlock {
        /// Name or id
        name: String,
    },
    /// Forget it and its password
    #[command(visible_alias = "rm")]
    Remove {
        /// Name or id
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("how").required(true).args(["redfish", "ipmi", "manual"]),
    after_help = "\
Examples:
  greenroom device bmc set web-1 --redfish https://10.0.9.7 --user greenroom --password-file pw --fingerprint 3A:…
  greenroom device bmc set web-1 --ipmi 10.0.9.7 --user greenroom --password-file - < pw
  greenroom device bmc set box-1 --manual 'room 12, second shelf; ask Ada'

A password is never an argument: those are in everybody's process list. `device bmc test` shows the fingerprint
of a certificate that is not believed; compare it at the BMC before you pin it."
)]
pub struct Set {
    /// Name or id
    name: String,
    /// Redfish, by HTTPS
    #[arg(
        long,
        value_name = "URL",
        requires = "user",
        requires = "password_file"
    )]
    redfish: Option<String>,
    /// IPMI over LAN (RMCP+)
    #[arg(
        long,
        value_name = "HOST",
        requires = "user",
        requires = "password_file"
    )]
    ipmi: Option<String>,
    /// A person is its BMC; what they have to know
    #[arg(long, value_name = "NOTE", conflicts_with_all = ["user", "password_file"])]
    manual: Option<String>,
    /// The BMC's user
    #[arg(long)]
    user: Option<String>,
    /// Its first line is the password; `-` is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// SHA-256 of the one certificate that is believed [default: the system's authorities]
    #[arg(
        long,
        value_name = "SHA256",
        requires = "redfish",
        conflicts_with = "insecure"
    )]
    fingerprint: Option<String>,
    /// Believe any certificate, and allow http
    #[arg(long, requires = "redfish")]
    insecure: bool,
    /// Which system, where the BMC has several: id, UUID, serial number or name
    #[arg(long, requires = "redfish")]
    system: Option<String>,
    /// UDP port [default: 623]
    #[arg(long, requires = "ipmi")]
    port: Option<u16>,
    /// Cipher suite: 17, or 3 for BMCs that know no better [default: 17]
    #[arg(long, requires = "ipmi")]
    cipher: Option<u8>,
}

impl BmcCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Set(set) => {
                let (name, order) = set.order()?;
                let view = client.bmc_set(&name, &order).await?;
                context.show(&view, || lines(&view))?;
            }
            Self::Show { name } => {
                let view = client.bmc_show(&name).await?;
                context.show(&view, || lines(&view))?;
            }
            Self::Test { name } => {
                let tested = client.bmc_test(&name).await?;
                context.show(&tested, || what(&tested))?;
            }
            Self::Unlock { name } => {
                let view = client.bmc_unlock(&name).await?;
                context.show(&view, || lines(&view))?;
            }
            Self::Remove { name } => {
                client.bmc_remove(&name).await?;
                context.note(&format!("the BMC of {} is forgotten", text::line(&name)));
            }
        }
        Ok(Exit::Ok)
    }
}

impl Set {
    fn order(self) -> Result<(String, SetBmc), Failure> {
        let password = self.password_file.as_deref().map(password).transpose()?;
        let order = match (self.redfish, self.ipmi, self.manual) {
            (Some(url), ..) => SetBmc::Redfish {
                url,
                user: self.user.unwrap_or_default(),
                password: password.unwrap_or_else(|| Shown(String::new())),
                fingerprint: self.fingerprint,
                insecure: self.insecure,
                system: self.system,
            },
            (_, Some(host), _) => SetBmc::Ipmi {
                host,
                port: self.port,
                user: self.user.unwrap_or_default(),
                password: password.unwrap_or_else(|| Shown(String::new())),
                cipher: self.cipher,
            },
            (.., note) => SetBmc::Manual {
                note: note.unwrap_or_default(),
            },
        };
        Ok((self.name, order))
    }
}

/// The first line of a file.
fn password(path: &Path) -> Result<Shown, Failure> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin()
            .lock()
            .take(MOST_BYTES)
            .read_to_string(&mut text),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::of_file(path, &error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no password in its first line",
            path.display()
        )));
    }
    Ok(Shown(line.to_owned()))
}

fn lines(view: &BmcView) -> String {
    let mut out = format!(
        "device    {}\nkind      {}\n",
        text::line(&view.device),
        view.kind
    );
    let rows = [
        ("address", Some(&view.address)),
        ("user", view.user.as_ref()),
        ("trust", view.trust.as_ref()),
        ("system", view.system.as_ref()),
    ];
    for (name, value) in rows {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out.push_str(&format!("{name:<9} {}\n", text::line(value)));
        }
    }
    out.push_str(&format!("set       {}\n", view.set_at));
    if view.refused_logins > 0 {
        let locked = match view.locked {
            true => "; there are no more until `greenroom device bmc set` or `unlock`",
            false => "",
        };
        out.push_str(&format!(
            "logins    {} refused{locked}\n",
            view.refused_logins
        ));
    }
    out
}

fn what(tested: &TestedBmc) -> String {
    let yes = |can| if can { "yes" } else { "no" };
    format!(
        "product   {}\npower     {}\nnext boot {}\nboots     {}\nshutdown  {}\ncycle     {}\nmedia     {}\n",
        text::line(&tested.product),
        tested.state,
        text::line(&tested.boot),
        match tested.boot_targets.is_empty() {
            true => "it does not say".to_owned(),
            false => tested.boot_targets.join(", "),
        },
        yes(tested.graceful_off),
        yes(tested.cycle),
        yes(tested.virtual_media),
    )
}
