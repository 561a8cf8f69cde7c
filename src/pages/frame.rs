//! What all pages have in common: who looks, the frame around the content, and the way to HTML.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::assets;
use crate::access::{Caller, Who};
use crate::vocab::access::{Role, Scope};
use crate::web::identity;
use crate::web::refusal::{Refusal, Why};

/// Only our two files, no script or style in the page, and nobody may frame it.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Which entry of the menu a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Overview,
    Devices,
    Runs,
    Chains,
    Personas,
    Pool,
    Foresight,
    Images,
    Audit,
    Settings,
    /// Not in the menu.
    None,
}

/// What a form has done, said on the page that follows. Words in an address, so only these are shown.
const DONE: &[(&str, &str)] = &[
    ("device", "The device is stored."),
    ("approved", "The device is approved."),
    ("quarantined", "The device is in quarantine."),
    (
        "released",
        "The device is released; it says anew who it is.",
    ),
    (
        "reprovision",
        "The device is provisioned anew when it next boots from the network.",
    ),
    ("started", "The run is queued; this page follows it."),
    ("aborted", "The run is being ended, and what it did undone."),
    ("hold", "The run pauses before its next stage."),
    ("resumed", "The run goes on by itself."),
    ("retried", "The run goes on."),
    (
        "replayed",
        "This run replays one stage with what it was given then.",
    ),
    ("discarded", "The kept result is let go."),
    ("saved", "Saved as a new version."),
    (
        "same",
        "Nothing was stored: the newest version means the same already.",
    ),
    ("promoted", "Devices get this version from now on."),
    ("rolled-back", "Devices get the version before again."),
    ("assigned", "The persona is assigned."),
    ("ended", "The assignment is ended."),
    (
        "rules",
        "The rules are stored; they hold from the next run on.",
    ),
    (
        "pool",
        "What is wanted of the class is set; the pool works on it.",
    ),
    ("let-go", "The class is let go; its machines end."),
    ("template", "The template is being built."),
    ("retired", "Nothing more is forked from the template."),
    ("given-back", "The machine is given back."),
    (
        "password",
        "The password is set, and the other sessions are over.",
    ),
    ("user", "The user is made."),
    ("user-gone", "The user is removed."),
    ("token-gone", "The token is revoked."),
    ("webhook-gone", "The webhook is removed."),
    (
        "first",
        "The first admin is made. Log in with the name and the password.",
    ),
    ("out", "You are logged out."),
];

/// Who looks at a page, and how.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// None on the pages that are open to anyone.
    pub caller: Option<Caller>,
    csrf: String,
    theme: &'static str,
    done: &'static str,
}

impl Visitor {
    pub fn of(caller: Option<Caller>, headers: &HeaderMap, uri: &Uri) -> Self {
        let csrf = match caller.as_ref().map(|caller| &caller.who) {
            Some(Who::User { .. }) => identity::cookie(headers).map(|secret| secret.csrf()),
            _ => None,
        };
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut themes = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix("theme="));
        let theme = match themes.next() {
            Some("dark") => "dark",
            Some("light") => "light",
            _ => "",
        };
        let mut words = uri.query().unwrap_or("").split('&');
        let done = words
            .find_map(|pair| pair.strip_prefix("done="))
            .and_then(|word| DONE.iter().find(|(known, _)| *known == word))
            .map_or("", |(_, said)| said);
        Self {
            caller,
            csrf: csrf.unwrap_or_default(),
            theme,
            done,
        }
    }

    /// The caller, on pages that are not open to anyone.
    pub fn caller(&self) -> Result<Caller, Refusal> {
        self.caller.clone().ok_or_else(|| {
            Refusal::new(
                Why::Internal,
                "a page that is open to anyone asks who it is",
            )
        })
    }

    pub fn frame(&self, part: Part, title: impl Into<String>) -> Frame {
        let role = self.caller.as_ref().map(|caller| caller.role);
        let whole = self
            .caller
            .as_ref()
            .is_some_and(|caller| caller.scope == Scope::Everyone);
        Frame {
            title: title.into(),
            part,
            who: self.caller.as_ref().map(who).unwrap_or_default(),
            role: role.map_or("", Role::word),
            client: self
                .caller
                .as_ref()
                .and_then(|caller| caller.scope.client())
                .unwrap_or("")
                .to_owned(),
            in_session: !self.csrf.is_empty(),
            csrf: self.csrf.clone(),
            theme: self.theme,
            done: self.done,
            events: String::new(),
            sees_all: whole,
            operates: role >= Some(Role::Operator),
            writes: role >= Some(Role::Author) && whole,
            administers: role >= Some(Role::Admin),
            css: assets::css(),
            js: assets::js(),
        }
    }
}

/// How a person is called who looks at a page.
fn who(caller: &Caller) -> String {
    match &caller.who {
        Who::User { name, .. } => name.clone(),
        Who::Token { name, .. } => format!("token {name}"),
        Who::Socket { uid } => format!("uid {uid} on this host"),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(Self::of(caller, &parts.headers, &parts.uri))
    }
}

/// What stands around a page's content.
#[derive(Debug, Clone)]
pub struct Frame {
    pub title: String,
    pub part: Part,
    /// Empty for strangers.
    pub who: String,
    pub role: &'static str,
    /// The one client to which the caller is bound.
    pub client: String,
    pub in_session: bool,
    pub csrf: String,
    pub theme: &'static str,
    pub done: &'static str,
    /// The stream whose events tell that this page is out of date; empty: none.
    pub events: String,
    /// Bound to no client.
    pub sees_all: bool,
    pub operates: bool,
    /// May change what all clients share.
    pub writes: bool,
    pub administers: bool,
    pub css: &'static str,
    pub js: &'static str,
}

impl Frame {
    /// The page is brought up to date when one of these events comes.
    pub fn follows(mut self, events: impl Into<String>) -> Self {
        self.events = events.into();
        self
    }

    pub fn is(&self, part: &Part) -> bool {
        self.part == *part
    }

    /// The menu: what there is for this caller.
    pub fn menu(&self) -> Vec<(Part, &'static str, &'static str)> {
        let mut all = vec![
            (Part::Overview, "/", "Overview"),
            (Part::Devices, "/devices", "Devices"),
            (Part::Runs, "/runs", "Runs"),
            (Part::Chains, "/chains", "Chains"),
            (Part::Personas, "/personas", "Personas"),
        ];
        if self.sees_all {
            all.push((Part::Pool, "/pool", "Pool"));
            all.push((Part::Foresight, "/foresight", "Foresight"));
        }
        all.push((Part::Images, "/images", "Images"));
        if self.sees_all && self.administers {
            all.push((Part::Audit, "/audit", "Audit"));
        }
        all.push((Part::Settings, "/settings", "Settings"));
        all
    }
}

/// A page that is ready to be sent.
pub struct Page<T>(pub StatusCode, pub T);

impl<T> Page<T> {
    pub fn of(template: T) -> Self {
        Self(StatusCode::OK, template)
    }
}

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let Self(status, template) = self;
        match template.render() {
            Ok(text) => html(status, &text),
            Err(error) => Refusal::new(Why::Internal, format!("the page was not made: {error}"))
                .into_response(),
        }
    }
}

fn html(status: StatusCode, text: &str) -> Response {
    let mut response = (status, readable(text)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    response
}

/// Without characters that could make text look like other text: controls, and the marks that turn the
/// direction of writing. What stands in their place shows that something was there.
fn readable(text: &str) -> String {
    text.replace(is_risky, "\u{fffd}")
}

fn is_risky(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// After a form: to a page that says what was done. `path` is one of ours.
pub fn done(path: &str, word: &'static str) -> Response {
    debug_assert!(DONE.iter().any(|(known, _)| *known == word));
    let joint = if path.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{path}{joint}done={word}")).into_response()
}

/// A name as a part of a path.
pub fn part_of_path(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_gets_through() {
        let text = readable("a\u{1b}[31m\u{202e}b\nc\td\u{7}");
        assert_eq!(text, "a\u{fffd}[31m\u{fffd}b\nc\td\u{fffd}");
    }

    #[test]
    fn only_known_words_are_said() {
        let of = |query: &str| {
            let uri = format!("/runs/1?{query}").parse().unwrap();
            Visitor::of(None, &HeaderMap::new(), &uri).done
        };
        assert_eq!(of("done=retried"), "The run goes on.");
        assert_eq!(of("done=your+account+is+locked"), "");
    }

    #[test]
    fn names_stay_one_part_of_a_path() {
        assert_eq!(part_of_path("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
