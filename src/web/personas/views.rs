//! Inner values become what the API says of personas. Pure.

use crate::api::ProblemFault;
use crate::api::personas::*;
use crate::chain::faults::Fault;
use crate::personas::library::Applied;
use crate::vocab::persona::{PersonaVersion, PinnedPersona};
use crate::web::present::time;
use crate::web::refusal::{Refusal, Why};

pub(super) fn refuse_faults(applied: &[Applied]) -> Result<(), Refusal> {
    let mut errors = Vec::new();
    for one in applied {
        for fault in one.faults.iter().flat_map(|faults| &faults.faults) {
            let mut path = fault.path.clone();
            if applied.len() > 1 || !one.file.is_empty() {
                path = format!("{}: {path}", one.file);
            }
            errors.push(ProblemFault {
                path,
                line: Some(fault.line),
                column: Some(fault.column),
                detail: fault.message.clone(),
                expected: fault.expected.clone(),
                suggestion: fault.suggestion.clone(),
            });
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let plural = if errors.len() == 1 { "" } else { "s" };
    Err(Refusal::invalid(
        format!("nothing was applied: {} fault{plural}", errors.len()),
        errors,
    ))
}

pub(super) fn applied_view(one: &Applied, current: Option<i64>) -> AppliedPersona {
    let version = one.version.as_ref();
    AppliedPersona {
        file: one.file.clone(),
        name: one.name.clone(),
        ok: version.is_some(),
        version: version.map(|version| version.version),
        digest: version.map(|version| version.compiled.digest),
        is_new: one.is_new,
        is_current: current.is_some() && version.map(|version| version.version) == current,
        parent: version.and_then(|version| version.compiled.lineage.first().cloned()),
        difference: one.difference.clone(),
        faults: one
            .faults
            .iter()
            .flat_map(|faults| &faults.faults)
            .map(fault)
            .collect(),
        warnings: one.warnings.iter().map(fault).collect(),
    }
}

pub(crate) fn fault(fault: &Fault) -> PersonaFault {
    PersonaFault {
        line: fault.line,
        column: fault.column,
        start: fault.bytes.start,
        end: fault.bytes.end,
        path: fault.path.clone(),
        detail: fault.message.clone(),
        expected: fault.expected.clone(),
        suggestion: fault.suggestion.clone(),
    }
}

pub(super) fn view(version: PersonaVersion, current: Option<i64>) -> Result<PersonaView, Refusal> {
    let compiled = version.compiled;
    let document = serde_json::to_value(&compiled.document)
        .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
    Ok(PersonaView {
        name: compiled.name,
        version: version.version,
        is_current: current == Some(version.version),
        description: compiled.description,
        lineage: compiled.lineage,
        digest: compiled.digest,
        applied_at: time(version.applied_at),
        applied_by: version.applied_by,
        reason: version.reason,
        warnings: version.warnings,
        source: version.source,
        document,
        origins: compiled.origins,
    })
}

/// The persona that a run pinned.
pub fn of_run(pinned: &PinnedPersona) -> PersonaOfRun {
    PersonaOfRun {
        name: pinned.name.clone(),
        version: pinned.version,
        digest: pinned.digest,
        reason: pinned.reason.clone(),
    }
}
