//! Bytes become a tree in which everything knows its place.
//!
//! YAML 1.2 (core schema) and JSON are read into the same tree: YAML by the events of
//! `saphyr-parser`, text that is JSON as a whole by a scanner of its own.
//! What makes YAML dangerous or surprising is refused instead of interpreted: aliases, anchors,
//! tags, merge keys, several documents, duplicate keys, bombs of any kind. Nothing is expanded and
//! nothing recurses, so a refusal costs no more than reading as far as the offending place.
//!
//! What the tree *means* is left to [`super::check`]; scalars keep their text, because whether
//! `0755` is a number or a string depends on where it stands.

mod json;

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::faults::{Fault, quoted};

/// Largest chain file, bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 32;
/// Most scalars, lists and mappings in one file.
pub const MAX_NODES: usize = 50_000;

/// Where something stands in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Span {
    pub fn bytes(&self) -> Range<usize> {
        self.start..self.end
    }

    fn moved(self, bytes: usize) -> Self {
        Self {
            start: self.start + bytes,
            end: self.end + bytes,
            ..self
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; no key occurs twice.
    Map(Vec<Entry>),
    /// Something that was refused where it stood (an alias, say). It is there, so nothing is
    /// missing, and it has had its fault, so nobody should complain about it again.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub text: String,
    /// Plain (unquoted) text may be a number or a word such as `true`; all other text is a string.
    pub plain: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

/// What became of the bytes. Faults may come with a tree: after a duplicate key, for instance, the
/// rest is still worth checking. Without a tree there is at least one fault.
#[derive(Debug, Default)]
pub struct Reading {
    pub tree: Option<Node>,
    pub faults: Vec<Fault>,
}

/// Reads YAML or JSON. Never panics, whatever the bytes.
pub fn read(bytes: &[u8]) -> Reading {
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes", bytes.len());
        return only(Fault::new(start(), "", message).expecting("at most 1 MiB"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => read_text(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let span = span_at(&good, good.len());
            only(Fault::new(span, "", "the file is not UTF-8 text").expecting("UTF-8"))
        }
    }
}

fn read_text(text: &str) -> Reading {
    if let Some((offset, character)) = text.char_indices().find(|(at, c)| is_forbidden(*at, *c)) {
        let message = format!(
            "the character U+{:04X} is not allowed here",
            character as u32
        );
        let mut span = span_at(text, offset);
        span.end += character.len_utf8();
        return only(
            Fault::new(span, "", message)
                .expecting("text without control characters")
                .suggesting("remove the character; in a script, write it as an escape"),
        );
    }
    let mut builder = Builder::new(text);
    let outcome = if json::is_json(text) {
        json::build(&mut builder, text)
    } else {
        builder.run()
    };
    if let Err(fault) = outcome {
        builder.faults.push(*fault);
        builder.root = None;
    }
    Reading {
        tree: builder.root,
        faults: builder.faults,
    }
}

/// Control characters, and the invisible ones that make text read differently than it is (Unicode
/// bidirectional overrides, byte order marks in the middle).
fn is_forbidden(offset: usize, c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{FEFF}' => offset != 0,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    }
}

fn start() -> Span {
    Span {
        start: 0,
        end: 0,
        line: 1,
        column: 1,
    }
}

fn span_at(text: &str, offset: usize) -> Span {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Span {
        start: offset,
        end: offset,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

fn only(fault: Fault) -> Reading {
    Reading {
        tree: None,
        faults: vec![fault],
    }
}

/// A list or mapping that is still open.
enum Open {
    List(Span, Vec<Node>),
    Map {
        span: Span,
        entries: Vec<Entry>,
        seen: HashMap<String, usize>,
        key: Option<Key>,
    },
}

impl Open {
    fn map(span: Span) -> Self {
        Self::Map {
            span,
            entries: Vec::new(),
            seen: HashMap::new(),
            key: None,
        }
    }
}

struct Key {
    text: String,
    span: Span,
    /// The entry is read but not kept, because its key was refused.
    dropped: bool,
}

struct Builder<'a> {
    source: &'a str,
    /// Byte offset of each character, where characters are not bytes.
    bytes_of: Option<Vec<usize>>,
    /// Bytes before the text that the parser sees (a byte order mark).
    skipped: usize,
    open: Vec<Open>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
    faults: Vec<Fault>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str) -> Self {
        let source = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let bytes_of = (!source.is_ascii()).then(|| source.char_indices().map(|c| c.0).collect());
        Self {
            source,
            bytes_of,
            skipped: text.len() - source.len(),
            open: Vec::new(),
            nodes: 0,
            documents: 0,
            root: None,
            faults: Vec::new(),
        }
    }

    /// An `Err` ends the reading: from there on the text has no shape that could be trusted.
    fn run(&mut self) -> Result<(), Box<Fault>> {
        let mut parser = Parser::new_from_str(self.source);
        while let Some(event) = parser.next_event() {
            let (event, place) = event.map_err(|error| Box::new(self.syntax_fault(&error)))?;
            let span = self.span(place.start, place.end);
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => self.start_document(span)?,
                Event::Alias(_) => {
                    self.refuse(span, "aliases (`*name`) are not supported");
                    self.take(Node {
                        span,
                        content: Content::Refused,
                    })?;
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.refuse_extras(span, anchor, tag.is_some());
                    self.take_scalar(span, &text, style == ScalarStyle::Plain)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.refuse_extras(span, anchor, tag.is_some());
                    self.push(Open::List(span, Vec::new()), span)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.refuse_extras(span, anchor, tag.is_some());
                    self.push(Open::map(span), span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            }
        }
        if self.root.is_none() && self.faults.is_empty() {
            return Err(Box::new(
                Fault::new(start(), "", "the file is empty")
                    .expecting("a chain: `chain: <name>` and `stages:`"),
            ));
        }
        Ok(())
    }

    fn start_document(&mut self, span: Span) -> Result<(), Box<Fault>> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(Box::new(
                Fault::new(span, "", "a second document begins here")
                    .expecting("one document in a file")
                    .suggesting("remove the `---`, or put the rest into a file of its own"),
            ));
        }
        Ok(())
    }

    fn refuse(&mut self, span: Span, message: &str) {
        self.faults.push(
            Fault::new(span, "", message)
                .expecting("plain YAML or JSON")
                .suggesting("write the value out where it is needed"),
        );
    }

    fn refuse_extras(&mut self, span: Span, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.refuse(span, "anchors (`&name`) are not supported");
        }
        if tagged {
            self.refuse(span, "tags (`!name`) are not supported");
        }
    }

    fn take_scalar(&mut self, span: Span, text: &str, plain: bool) -> Result<(), Box<Fault>> {
        // Escapes such as "\0" bring in what the check of the raw text could not see.
        if let Some(c) = text.chars().find(|c| is_forbidden(1, *c)) {
            let message = format!("this text contains the character U+{:04X}", c as u32);
            self.faults
                .push(Fault::new(span, "", message).expecting("text without control characters"));
            return self.take(Node {
                span,
                content: Content::Refused,
            });
        }
        let scalar = Scalar {
            text: text.to_owned(),
            plain,
        };
        self.take(Node {
            span,
            content: Content::Scalar(scalar),
        })
    }

    fn push(&mut self, open: Open, span: Span) -> Result<(), Box<Fault>> {
        if self.open.len() == MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Box::new(
                Fault::new(span, "", message).expecting("a flatter file"),
            ));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Box<Fault>> {
        let (mut span, content) = match self.open.pop() {
            Some(Open::List(span, items)) => (span, Content::List(items)),
            Some(Open::Map { span, entries, .. }) => (span, Content::Map(entries)),
            None => return Ok(()),
        };
        span.end = end.end.max(span.start);
        self.take(Node { span, content })
    }

    /// A finished node goes where it belongs: into the open list or mapping, or it is the root.
    fn take(&mut self, node: Node) -> Result<(), Box<Fault>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one file");
            return Err(Box::new(Fault::new(node.span, "", message)));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match open {
            Open::List(_, items) => items.push(node),
            Open::Map {
                entries, key, seen, ..
            } => match key.take() {
                Some(Key { dropped: true, .. }) => {}
                Some(Key { text, span, .. }) => entries.push(Entry {
                    key: text,
                    key_span: span,
                    value: node,
                }),
                None => {
                    let (text, fault) = key_of(&node, seen);
                    *key = Some(Key {
                        text,
                        span: node.span,
                        dropped: fault.is_some(),
                    });
                    self.faults.extend(fault);
                }
            },
        }
        Ok(())
    }

    fn span(&self, from: Marker, to: Marker) -> Span {
        let start = self.byte(from.index());
        Span {
            start,
            end: self.byte(to.index()).max(start),
            line: from.line(),
            column: from.col() + 1,
        }
    }

    fn byte(&self, character: usize) -> usize {
        let in_source = match &self.bytes_of {
            None => character.min(self.source.len()),
            Some(table) => table.get(character).copied().unwrap_or(self.source.len()),
        };
        in_source + self.skipped
    }

    fn syntax_fault(&self, error: &saphyr_parser::ScanError) -> Fault {
        let marker = *error.marker();
        let mut span = self.span(marker, marker);
        let text_end = self.source.trim_end().len();
        if span.start > text_end + self.skipped {
            span = span_at(self.source, text_end).moved(self.skipped);
        }
        let info = error.info();
        if info.contains("recursion limit") {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Fault::new(span, "", message).expecting("a flatter file");
        }
        let fault =
            Fault::new(span, "", format!("not readable: {info}")).expecting("YAML 1.2 or JSON");
        let line_start = self.source[..span.start - self.skipped]
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let line = self.source[line_start..].trim_start_matches(' ');
        if line.starts_with('\t') {
            return fault.suggesting("indent with spaces; YAML does not accept tabs");
        }
        if info.contains("unknown anchor") {
            return fault.suggesting("aliases are not supported; quote text that begins with `*`");
        }
        if info.contains("parsing a flow") {
            return fault.suggesting(
                "between `{ }` and `[ ]`, quote text that contains a bracket or a comma",
            );
        }
        if info.contains("unexpected character") {
            return fault.suggesting("quote text that begins with a special character");
        }
        if info.contains("mapping values are not allowed") {
            return fault.suggesting("quote text that contains `: `, and check the indentation");
        }
        fault
    }
}

/// The text of a key, and what is wrong with it.
fn key_of(node: &Node, seen: &mut HashMap<String, usize>) -> (String, Option<Fault>) {
    let Content::Scalar(scalar) = &node.content else {
        if node.content == Content::Refused {
            return (
                String::new(),
                Some(Fault::new(node.span, "", "this key is refused")),
            );
        }
        let fault = Fault::new(node.span, "", "a list or mapping cannot be a key");
        return (String::new(), Some(fault.expecting("a name")));
    };
    let text = scalar.text.clone();
    if scalar.plain && text == "<<" {
        let fault = Fault::new(node.span, "", "merge keys (`<<`) are not supported")
            .suggesting("write the keys out where they are needed");
        return (text, Some(fault));
    }
    if let Some(first) = seen.get(&text) {
        let message = format!("the key {} stands here again", quoted(&text));
        let fault = Fault::new(node.span, "", message)
            .expecting("each key once")
            .suggesting(format!("the first one is in line {first}"));
        return (text, Some(fault));
    }
    seen.insert(text.clone(), node.span.line);
    (text, None)
}

impl Node {
    /// The entry of a mapping, by key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// Nothing was written: `key:` with no value, or an explicit `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar)
            if scalar.plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}
