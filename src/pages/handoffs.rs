//! What the stages of a run handed on, and whether it was what the chain says it must be.

use serde_json::Value;

use crate::chain::model::{Output, Stage};
use crate::runs::view::View;
use crate::vocab::FailureKind;
use crate::vocab::envelope::Envelope;
use crate::vocab::run::{Attempt, Progress, Purpose};
use crate::web::App;

/// Most of all documents that is shown, bytes: escaped they may be five times as long.
const SHOWN: usize = 9 << 10;
/// Most of one.
const SHOWN_OF_ONE: usize = 4 << 10;
/// Largest envelope that is read for a page, bytes.
const LARGEST: u64 = 1 << 20;

/// What one stage handed on.
pub struct Handoff {
    pub stage: String,
    /// `valid`, `failed`, or why there is nothing.
    pub state: &'static str,
    /// What was checked, and what came of it.
    pub verdict: String,
    /// Such as `json, at /plan`.
    pub form: String,
    /// Digest of the envelope that went to the next stage.
    pub digest: Option<String>,
    /// The part of the run's document that this stage wrote.
    pub document: Option<String>,
    pub is_cut: bool,
    /// Of a binary output: media type and size.
    pub artefact: Option<(String, u64)>,
}

pub async fn of(app: &App, view: &View) -> Vec<Handoff> {
    let (mut all, mut left) = (Vec::new(), SHOWN);
    for (index, stage) in view.plan.chain.stages.iter().enumerate() {
        let attempts = view.attempts.iter().rev();
        let newest = attempts
            .filter(|attempt| attempt.stage_index == index && attempt.purpose == Purpose::Work)
            .find(|attempt| attempt.progress != Progress::Dropped);
        let Some(attempt) = newest else { continue };
        let handoff = of_stage(app, stage, attempt, left.min(SHOWN_OF_ONE)).await;
        left = left.saturating_sub(handoff.document.as_ref().map_or(0, String::len));
        all.push(handoff);
    }
    all
}

async fn of_stage(app: &App, stage: &Stage, attempt: &Attempt, most: usize) -> Handoff {
    let (state, verdict) = verdict(&stage.output, attempt);
    let mut handoff = Handoff {
        stage: stage.name.clone(),
        state,
        verdict,
        form: form(&stage.output),
        digest: attempt.output.map(|digest| digest.to_string()),
        document: None,
        is_cut: false,
        artefact: None,
    };
    let Some(digest) = attempt.output else {
        return handoff;
    };
    let artefacts = &app.state.services.artefacts;
    let size = tokio::fs::metadata(artefacts.path(digest)).await;
    if size.is_ok_and(|size| size.len() > LARGEST) {
        handoff.verdict += "; too large to be shown here: `greenroom run output` has it";
        return handoff;
    }
    let envelope = artefacts.get(digest).await.ok();
    let envelope = envelope.and_then(|bytes| serde_json::from_slice::<Envelope>(&bytes).ok());
    let Some(envelope) = envelope else {
        handoff.verdict += "; the stored document is not there any more";
        return handoff;
    };
    match &stage.output {
        Output::Json { merge, .. } | Output::Xml { merge, .. } => {
            let part = envelope.document.pointer(&merge.at);
            (handoff.document, handoff.is_cut) = shown(part.unwrap_or(&Value::Null), most);
        }
        Output::Binary { .. } => {
            let mut found = envelope.artefacts.iter().rev();
            handoff.artefact = found
                .find(|artefact| artefact.stage == stage.name)
                .map(|artefact| (artefact.media_type.clone(), artefact.size_bytes));
        }
        Output::None => {}
    }
    handoff
}

fn shown(part: &Value, most: usize) -> (Option<String>, bool) {
    let mut text = serde_json::to_string_pretty(part).unwrap_or_default();
    let is_cut = text.len() > most;
    if is_cut {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    (Some(text), is_cut)
}

fn form(output: &Output) -> String {
    match output {
        Output::None => "nothing: only the exit code counts".into(),
        Output::Json { merge, .. } => format!("JSON, put at {}", merge.at),
        Output::Xml { merge, .. } => format!("XML, mapped and put at {}", merge.at),
        Output::Binary { media_type, .. } => format!("binary, {media_type}"),
    }
}

/// In which state a stage's output is, and how that is known.
fn verdict(output: &Output, attempt: &Attempt) -> (&'static str, String) {
    let checked = match output {
        Output::None => "nothing was to be handed on",
        Output::Json {
            schema: Some(_), ..
        }
        | Output::Xml {
            schema: Some(_), ..
        } => "it is what the schema says",
        Output::Json { .. } => "it is JSON; the chain has no schema for it",
        Output::Xml { .. } => "it is well-formed XML; the chain has no schema for it",
        Output::Binary { .. } => "it is not larger than the chain allows",
    };
    match &attempt.progress {
        Progress::Collected | Progress::Succeeded => ("valid", checked.into()),
        Progress::Failed { failure } if failure.kind == FailureKind::Output => {
            ("failed", failure.message.clone())
        }
        Progress::Failed { failure } if failure.kind == FailureKind::Input => (
            "failed",
            format!("its input could not be made: {}", failure.message),
        ),
        Progress::Failed { failure } => (
            "waiting",
            format!("the stage failed before: {}", failure.kind.word()),
        ),
        _ => ("waiting", "the stage is not that far".into()),
    }
}
