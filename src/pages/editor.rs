//! What the editors of chains and personas have in common: a text, its faults, and what the script is
//! told while somebody writes.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::ProblemFault;
use crate::api::personas::PersonaFault;

/// What a check says of a text.
#[derive(Debug, Default, Serialize)]
pub struct Said {
    /// The text, where the form beside it has changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub faults: Vec<PersonaFault>,
    pub warnings: Vec<PersonaFault>,
    /// In a few words.
    pub verdict: String,
    /// By place, such as `os.timezone`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Field>,
}

/// One field of the form beside a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Field {
    /// What the text says; names of a list with commas between.
    pub value: String,
    /// What holds where it says nothing.
    pub inherited: String,
    /// The text says it in a form that only a person changes.
    pub written_otherwise: bool,
}

impl Said {
    pub fn verdict_of(faults: usize, warnings: usize, fine: &str) -> String {
        match (faults, warnings) {
            (0, 0) => fine.to_owned(),
            (0, n) => format!("{fine}, {}", super::marks::count(&n, "remark")),
            (n, _) => super::marks::count(&n, "fault"),
        }
    }
}

pub fn answer(said: Said) -> Response {
    Json(said).into_response()
}

/// A refusal's fault, for a list that shows places. Without a place it belongs to the first line.
pub fn placed(fault: &ProblemFault) -> PersonaFault {
    PersonaFault {
        line: fault.line.unwrap_or(1),
        column: fault.column.unwrap_or(1),
        start: 0,
        end: 0,
        path: fault.path.trim_start_matches(": ").to_owned(),
        detail: fault.detail.clone(),
        expected: fault.expected.clone(),
        suggestion: fault.suggestion.clone(),
    }
}
