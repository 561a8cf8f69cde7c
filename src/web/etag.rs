//! Conditional requests (RFC 9110, 13): an ETag names what a thing was when it was read, and a change that
//! carries it in If-Match is refused when the thing has changed since.
//!
//! A tag is the digest of the document that is shown, so every view has one without a column for it. A
//! change compares inside of its transaction:
//!
//! ```ignore
//! store.write(move |connection| Box::pin(async move {
//!     let now = devices::device_by_name(connection, &name).await?;
//!     if let Err(changed) = conditions.hold(now.as_ref().map(|d| Tag::of(&present::device(d)))) {
//!         return Ok(Err(changed));
//!     }
//!     …
//! })).await??
//! ```

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::refusal::{Refusal, Why};
use crate::vocab::Digest;

/// With its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Of what is shown.
    pub fn of<T: Serialize>(view: &T) -> Self {
        let document = serde_json::to_value(view).unwrap_or_default();
        Self::of_digest(Digest::of_document(&document))
    }

    pub fn of_digest(digest: Digest) -> Self {
        Self(format!("\"{}\"", &digest.to_string()[..32]))
    }

    pub fn header(&self) -> (HeaderName, HeaderValue) {
        let value = HeaderValue::from_str(&self.0).expect("digits in quotes");
        (header::ETAG, value)
    }
}

/// What a request demands of the present state. Without conditions, everything holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Vec<String>>,
    if_none_match: Option<Vec<String>>,
}

impl Conditions {
    pub fn of(headers: &HeaderMap) -> Self {
        let list = |name: HeaderName| {
            let mut found = headers.get_all(name).iter().peekable();
            found.peek()?;
            let texts = found.filter_map(|value| value.to_str().ok());
            Some(
                texts
                    .flat_map(|text| text.split(','))
                    .map(|tag| tag.trim().to_owned())
                    .collect(),
            )
        };
        Self {
            if_match: list(header::IF_MATCH),
            if_none_match: list(header::IF_NONE_MATCH),
        }
    }

    /// Before a change of a thing whose tag is `current`; none: it does not exist.
    pub fn hold(&self, current: Option<&Tag>) -> Result<(), Refusal> {
        let names = |tags: &[String]| {
            current.is_some_and(|current| tags.iter().any(|tag| tag == "*" || *tag == current.0))
        };
        if let Some(tags) = &self.if_match
            && !names(tags)
        {
            let what = match current {
                Some(Tag(current)) => format!(
                    "it has changed since it was read: its ETag is {current} now; read it again"
                ),
                None => "there is no such thing any more".to_owned(),
            };
            return Err(Refusal::new(Why::Changed, what));
        }
        if let Some(tags) = &self.if_none_match
            && names(tags)
        {
            return Err(Refusal::new(Why::Changed, "it exists already"));
        }
        Ok(())
    }

    /// 200 with the view and its tag, or 304 where the reader has it already.
    pub fn answer<T: Serialize>(&self, view: T) -> Response {
        let tag = Tag::of(&view);
        self.answer_tagged(view, &tag)
    }

    /// The same with a tag that the thing has of its own.
    pub fn answer_tagged<T: Serialize>(&self, view: T, tag: &Tag) -> Response {
        if self.has(tag) {
            return Self::not_modified(tag);
        }
        ([tag.header()], Json(view)).into_response()
    }

    /// Whether the reader has this already. Weak comparison (RFC 9110, 13.1.2).
    pub fn has(&self, tag: &Tag) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| {
            tags.iter()
                .any(|known| known == "*" || known.trim_start_matches("W/") == tag.0)
        })
    }

    pub fn not_modified(tag: &Tag) -> Response {
        (StatusCode::NOT_MODIFIED, [tag.header()]).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(name: &'static str, value: &str) -> Conditions {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Conditions::of(&headers)
    }

    #[test]
    fn changes_hold_to_what_was_read() {
        let tag = Tag::of(&serde_json::json!({"a": 1}));
        let other = Tag::of(&serde_json::json!({"a": 2}));
        assert_ne!(tag, other);
        assert!(Conditions::default().hold(None).is_ok());
        let given = conditions("if-match", &format!("\"x\", {}", tag.0));
        assert!(given.hold(Some(&tag)).is_ok());
        assert!(given.hold(Some(&other)).is_err());
        assert!(given.hold(None).is_err());
        assert!(conditions("if-match", "*").hold(Some(&tag)).is_ok());
        assert!(conditions("if-match", "*").hold(None).is_err());
        let only_new = conditions("if-none-match", "*");
        assert!(only_new.hold(None).is_ok());
        assert!(only_new.hold(Some(&tag)).is_err());
        let weak = format!("W/{}", tag.0);
        assert!(
            conditions("if-match", &weak).hold(Some(&tag)).is_err(),
            "strong comparison"
        );
    }

    #[test]
    fn a_reader_who_has_it_gets_nothing() {
        let view = serde_json::json!({"a": 1});
        let tag = Tag::of(&view);
        let known = conditions("if-none-match", &format!("W/{}", tag.0));
        assert_eq!(
            known.answer(view.clone()).status(),
            StatusCode::NOT_MODIFIED
        );
        let fresh = conditions("if-none-match", "\"x\"").answer(view);
        assert_eq!(fresh.status(), StatusCode::OK);
        assert_eq!(fresh.headers()[header::ETAG], tag.0);
    }
}
