//! Bodies, queries and ids of requests, refused with a problem document where they are wrong.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::refusal::{Refusal, Why};
use crate::access::Caller;
use crate::vocab::RunId;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(of_json(&rejection)),
        }
    }
}

fn of_json(rejection: &JsonRejection) -> Refusal {
    let why = match rejection.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => Why::TooLarge,
        _ => Why::Mistake,
    };
    Refusal::new(why, rejection.body_text())
}

/// The query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|rejection| Refusal::mistake(rejection.body_text()))
    }
}

/// Which part of a list; a query string of its own, or a part of one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// 100 when not given, 1000 at most.
    pub limit: Option<i64>,
    /// The `next` of the last page.
    pub cursor: Option<String>,
}

/// What a path names.
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value))
            .map_err(|rejection| Refusal::not_found(rejection.body_text()))
    }
}

/// Who asks: put there by the guard.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
            Refusal::new(
                Why::Internal,
                "a route that is open to anyone asks who it is",
            )
        })
    }
}

/// The run that a path names.
pub struct OfRun(pub RunId);

impl<S: Send + Sync> FromRequestParts<S> for OfRun {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refusal::mistake(rejection.body_text()))?;
        run_id(&text).map(Self)
    }
}

pub fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|_| {
        Refusal::not_found(format!("there is no run {text:?}: a run's id is a number"))
    })
}

/// `1`, `true` or nothing as yes, `0` or `false` as no.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "{other:?} is neither 1 nor 0"
        ))),
    }
}
