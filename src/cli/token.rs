//! `token`: bearer tokens of programs.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use super::text;
use crate::api::{CreateToken, TokenView};
use crate::vocab::access::Role;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; its secret is shown this once
    Create(Create),
    /// List tokens, without their secrets
    #[command(visible_alias = "ls", after_help = "Example:\n  greenroom token list")]
    List,
    /// End a token
    #[command(after_help = "Example:\n  greenroom token revoke 0199…")]
    Revoke {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom token create ci --role operator --client lab --days 30
  TOKEN=$(greenroom -q token create watcher --role viewer)
  curl --cacert /var/lib/greenroom/tls/self-signed.pem -H \"Authorization: Bearer $TOKEN\" https://localhost:8443/api/v1/runs")]
pub struct Create {
    /// What it is for
    name: String,
    /// viewer, operator, author or admin
    #[arg(long)]
    role: Role,
    /// Bind it to this client's devices and runs [default: all clients]
    #[arg(long)]
    client: Option<String>,
    /// Days until it ends
    #[arg(long, default_value_t = 90)]
    days: u64,
}

impl TokenCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Create(order) => {
                let order = CreateToken {
                    name: order.name,
                    role: order.role,
                    client: order.client,
                    expires_in_s: Some(order.days.saturating_mul(24 * 3600)),
                };
                let created = client.token_create(&order).await?;
                context.show(&created, || format!("{}\n", text::line(&created.secret.0)))?;
                context.note(&format!(
                    "token {} ({}) until {}; keep the secret, it is not shown again",
                    created.token.id, created.token.role, created.token.expires_at
                ));
            }
            Self::List => {
                let tokens = client.token_list().await?;
                context.show(&tokens, || list(&tokens, context))?;
            }
            Self::Revoke { id } => {
                let token = client.token_revoke(&id).await?;
                context.show(&token, || {
                    format!(
                        "token {} ({}) is revoked\n",
                        token.id,
                        text::line(&token.name)
                    )
                })?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn list(tokens: &[TokenView], context: &Context) -> String {
    let headers = [
        "ID",
        "NAME",
        "ROLE",
        "CLIENT",
        "STATE",
        "EXPIRES IN",
        "LAST USED",
    ];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for token in tokens {
        table.row([
            token.id.clone(),
            token.name.clone(),
            token.role.to_string(),
            token.client.clone().unwrap_or_else(|| "all".into()),
            token.state.clone(),
            text::span(token.expires_at.seconds_from(now).max(0.0)),
            token.last_used_at.map_or_else(
                || "never".into(),
                |at| format!("{} ago", text::span(now.seconds_from(at).max(0.0))),
            ),
        ]);
    }
    table.render("no tokens; make one with `greenroom token create`")
}
