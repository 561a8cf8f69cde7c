//! Logging in and out, and the first admin.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::frame::{Frame, Page, Part, Visitor, done};
use crate::access::{Access, Caller};
use crate::api::{Bootstrap, Login, Shown};
use crate::vocab::access::Role;
use crate::web::changes::TurnedOut;
use crate::web::extract::{Body, Params};
use crate::web::forms::Fields;
use crate::web::refusal::{Refusal, Why};
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, sessions};

pub fn routes() -> Routes {
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(Op::get("page_sign_in", "/sign-in", Access::ANYONE, show).says("Where one logs in"))
        .with(
            Op::post("page_sign_in_do", "/sign-in", Access::ANYONE, sign_in)
                .says("Logs in")
                .form(),
        )
        .with(
            Op::get(
                "page_first_admin",
                "/first-admin",
                Access::ANYONE,
                show_first,
            )
            .says("Where the first admin is made"),
        )
        .with(
            Op::post("page_first_admin_do", "/first-admin", Access::ANYONE, first)
                .says("Makes the first admin")
                .form(),
        )
        .with(
            Op::post(
                "page_sign_out",
                "/sign-out",
                Access::shared(Role::Viewer),
                sign_out,
            )
            .says("Logs out")
            .form(),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
struct Next {
    /// Where to go afterwards.
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "sign-in.html")]
struct SignIn {
    frame: Frame,
    next: String,
    name: String,
    problem: String,
}

#[derive(Template)]
#[template(path = "first-admin.html")]
struct FirstAdmin {
    frame: Frame,
    name: String,
    problems: Vec<String>,
}

/// Only a place on this site: nobody is sent away by a link to the door.
fn inside(next: &str) -> String {
    let is_ours = next.starts_with('/')
        && !next.starts_with("//")
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !next.starts_with("/sign-");
    if is_ours { next.to_owned() } else { "/".into() }
}

async fn show(visitor: Visitor, Params(Next { next }): Params<Next>) -> Response {
    Page::of(SignIn {
        frame: visitor.frame(Part::None, "Log in"),
        next: inside(&next.unwrap_or_default()),
        name: String::new(),
        problem: String::new(),
    })
    .into_response()
}

async fn sign_in(
    State(app): Shared,
    visitor: Visitor,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Refusal> {
    let next = inside(fields.get("next"));
    let name = fields.get("name").trim().to_owned();
    let order = Login {
        name: name.clone(),
        password: Shown(fields.get("password").to_owned()),
    };
    match sessions::login(State(app), headers, Body(order)).await {
        Ok(answer) => Ok(carried(
            answer,
            axum::response::Redirect::to(&next).into_response(),
        )),
        Err(refusal) if refusal.why() == Why::Stranger => {
            let page = SignIn {
                frame: visitor.frame(Part::None, "Log in"),
                next,
                name,
                problem: refusal.detail().to_owned(),
            };
            Ok(Page(StatusCode::UNAUTHORIZED, page).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

/// The page's answer with the cookie, and with what the audit log is to have, of the API's.
fn carried(answer: Response, mut page: Response) -> Response {
    if let Some(cookie) = answer.headers().get(header::SET_COOKIE) {
        page.headers_mut()
            .insert(header::SET_COOKIE, cookie.clone());
    }
    if let Some(who) = answer.extensions().get::<TurnedOut>() {
        page.extensions_mut().insert(who.clone());
    }
    page
}

async fn sign_out(State(app): Shared, caller: Caller) -> Result<Response, Refusal> {
    let answer = sessions::logout(State(app), caller).await?;
    Ok(carried(answer, done("/sign-in", "out")))
}

async fn show_first(visitor: Visitor) -> Response {
    Page::of(FirstAdmin {
        frame: visitor.frame(Part::None, "The first admin"),
        name: String::new(),
        problems: Vec::new(),
    })
    .into_response()
}

async fn first(State(app): Shared, visitor: Visitor, fields: Fields) -> Result<Response, Refusal> {
    let name = fields.get("name").trim().to_owned();
    let order = Bootstrap {
        code: Shown(fields.get("code").to_owned()),
        name: name.clone(),
        password: Shown(fields.get("password").to_owned()),
    };
    match sessions::bootstrap(State(app), Body(order)).await {
        Ok(answer) => Ok(carried(answer, done("/sign-in", "first"))),
        Err(refusal) if matches!(refusal.why(), Why::Refused | Why::Invalid) => {
            let mut problems: Vec<String> =
                refusal.errors().iter().map(ToString::to_string).collect();
            if problems.is_empty() {
                problems.push(refusal.detail().to_owned());
            }
            let page = FirstAdmin {
                frame: visitor.frame(Part::None, "The first admin"),
                name,
                problems,
            };
            Ok(Page(refusal.status(), page).into_response())
        }
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(inside("/runs/7?x=1"), "/runs/7?x=1");
        for next in [
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "",
            "/sign-in",
        ] {
            assert_eq!(inside(next), "/", "{next}");
        }
    }
}
