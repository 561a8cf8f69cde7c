//! Settings: the own account; for admins tokens, users and webhooks.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Page, Part, Visitor, done};
use super::marks;
use crate::access::{Access, Caller, Who};
use crate::api::{
    AddWebhook, CreateToken, CreateUser, DeliveryView, SetPassword, Shown, TestedWebhook, Time,
    TokenView, UserView, VersionView, WebhookView,
};
use crate::vocab::access::Role;
use crate::web::extract::{Body, InPath};
use crate::web::forms::Fields;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{App, Shared, host, present, tokens, users, webhooks};

/// Deliveries of one webhook that are shown.
const DELIVERIES: usize = 5;

pub fn routes() -> Routes {
    let admin = Access::per_client(Role::Admin);
    let own = Access::per_client(Role::Viewer);
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_settings", "/settings", own, show).says("Settings"))
        .with(
            Op::post("page_password", "/settings/password", own, password)
                .says("Sets the own password")
                .form(),
        )
        .with(
            Op::post("page_token_create", "/settings/tokens", admin, make_token)
                .says("Makes a token")
                .form()
                .secret(),
        )
        .with(
            Op::post(
                "page_token_revoke",
                "/settings/tokens/revoke",
                admin,
                revoke,
            )
            .says("Ends a token")
            .form(),
        )
        .with(
            Op::post("page_user_create", "/settings/users", admin, make_user)
                .says("Makes a user")
                .form(),
        )
        .with(
            Op::post(
                "page_user_remove",
                "/settings/users/remove",
                admin,
                remove_user,
            )
            .says("Removes a user")
            .form(),
        )
        .with(
            Op::post("page_webhook_add", "/settings/webhooks", admin, add_webhook)
                .says("Adds a webhook")
                .form()
                .secret(),
        )
        .with(
            Op::post(
                "page_webhook_remove",
                "/settings/webhooks/remove",
                admin,
                remove_webhook,
            )
            .says("Removes a webhook")
            .form(),
        )
        .with(
            Op::post(
                "page_webhook_test",
                "/settings/webhooks/test",
                admin,
                test_webhook,
            )
            .says("Sends a test message")
            .form(),
        )
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    now: Time,
    version: VersionView,
    /// Has a password of their own.
    is_user: bool,
    admin: Option<ForAdmins>,
    /// What is shown this once: what it is, and the secret.
    secret: Option<(String, String)>,
    tested: Option<(String, TestedWebhook)>,
    roles: [Role; 4],
}

struct ForAdmins {
    tokens: Vec<TokenView>,
    users: Vec<UserView>,
    webhooks: Vec<Hook>,
}

struct Hook {
    webhook: WebhookView,
    deliveries: Vec<DeliveryView>,
}

async fn page(app: &std::sync::Arc<App>, visitor: &Visitor) -> Result<Settings, Refusal> {
    let caller = visitor.caller()?;
    let state = || State(app.clone());
    let admin = if caller.role >= Role::Admin {
        let mut hooks = Vec::new();
        for webhook in webhooks::list(state(), caller.clone()).await?.0 {
            let name = InPath(webhook.name.clone());
            let mut deliveries = webhooks::deliveries(state(), caller.clone(), name).await?.0;
            deliveries.truncate(DELIVERIES);
            hooks.push(Hook {
                webhook,
                deliveries,
            });
        }
        Some(ForAdmins {
            tokens: tokens::list(state(), caller.clone()).await?.0,
            users: users::list(state(), caller.clone()).await?.0,
            webhooks: hooks,
        })
    } else {
        None
    };
    Ok(Settings {
        frame: visitor.frame(Part::Settings, "Settings"),
        now: present::time(app.state.services.now()),
        version: host::version(state()).await.0,
        is_user: matches!(caller.who, Who::User { .. }),
        admin,
        secret: None,
        tested: None,
        roles: Role::ALL,
    })
}

async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    Ok(Page::of(page(&app, &visitor).await?).into_response())
}

async fn password(State(app): Shared, caller: Caller, fields: Fields) -> Result<Response, Refusal> {
    let Who::User { name, .. } = &caller.who else {
        return Err(Refusal::mistake(
            "only users have passwords; you came with a token or through the socket",
        ));
    };
    let name = name.clone();
    let order = SetPassword {
        password: Shown(fields.get("password").to_owned()),
        current: Some(Shown(fields.get("current").to_owned())),
    };
    users::set_password(State(app), caller, InPath(name), Body(order)).await?;
    // All sessions are over with it, this one too.
    Ok(done("/sign-in", "password"))
}

fn role(fields: &Fields) -> Result<Role, Refusal> {
    let role = fields.get("role").parse::<Role>();
    role.map_err(|error| Refusal::mistake(format!("{error}")))
}

async fn make_token(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let days: Option<u64> = fields.number("days")?;
    let order = CreateToken {
        name: fields.get("name").trim().to_owned(),
        role: role(&fields)?,
        client: fields.word("client"),
        expires_in_s: days.map(|days| days.saturating_mul(24 * 3600)),
    };
    let (_, made) = tokens::create(State(app.clone()), caller, Body(order)).await?;
    let page = Settings {
        secret: Some((format!("The token {}", made.token.name), made.0.secret.0)),
        ..page(&app, &visitor).await?
    };
    Ok(Page::of(page).into_response())
}

async fn revoke(State(app): Shared, caller: Caller, fields: Fields) -> Result<Response, Refusal> {
    let _ = tokens::revoke(State(app), caller, InPath(fields.get("id").to_owned())).await?;
    Ok(done("/settings", "token-gone"))
}

async fn make_user(
    State(app): Shared,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let order = CreateUser {
        name: fields.get("name").trim().to_owned(),
        password: Shown(fields.get("password").to_owned()),
        role: role(&fields)?,
        client: fields.word("client"),
    };
    let _ = users::create(State(app), caller, Body(order)).await?;
    Ok(done("/settings", "user"))
}

async fn remove_user(
    State(app): Shared,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    users::remove(State(app), caller, InPath(fields.get("name").to_owned())).await?;
    Ok(done("/settings", "user-gone"))
}

async fn add_webhook(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let kinds = fields.get("kinds").split([',', ' ', '\n']);
    let order = AddWebhook {
        name: fields.get("name").trim().to_owned(),
        url: fields.get("url").trim().to_owned(),
        kinds: kinds
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned)
            .collect(),
        client: fields.word("client"),
    };
    let (_, added) = webhooks::add(State(app.clone()), caller, Body(order)).await?;
    let what = format!(
        "The key of the signatures of the webhook {}",
        added.webhook.name
    );
    let page = Settings {
        secret: Some((what, added.0.secret.0)),
        ..page(&app, &visitor).await?
    };
    Ok(Page::of(page).into_response())
}

async fn remove_webhook(
    State(app): Shared,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    webhooks::remove(State(app), caller, InPath(fields.get("name").to_owned())).await?;
    Ok(done("/settings", "webhook-gone"))
}

async fn test_webhook(
    State(app): Shared,
    visitor: Visitor,
    caller: Caller,
    fields: Fields,
) -> Result<Response, Refusal> {
    let name = fields.get("name").to_owned();
    let fared = webhooks::test(State(app.clone()), caller, InPath(name.clone())).await?;
    let page = Settings {
        tested: Some((name, fared.0)),
        ..page(&app, &visitor).await?
    };
    Ok(Page::of(page).into_response())
}
