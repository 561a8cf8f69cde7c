//! Forms that pages send: their fields, and whether one of our own pages sent them.
//!
//! A page's form cannot set a header, so the session's token travels in the field [`TOKEN`]. Before
//! somebody has logged in there is no session to have a token: then the browser's own word counts of
//! where the form stood (`Sec-Fetch-Site`, `Origin`), without which a foreign page could log a browser in
//! as somebody else.

use axum::body::Body;
use axum::extract::{Form, FromRequest, Request};
use axum::http::{HeaderMap, header};

use super::refusal::{Refusal, Why};
use crate::api::MAX_BODY_BYTES;

/// Name of the field with the session's token.
pub const TOKEN: &str = "csrf";

/// The token that came in a form's field.
#[derive(Clone)]
pub struct Brought(pub String);

/// A form's fields in their order; a name may come more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn of(fields: Vec<(String, String)>) -> Self {
        // Browsers send line ends as CR LF, whatever the text had (WHATWG HTML, 4.10.21.4).
        let plain = |text: String| text.replace("\r\n", "\n");
        Self(fields.into_iter().map(|(k, v)| (k, plain(v))).collect())
    }

    /// Empty where the form has no such field.
    pub fn get(&self, name: &str) -> &str {
        let mut fields = self.0.iter();
        let found = fields.find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Without spaces around it; none where it is empty.
    pub fn word(&self, name: &str) -> Option<String> {
        let text = self.get(name).trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Fields whose names begin so, without that beginning.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// A number, or nothing where the field is empty.
    ///
    /// # Errors
    /// Refuses what is not a number, naming the field.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let wrong =
            |text: &str| Refusal::mistake(format!("{name}: {text:?} is not a whole number"));
        self.word(name)
            .map(|text| text.parse().map_err(|_| wrong(&text)))
            .transpose()
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Form(fields) = form.map_err(|rejection| {
            let why = match rejection.status() {
                axum::http::StatusCode::PAYLOAD_TOO_LARGE => Why::TooLarge,
                _ => Why::Mistake,
            };
            Refusal::new(why, rejection.body_text())
        })?;
        Ok(Self::of(fields))
    }
}

/// Reads the form's token and puts the form back together.
///
/// # Errors
/// Refuses a form that stood on another site's page, and one that is too large.
pub async fn open(request: Request) -> Result<Request, Refusal> {
    if let Some(from) = stood_elsewhere(request.headers()) {
        return Err(Refusal::new(
            Why::Forbidden,
            format!(
                "this form was sent by a page of {from}; open Greenroom itself and send it there"
            ),
        ));
    }
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| {
            let detail = format!("a form has at most {MAX_BODY_BYTES} bytes");
            Refusal::new(Why::TooLarge, detail)
        })?;
    let copy = Request::from_parts(parts.clone(), Body::from(bytes.clone()));
    let mut request = Request::from_parts(parts, Body::from(bytes));
    if let Ok(fields) = Fields::from_request(copy, &()).await {
        let token = Brought(fields.get(TOKEN).to_owned());
        request.extensions_mut().insert(token);
    }
    Ok(request)
}

/// Where a request comes from, if the browser says that it was not made by our own page.
fn stood_elsewhere(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return (!matches!(site, "same-origin" | "none")).then(|| "another site".to_owned());
    }
    let origin = text("origin")?;
    let host = text(header::HOST.as_str())?;
    let same = origin
        .strip_prefix("https://")
        .or(origin.strip_prefix("http://"))
        == Some(host);
    (!same).then(|| origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| text.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, text) in pairs {
            headers.insert(*name, value(text));
        }
        headers
    }

    #[test]
    fn a_form_of_another_site_is_recognised() {
        let elsewhere = |pairs| stood_elsewhere(&headers(pairs)).is_some();
        assert!(!elsewhere(&[("host", "lab:8443")]));
        assert!(!elsewhere(&[
            ("host", "lab:8443"),
            ("origin", "https://lab:8443")
        ]));
        assert!(elsewhere(&[
            ("host", "lab:8443"),
            ("origin", "https://evil.example")
        ]));
        assert!(elsewhere(&[("host", "lab:8443"), ("origin", "null")]));
        assert!(elsewhere(&[("sec-fetch-site", "cross-site")]));
        assert!(elsewhere(&[("sec-fetch-site", "same-site")]));
        assert!(!elsewhere(&[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn fields_are_plain_lines() {
        let fields = [("a", "x\r\ny"), ("b", "  "), ("set:os", "1"), ("a", "z")];
        let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let fields = Fields::of(fields.into());
        assert_eq!(fields.get("a"), "x\ny");
        assert_eq!(fields.all("a").count(), 2);
        assert_eq!(fields.word("b"), None);
        assert_eq!(fields.under("set:").collect::<Vec<_>>(), [("os", "1")]);
        assert!(fields.number::<i64>("a").is_err());
        assert_eq!(fields.number::<i64>("b"), Ok(None));
    }
}
