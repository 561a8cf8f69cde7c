//! What a stage runs, what reshapes its documents, and what those must look like: the parts of a
//! stage that come as text in another language, or from a file.

use super::Checker;
use super::fields::Fields;
use crate::chain::faults::{Fault, nearest, quoted};
use crate::chain::files::{FileRefusal, MAX_FILE_BYTES};
use crate::chain::model::{Transform, Work};
use crate::chain::read::{self, Content, Node, Span};
use crate::chain::schema;

const WORK_KEYS: &[&str] = &["command", "run", "script"];
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_BYTES: usize = 64 * 1024;

impl Checker<'_> {
    /// Exactly one of `command`, `run` and `script`.
    pub fn work(&mut self, fields: &Fields<'_>) -> Option<Work> {
        let command = fields.may(self, "command", Self::command);
        let run = fields.may(self, "run", Self::inline_script);
        let script = fields.may(self, "script", Self::script_file);
        if !self.at_most_one(fields, WORK_KEYS) {
            return None;
        }
        if WORK_KEYS.iter().all(|key| fields.entry(key).is_none()) {
            let fault = Fault::new(fields.start(), fields.path(), "there is no work");
            self.report(fault.expecting("`command`, `run` (a script here) or `script` (a file)"));
        }
        command.or(run).or(script)
    }

    pub fn undo(&mut self, node: &Node, path: &str) -> Option<Work> {
        let fields = Fields::open(self, node, path, WORK_KEYS)?;
        self.work(&fields)
    }

    fn at_most_one(&mut self, fields: &Fields<'_>, keys: &[&'static str]) -> bool {
        let present: Vec<_> = keys.iter().filter_map(|key| fields.entry(key)).collect();
        if let [first, .., last] = present.as_slice() {
            let message = format!(
                "both {} and {} are given",
                quoted(&first.key),
                quoted(&last.key)
            );
            let fault = Fault::new(last.key_span, fields.at(&last.key), message);
            self.report(fault.expecting("one of them"));
        }
        present.len() <= 1
    }

    /// Program and arguments; no shell splits or expands them.
    fn command(&mut self, node: &Node, path: &str) -> Option<Work> {
        if let Content::Scalar(scalar) = &node.content {
            let fault = Fault::new(
                node.span,
                path,
                "a command is a list: program, then arguments",
            );
            let line = scalar.text.lines().next().unwrap_or_default();
            self.report(
                fault
                    .expecting("a list such as `[sh, -c, \"…\"]`")
                    .suggesting(format!(
                        "for a line of shell write `run: {}`",
                        line.chars().take(50).collect::<String>()
                    )),
            );
            return None;
        }
        let items = self.list(node, path, "a list: program, then arguments")?;
        if items.is_empty() {
            self.report(Fault::new(node.span, path, "the command is empty").expecting("a program"));
            return None;
        }
        if items.len() > MAX_ARGUMENTS {
            let message = format!("the command has {} arguments", items.len());
            self.report(
                Fault::new(node.span, path, message).expecting(format!("at most {MAX_ARGUMENTS}")),
            );
        }
        let mut argv = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = self.text(item, &path) else {
                continue;
            };
            if text.is_empty() && index == 0 {
                self.report(Fault::new(item.span, &path, "the program's name is empty"));
            }
            if text.len() > MAX_ARGUMENT_BYTES {
                let fault = Fault::new(
                    item.span,
                    &path,
                    format!("the argument has {} bytes", text.len()),
                );
                self.report(
                    fault
                        .expecting("at most 64 KiB")
                        .suggesting("put it into a script or the input"),
                );
            }
            argv.push(text);
        }
        Some(Work::Command { argv })
    }

    fn inline_script(&mut self, node: &Node, path: &str) -> Option<Work> {
        let text = self.text(node, path)?;
        self.script_text(&text, node.span, path);
        Some(Work::Script { text, file: None })
    }

    fn script_file(&mut self, node: &Node, path: &str) -> Option<Work> {
        let (file, text) = self.file_text(node, path)?;
        self.script_text(&text, node.span, path);
        Some(Work::Script {
            text,
            file: Some(file),
        })
    }

    fn script_text(&mut self, text: &str, span: Span, path: &str) {
        if text.trim().is_empty() {
            self.report(
                Fault::new(span, path, "the script is empty").expecting("at least one command"),
            );
        }
        if text.len() as u64 > MAX_FILE_BYTES {
            let message = format!("the script has {} bytes", text.len());
            self.report(Fault::new(span, path, message).expecting("at most 256 KiB"));
        }
        if text.contains('\0') {
            self.report(Fault::new(
                span,
                path,
                "the script contains a NUL character",
            ));
        }
        if text
            .lines()
            .next()
            .is_some_and(|line| line.starts_with("#!") && line.ends_with('\r'))
        {
            // The guest would look for an interpreter whose name ends in a carriage return.
            self.report(
                Fault::new(span, path, "the script has Windows line ends")
                    .suggesting("save it with Unix line ends (`dos2unix`)"),
            );
        }
    }

    fn file_text(&mut self, node: &Node, path: &str) -> Option<(String, String)> {
        let name = self.text(node, path)?;
        match self.files.text(&name) {
            Ok(text) => Some((name, text)),
            Err(refusal) => {
                let message = format!("the file {} {refusal}", quoted(&name));
                let mut fault = Fault::new(node.span, path, message);
                match refusal {
                    FileRefusal::Name | FileRefusal::Outside => {
                        fault = fault.expecting(
                            "a file in the chain file's folder, such as `scripts/facts.sh`",
                        );
                    }
                    FileRefusal::Missing => {
                        let names = self.files.names();
                        let near =
                            nearest(&name, names.iter().map(String::as_str)).map(str::to_owned);
                        if let Some(near) = near {
                            fault = fault.suggesting(format!("did you mean `{near}`?"));
                        }
                    }
                    _ => {}
                }
                self.report(fault);
                None
            }
        }
    }

    /// `select` (JMESPath) or `jq`.
    pub fn transform(&mut self, fields: &Fields<'_>) -> Option<Transform> {
        let select = fields.may(self, "select", |checker, node, path| {
            checker.expression(node, path, |expression| Transform::Jmespath { expression })
        });
        let jq = fields.may(self, "jq", |checker, node, path| {
            checker.expression(node, path, |expression| Transform::Jq { expression })
        });
        self.at_most_one(fields, &["select", "jq"]);
        select.or(jq)
    }

    fn expression(
        &mut self,
        node: &Node,
        path: &str,
        language: impl Fn(String) -> Transform,
    ) -> Option<Transform> {
        let text = self.text(node, path)?;
        let transform = language(text.clone());
        if let Err(error) = transform.check() {
            let offset = match &error {
                crate::chain::transform::TransformError::Expression { offset, .. } => *offset,
                _ => None,
            };
            let span = self.inside(node, &text, offset.map(|at| at.min(text.len())..text.len()));
            let mut fault = Fault::new(span, path, error.to_string()).expecting(match transform {
                Transform::Jmespath { .. } => "a JMESPath expression",
                Transform::Jq { .. } => "a jq expression",
            });
            if let Some(way_out) = error.way_out() {
                fault = fault.suggesting(way_out);
            }
            self.report(fault);
        }
        Some(transform)
    }

    /// `schema` (written here) or `schema_file`.
    pub fn schema_of(&mut self, fields: &Fields<'_>) -> Option<serde_json::Value> {
        let inline = fields.may(self, "schema", Self::inline_schema);
        let file = fields.may(self, "schema_file", Self::schema_file);
        self.at_most_one(fields, &["schema", "schema_file"]);
        inline.or(file)
    }

    fn inline_schema(&mut self, node: &Node, path: &str) -> Option<serde_json::Value> {
        if let Content::Scalar(scalar) = &node.content
            && scalar.text.ends_with(".json")
        {
            let fault = Fault::new(node.span, path, "a schema is written here as a mapping");
            self.report(
                fault.suggesting(format!("for a file write `schema_file: {}`", scalar.text)),
            );
            return None;
        }
        let before = self.faults.len();
        let value = node.to_value(path, &mut self.faults);
        for mistake in schema::mistakes(&value) {
            let (place, place_path) = locate(node, path, &mistake.pointer);
            // What was refused, or doubtful, stands in the value as something else.
            let has_fault = |fault: &Fault| fault.bytes == place.span.bytes();
            if place.content == Content::Refused || self.faults[before..].iter().any(has_fault) {
                continue;
            }
            let fault = Fault::new(place.span, place_path, mistake.message);
            self.report(fault.expecting("a JSON Schema, draft 2020-12"));
        }
        Some(value)
    }

    fn schema_file(&mut self, node: &Node, path: &str) -> Option<serde_json::Value> {
        let (name, text) = self.file_text(node, path)?;
        let mut reading = read::read(text.as_bytes());
        let mut value = None;
        if let Some(tree) = &reading.tree {
            let found = tree.to_value("", &mut reading.faults);
            if reading.faults.is_empty() {
                for mistake in schema::mistakes(&found) {
                    let (place, _) = locate(tree, "", &mistake.pointer);
                    reading
                        .faults
                        .push(Fault::new(place.span, "", mistake.message));
                }
            }
            value = Some(found);
        }
        for fault in reading.faults {
            // The report shows the chain file; the other file's place goes into the words.
            let message = format!("{}, line {}: {}", quoted(&name), fault.line, fault.message);
            let moved =
                Fault::new(node.span, path, message).expecting("a JSON Schema, draft 2020-12");
            self.report(match fault.suggestion {
                Some(suggestion) => moved.suggesting(suggestion),
                None => moved,
            });
        }
        value
    }
}

/// The node at a JSON Pointer, or the last one on the way, and its path.
fn locate<'n>(root: &'n Node, path: &str, pointer: &str) -> (&'n Node, String) {
    let mut node = root;
    let mut path = path.to_owned();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match &node.content {
            Content::List(items) => {
                let Some(item) = step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                else {
                    break;
                };
                path.push_str(&format!("[{step}]"));
                node = item;
            }
            _ => {
                let Some(value) = node.get(&step) else { break };
                path.push_str(&format!(".{step}"));
                node = value;
            }
        }
    }
    (node, path)
}
