//! Base images: what machines and devices are made of.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, Page, Part, Visitor};
use super::marks;
use crate::access::Access;
use crate::api::{ImageView, Time};
use crate::vocab::access::Role;
use crate::web::refusal::Refusal;
use crate::web::routes::{Op, Routes};
use crate::web::{Shared, host, present};

pub fn routes() -> Routes {
    Routes::of("pages", "The web interface.").at_root().with(
        Op::get("page_images", "/images", Access::shared(Role::Viewer), show).says("Base images"),
    )
}

#[derive(Template)]
#[template(path = "images.html")]
struct Images {
    frame: Frame,
    now: Time,
    images: Vec<ImageView>,
}

async fn show(State(app): Shared, visitor: Visitor) -> Result<Response, Refusal> {
    Ok(Page::of(Images {
        frame: visitor.frame(Part::Images, "Images"),
        now: present::time(app.state.services.now()),
        images: host::images(State(app)).await?.0,
    })
    .into_response())
}
