//! `/tokens`: make, list, revoke.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use super::extract::{Body, InPath};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use crate::access::secret::Secret;
use crate::access::{Access, Caller};
use crate::api::{CreateToken, CreatedToken, ProblemFault, Shown, Time, TokenView};
use crate::store::access::{self as rows, Token};
use crate::vocab::access::{Role, Scope};
use crate::vocab::device::is_plain_name;
use crate::vocab::{Timestamp, TokenId};

/// When nothing else is said: 90 days.
const LIFE_S: u64 = 90 * 24 * 3600;
const LONGEST_S: u64 = 10 * 366 * 24 * 3600;

pub fn routes() -> Routes {
    Routes::of("tokens", "Bearer tokens of programs.")
        .with(
            Op::get(
                "token_list",
                "/tokens",
                Access::per_client(Role::Admin),
                list,
            )
            .says("Tokens, oldest first, without their secrets")
            .answers::<Vec<TokenView>>(200),
        )
        .with(
            Op::post(
                "token_create",
                "/tokens",
                Access::per_client(Role::Admin),
                create,
            )
            .says("Makes a token; its secret is shown this once")
            .takes::<CreateToken>()
            .answers::<CreatedToken>(201)
            .secret(),
        )
        .with(
            Op::delete(
                "token_revoke",
                "/tokens/{id}",
                Access::per_client(Role::Admin),
                revoke,
            )
            .says("Ends a token")
            .answers::<TokenView>(200),
        )
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
) -> Result<Json<Vec<TokenView>>, Refusal> {
    let services = &app.state.services;
    let mut connection = services.store.read().await?;
    let all = rows::token_list(&mut connection, caller.scope.client()).await?;
    let now = services.now();
    Ok(Json(all.iter().map(|token| view(token, now)).collect()))
}

pub(crate) async fn create(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    let services = &app.state.services;
    let scope = granted(&caller, order.role, order.client.as_deref())?;
    let life = order.expires_in_s.unwrap_or(LIFE_S);
    let mut faults = Vec::new();
    if order.name.is_empty()
        || order.name.chars().count() > 100
        || order.name.chars().any(char::is_control)
    {
        faults.push(fault(
            "name",
            "a token's name has 1 to 100 characters, and no control characters",
        ));
    }
    if !(60..=LONGEST_S).contains(&life) {
        faults.push(fault(
            "expires_in_s",
            "a token lives for a minute at least and for ten years at most",
        ));
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid("the token cannot be made", faults));
    }
    let now = services.now();
    let secret = Secret::fresh_token();
    let token = Token {
        id: TokenId::fresh(),
        name: order.name,
        role: order.role,
        scope,
        created_by: caller.name(),
        created_at: now,
        expires_at: now.after(Duration::from_secs(life)),
        revoked_at: None,
        last_used_at: None,
    };
    let (row, digest) = (token.clone(), secret.digest());
    let write = services.store.write(move |connection| {
        Box::pin(async move { rows::token_insert(connection, &row, digest).await })
    });
    write.await?;
    let created = CreatedToken {
        token: view(&token, now),
        secret: Shown(secret.reveal().to_owned()),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(crate) async fn revoke(
    State(app): Shared,
    caller: Caller,
    InPath(text): InPath<String>,
) -> Result<Json<TokenView>, Refusal> {
    let services = &app.state.services;
    let absent = || {
        Refusal::not_found(format!(
            "there is no token {text:?}; see `greenroom token list`"
        ))
    };
    let id: TokenId = text.parse().map_err(|_| absent())?;
    let now = services.now();
    let found = {
        let mut connection = services.store.read().await?;
        rows::token_get(&mut connection, id).await?
    };
    found
        .filter(|token| caller.scope.contains(&token.scope))
        .ok_or_else(absent)?;
    let write = services.store.write(move |connection| {
        Box::pin(async move {
            rows::token_revoke(connection, id, now).await?;
            rows::token_get(connection, id).await
        })
    });
    let token = write.await?.ok_or_else(absent)?;
    Ok(Json(view(&token, now)))
}

/// The reach of what a caller gives: their own, or one client of it.
pub fn granted(caller: &Caller, role: Role, client: Option<&str>) -> Result<Scope, Refusal> {
    if let Some(client) = client
        && !is_plain_name(client)
    {
        let faults = vec![fault(
            "client",
            "a client is a letter or digit, then letters, digits, `.`, `_` and `-`, at most 64 in all",
        )];
        return Err(Refusal::invalid("there cannot be such a client", faults));
    }
    let scope = match client {
        Some(client) => Scope::Client(client.to_owned()),
        None => caller.scope.clone(),
    };
    if caller.may_grant(role, &scope) {
        return Ok(scope);
    }
    Err(Refusal::new(
        Why::Forbidden,
        "nobody can give what they have not: a role above their own, or another client's things",
    ))
}

pub fn fault(path: &str, detail: impl Into<String>) -> ProblemFault {
    ProblemFault {
        path: path.into(),
        line: None,
        column: None,
        detail: detail.into(),
        expected: None,
        suggestion: None,
    }
}

fn view(token: &Token, now: Timestamp) -> TokenView {
    let state = match token.revoked_at {
        Some(_) => "revoked",
        None if token.is_valid(now) => "valid",
        None => "expired",
    };
    TokenView {
        id: token.id.to_string(),
        name: token.name.clone(),
        role: token.role,
        client: token.scope.client().map(str::to_owned),
        state: state.into(),
        created_by: token.created_by.clone(),
        created_at: Time::of(token.created_at),
        expires_at: Time::of(token.expires_at),
        last_used_at: token.last_used_at.map(Time::of),
    }
}
