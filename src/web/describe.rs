//! `/openapi.json`, a page that shows it, and what the kinds of problems mean.
//!
//! The page is our own: it needs no other network, and no script or style stands inside of it, so its
//! policy allows none. All that it shows it writes as text.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::etag::{Conditions, Tag};
use super::extract::InPath;
use super::refusal::{Refusal, Why};
use super::routes::{Op, Routes};
use crate::access::Access;
use crate::vocab::Digest;

const PAGE: &str = include_str!("describe/page.html");
const SCRIPT: &str = include_str!("describe/page.js");
const STYLE: &str = include_str!("describe/page.css");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub fn routes() -> Routes {
    Routes::of("description", "What this document is about.")
        .with(
            Op::get("openapi", "/openapi.json", Access::ANYONE, openapi)
                .says("This document")
                .answers::<serde_json::Value>(200)
                .conditional(),
        )
        .with(
            Op::get("docs", "/docs", Access::ANYONE, page)
                .says("A page that shows this document")
                .answers_bytes(200, "text/html; charset=utf-8"),
        )
        .with(
            Op::get("docs_script", "/docs/page.js", Access::ANYONE, script)
                .says("The page's script")
                .answers_bytes(200, "text/javascript; charset=utf-8"),
        )
        .with(
            Op::get("docs_style", "/docs/page.css", Access::ANYONE, style)
                .says("The page's style")
                .answers_bytes(200, "text/css; charset=utf-8"),
        )
}

/// `/problems/{word}`: where the `type` of each problem leads.
pub fn problems() -> Routes {
    Routes::of("description", "What this document is about.")
        .at_root()
        .with(
            Op::get("problem_show", "/problems/{word}", Access::ANYONE, problem)
                .says("What a kind of problem means")
                .answers::<KindOfProblem>(200),
        )
}

/// The document as it is sent.
pub struct Description {
    text: String,
    tag: Tag,
}

impl Description {
    pub fn new(all: &[Routes]) -> Self {
        let text = super::openapi::document(all).to_string();
        let tag = Tag::of_digest(Digest::of(text.as_bytes()));
        Self { text, tag }
    }
}

async fn openapi(State(app): Shared, conditions: Conditions) -> Response {
    let Description { text, tag } = &app.description;
    if conditions.has(tag) {
        return Conditions::not_modified(tag);
    }
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    (media_type, [tag.header()], text.clone()).into_response()
}

async fn page() -> Response {
    let mut response = asset("text/html; charset=utf-8", PAGE);
    let policy = HeaderValue::from_static(POLICY);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct KindOfProblem {
    /// The end of the problem's `type`.
    word: String,
    title: String,
    status: u16,
}

async fn problem(InPath(word): InPath<String>) -> Result<Json<KindOfProblem>, Refusal> {
    let found = Why::ALL
        .into_iter()
        .map(Why::parts)
        .find(|(_, known, _)| *known == word);
    let (status, known, title) =
        found.ok_or_else(|| Refusal::not_found(format!("there is no kind of problem {word:?}")))?;
    Ok(Json(KindOfProblem {
        word: known.to_owned(),
        title: title.to_owned(),
        status: status.as_u16(),
    }))
}
