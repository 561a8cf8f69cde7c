//! `webhook`: who outside is told what happens.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{Exit, Failure};
use super::table::Table;
use super::text;
use crate::api::{AddWebhook, DeliveryView, WebhookView};

#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Add a webhook; its secret is shown this once
    Add(Add),
    /// List webhooks
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  greenroom webhook list"
    )]
    List,
    /// Send a test message and say how it fared
    #[command(after_help = "Example:\n  greenroom webhook test service-desk")]
    Test {
        /// Its name
        name: String,
    },
    /// The newest messages, and what became of them
    #[command(after_help = "Example:\n  greenroom webhook log service-desk")]
    Log {
        /// Its name
        name: String,
    },
    /// Remove a webhook and its messages
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  greenroom webhook remove service-desk"
    )]
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom webhook add service-desk https://desk.example.com/hooks/greenroom --kind run_failed --kind run_held

Its host must be listed under api.webhooks.targets of the configuration. Messages are CloudEvents in JSON;
the header webhook-signature is `v1,` and the base64 of HMAC-SHA256 over `webhook-id.webhook-timestamp.body`.")]
pub struct Add {
    /// Letters, digits, `.`, `_` and `-`
    name: String,
    /// Where messages go
    url: String,
    /// Only events of this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only runs of this client [default: all clients]
    #[arg(long)]
    client: Option<String>,
}

impl WebhookCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        match self {
            Self::Add(order) => {
                let order = AddWebhook {
                    name: order.name,
                    url: order.url,
                    kinds: order.kinds,
                    client: order.client,
                };
                let added = client.webhook_add(&order).await?;
                context.show(&added, || format!("{}\n", text::line(&added.secret.0)))?;
                context
                    .note("messages are signed with this secret; keep it, it is not shown again");
            }
            Self::List => {
                let webhooks = client.webhook_list().await?;
                context.show(&webhooks, || list(&webhooks, context))?;
            }
            Self::Test { name } => {
                let tested = client.webhook_test(&name).await?;
                context.show(&tested, || match &tested.error {
                    None => format!("delivered in {:.0} ms\n", tested.took_ms),
                    Some(error) => format!("not delivered: {}\n", text::line(error)),
                })?;
                return Ok(if tested.delivered {
                    Exit::Ok
                } else {
                    Exit::Failed
                });
            }
            Self::Log { name } => {
                let deliveries = client.webhook_deliveries(&name).await?;
                context.show(&deliveries, || log(&deliveries, context))?;
            }
            Self::Remove { name } => {
                client.webhook_remove(&name).await?;
                context.note(&format!("webhook {name} is removed"));
            }
        }
        Ok(Exit::Ok)
    }
}

fn list(webhooks: &[WebhookView], context: &Context) -> String {
    let mut table = Table::new(context.out, &["NAME", "URL", "KINDS", "CLIENT"]);
    for webhook in webhooks {
        table.row([
            webhook.name.clone(),
            webhook.url.clone(),
            match webhook.kinds.as_slice() {
                [] => "all".into(),
                kinds => kinds.join(","),
            },
            webhook.client.clone().unwrap_or_else(|| "all".into()),
        ]);
    }
    table.render("no webhooks; add one with `greenroom webhook add`")
}

fn log(deliveries: &[DeliveryView], context: &Context) -> String {
    let mut table = Table::new(
        context.out,
        &["EVENT", "STATE", "TRIES", "AGE", "STATUS", "ERROR"],
    );
    let now = context.now();
    for delivery in deliveries {
        table.row([
            delivery.event.to_string(),
            delivery.state.clone(),
            delivery.tries.to_string(),
            text::span(now.seconds_from(delivery.created_at)),
            delivery
                .status
                .map_or_else(String::new, |status| status.to_string()),
            delivery.error.clone(),
        ]);
    }
    table.render("nothing was sent yet")
}
