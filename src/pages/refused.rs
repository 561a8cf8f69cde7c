//! A refusal as a page. Who is not logged in is led to where they can do that.

use askama::Template;
use axum::http::Method;
use axum::response::{IntoResponse, Redirect, Response};

use super::frame::{Frame, Page, Part, Visitor, part_of_path};
use crate::api::ProblemFault;
use crate::web::Asked;
use crate::web::refusal::{Refusal, Why};

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused {
    frame: Frame,
    status: u16,
    title: &'static str,
    detail: String,
    faults: Vec<ProblemFault>,
    way_out: &'static str,
}

pub fn show(asked: &Asked, refusal: &Refusal) -> Response {
    let wants = asked
        .uri
        .path_and_query()
        .map_or("/", |asked| asked.as_str());
    if refusal.why() == Why::Stranger && asked.uri.path() != "/sign-in" {
        // Only a page can be gone back to; a form would be sent a second time.
        let next = if asked.method == Method::GET {
            wants
        } else {
            "/"
        };
        return Redirect::to(&format!("/sign-in?next={}", part_of_path(next))).into_response();
    }
    let (status, _, title) = refusal.why().parts();
    let visitor = Visitor::of(asked.caller.clone(), &asked.headers, &asked.uri);
    let page = Refused {
        frame: visitor.frame(Part::None, title),
        status: status.as_u16(),
        title,
        detail: refusal.detail().to_owned(),
        faults: refusal.errors().to_vec(),
        way_out: match refusal.why() {
            Why::Forbidden => "Ask somebody with a higher role, or log in as somebody else.",
            Why::TooMany | Why::Unavailable | Why::Busy => "Try again in a moment.",
            Why::Changed => "Go back, load the page again, and make the change once more.",
            Why::Internal => "The daemon's log has more about it.",
            _ => "Go back; what you had written is still there.",
        },
    };
    Page(status, page).into_response()
}
