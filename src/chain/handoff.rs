//! The handoff: how a stage's input is made from the run's document, and how its output becomes
//! part of it.
//!
//! ```text
//! document ── transform ── schema ──► JSON or XML ──► guest
//!     ▲                                                 │
//!     └── merge ◄── schema ◄── transform ◄── parse ◄── output file
//! ```
//!
//! These are functions of values: given the same stage, envelope and bytes they give the same
//! result (jq's child process included), which is what makes a replay a replay. What a guest wrote
//! is untrusted: every step has a limit, and a refusal is a [`Failure`] that says what to do.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::document::{self, MAX_BYTES};
use super::model::{DocumentFormat, Merge, Output, Stage, Transform};
use super::transform::TransformError;
use super::{schema, xml};
use crate::vocab::envelope::{Artefact, Envelope};
use crate::vocab::{Digest, Failure, FailureKind};

/// What became of a stage's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The outgoing envelope: document merged, artefact listed.
    pub envelope: Envelope,
    /// The binary output, where the stage has one; its bytes are the raw output.
    pub artefact: Option<Artefact>,
    pub validation: Validation,
}

/// What was checked before the output was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// `none`, `json`, `xml` or `binary`.
    pub format: &'static str,
    /// What the guest wrote.
    pub size_bytes: u64,
    pub digest: Digest,
    /// The word of the transform that was applied (`select` or `jq`).
    pub transform: Option<&'static str>,
    /// The output satisfied the stage's schema; false when it has none.
    pub schema: bool,
    /// Where it was merged (JSON Pointer).
    pub merged_at: Option<String>,
}

/// Makes the bytes that the guest gets on standard input and in the file `GREENROOM_INPUT`.
///
/// Fails with [`FailureKind::Input`], or [`FailureKind::Host`] when this host has no jq or
/// is busy with checks that take too long.
pub async fn stage_input(stage: &Stage, envelope: &Envelope) -> Result<Vec<u8>, Failure> {
    let input = &stage.input;
    let made = match &input.transform {
        None => envelope.document.clone(),
        Some(transform) => {
            let made = apply(FailureKind::Input, "input", transform, &envelope.document).await?;
            if made.is_null() {
                return Err(Failure::new(
                    FailureKind::Input,
                    format!(
                        "the input's `{}` found nothing in the run's document",
                        transform.keyword()
                    ),
                )
                .with_way_out("check that an earlier stage puts there what this one selects"));
            }
            made
        }
    };
    if let Some(schema) = &input.schema {
        obey(FailureKind::Input, "input", schema, &made).await?;
    }
    let bytes = match input.format {
        DocumentFormat::Json => made.to_string().into_bytes(),
        DocumentFormat::Xml => xml::from_document(&made)
            .map_err(|why| {
                Failure::new(
                    FailureKind::Input,
                    format!("the input cannot be written as XML: {why}"),
                )
                .with_way_out("shape it with `select:`, or hand it over as JSON")
            })?
            .into_bytes(),
    };
    if bytes.len() > MAX_BYTES {
        let message = format!("the input has {} bytes, the most is 4 MiB", bytes.len());
        return Err(Failure::new(FailureKind::Input, message)
            .with_way_out("select what the stage needs, or pass bulk data on the handoff disk"));
    }
    Ok(bytes)
}

/// Takes what the guest wrote to the file `GREENROOM_OUTPUT`. A missing file is for the caller: it
/// knows whether there was one; pass empty bytes for a stage whose output is `none`.
///
/// Fails with [`FailureKind::Output`], or [`FailureKind::Host`] when this host has no jq or
/// is busy with checks that take too long.
pub async fn take_output(stage: &Stage, envelope: &Envelope, raw: &[u8]) -> Result<Taken, Failure> {
    let mut taken = Taken {
        envelope: envelope.clone(),
        artefact: None,
        validation: Validation {
            format: "none",
            size_bytes: raw.len() as u64,
            digest: Digest::of(raw),
            transform: None,
            schema: false,
            merged_at: None,
        },
    };
    let (schema, transform, merge) = match &stage.output {
        Output::None => return Ok(taken),
        Output::Binary {
            media_type,
            max_bytes,
        } => {
            check_size(raw, *max_bytes)?;
            let artefact = Artefact {
                stage: stage.name.clone(),
                media_type: media_type.clone(),
                size_bytes: raw.len() as u64,
                digest: taken.validation.digest,
            };
            taken.validation.format = "binary";
            taken.envelope.artefacts.push(artefact.clone());
            taken.artefact = Some(artefact);
            return Ok(taken);
        }
        Output::Json {
            schema,
            transform,
            merge,
            max_bytes,
        } => {
            taken.validation.format = "json";
            check_size(raw, *max_bytes)?;
            (schema, transform, merge)
        }
        Output::Xml {
            schema,
            transform,
            merge,
            max_bytes,
        } => {
            taken.validation.format = "xml";
            check_size(raw, *max_bytes)?;
            (schema, transform, merge)
        }
    };
    let mut value = parse(taken.validation.format, raw)?;
    if let Some(transform) = transform {
        value = apply(FailureKind::Output, "output", transform, &value).await?;
        taken.validation.transform = Some(transform.keyword());
    }
    if let Some(schema) = schema {
        obey(FailureKind::Output, "output", schema, &value).await?;
        taken.validation.schema = true;
    }
    merge_output(&mut taken.envelope, merge, value)?;
    taken.validation.merged_at = Some(merge.at.clone());
    Ok(taken)
}

fn check_size(raw: &[u8], max_bytes: u64) -> Result<(), Failure> {
    if raw.is_empty() {
        return Err(
            Failure::new(FailureKind::Output, "the output is empty").with_way_out(
                "the stage must write its result to the file named by GREENROOM_OUTPUT",
            ),
        );
    }
    if raw.len() as u64 > max_bytes {
        let message = format!(
            "the output has {} bytes, the stage allows {max_bytes}",
            raw.len()
        );
        return Err(Failure::new(FailureKind::Output, message)
            .with_way_out("write less, or raise `output.max` in the chain"));
    }
    Ok(())
}

fn parse(format: &'static str, raw: &[u8]) -> Result<Value, Failure> {
    let parsed = if format == "xml" {
        xml::to_document(raw)
    } else {
        document::parse_json(raw)
    };
    parsed.map_err(|why| {
        Failure::new(
            FailureKind::Output,
            format!(
                "the output is not acceptable {}: {why}",
                format.to_uppercase()
            ),
        )
        .with_way_out(match looks_like(raw) {
            Some(other) if other != format => format!(
                "it looks like {}; see `output.format`",
                other.to_uppercase()
            ),
            _ => "diagnostics belong on standard error; the output file holds the document only"
                .to_owned(),
        })
    })
}

fn looks_like(raw: &[u8]) -> Option<&'static str> {
    match raw.iter().find(|byte| !byte.is_ascii_whitespace())? {
        b'<' => Some("xml"),
        b'{' | b'[' => Some("json"),
        _ => None,
    }
}

fn merge_output(envelope: &mut Envelope, merge: &Merge, value: Value) -> Result<(), Failure> {
    document::merge_into(&mut envelope.document, merge, value).map_err(|why| {
        Failure::new(
            FailureKind::Output,
            format!("the output cannot be merged: {why}"),
        )
        .with_way_out("change `output.merge.at` (or `how`) in the chain")
    })?;
    let size = envelope.document.to_string().len();
    if size > MAX_BYTES {
        let message =
            format!("with this output the run's document has {size} bytes, the most is 4 MiB");
        return Err(Failure::new(FailureKind::Output, message).with_way_out(
            "keep less with `select:`, or hand bulk data over as binary or on the handoff disk",
        ));
    }
    Ok(())
}

async fn apply(
    kind: FailureKind,
    what: &str,
    transform: &Transform,
    value: &Value,
) -> Result<Value, Failure> {
    transform.apply(value).await.map_err(|error| {
        let kind = match error {
            TransformError::NoJq | TransformError::Host(_) => FailureKind::Host,
            _ => kind,
        };
        let failure = Failure::new(
            kind,
            format!("the {what}'s `{}` failed: {error}", transform.keyword()),
        );
        match error.way_out() {
            Some(way_out) => failure.with_way_out(way_out),
            None => failure.with_way_out(format!(
                "mend `{what}.{}` in the chain",
                transform.keyword()
            )),
        }
    })
}

/// A schema whose definitions refer to themselves twice takes time that doubles with each level of
/// the document: 0.4 s at 16 levels. Beyond this the stage fails instead of the daemon.
const SCHEMA_DEADLINE: Duration = Duration::from_secs(10);

/// A check cannot be stopped, only left alone: so many may be under way, those that took too long
/// among them. The others wait as long as a check may take.
static SCHEMA_CHECKS: Semaphore = Semaphore::const_new(2);

async fn obey(kind: FailureKind, what: &str, rules: &Value, value: &Value) -> Result<(), Failure> {
    let permit = tokio::time::timeout(SCHEMA_DEADLINE, SCHEMA_CHECKS.acquire()).await;
    let Ok(Ok(permit)) = permit else {
        let message = format!(
            "the {what} could not be checked against its schema: checks of other runs that take too long are still under way"
        );
        return Err(Failure::new(FailureKind::Host, message).with_way_out(
            "retry later; simplify the schemas of the runs that failed because their check takes too long, and restart the daemon if it never ends",
        ));
    };
    let (rules, value) = (rules.clone(), value.clone());
    let check = crate::blocking::attempt(move || {
        // Free when the check has really ended, whoever still waits for it.
        let _permit = permit;
        schema::violations(&rules, &value)
    });
    let Ok(checked) = tokio::time::timeout(SCHEMA_DEADLINE, check).await else {
        let message = format!("checking the {what} against its schema takes too long");
        return Err(Failure::new(kind, message)
            .with_way_out("simplify the schema: let no definition refer to itself twice"));
    };
    let checked = checked.unwrap_or_else(|error| Err(format!("the check broke: {error}")));
    let (listed, count) = checked.map_err(|why| {
        Failure::new(
            FailureKind::Internal,
            format!("the {what}'s schema cannot be used: {why}"),
        )
        .with_way_out("apply the chain again: its check will name the place")
    })?;
    if count == 0 {
        return Ok(());
    }
    let mut message = format!("the {what} is not what its schema says:");
    for violation in &listed {
        let pointer = if violation.pointer.is_empty() {
            "/"
        } else {
            &violation.pointer
        };
        message.push_str(&format!(" {pointer}: {};", violation.message));
    }
    if count > listed.len() {
        let or_more = if count == schema::MAX_COUNT {
            " at least"
        } else {
            ""
        };
        let left = count - listed.len();
        message.push_str(&format!(" and {left} more{or_more};"));
    }
    message.pop();
    Err(Failure::new(kind, message).with_way_out(match kind {
        FailureKind::Input => "see which earlier stage should have provided it",
        _ => "mend what the stage writes, or its schema",
    }))
}
