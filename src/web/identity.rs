//! Who sends a request: a bearer token or a session's cookie becomes a [`Caller`].

use axum::http::{HeaderMap, header};

use super::App;
use super::refusal::{Refusal, Why};
use crate::access::secret::{Secret, TOKEN_PREFIX};
use crate::access::{Caller, Who, session};
use crate::store::access as rows;
use crate::vocab::Timestamp;

/// The use of a token is stored once in so many microseconds.
const NOTE_EVERY_US: i64 = 60_000_000;

/// None for who shows nothing; refused for who shows something that is not valid.
pub async fn of(app: &App, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value
            .to_str()
            .ok()
            .and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            })
            .filter(|token| token.starts_with(TOKEN_PREFIX))
            .ok_or_else(|| invalid("the Authorization header is not `Bearer grn_…`"))?;
        return by_token(app, &Secret::of(token)).await.map(Some);
    }
    match cookie(headers) {
        Some(secret) => by_session(app, &secret).await.map(Some),
        None => Ok(None),
    }
}

/// The session's secret, valid or not.
pub fn cookie(headers: &HeaderMap) -> Option<Secret> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .find_map(|value| session::read_cookie(value.to_str().ok()?))
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Why::Stranger, detail)
}

async fn by_token(app: &App, secret: &Secret) -> Result<Caller, Refusal> {
    let services = &app.state.services;
    let now = services.now();
    let found = {
        let mut connection = services.store.read().await?;
        rows::token_by_secret(&mut connection, secret.digest()).await?
    };
    let token = found.filter(|token| token.is_valid(now)).ok_or_else(|| {
        invalid("the token is not valid: it is unknown, revoked or has expired; see `greenroom token list`")
    })?;
    if is_old(token.last_used_at, now) && app.note_use(&token.id.to_string(), now, NOTE_EVERY_US) {
        let (store, id) = (services.store.clone(), token.id);
        tokio::spawn(async move {
            let write =
                store.write(move |connection| Box::pin(rows::token_used(connection, id, now)));
            if let Err(error) = write.await {
                tracing::debug!(%error, "a token's use was not noted");
            }
        });
    }
    Ok(Caller {
        who: Who::Token {
            id: token.id,
            name: token.name,
        },
        role: token.role,
        scope: token.scope,
    })
}

fn is_old(at: Option<Timestamp>, now: Timestamp) -> bool {
    at.is_none_or(|at| now.0.saturating_sub(at.0) >= NOTE_EVERY_US)
}

async fn by_session(app: &App, secret: &Secret) -> Result<Caller, Refusal> {
    let services = &app.state.services;
    let now = services.now();
    let digest = secret.digest();
    let found = {
        let mut connection = services.store.read().await?;
        rows::session_by_secret(&mut connection, digest).await?
    };
    let session = found
        .filter(|session| {
            !app.sessions
                .is_over(session.created_at, session.seen_at, now)
        })
        .ok_or_else(|| invalid("the session is over; log in again"))?;
    if app.sessions.is_worth_noting(session.seen_at, now) {
        let write = services
            .store
            .write(move |connection| Box::pin(rows::session_seen(connection, digest, now)));
        write.await?;
    }
    Ok(Caller {
        who: Who::User {
            name: session.user.name,
            session: digest,
        },
        role: session.user.role,
        scope: session.user.scope,
    })
}

/// Whether a caller who was let in would be let in now, with the same rights.
pub async fn is_still_known(app: &App, caller: &Caller) -> Result<bool, Refusal> {
    let now = app.state.services.now();
    let mut connection = app.state.services.store.read().await?;
    let rights = match &caller.who {
        Who::Socket { .. } => return Ok(true),
        Who::Token { id, .. } => rows::token_get(&mut connection, *id)
            .await?
            .filter(|token| token.is_valid(now))
            .map(|token| (token.role, token.scope)),
        // Listening is no use of the session: an open page alone does not keep it.
        Who::User { session, .. } => rows::session_by_secret(&mut connection, *session)
            .await?
            .filter(|session| {
                !app.sessions
                    .is_over(session.created_at, session.seen_at, now)
            })
            .map(|session| (session.user.role, session.user.scope)),
    };
    Ok(rights.is_some_and(|(role, scope)| role == caller.role && scope == caller.scope))
}
