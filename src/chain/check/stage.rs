//! One stage: its keys, their defaults, and what its parts demand of each other.

use super::Checker;
use super::fields::Fields;
use crate::chain::document::pointer_steps;
use crate::chain::faults::{Fault, quoted};
use crate::chain::model::{
    Backoff, Bounds, Deadline, DocumentFormat, Input, Merge, MergeHow, Output, Resources, Retry,
    Stage, Work,
};
use crate::chain::read::{Content, Node, Span};
use crate::vocab::{FailureKind, StageKind};

const STAGE_KEYS: &[&str] = &[
    "name",
    "kind",
    "description",
    "image",
    "resources",
    "network",
    "handoff_disk",
    "input",
    "command",
    "run",
    "script",
    "output",
    "deadline",
    "retry",
    "undo",
];
const RESOURCE_KEYS: &[&str] = &["vcpus", "memory", "disk", "network", "predict"];
const INPUT_KEYS: &[&str] = &["select", "jq", "schema", "schema_file", "format"];
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

/// A stage with what the checks between stages need.
pub struct Found {
    pub stage: Stage,
    pub path: String,
    pub name_span: Span,
    /// Where it asks for the handoff disk.
    pub wants_disk: Option<Span>,
}

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
    pub fn stage(&mut self, node: &Node, path: &str) -> Option<Found> {
        let fields = Fields::open(self, node, path, STAGE_KEYS)?;
        let name = fields.need(
            self,
            "name",
            "the stage's name, unique in its chain",
            |checker, node, path| checker.name_up_to(node, path, 32),
        );
        let name = name.unwrap_or_default();
        let kind = fields.may(self, "kind", |checker, node, path| {
            let kinds = StageKind::ALL.map(|kind| (kind.word(), kind));
            checker.word(node, path, "a kind of stage", &kinds)
        });
        let description = fields.may(self, "description", Self::prose);
        let image = fields.need(self, "image", "the name of a base image", Self::plain_name);
        let resources = fields.may(self, "resources", Self::resources);
        let network = fields.may(self, "network", Self::boolean);
        let handoff_disk = fields
            .may(self, "handoff_disk", Self::boolean)
            .unwrap_or(false);
        let input = fields.may(self, "input", Self::input);
        let work = self.work(&fields);
        let output = fields.may(self, "output", |checker, node, path| {
            checker.output(node, path, &name)
        });
        let deadline = fields.may(self, "deadline", Self::deadline);
        let retry = fields.may(self, "retry", Self::retry);
        let undo = fields.may(self, "undo", Self::undo);
        let wants_disk = fields
            .entry("handoff_disk")
            .map(|entry| entry.value.span)
            .filter(|_| handoff_disk);
        let name_span = fields
            .entry("name")
            .map_or(fields.start(), |entry| entry.value.span);
        let stage = Stage {
            name,
            kind: kind.unwrap_or(StageKind::Custom),
            description: description.unwrap_or_default(),
            image: image.unwrap_or_default(),
            resources: resources.unwrap_or_else(default_resources),
            network: network.unwrap_or(false),
            handoff_disk,
            input: input.unwrap_or(Input {
                transform: None,
                schema: None,
                format: DocumentFormat::Json,
            }),
            work: work.unwrap_or(Work::Command { argv: Vec::new() }),
            output: output.unwrap_or(Output::None),
            deadline: deadline.unwrap_or(Deadline::Derived),
            retry: retry.unwrap_or_default(),
            undo,
        };
        Some(Found {
            stage,
            path: path.to_owned(),
            name_span,
            wants_disk,
        })
    }

    fn resources(&mut self, node: &Node, path: &str) -> Option<Resources> {
        let fields = Fields::open(self, node, path, RESOURCE_KEYS)?;
        let plain = default_resources();
        let vcpus = fields.may(self, "vcpus", |checker, node, path| {
            checker.bounds(node, path, |checker, node, path| {
                checker.count(node, path, 1, 64)
            })
        });
        let memory = fields.may(self, "memory", |checker, node, path| {
            checker.bounds(node, path, |checker, node, path| {
                checker.size_mib(node, path, 64, 1 << 20)
            })
        });
        let disk = fields.may(self, "disk", |checker, node, path| {
            checker.bounds(node, path, |checker, node, path| {
                checker.size_mib(node, path, 16, 16 << 20)
            })
        });
        let network = fields.may(self, "network", |checker, node, path| {
            checker.bounds(node, path, |checker, node, path| checker.rate(node, path))
        });
        let predict = fields.may(self, "predict", Self::boolean);
        let resources = Resources {
            vcpus: vcpus.unwrap_or(plain.vcpus),
            memory_mib: memory.unwrap_or(plain.memory_mib),
            disk_mib: disk.unwrap_or(plain.disk_mib),
            network_kbytes_per_s: network,
            predict: predict.unwrap_or(false),
        };
        self.prediction_has_room(&fields, &resources);
        Some(resources)
    }

    /// `predict: true` between equal bounds, or bounds that nobody may choose between.
    fn prediction_has_room(&mut self, fields: &Fields<'_>, resources: &Resources) {
        let bounds = [
            Some(resources.vcpus),
            Some(resources.memory_mib),
            Some(resources.disk_mib),
            resources.network_kbytes_per_s,
        ];
        let has_room = bounds
            .iter()
            .flatten()
            .any(|bounds| bounds.min < bounds.max);
        let is_written = RESOURCE_KEYS
            .iter()
            .filter_map(|key| fields.entry(key))
            .any(|entry| matches!(entry.value.content, Content::Map(_) | Content::Refused));
        if let Some(entry) = fields.entry("predict")
            && resources.predict
            && !has_room
            && !is_written
        {
            let fault = Fault::new(
                entry.value.span,
                fields.at("predict"),
                "there is nothing to predict",
            )
            .expecting("at least one resource with `min` below `max`");
            self.report(
                fault.suggesting("write for example `memory: { min: 256 MiB, max: 1 GiB }`"),
            );
        }
    }

    fn input(&mut self, node: &Node, path: &str) -> Option<Input> {
        let fields = Fields::open(self, node, path, INPUT_KEYS)?;
        let transform = self.transform(&fields);
        let schema = self.schema_of(&fields);
        let format = fields.may(self, "format", |checker, node, path| {
            let words = [("json", DocumentFormat::Json), ("xml", DocumentFormat::Xml)];
            checker.word(node, path, "a format of an input", &words)
        });
        Some(Input {
            transform,
            schema,
            format: format.unwrap_or(DocumentFormat::Json),
        })
    }

    fn output(&mut self, node: &Node, path: &str, stage: &str) -> Option<Output> {
        // `output: none` and `output: json` are short for the mapping with nothing but a format.
        if let Content::Scalar(_) = node.content {
            let form = self.output_form(node, path)?;
            return Some(plain_output(form, stage));
        }
        let fields = Fields::open(self, node, path, OUTPUT_KEYS)?;
        let form = match fields.entry("format") {
            None => OutputForm::Json,
            Some(_) => fields.may(self, "format", Self::output_form)?,
        };
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
            if let Some(entry) = fields.entry(key) {
                let message = format!(
                    "{} does not go with the format `{}`",
                    quoted(&entry.key),
                    form.word()
                );
                self.report(Fault::new(entry.key_span, fields.at(&entry.key), message));
            }
        }
        let most = if matches!(form, OutputForm::Binary) {
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

    fn deadline(&mut self, node: &Node, path: &str) -> Option<Deadline> {
        if matches!(&node.content, Content::Scalar(scalar) if scalar.text == "derived") {
            return Some(Deadline::Derived);
        }
        self.whole_seconds(node, path, 1, 86_400)
            .map(Deadline::Seconds)
    }

    fn retry(&mut self, node: &Node, path: &str) -> Option<Vec<Retry>> {
        let items = self.list(node, path, "a list of `{ on, attempts, backoff }`")?;
        let mut rows: Vec<Retry> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(fields) = Fields::open(self, item, &path, &["on", "attempts", "backoff"])
            else {
                continue;
            };
            let on = fields.need(
                self,
                "on",
                "the failures that it is for",
                Self::failure_kinds,
            );
            let on = on.unwrap_or_default();
            if let Some(kind) = on
                .iter()
                .find(|kind| rows.iter().any(|row| row.on.contains(kind)))
            {
                let span = fields
                    .entry("on")
                    .map_or(item.span, |entry| entry.value.span);
                let message = format!("an earlier row already decides about `{}`", kind.word());
                self.report(
                    Fault::new(span, fields.at("on"), message).expecting("each failure in one row"),
                );
            }
            let attempts = fields.need(
                self,
                "attempts",
                "the number of tries, the first included",
                |checker, node, path| checker.count(node, path, 1, 20),
            );
            let backoff = fields.may(self, "backoff", Self::backoff);
            rows.push(Retry {
                on,
                attempts: attempts.unwrap_or(1) as u32,
                backoff: backoff.unwrap_or(DEFAULT_BACKOFF),
            });
        }
        Some(rows)
    }

    /// `on: exit` or `on: [exit, lost]`.
    fn failure_kinds(&mut self, node: &Node, path: &str) -> Option<Vec<FailureKind>> {
        let words = FailureKind::ALL.map(|kind| (kind.word(), kind));
        let items = match &node.content {
            Content::Scalar(_) => std::slice::from_ref(node),
            _ => self.list(node, path, "kinds of failure, such as `[exit, lost]`")?,
        };
        if items.is_empty() {
            self.report(
                Fault::new(node.span, path, "no failure is named")
                    .expecting("a list such as `[exit, lost]`"),
            );
        }
        let mut kinds = Vec::new();
        for item in items {
            let Some(kind) = self.word(item, path, "a kind of failure", &words) else {
                continue;
            };
            if kinds.contains(&kind) {
                let message = format!("`{}` is named twice", kind.word());
                self.report(Fault::new(item.span, path, message));
            }
            kinds.push(kind);
        }
        Some(kinds)
    }

    fn backoff(&mut self, node: &Node, path: &str) -> Option<Backoff> {
        let fields = Fields::open(self, node, path, &["first", "factor", "max"])?;
        let pause = |checker: &mut Self, node: &Node, path: &str| {
            checker.seconds(node, path, 0.0, 86_400.0)
        };
        let first = fields
            .may(self, "first", pause)
            .unwrap_or(DEFAULT_BACKOFF.first_s);
        let factor = fields
            .may(self, "factor", |checker, node, path| {
                checker.decimal(node, path, 1.0, 10.0)
            })
            .unwrap_or(DEFAULT_BACKOFF.factor);
        let max = fields.may(self, "max", pause);
        if let (Some(max), Some(entry)) = (max, fields.entry("max"))
            && max < first
        {
            let fault = Fault::new(
                entry.value.span,
                fields.at("max"),
                "the longest pause is shorter than the first",
            );
            self.report(fault);
        }
        Some(Backoff {
            first_s: first,
            factor,
            max_s: max.unwrap_or(DEFAULT_BACKOFF.max_s.max(first)),
        })
    }
}

const DEFAULT_BACKOFF: Backoff = Backoff {
    first_s: 1.0,
    factor: 2.0,
    max_s: 60.0,
};

fn default_resources() -> Resources {
    let exactly = |value| Bounds {
        min: value,
        max: value,
    };
    Resources {
        vcpus: exactly(1),
        memory_mib: exactly(256),
        disk_mib: exactly(1024),
        network_kbytes_per_s: None,
        predict: false,
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
