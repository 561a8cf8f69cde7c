//! What becomes of a stage's output: its format, its checks, its place in the run's document.

use super::Checker;
use super::fields::Fields;
use crate::chain::document::pointer_steps;
use crate::chain::faults::{Fault, quoted};
use crate::chain::model::{Merge, MergeHow, Output};
use crate::chain::read::{Content, Node};

const OUTPUT_KEYS: &[&str] = &[
    "format",
    "select",
    "jq",
    "schema",
    "schema_file",
    "merge",
    "max",
    "media_type",
];

/// Output sizes, bytes: documents travel through the agent as text, artefacts as they are.
const MAX_DOCUMENT_OUTPUT: u64 = 16 << 20;
const MAX_BINARY_OUTPUT: u64 = 64 << 20;
const DEFAULT_DOCUMENT_OUTPUT: u64 = 1 << 20;
const DEFAULT_BINARY_OUTPUT: u64 = 16 << 20;

#[derive(Clone, Copy)]
enum OutputForm {
    None,
    Json,
    Xml,
    Binary,
}

impl OutputForm {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Json => "json",
            Self::Xml => "xml",
            Self::Binary => "binary",
        }
    }
}

impl Checker<'_> {
    pub fn output(&mut self, node: &Node, path: &str, stage: &str) -> Option<Output> {
        // `output: none` and `output: json` are short for the mapping with nothing but a format.
        if let Content::Scalar(_) = node.content {
            let form = self.output_form(node, path)?;
            return Some(plain_output(form, stage));
        }
        let fields = Fields::open(self, node, path, OUTPUT_KEYS)?;
        let said = fields.may(self, "format", Self::output_form);
        // With a format that nobody knows, the rest is still worth checking.
        let is_known = said.is_some() || fields.entry("format").is_none();
        let form = said.unwrap_or(OutputForm::Json);
        let allowed: &[&str] = match form {
            OutputForm::None => &["format"],
            OutputForm::Binary => &["format", "max", "media_type"],
            OutputForm::Json | OutputForm::Xml => &[
                "format",
                "select",
                "jq",
                "schema",
                "schema_file",
                "merge",
                "max",
            ],
        };
        for key in OUTPUT_KEYS.iter().filter(|key| !allowed.contains(key)) {
            if let Some(entry) = fields.entry(key).filter(|_| is_known) {
                let message = format!(
                    "{} does not go with the format `{}`",
                    quoted(&entry.key),
                    form.word()
                );
                self.report(Fault::new(entry.key_span, fields.at(&entry.key), message));
            }
        }
        let most = if matches!(form, OutputForm::Binary) || !is_known {
            MAX_BINARY_OUTPUT
        } else {
            MAX_DOCUMENT_OUTPUT
        };
        let max = fields.may(self, "max", |checker, node, path| {
            checker.size_bytes(node, path, 1, most)
        });
        match form {
            OutputForm::None => Some(Output::None),
            OutputForm::Binary => Some(Output::Binary {
                media_type: fields
                    .may(self, "media_type", Self::media_type)
                    .unwrap_or_else(octets),
                max_bytes: max.unwrap_or(DEFAULT_BINARY_OUTPUT),
            }),
            OutputForm::Json | OutputForm::Xml => {
                let transform = self.transform(&fields);
                let schema = self.schema_of(&fields);
                let merge = fields.may(self, "merge", |checker, node, path| {
                    checker.merge(node, path, stage)
                });
                let merge = merge.unwrap_or_else(|| default_merge(stage));
                let max_bytes = max.unwrap_or(DEFAULT_DOCUMENT_OUTPUT);
                Some(match form {
                    OutputForm::Xml => Output::Xml {
                        schema,
                        transform,
                        merge,
                        max_bytes,
                    },
                    _ => Output::Json {
                        schema,
                        transform,
                        merge,
                        max_bytes,
                    },
                })
            }
        }
    }

    fn output_form(&mut self, node: &Node, path: &str) -> Option<OutputForm> {
        let forms = [
            OutputForm::None,
            OutputForm::Json,
            OutputForm::Xml,
            OutputForm::Binary,
        ];
        let words = forms.map(|form| (form.word(), form));
        self.word(node, path, "a format of an output", &words)
    }

    /// `type/subtype`, RFC 6838 names, without parameters.
    fn media_type(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        let is_word = |word: &str| {
            !word.is_empty()
                && word.len() <= 100
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
        };
        if text
            .split_once('/')
            .is_some_and(|(kind, subtype)| is_word(kind) && is_word(subtype))
        {
            return Some(text);
        }
        let message = format!("{} is not a media type", quoted(&text));
        self.report(
            Fault::new(node.span, path, message)
                .expecting("a media type such as `application/gzip`"),
        );
        None
    }

    /// `merge: /facts`, or `{ at, how }`.
    fn merge(&mut self, node: &Node, path: &str, stage: &str) -> Option<Merge> {
        if let Content::Scalar(_) = node.content {
            let at = self.pointer(node, path)?;
            let how = MergeHow::Replace;
            self.merge_keeps_device(node, path, &at, how);
            return Some(Merge { at, how });
        }
        let fields = Fields::open(self, node, path, &["at", "how"])?;
        let at = fields.may(self, "at", Self::pointer);
        let how = fields.may(self, "how", |checker, node, path| {
            let words = [
                ("replace", MergeHow::Replace),
                ("patch", MergeHow::Patch),
                ("append", MergeHow::Append),
            ];
            checker.word(node, path, "a way to merge", &words)
        });
        let how_is_known = how.is_some() || fields.entry("how").is_none();
        let merge = Merge {
            at: at.unwrap_or_else(|| default_merge(stage).at),
            how: how.unwrap_or(MergeHow::Replace),
        };
        if let Some(entry) = fields.entry("at").filter(|_| how_is_known) {
            self.merge_keeps_device(&entry.value, &fields.at("at"), &merge.at, merge.how);
        }
        Some(merge)
    }

    fn merge_keeps_device(&mut self, node: &Node, path: &str, at: &str, how: MergeHow) {
        if at.is_empty() && how != MergeHow::Patch {
            let fault = Fault::new(
                node.span,
                path,
                "this would throw away the whole document, device included",
            );
            self.report(
                fault.suggesting("merge with `how: patch`, or at a place such as `/facts`"),
            );
        }
    }

    fn pointer(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.text(node, path)?;
        match pointer_steps(&text) {
            Ok(_) => Some(text),
            Err(why) => {
                let message = format!("{} is not a JSON Pointer: {why}", quoted(&text));
                let mut fault = Fault::new(node.span, path, message)
                    .expecting("a pointer such as `/facts/disks`");
                let mended = format!(
                    "/{}",
                    text.trim_start_matches(['$', '.', '/']).replace('.', "/")
                );
                if !text.starts_with('/') && pointer_steps(&mended).is_ok() {
                    fault = fault.suggesting(format!("did you mean `{mended}`?"));
                }
                self.report(fault);
                None
            }
        }
    }
}

fn default_merge(stage: &str) -> Merge {
    Merge {
        at: format!("/{stage}"),
        how: MergeHow::Replace,
    }
}

fn octets() -> String {
    "application/octet-stream".into()
}

fn plain_output(form: OutputForm, stage: &str) -> Output {
    let (schema, transform, merge, max_bytes) =
        (None, None, default_merge(stage), DEFAULT_DOCUMENT_OUTPUT);
    match form {
        OutputForm::None => Output::None,
        OutputForm::Json => Output::Json {
            schema,
            transform,
            merge,
            max_bytes,
        },
        OutputForm::Xml => Output::Xml {
            schema,
            transform,
            merge,
            max_bytes,
        },
        OutputForm::Binary => Output::Binary {
            media_type: octets(),
            max_bytes: DEFAULT_BINARY_OUTPUT,
        },
    }
}
