//! Errors become problem documents: which of them are whose fault is decided here.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::problem::MEDIA_TYPE;
use crate::api::{Problem, ProblemFault};
use crate::chain::Faults;
use crate::hypervisor::HvError;
use crate::images::ImageError;
use crate::pool::PoolError;
use crate::runs::dispatch::RequestError;
use crate::runs::submit::SubmitError;
use crate::store::StoreError;

/// A request that is not done.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    why: Why,
    detail: String,
    errors: Vec<ProblemFault>,
    /// When it may be worth trying again.
    retry_after: Option<Duration>,
}

/// What a refusal said, for the audit log: in the extensions of its answer.
#[derive(Debug, Clone)]
pub struct Detail(pub String);

/// The refusal itself, in the extensions of its answer: for who shows it in another form.
#[derive(Debug, Clone)]
pub struct Refused(pub Refusal);

/// Whose fault it is, and what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The request is not well-formed.
    Mistake,
    /// Nobody knows who asks.
    Stranger,
    /// It is known who asks, and they may not.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// It does not fit the present state of things.
    Refused,
    /// It is not any more what the caller read.
    Changed,
    TooLarge,
    /// The Idempotency-Key belongs to another request.
    KeyReused,
    /// More requests than this caller is allowed.
    TooMany,
    /// The document has faults.
    Invalid,
    /// The world around the daemon is not well; the same request may succeed later.
    Unavailable,
    /// As many streams as are allowed are open.
    Busy,
    /// Our own bug.
    Internal,
}

impl Why {
    pub const ALL: [Why; 14] = [
        Self::Mistake,
        Self::Stranger,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Refused,
        Self::Changed,
        Self::TooLarge,
        Self::KeyReused,
        Self::TooMany,
        Self::Invalid,
        Self::Unavailable,
        Self::Busy,
        Self::Internal,
    ];

    /// Status, word and title.
    pub fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Mistake => (
                StatusCode::BAD_REQUEST,
                "mistake",
                "The request is not well-formed",
            ),
            Self::Stranger => (
                StatusCode::UNAUTHORIZED,
                "stranger",
                "It is not known who asks",
            ),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "This is not for you to do",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "That cannot be done with this",
            ),
            Self::Refused => (
                StatusCode::CONFLICT,
                "refused",
                "This does not fit the present state",
            ),
            Self::Changed => (
                StatusCode::PRECONDITION_FAILED,
                "changed",
                "It is not what you read any more",
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "key-reused",
                "The Idempotency-Key belongs to another request",
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many",
                "Too many requests",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "As many streams as are allowed are open",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The request is too large",
            ),
            Self::Invalid => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "The document has faults",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Not possible just now",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "A fault of Greenroom itself",
            ),
        }
    }
}

impl Refusal {
    pub fn new(why: Why, detail: impl Into<String>) -> Self {
        Self {
            why,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    pub fn too_many(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(
                Why::TooMany,
                format!("wait for {:.1} s", wait.as_secs_f64().max(0.1)),
            )
        }
    }

    pub fn why(&self) -> Why {
        self.why
    }

    pub fn status(&self) -> StatusCode {
        self.why.parts().0
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Every fault of the document that was refused.
    pub fn errors(&self) -> &[ProblemFault] {
        &self.errors
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Why::NotFound, detail)
    }

    pub fn mistake(detail: impl Into<String>) -> Self {
        Self::new(Why::Mistake, detail)
    }

    pub fn invalid(detail: impl Into<String>, errors: Vec<ProblemFault>) -> Self {
        Self {
            errors,
            ..Self::new(Why::Invalid, detail)
        }
    }

    pub fn of_faults(faults: &Faults) -> Self {
        let count = faults.faults.len() + faults.left_out;
        let errors = faults
            .faults
            .iter()
            .map(|fault| ProblemFault {
                path: fault.path.clone(),
                line: Some(fault.line),
                column: Some(fault.column),
                detail: fault.message.clone(),
                expected: fault.expected.clone(),
                suggestion: fault.suggestion.clone(),
            })
            .collect();
        let plural = if count == 1 { "" } else { "s" };
        Self::invalid(format!("the document has {count} fault{plural}"), errors)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let why = match &error {
            StoreError::Refused(_) => Why::Refused,
            error if error.is_transient() => Why::Unavailable,
            _ => Why::Internal,
        };
        Self::new(why, error.to_string())
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(why) => Self::new(Why::Refused, why),
            SubmitError::NotFound(what) => Self::not_found(what),
            SubmitError::Image(error) => error.into(),
            SubmitError::Store(error) => error.into(),
            SubmitError::Internal(why) => Self::new(Why::Internal, why),
        }
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        let why = match &error {
            ImageError::Io { .. } => Why::Unavailable,
            _ => Why::Refused,
        };
        Self::new(why, error.to_string())
    }
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        let why = match &error {
            PoolError::NotFound(_) => Why::NotFound,
            PoolError::Refused(_) | PoolError::Host(HvError::Refused(_)) => Why::Refused,
            PoolError::Host(_) | PoolError::Store(_) => Why::Unavailable,
        };
        Self::new(why, error.to_string())
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoSuchRun(_) => Self::not_found(error.to_string()),
            RequestError::Refused(why) => Self::new(Why::Refused, why),
            RequestError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, word, title) = self.why.parts();
        if status.is_server_error() {
            tracing::error!(detail = %self.detail, "a request could not be answered");
        }
        let detail = Detail(self.detail.clone());
        let refused = Refused(self.clone());
        let problem = Problem {
            kind: format!("/problems/{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        let mut response = (status, [(header::CONTENT_TYPE, media_type)], body).into_response();
        let headers = response.headers_mut();
        if self.why == Why::Stranger {
            // RFC 9110, 11.6.1: a 401 says how one could say who one is.
            let scheme = HeaderValue::from_static("Bearer realm=\"greenroom\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds (RFC 9110, 10.2.3), never less than it takes.
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            headers.insert(header::RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(detail);
        response.extensions_mut().insert(refused);
        response
    }
}
