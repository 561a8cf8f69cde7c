//! `/session`: log in, log out, who am I; `/bootstrap`: the first admin.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::changes::TurnedOut;
use super::extract::Body;
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::users::{check, hashed, verified, view};
use super::{Shared, identity};
use crate::access::secret::Secret;
use crate::access::{Access, Caller, Who, session};
use crate::api::{Bootstrap, Login, SessionView, Shown, UserView};
use crate::store::access::{self as rows, User};
use crate::vocab::Timestamp;
use crate::vocab::access::{Role, Scope};

pub fn routes() -> Routes {
    Routes::of("session", "Browsers log in; everyone can ask who they are.")
        .with(
            Op::get(
                "session_show",
                "/session",
                Access::shared(Role::Viewer),
                show,
            )
            .says("Who you are; in a session, with the token that changes need")
            .answers::<SessionView>(200),
        )
        .with(
            Op::post("session_begin", "/session", Access::ANYONE, login)
                .says("Logs in: sets the session's cookie")
                .takes::<Login>()
                .answers::<SessionView>(200),
        )
        .with(
            Op::delete(
                "session_end",
                "/session",
                Access::shared(Role::Viewer),
                logout,
            )
            .says("Logs out")
            .answers_bytes(204, ""),
        )
        .with(
            Op::post("bootstrap", "/bootstrap", Access::ANYONE, bootstrap)
                .says("Makes the first admin, with the code that the daemon printed")
                .takes::<Bootstrap>()
                .answers::<UserView>(201),
        )
}

pub(crate) async fn show(caller: Caller, headers: HeaderMap) -> Json<SessionView> {
    let csrf = match caller.who {
        Who::User { .. } => identity::cookie(&headers).map(|secret| Shown(secret.csrf())),
        _ => None,
    };
    Json(SessionView {
        who: caller.name(),
        role: caller.role,
        client: caller.scope.client().map(str::to_owned),
        csrf,
    })
}

pub(crate) async fn login(
    State(app): Shared,
    headers: HeaderMap,
    Body(order): Body<Login>,
) -> Result<Response, Refusal> {
    let Login { name, password } = order;
    // Guessing at one user from many addresses is slowed too.
    app.pace_login(&name)?;
    let services = &app.state.services;
    let found = {
        let mut connection = services.store.read().await?;
        rows::user_get(&mut connection, &name).await?
    };
    let stored = found.as_ref().map(|user| user.password.clone());
    let fits = verified(&app, Secret::of(password.0), stored).await;
    let Some(user) = found.filter(|_| fits) else {
        return Err(Refusal::new(
            Why::Stranger,
            // The same words for both, so that names cannot be found out. The name is not written
            // down: it may be a password in the wrong field.
            "the name or the password is wrong",
        ));
    };
    let now = services.now();
    let secret = Secret::fresh_cookie();
    let limits = app.sessions;
    let begun = Timestamp(now.0 - i64::try_from(limits.absolute.as_micros()).unwrap_or(i64::MAX));
    let seen = Timestamp(now.0 - i64::try_from(limits.idle.as_micros()).unwrap_or(i64::MAX));
    let (owner, digest) = (user.name.clone(), secret.digest());
    // A session that was open in this browser is over: nobody goes on in one that was there before.
    let replaces = identity::cookie(&headers).map(|old| old.digest());
    let write = services.store.write(move |connection| {
        Box::pin(async move {
            rows::session_sweep(connection, begun, seen).await?;
            rows::session_begin(connection, &owner, digest, replaces, now).await
        })
    });
    write.await?;
    let view = SessionView {
        who: format!("user:{}", user.name),
        role: user.role,
        client: user.scope.client().map(str::to_owned),
        csrf: Some(Shown(secret.csrf())),
    };
    let mut response = Json(view).into_response();
    set(&mut response, &session::set_cookie(&secret));
    let who = TurnedOut(format!("user:{}", user.name));
    response.extensions_mut().insert(who);
    Ok(response)
}

pub(crate) async fn logout(State(app): Shared, caller: Caller) -> Result<Response, Refusal> {
    if let Who::User { session, .. } = caller.who {
        let write = app
            .state
            .services
            .store
            .write(move |connection| Box::pin(rows::session_end(connection, session)));
        write.await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set(&mut response, &session::clear_cookie());
    Ok(response)
}

fn set(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

pub(crate) async fn bootstrap(
    State(app): Shared,
    Body(order): Body<Bootstrap>,
) -> Result<Response, Refusal> {
    let secret = Secret::of(order.password.0);
    check(&order.name, &secret)?;
    let now = app.state.services.now();
    let user = User {
        password: hashed(&app, secret).await?,
        name: order.name,
        role: Role::Admin,
        scope: Scope::Everyone,
        created_by: "bootstrap".into(),
        created_at: now,
        changed_at: now,
    };
    let code = Secret::of(order.code.0.trim().to_uppercase()).digest();
    let row = user.clone();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { rows::bootstrap_use(connection, code, &row, now).await })
    });
    write.await?;
    let mut response = (StatusCode::CREATED, Json(view(&user))).into_response();
    let who = TurnedOut(format!("user:{} (bootstrap)", user.name));
    response.extensions_mut().insert(who);
    Ok(response)
}
