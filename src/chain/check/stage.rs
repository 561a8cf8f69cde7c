//! One stage: its keys, their defaults, and what its parts demand of each other.

use super::Checker;
use super::fields::Fields;
use crate::chain::faults::Fault;
use crate::chain::model::{
    Backoff, Bounds, Deadline, DocumentFormat, Input, Output, Resources, Retry, Stage, Work,
};
use crate::chain::read::{Content, Node, Span};
use crate::vocab::{FailureKind, StageKind};

const STAGE_KEYS: &[&str] = &[
    "name",
    "kind",
    "description",
    "after",
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
/// A stage with what the checks between stages need.
pub struct Found {
    pub stage: Stage,
    pub path: String,
    pub name_span: Span,
    /// Where it asks for the handoff disk.
    pub wants_disk: Option<Span>,
    /// Where it says what it comes after.
    pub after_span: Option<Span>,
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
        let after = fields.may(self, "after", Self::after);
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
        let after_span = fields.entry("after").map(|entry| entry.value.span);
        let name_span = fields
            .entry("name")
            .map_or(fields.start(), |entry| entry.value.span);
        let stage = Stage {
            name,
            kind: kind.unwrap_or(StageKind::Custom),
            description: description.unwrap_or_default(),
            after,
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
            after_span,
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

    fn deadline(&mut self, node: &Node, path: &str) -> Option<Deadline> {
        if matches!(&node.content, Content::Scalar(scalar) if scalar.text == "derived") {
            return Some(Deadline::Derived);
        }
        self.whole_seconds(node, path, 1, 86_400)
            .map(Deadline::Seconds)
    }

    fn retry(&mut self, node: &Node, path: &str) -> Option<Vec<Retry>> {
        if let Content::Map(_) = node.content {
            let fault =
                Fault::new(node.span, path, "this is a mapping").expecting("a list of rows");
            self.report(fault.suggesting("for a single row write `[{ on: …, attempts: … }]`"));
            return None;
        }
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
