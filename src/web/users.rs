//! `/users`: make, list, remove; set passwords.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Body, InPath};
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use super::tokens::{fault, granted};
use super::{App, Shared};
use crate::access::secret::Secret;
use crate::access::{Access, Caller, Who, password};
use crate::api::{CreateUser, ProblemFault, SetPassword, Time, UserView};
use crate::store::access::{self as rows, User};
use crate::vocab::access::Role;
use crate::vocab::device::is_plain_name;

pub fn routes() -> Routes {
    Routes::of("users", "People who log in with a password.")
        .with(
            Op::get("user_list", "/users", Access::per_client(Role::Admin), list)
                .says("Users by name")
                .answers::<Vec<UserView>>(200),
        )
        .with(
            Op::post(
                "user_create",
                "/users",
                Access::per_client(Role::Admin),
                create,
            )
            .says("Makes a user")
            .takes::<CreateUser>()
            .answers::<UserView>(201),
        )
        .with(
            Op::delete(
                "user_remove",
                "/users/{name}",
                Access::per_client(Role::Admin),
                remove,
            )
            .says("Removes a user and ends their sessions")
            .answers_bytes(204, ""),
        )
        .with(
            Op::put(
                "user_password",
                "/users/{name}/password",
                Access::per_client(Role::Viewer),
                set_password,
            )
            .says("Sets one's own password, or, for admins, another's; ends the user's sessions")
            .takes::<SetPassword>()
            .answers_bytes(204, ""),
        )
}

pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
) -> Result<Json<Vec<UserView>>, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let all = rows::user_list(&mut connection, caller.scope.client()).await?;
    Ok(Json(all.iter().map(view).collect()))
}

pub(crate) async fn create(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<CreateUser>,
) -> Result<(StatusCode, Json<UserView>), Refusal> {
    let scope = granted(&caller, order.role, order.client.as_deref())?;
    let secret = Secret::of(order.password.0);
    check(&order.name, &secret)?;
    let now = app.state.services.now();
    let user = User {
        password: hashed(&app, secret).await?,
        name: order.name,
        role: order.role,
        scope,
        created_by: caller.name(),
        created_at: now,
        changed_at: now,
    };
    let row = user.clone();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { rows::user_insert(connection, &row).await })
    });
    write.await?;
    Ok((StatusCode::CREATED, Json(view(&user))))
}

pub(crate) async fn remove(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
) -> Result<StatusCode, Refusal> {
    find(&app, &caller, &name).await?;
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { rows::user_delete(connection, &name).await })
    });
    write.await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn set_password(
    State(app): Shared,
    caller: Caller,
    InPath(name): InPath<String>,
    Body(order): Body<SetPassword>,
) -> Result<StatusCode, Refusal> {
    let is_own = matches!(&caller.who, Who::User { name: own, .. } if *own == name);
    if !is_own && caller.role < Role::Admin {
        return Err(Refusal::new(
            Why::Forbidden,
            "only admins set the passwords of others",
        ));
    }
    let user = find(&app, &caller, &name).await?;
    if !is_own && !caller.may_grant(user.role, &user.scope) {
        return Err(Refusal::new(
            Why::Forbidden,
            "this user may do more than you",
        ));
    }
    let secret = Secret::of(order.password.0);
    check(&name, &secret)?;
    if is_own {
        // Whoever sits at an open session is not to keep it for good.
        let current = Secret::of(order.current.map_or(String::new(), |shown| shown.0));
        app.pace_login(&name)?;
        if !verified(&app, current, Some(user.password)).await {
            return Err(Refusal::invalid(
                "the password is not set",
                vec![fault("current", "this is not your present password")],
            ));
        }
    }
    let hash = hashed(&app, secret).await?;
    let now = app.state.services.now();
    let write = app.state.services.store.write(move |connection| {
        Box::pin(async move { rows::user_password(connection, &name, &hash, now).await })
    });
    write.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user within the caller's reach.
pub(crate) async fn find(app: &App, caller: &Caller, name: &str) -> Result<User, Refusal> {
    let mut connection = app.state.services.store.read().await?;
    let found = rows::user_get(&mut connection, name).await?;
    found
        .filter(|user| caller.scope.contains(&user.scope))
        .ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no user {name:?}; see `greenroom user list`"
            ))
        })
}

/// What is wrong with a name and a password.
pub fn check(name: &str, secret: &Secret) -> Result<(), Refusal> {
    let mut faults: Vec<ProblemFault> = Vec::new();
    if !is_plain_name(name) {
        faults.push(fault(
            "name",
            "a user's name is a letter or digit, then letters, digits, `.`, `_` and `-`, at most 64 in all",
        ));
    }
    faults.extend(password::fault(name, secret).map(|why| fault("password", why)));
    if faults.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid("the user cannot be like this", faults))
}

/// Few at a time: each takes 19 MiB and a core.
pub async fn hashed(app: &Arc<App>, secret: Secret) -> Result<String, Refusal> {
    let _turn = app.hashing.acquire().await;
    let hash = crate::blocking::run(move || password::hash(&secret)).await;
    hash.map_err(|why| Refusal::new(Why::Internal, why))
}

pub async fn verified(app: &Arc<App>, secret: Secret, stored: Option<String>) -> bool {
    let _turn = app.hashing.acquire().await;
    crate::blocking::run(move || password::verify(&secret, stored.as_deref())).await
}

pub fn view(user: &User) -> UserView {
    UserView {
        name: user.name.clone(),
        role: user.role,
        client: user.scope.client().map(str::to_owned),
        created_by: user.created_by.clone(),
        created_at: Time::of(user.created_at),
        password_set_at: Time::of(user.changed_at),
    }
}
