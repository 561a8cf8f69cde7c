//! The two files that pages need: one style, one script. Their names carry their digest, so a browser
//! keeps them for good and never has an old one.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::access::Access;
use crate::vocab::Digest;
use crate::web::Shared;
use crate::web::etag::{Conditions, Tag};
use crate::web::extract::InPath;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
const ICON: &str = include_str!("assets/icon.svg");

static CSS: LazyLock<String> = LazyLock::new(|| path("page", STYLE, "css"));
static JS: LazyLock<String> = LazyLock::new(|| path("page", SCRIPT, "js"));

fn path(name: &str, text: &str, ending: &str) -> String {
    let digest = Digest::of(text.as_bytes()).to_string();
    format!("/assets/{name}-{}.{ending}", &digest[..12])
}

pub fn css() -> &'static str {
    &CSS
}

pub fn js() -> &'static str {
    &JS
}

pub fn routes() -> Routes {
    Routes::of("pages", "The web interface.")
        .at_root()
        .with(
            Op::get("page_asset", "/assets/{file}", Access::ANYONE, asset).says("Style and script"),
        )
        .with(Op::get("page_icon", "/favicon.ico", Access::ANYONE, icon).says("The icon"))
}

async fn asset(
    State(_): Shared,
    InPath(file): InPath<String>,
    conditions: Conditions,
) -> Result<Response, Refusal> {
    let asked = format!("/assets/{file}");
    let (text, media_type) = match asked {
        asked if asked == *CSS => (STYLE, "text/css; charset=utf-8"),
        asked if asked == *JS => (SCRIPT, "text/javascript; charset=utf-8"),
        _ => return Err(Refusal::not_found(format!("there is no /assets/{file}"))),
    };
    Ok(kept(conditions, text, media_type))
}

async fn icon(conditions: Conditions) -> Response {
    kept(conditions, ICON, "image/svg+xml")
}

fn kept(conditions: Conditions, text: &'static str, media_type: &'static str) -> Response {
    let tag = Tag::of_digest(Digest::of(text.as_bytes()));
    let mut response = if conditions.has(&tag) {
        Conditions::not_modified(&tag)
    } else {
        ([tag.header()], [(header::CONTENT_TYPE, media_type)], text).into_response()
    };
    let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, keep);
    response
}
