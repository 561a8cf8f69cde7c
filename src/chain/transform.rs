//! Transforms: a document in, a document out, by JMESPath (in process) or jq (in a child process).
//!
//! Both are written by chain authors and run over what guests wrote, so both are bounded: JMESPath
//! by the length of the expression, a stack of its own and an estimate of how far it can multiply
//! its input ([`jmespath`]); jq by the limits of a child process ([`jq`]).

mod jmespath;
mod jq;

use serde_json::Value;

use super::document;
use super::model::Transform;

/// Longest expression, bytes.
pub const MAX_EXPRESSION_BYTES: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The expression itself is wrong; `offset` in bytes, where it is known.
    #[error("{message}")]
    Expression {
        message: String,
        offset: Option<usize>,
        suggestion: Option<String>,
    },
    /// It did not work on this document.
    #[error("{0}")]
    Evaluation(String),
    /// It was stopped: too long, too large, too much.
    #[error("{0}")]
    Limit(String),
    /// There is no jq on this host.
    #[error("there is no `jq` on this host")]
    NoJq,
    #[error("jq could not be run: {0}")]
    Host(String),
}

impl TransformError {
    /// What would let it continue.
    pub fn way_out(&self) -> Option<String> {
        match self {
            Self::Expression { suggestion, .. } => suggestion.clone(),
            Self::NoJq => {
                Some("install jq (Debian: `apt install jq`), or use `select:` (JMESPath)".into())
            }
            Self::Limit(_) => {
                Some("take a smaller part first, or do the work in the stage itself".into())
            }
            _ => None,
        }
    }
}

impl Transform {
    pub fn expression(&self) -> &str {
        match self {
            Self::Jmespath { expression } | Self::Jq { expression } => expression,
        }
    }

    /// The word by which chain files call it.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Jmespath { .. } => "select",
            Self::Jq { .. } => "jq",
        }
    }

    /// What can be said without a document. JMESPath is parsed, its functions looked up and its
    /// growth estimated; of jq only what we forbid (jq may not be installed where chains are checked).
    pub fn check(&self) -> Result<(), TransformError> {
        let expression = self.expression();
        if expression.trim().is_empty() {
            return Err(expression_error("the expression is empty"));
        }
        if expression.len() > MAX_EXPRESSION_BYTES {
            return Err(expression_error(format!(
                "the expression is longer than {MAX_EXPRESSION_BYTES} bytes"
            )));
        }
        match self {
            Self::Jmespath { expression } => jmespath::check(expression),
            Self::Jq { expression } => jq::check(expression),
        }
    }

    /// Makes a document from a document. What comes out is at most 4 MiB and 64 levels deep. Null
    /// is a result like any other; whether it will do is for the caller to say.
    pub async fn apply(&self, input: &Value) -> Result<Value, TransformError> {
        self.check()?;
        let output = match self {
            Self::Jmespath { expression } => {
                let (expression, input) = (expression.clone(), input.clone());
                crate::blocking::attempt(move || jmespath::apply(&expression, &input))
                    .await
                    .map_err(|error| {
                        TransformError::Evaluation(format!("the evaluation broke: {error}"))
                    })??
            }
            Self::Jq { expression } => jq::apply(expression, input).await?,
        };
        let depth = document::depth(&output);
        if depth > document::MAX_DEPTH {
            return Err(TransformError::Limit(format!(
                "the result is nested deeper than {} levels",
                document::MAX_DEPTH
            )));
        }
        Ok(output)
    }
}

fn expression_error(message: impl Into<String>) -> TransformError {
    TransformError::Expression {
        message: message.into(),
        offset: None,
        suggestion: None,
    }
}
