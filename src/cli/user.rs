//! `user`: people who log in with a password.

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use super::text;
use crate::api::{CreateUser, SetPassword, Shown, UserView};
use crate::vocab::access::Role;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user; the password is read from standard input
    Create(Create),
    /// List users
    #[command(visible_alias = "ls", after_help = "Example:\n  greenroom user list")]
    List,
    /// Set a password and end the user's sessions; it is read from standard input
    #[command(after_help = "Example:\n  greenroom user password ada < new-password")]
    Password {
        /// Whose
        name: String,
    },
    /// Remove a user and end their sessions
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  greenroom user remove ada"
    )]
    Remove {
        /// Who
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom user create ada --role admin
  pass show greenroom/ada | greenroom user create ada --role operator --client lab")]
pub struct Create {
    /// Letters, digits, `.`, `_` and `-`
    name: String,
    /// viewer, operator, author or admin
    #[arg(long)]
    role: Role,
    /// Bind them to this client's devices and runs [default: all clients]
    #[arg(long)]
    client: Option<String>,
}

impl UserCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Create(order) => {
                let order = CreateUser {
                    password: read_password()?,
                    name: order.name,
                    role: order.role,
                    client: order.client,
                };
                let user = client.user_create(&order).await?;
                context.show(&user, || {
                    format!("user {} ({})\n", text::line(&user.name), user.role)
                })?;
            }
            Self::List => {
                let users = client.user_list().await?;
                context.show(&users, || list(&users, context))?;
            }
            Self::Password { name } => {
                let order = SetPassword {
                    password: read_password()?,
                    current: None,
                };
                client.user_password(&name, &order).await?;
                context.note(&format!(
                    "the password of {name} is set, and their sessions have ended"
                ));
            }
            Self::Remove { name } => {
                client.user_remove(&name).await?;
                context.note(&format!("user {name} is removed"));
            }
        }
        Ok(Exit::Ok)
    }
}

/// One line. Never an argument: those are in everybody's process list and in the shell's history.
fn read_password() -> Result<Shown, Failure> {
    let stdin = std::io::stdin();
    let _quiet = if stdin.is_terminal() {
        let _ = write!(std::io::stderr(), "password: ");
        Some(Quiet::start())
    } else {
        None
    };
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("the password cannot be read: {error}")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("no password came on standard input"));
    }
    Ok(Shown(password.to_owned()))
}

/// A terminal that does not show what is typed, until it is dropped.
struct Quiet(Option<nix::libc::termios>);

impl Quiet {
    fn start() -> Self {
        // SAFETY: both calls write to or read from the struct that they are given, of a file descriptor
        // that is open; an all-zero termios is a valid value of plain numbers.
        let before = unsafe {
            let mut now: nix::libc::termios = std::mem::zeroed();
            if nix::libc::tcgetattr(0, &raw mut now) != 0 {
                return Self(None);
            }
            let before = now;
            now.c_lflag &= !nix::libc::ECHO;
            nix::libc::tcsetattr(0, nix::libc::TCSAFLUSH, &raw const now);
            before
        };
        Self(Some(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: as above.
            unsafe { nix::libc::tcsetattr(0, nix::libc::TCSAFLUSH, before) };
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn list(users: &[UserView], context: &Context) -> String {
    let mut table = Table::new(context.out, &["NAME", "ROLE", "CLIENT", "AGE", "MADE BY"]);
    let now = context.now();
    for user in users {
        table.row([
            user.name.clone(),
            user.role.to_string(),
            user.client.clone().unwrap_or_else(|| "all".into()),
            text::span(now.seconds_from(user.created_at)),
            user.created_by.clone(),
        ]);
    }
    table.render("no users; make one with `greenroom user create`")
}
