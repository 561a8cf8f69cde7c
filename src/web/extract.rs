//! Bodies, queries and ids of requests, refused with a problem document where they are wrong.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::refusal::{Refusal, Why};
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
    let why = if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        Why::TooLarge
    } else {
        Why::Mistake
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

/// The run that a path names.
pub struct OfRun(pub RunId);

impl<S: Send + Sync> FromRequestParts<S> for OfRun {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refusal::mistake(rejection.body_text()))?;
        let id = text.parse().map_err(|_| {
            Refusal::not_found(format!("there is no run {text:?}: a run's id is a number"))
        })?;
        Ok(Self(id))
    }
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
