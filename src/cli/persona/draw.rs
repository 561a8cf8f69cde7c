//! Personas as tables and text.

use std::fmt::Write as _;

use super::super::context::Context;
use super::super::output::{Paint, as_yaml};
use super::super::table::Table;
use super::super::text;
use crate::api::personas::{
    AssignmentView, PersonaHistory, PersonaPreview, PersonaSummary, PersonaView, PersonaWhy,
};
use crate::vocab::persona::Because;

pub fn warning(
    file: &str,
    line: usize,
    column: usize,
    path: &str,
    message: &str,
    suggestion: Option<&str>,
) -> String {
    let help = suggestion
        .map(|suggestion| format!(" ({suggestion})"))
        .unwrap_or_default();
    format!("warning: {file}:{line}:{column}: {path}: {message}{help}")
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

pub fn list(personas: &[PersonaSummary], context: &Context) -> String {
    let headers = [
        "NAME",
        "CURRENT",
        "NEWEST",
        "PARENT",
        "VARIANT",
        "PROFILE",
        "APPLICATIONS",
        "APPLIED",
    ];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for persona in personas {
        let applications = persona.applications.join(", ");
        table.row([
            persona.name.clone(),
            persona
                .current
                .map_or_else(|| "draft".to_owned(), |version| format!("v{version}")),
            format!("v{}", persona.version),
            dash(persona.parent.as_ref().map(ToString::to_string)),
            persona.variant.clone(),
            persona.profile.clone(),
            if applications.is_empty() {
                "-".to_owned()
            } else {
                applications
            },
            format!("{} ago", text::span(now.seconds_from(persona.applied_at))),
        ]);
    }
    table.render("no personas; apply one with `greenroom persona apply -f FILE`")
}

pub fn show(view: &PersonaView) -> String {
    let state = if view.is_current {
        "current"
    } else {
        "not current"
    };
    let mut out = format!(
        "persona   {}@{} ({state})\ndigest    {}\napplied   {} by {}\n",
        text::line(&view.name),
        view.version,
        view.digest,
        view.applied_at,
        text::line(&view.applied_by)
    );
    if !view.reason.is_empty() {
        let _ = writeln!(out, "reason    {}", text::line(&view.reason));
    }
    if !view.description.is_empty() {
        let _ = writeln!(out, "about     {}", text::line(&view.description));
    }
    if !view.lineage.is_empty() {
        let lineage: Vec<String> = view.lineage.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "over      {}", text::line(&lineage.join(", ")));
    }
    for warning in &view.warnings {
        let _ = writeln!(out, "warning   {}", text::line(warning));
    }
    out.push('\n');
    out.push_str(&as_yaml(&view.document).unwrap_or_default());
    let mut inherited: Vec<String> = view
        .origins
        .iter()
        .filter(|(_, whose)| **whose != view.name)
        .map(|(at, whose)| format!("  {} from {}\n", text::line(at), text::line(whose)))
        .collect();
    if !inherited.is_empty() {
        inherited.sort();
        let _ = write!(out, "\ninherited\n{}", inherited.concat());
    }
    out
}

pub fn history(history: &PersonaHistory, context: &Context) -> String {
    let mut table = Table::new(
        context.out,
        &[
            "VERSION", "STATE", "PARENT", "DIGEST", "APPLIED", "BY", "REASON",
        ],
    );
    for version in &history.versions {
        table.row([
            format!("v{}", version.version),
            version.state.clone(),
            dash(version.parent.as_ref().map(ToString::to_string)),
            version.digest.short(),
            version.applied_at.to_string(),
            version.applied_by.clone(),
            version.reason.clone(),
        ]);
    }
    let mut moves = Table::new(
        context.out,
        &["AT", "WHAT", "VERSION", "BEFORE", "BY", "REASON"],
    );
    for one in &history.moves {
        moves.row([
            one.at.to_string(),
            one.what.clone(),
            format!("v{}", one.version),
            dash(one.previous.map(|version| format!("v{version}"))),
            one.by.clone(),
            one.reason.clone(),
        ]);
    }
    format!(
        "{}\n{}",
        table.render("no versions"),
        moves.render("nothing was done with it")
    )
}

pub fn preview(preview: &PersonaPreview) -> String {
    let mut out = format!(
        "persona   {}\ndevice    {}\nhost name {}\nfits      {}\n",
        text::line(&preview.persona),
        text::line(&preview.device),
        text::line(&preview.hostname),
        if preview.fits { "yes" } else { "no" }
    );
    for problem in &preview.problems {
        let _ = writeln!(out, "problem   {}", text::line(problem));
    }
    for unknown in &preview.unknown {
        let _ = writeln!(out, "unknown   {}", text::line(unknown));
    }
    for file in &preview.files {
        let _ = write!(
            out,
            "\n=== {} ({})\n{}",
            text::line(&file.path),
            text::line(&file.mode),
            text::block(&file.text)
        );
    }
    out
}

pub fn assignments(all: &[AssignmentView], context: &Context) -> String {
    let mut table = Table::new(
        context.out,
        &[
            "ID",
            "FOR",
            "PERSONA",
            "PRECEDENCE",
            "UNTIL",
            "BY",
            "REASON",
        ],
    );
    for one in all {
        let until = match (one.until, one.is_over) {
            (None, _) => "-".to_owned(),
            (Some(until), true) => format!("{until} (over)"),
            (Some(until), false) => until.to_string(),
        };
        table.row([
            one.id.to_string(),
            format!("{} {}", one.kind, one.name),
            one.persona.to_string(),
            one.precedence.to_string(),
            until,
            one.by.clone(),
            one.reason.clone(),
        ]);
    }
    table.render("no assignments; make one with `greenroom persona assign`")
}

pub fn why(why: &PersonaWhy, paint: Paint) -> String {
    let outcome = match (&why.persona, why.outcome.as_str()) {
        (_, "conflict") => paint.red("not clear"),
        (Some(persona), _) => text::line(&persona.to_string()),
        (None, _) => "none".to_owned(),
    };
    let mut out = format!(
        "device    {}\npersona   {outcome}\nbecause   {}\n",
        text::line(&why.device),
        text::line(&why.reason)
    );
    if let Some(trouble) = &why.trouble {
        let _ = writeln!(out, "trouble   {}", text::line(trouble));
    }
    for undecided in &why.undecided {
        let _ = writeln!(out, "undecided {}", text::line(undecided));
    }
    if !why.candidates.is_empty() {
        out.push('\n');
        let mut table = Table::new(paint, &["PERSONA", "BY", "WEIGHT", "VERDICT"]);
        for candidate in &why.candidates {
            let (by, weight) = match &candidate.because {
                Because::Assignment {
                    id,
                    subject,
                    precedence,
                    ..
                } => (
                    format!("assignment {id} to {subject}"),
                    format!("precedence {precedence}"),
                ),
                Because::Rule { name, priority, .. } => {
                    (format!("rule {name}"), format!("priority {priority}"))
                }
                Because::Classifier {
                    model,
                    confidence_percent,
                    facts,
                } => {
                    let facts = facts[..facts.len().min(3)].join(", ");
                    (
                        format!("classifier {model}"),
                        format!("{confidence_percent} % sure: {facts}"),
                    )
                }
                Because::Default => ("default".to_owned(), String::new()),
            };
            table.row([
                candidate.persona.to_string(),
                by,
                weight,
                candidate.verdict.clone(),
            ]);
        }
        out.push_str(&table.render(""));
    }
    out
}
