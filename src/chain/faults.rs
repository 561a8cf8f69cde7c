//! What is wrong with a chain file: every fault with its place, what was expected and a way out.
//!
//! A [`Fault`] is found by [`super::read`] or [`super::check`]; [`Faults`] is the whole report, for
//! people ([`Faults::render`]) and for programs (serde).

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};

use super::read::Span;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Like `stages[2].resources.memory`, lists counted from 0; empty for the file as a whole.
    pub path: String,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What should stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The offending bytes of the source.
    #[serde(skip)]
    pub bytes: Range<usize>,
}

impl Fault {
    pub fn new(span: Span, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line: span.line,
            column: span.column,
            path: path.into(),
            message: message.into(),
            expected: None,
            suggestion: None,
            bytes: span.bytes(),
        }
    }

    pub fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub fn suggesting(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// All faults of one file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The file as the caller named it; empty when it has no name.
    pub file: String,
    pub faults: Vec<Fault>,
    /// How many more there were than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    #[serde(skip)]
    source: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Nobody mends more than this in one go, and a hostile file could have thousands.
const MAX_LISTED: usize = 100;
/// Lines of a fault's excerpt longer than this are cut: minified JSON may be one line of 1 MiB.
const MAX_LINE: usize = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Ansi,
}

impl Faults {
    /// # Panics
    /// Never; but `faults` should not be empty.
    pub fn new(source: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (a.bytes.start, &a.message).cmp(&(b.bytes.start, &b.message)));
        faults.dedup_by(|a, b| a.bytes == b.bytes && a.message == b.message);
        let left_out = faults.len().saturating_sub(MAX_LISTED);
        faults.truncate(MAX_LISTED);
        Self {
            file: String::new(),
            faults,
            left_out,
            source: source.to_owned(),
        }
    }

    /// Names the file in the report.
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// The report for people: each fault with the lines that it concerns, ended by a count. A report
    /// that came over the wire has no source with it; then it is one line for each fault.
    pub fn render(&self, colour: Colour) -> String {
        if self.source.is_empty() {
            return format!("{self}\n");
        }
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut report = String::new();
        for fault in &self.faults {
            report.push_str(&self.render_one(fault, &renderer));
            report.push_str("\n\n");
        }
        let count = self.faults.len() + self.left_out;
        let plural = if count == 1 { "" } else { "s" };
        let name = if self.file.is_empty() {
            "the chain"
        } else {
            &self.file
        };
        let _ = write!(report, "{count} fault{plural} in {name}");
        if self.left_out > 0 {
            let _ = write!(report, " ({} not shown)", self.left_out);
        }
        report.push('\n');
        report
    }

    fn render_one(&self, fault: &Fault, renderer: &Renderer) -> String {
        let excerpt = Excerpt::of(&self.source, fault);
        let title = if fault.path.is_empty() {
            fault.message.clone()
        } else {
            format!("{}: {}", fault.path, fault.message)
        };
        let label = fault
            .expected
            .as_ref()
            .map(|expected| format!("expected {expected}"));
        let mut annotation = AnnotationKind::Primary.span(excerpt.marked.clone());
        if let Some(label) = &label {
            annotation = annotation.label(label.as_str());
        }
        let mut snippet = Snippet::source(excerpt.text.as_str())
            .line_start(excerpt.first_line)
            .annotation(annotation);
        if !self.file.is_empty() {
            snippet = snippet.path(self.file.as_str());
        }
        let mut group = Level::ERROR.primary_title(title.as_str()).element(snippet);
        if let Some(suggestion) = &fault.suggestion {
            group = group.element(Level::HELP.message(suggestion.as_str()));
        }
        renderer.render(&[group])
    }
}

/// The line before a fault and the line of the fault.
struct Excerpt {
    text: String,
    first_line: usize,
    /// The offending bytes within `text`.
    marked: Range<usize>,
}

impl Excerpt {
    fn of(source: &str, fault: &Fault) -> Self {
        let mut at = fault.bytes.start.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        let line_start = source[..at].rfind('\n').map_or(0, |found| found + 1);
        let before = source[..line_start.saturating_sub(1)]
            .rfind('\n')
            .map_or(0, |found| found + 1);
        let line_end = source[at..]
            .find('\n')
            .map_or(source.len(), |found| at + found);
        let too_long = line_end - before > MAX_LINE;
        let from = if too_long {
            boundary(source, at.saturating_sub(200).max(line_start))
        } else {
            before
        };
        let to = if too_long {
            boundary(source, line_end.min(from + 600))
        } else {
            line_end
        };
        // A mapping's span goes on for lines; the place where it begins is what helps.
        let mut end = fault.bytes.end.clamp(at, to.max(at));
        while !source.is_char_boundary(end) {
            end -= 1;
        }
        let marked_end = at + source[at..end].trim_end().len();
        Self {
            text: source[from..to.max(at)].to_owned(),
            first_line: fault.line - source[from..at].matches('\n').count().min(fault.line - 1),
            marked: at - from..marked_end.max(at) - from,
        }
    }
}

fn boundary(source: &str, mut at: usize) -> usize {
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Faults {
    /// One line per fault: `file:line:column: path: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
            }
            write!(f, "{}:{}: ", fault.line, fault.column)?;
            if !fault.path.is_empty() {
                write!(f, "{}: ", fault.path)?;
            }
            write!(f, "{}", fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Foreign text in a message: in backticks, cut to 60 characters, control characters escaped.
pub fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(printable).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

fn printable(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// The candidate that was probably meant by `word`, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
