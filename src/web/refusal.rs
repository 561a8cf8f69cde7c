//! Errors become problem documents: which of them are whose fault is decided here.

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
}

/// Whose fault it is, and what a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The request is not well-formed.
    Mistake,
    NotFound,
    MethodNotAllowed,
    /// It does not fit the present state of things.
    Refused,
    TooLarge,
    /// The document has faults.
    Invalid,
    /// The world around the daemon is not well; the same request may succeed later.
    Unavailable,
    /// Our own bug.
    Internal,
}

impl Why {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Mistake => (
                StatusCode::BAD_REQUEST,
                "mistake",
                "The request is not well-formed",
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
        }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Why::NotFound, detail)
    }

    pub fn mistake(detail: impl Into<String>) -> Self {
        Self::new(Why::Mistake, detail)
    }

    pub fn invalid(detail: impl Into<String>, errors: Vec<ProblemFault>) -> Self {
        Self {
            why: Why::Invalid,
            detail: detail.into(),
            errors,
        }
    }

    /// What happened, for those who put it among other faults.
    pub fn detail(&self) -> &str {
        &self.detail
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
        let problem = Problem {
            kind: format!("/problems/{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
        };
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        (status, [(header::CONTENT_TYPE, media_type)], body).into_response()
    }
}
